"""Binary patterns, used by several subpackages: packed bits, rules, store and search."""

from ._packed_bits import PackedBits
from ._rules import pack_layers, quantile_bits, top_share
from ._search import Neighbors, Words, hamming_neighbors
from ._store import PatternStore, build_stores, nearest_of_class

__all__ = [
    "Neighbors",
    "PackedBits",
    "PatternStore",
    "Words",
    "build_stores",
    "hamming_neighbors",
    "nearest_of_class",
    "pack_layers",
    "quantile_bits",
    "top_share",
]
