"""Transformers that change what the last layer reads, and recompute the logits."""

from ._ash import ASH, SCALE
from ._base import BaseShaper, FeatureShaper
from ._dice import DICE
from ._line import LINe
from ._react import ReAct
from ._shared_neurons import shared_top_neurons
from ._vra import VRA

__all__ = [
    "ASH",
    "DICE",
    "SCALE",
    "VRA",
    "BaseShaper",
    "FeatureShaper",
    "LINe",
    "ReAct",
    "shared_top_neurons",
]
