"""Several monitors of one network, combined."""

from ._adaptive import ERROR_POWER as ERROR_POWER
from ._adaptive import FAR as FAR
from ._adaptive import HINGE as HINGE
from ._adaptive import AdaptiveEnsembleDetector
from ._any_alarm import AnyAlarmDetector
from ._auto_nap import AutoNAPDetector
from ._calibrations import HIGHEST as HIGHEST
from ._calibrations import LOWEST as LOWEST
from ._calibrations import TAIL as TAIL
from ._calibrations import Calibration as Calibration
from ._calibrations import RankCalibration as RankCalibration
from ._calibrations import TailCalibration as TailCalibration
from ._combination import EDGE as EDGE
from ._layers import LayerEnsembleDetector

__all__ = [
    "AdaptiveEnsembleDetector",
    "AnyAlarmDetector",
    "AutoNAPDetector",
    "LayerEnsembleDetector",
]
