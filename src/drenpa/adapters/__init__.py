"""Thin bridges to other tools, each an optional extra; there is none yet.

What other tools read today is the policy as an ordinary folder (`drenpa.export`) and the tables of
a report as files.
"""
