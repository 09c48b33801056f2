"""Splitters that keep out-of-distribution (OOD) rows out of training, and a test of detectors."""

from ._od_test import od_test
from ._predefined_split import OODPredefinedSplit
from ._split import OODKFold, OODShuffleSplit
from ._summary import compare, summarize

__all__ = [
    "OODKFold",
    "OODPredefinedSplit",
    "OODShuffleSplit",
    "compare",
    "od_test",
    "summarize",
]
