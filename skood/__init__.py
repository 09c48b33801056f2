"""Find the inputs that a trained network should not be trusted on, from its activations."""

from .activations import Activations, LinearHead, PackedBits
from .detectors import HammingNAPDetector
from .preprocessing import LayerSelector, PercentileBinarizer, PoolingReducer

__version__ = "0.1.0"

__all__ = [
    "Activations",
    "HammingNAPDetector",
    "LayerSelector",
    "LinearHead",
    "PackedBits",
    "PercentileBinarizer",
    "PoolingReducer",
]
