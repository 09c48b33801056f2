"""Several monitors of one network, combined."""

from ._adaptive import AdaptiveEnsembleDetector
from ._any_alarm import AnyAlarmDetector
from ._auto_nap import AutoNAPDetector
from ._layers import LayerEnsembleDetector

__all__ = [
    "AdaptiveEnsembleDetector",
    "AnyAlarmDetector",
    "AutoNAPDetector",
    "LayerEnsembleDetector",
]
