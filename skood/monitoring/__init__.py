"""What a monitor does while it is in use: reports of what was measured."""

from ._report import MonitorReport

__all__ = ["MonitorReport"]
