"""Several monitors of one network, combined."""

from ._adaptive import ERROR_POWER as ERROR_POWER
from ._adaptive import FAR as FAR
from ._adaptive import HINGE as HINGE
from ._adaptive import AdaptiveEnsembleDetector
from ._any_alarm import AnyAlarmDetector
from ._auto_nap import AutoNAPDetector
from ._combination import EDGE as EDGE
from ._combination import HIGHEST as HIGHEST
from ._combination import LOWEST as LOWEST
from ._combination import TAIL as TAIL
from ._combination import Calibration as Calibration
from ._layers import LayerEnsembleDetector

__all__ = [
    "AdaptiveEnsembleDetector",
    "AnyAlarmDetector",
    "AutoNAPDetector",
    "LayerEnsembleDetector",
]
