"""Find the inputs that a trained network should not be trusted on, from its activations."""

from ._monitor import make_monitor
from .activations import Activations, LinearHead, PackedBits
from .detectors import (
    ClusterDistanceDetector,
    GroupProgressionDetector,
    HammingNAPDetector,
    NeuronCountDetector,
)
from .ensemble import AutoNAPDetector, LayerEnsembleDetector
from .extraction import ActivationExtractor
from .preprocessing import LayerSelector, PercentileBinarizer, PoolingReducer

__version__ = "0.1.0"

__all__ = [
    "ActivationExtractor",
    "Activations",
    "AutoNAPDetector",
    "ClusterDistanceDetector",
    "GroupProgressionDetector",
    "HammingNAPDetector",
    "LayerEnsembleDetector",
    "LayerSelector",
    "LinearHead",
    "NeuronCountDetector",
    "PackedBits",
    "PercentileBinarizer",
    "PoolingReducer",
    "make_monitor",
]
