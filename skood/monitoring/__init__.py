"""Watching a detector over time: drift of a stream, and tests of a batch."""

from ._drift_display import DriftDisplay
from ._drift_monitor import DriftMonitor
from ._drift_test import DriftTestResult, drift_test

__all__ = [
    "DriftDisplay",
    "DriftMonitor",
    "DriftTestResult",
    "drift_test",
]
