"""The protocols, implemented from their specifications: a module for each, and its vectors' checks."""
