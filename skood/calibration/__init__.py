"""Calibration: thresholds and p-values from held-out rows, and confidences that fit accuracies."""

from ._calibration_error import calibration_bins, expected_calibration_error
from ._confidence import confidence_categories, prediction_confidence
from ._conformal import ConformalDetector
from ._ranked_scores import RankedScores as RankedScores
from ._reliability_display import ReliabilityDisplay
from ._risk_detector import RiskControlledDetector
from ._temperature import TemperatureScaler
from ._uncalibrated import UncalibratedWarning

__all__ = [
    "ConformalDetector",
    "ReliabilityDisplay",
    "RiskControlledDetector",
    "TemperatureScaler",
    "UncalibratedWarning",
    "calibration_bins",
    "confidence_categories",
    "expected_calibration_error",
    "prediction_confidence",
]
