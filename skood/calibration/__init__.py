"""Calibration of confidences: how far they are from accuracies, and temperature scaling."""

from ._calibration_error import calibration_bins, expected_calibration_error
from ._confidence import confidence_categories, prediction_confidence
from ._reliability_display import ReliabilityDisplay
from ._temperature import TemperatureScaler

__all__ = [
    "ReliabilityDisplay",
    "TemperatureScaler",
    "calibration_bins",
    "confidence_categories",
    "expected_calibration_error",
    "prediction_confidence",
]
