"""Splitters for searches that keep out-of-distribution (OOD) rows out of the training parts."""

from ._predefined_split import OODPredefinedSplit
from ._split import OODKFold, OODShuffleSplit
from ._summary import compare, summarize

__all__ = ["OODKFold", "OODPredefinedSplit", "OODShuffleSplit", "compare", "summarize"]
