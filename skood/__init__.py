"""Find the inputs that a trained network should not be trusted on, from its activations."""

from ._config import config_context, get_config, set_config
from ._files import FileFormatError, load, save
from ._make_monitor import make_monitor
from ._monitor import Monitor
from ._versions import __version__ as __version__
from ._versions import show_versions
from .activations import Activations
from .detectors import (
    ClusterDistanceDetector,
    GroupProgressionDetector,
    HammingNAPDetector,
    NeuronCountDetector,
)
from .extraction import ActivationExtractor
from .preprocessing import PercentileBinarizer, PoolingReducer

__all__ = [
    "ActivationExtractor",
    "Activations",
    "ClusterDistanceDetector",
    "FileFormatError",
    "GroupProgressionDetector",
    "HammingNAPDetector",
    "Monitor",
    "NeuronCountDetector",
    "PercentileBinarizer",
    "PoolingReducer",
    "config_context",
    "get_config",
    "load",
    "make_monitor",
    "save",
    "set_config",
    "show_versions",
]
