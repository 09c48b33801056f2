"""Scoring the blocks of Ray's data sets."""

class RayScorer:
    """TODO."""
