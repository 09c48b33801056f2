"""Splitters and searches that keep out-of-distribution rows out of training; tests of detectors."""

from ._detector_search import DetectorSearchCV
from ._od_test import od_test
from ._predefined_split import OODPredefinedSplit
from ._split import OODKFold, OODShuffleSplit
from ._summary import compare, summarize

__all__ = [
    "DetectorSearchCV",
    "OODKFold",
    "OODPredefinedSplit",
    "OODShuffleSplit",
    "compare",
    "od_test",
    "summarize",
]
