"""Detectors of inputs that a network should not be trusted on."""

from ._base import BaseDetector, BaseOneClassDetector
from ._hamming import HammingNAPDetector
from ._logits import EnergyDetector, MaxSoftmaxDetector

__all__ = [
    "BaseDetector",
    "BaseOneClassDetector",
    "EnergyDetector",
    "HammingNAPDetector",
    "MaxSoftmaxDetector",
]
