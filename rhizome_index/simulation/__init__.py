"""The node's own code in a world of our making: one seed, one run."""
