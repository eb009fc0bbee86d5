"""Prolly trees: ordered maps whose shape, and so whose root, follows from their entries alone.

Interpreting keys and values is left to higher layers: here they are bytes.
"""
