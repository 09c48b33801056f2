"""Splitters that know out-of-distribution (OOD) rows, for scikit-learn's searches."""

from ._predefined_split import OODPredefinedSplit
from ._split import OODKFold, OODShuffleSplit

__all__ = ["OODKFold", "OODPredefinedSplit", "OODShuffleSplit"]
