"""Bytes with names: canonical DAG-CBOR, CIDs, block stores and CAR files."""
