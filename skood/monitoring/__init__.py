"""Watching a monitor: reports of what it does, drift of a stream, and tests of a batch."""

from ._drift_display import DriftDisplay
from ._drift_monitor import DriftMonitor
from ._drift_test import DriftTestResult, drift_test
from ._report import MonitorReport

__all__ = [
    "DriftDisplay",
    "DriftMonitor",
    "DriftTestResult",
    "MonitorReport",
    "drift_test",
]
