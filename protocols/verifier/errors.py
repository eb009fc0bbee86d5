"""The two ways in which something is not as it should be."""


class Refused(Exception):
    """What was received must be refused: the specification demands it."""


class Mismatch(Exception):
    """What the specification leads to is not what a vector shows, or a vector has not the form of its group."""
