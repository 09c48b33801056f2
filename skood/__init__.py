"""Find the inputs that a trained network should not be trusted on, from its activations."""

from ._monitor import make_monitor
from .activations import Activations
from .detectors import (
    ClusterDistanceDetector,
    GroupProgressionDetector,
    HammingNAPDetector,
    NeuronCountDetector,
)
from .extraction import ActivationExtractor
from .preprocessing import PercentileBinarizer, PoolingReducer

__version__ = "0.1.0"

__all__ = [
    "ActivationExtractor",
    "Activations",
    "ClusterDistanceDetector",
    "GroupProgressionDetector",
    "HammingNAPDetector",
    "NeuronCountDetector",
    "PercentileBinarizer",
    "PoolingReducer",
    "make_monitor",
]
