"""Searches over detectors, and splitters that keep out-of-distribution rows out of training."""

from ._detector_search import DetectorSearchCV
from ._predefined_split import OODPredefinedSplit
from ._split import OODKFold, OODShuffleSplit

__all__ = ["DetectorSearchCV", "OODKFold", "OODPredefinedSplit", "OODShuffleSplit"]
