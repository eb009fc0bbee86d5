"""Queries: what they say, how they are written, planned, executed as walks, and proven."""
