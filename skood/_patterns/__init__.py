"""Binary patterns, used by several subpackages: packed bits, rules, stores and search."""

from ._build import PatternRuns
from ._files import OwnedFolder
from ._index import MIN_PATTERNS, IndexedPatternStore, import_faiss
from ._lists import Neighbors, Words
from ._lookup import build_stores, nearest_of_class
from ._packed_bits import PackedBits
from ._rules import pack_layers, quantile_bits, top_share
from ._search import hamming_neighbors
from ._store import (
    BasePatternStore,
    MappedPatternStore,
    PatternStore,
)
from ._table import PatternTable

__all__ = [
    "MIN_PATTERNS",
    "BasePatternStore",
    "IndexedPatternStore",
    "MappedPatternStore",
    "Neighbors",
    "OwnedFolder",
    "PackedBits",
    "PatternRuns",
    "PatternStore",
    "PatternTable",
    "Words",
    "build_stores",
    "hamming_neighbors",
    "import_faiss",
    "nearest_of_class",
    "pack_layers",
    "quantile_bits",
    "top_share",
]
