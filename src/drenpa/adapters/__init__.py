"""Thin bridges to other tools, each an optional extra."""
