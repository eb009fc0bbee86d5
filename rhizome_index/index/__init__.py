"""Datasets: records, the keys they sort by, index definitions, the manifest and its signed head."""
