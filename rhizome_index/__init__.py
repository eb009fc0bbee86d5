"""Rhizome Index: ask any peer an index query, and prove the answer before believing it."""

__version__ = "0.1.0"
