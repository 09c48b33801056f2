"""Peak memory of a pass, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def peak_in_mib() -> float:
    """The high-water mark of this program's memory; NaN where the system does not say.

    Not that of ``resource.getrusage``, which starts at the mark of the process that started this
    one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def run_apart(module: str, *arguments: object) -> list[float]:
    """The numbers that a module of this package prints when a new process runs it."""
    command = [sys.executable, "-m", f"{__package__}.{module}", *map(str, arguments)]
    output = subprocess.check_output(command, text=True, cwd=Path(__file__).parents[1])
    return [float(number) for number in output.split()]
