"""Verdicts → tables, figures, one page."""
