"""Twenty times the memory: under a limit, a monitor does what it does without one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")
pytest.importorskip("torch")

SCRIPT = Path(__file__).with_name("_twenty_times.py")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are those of Linux")
def test_default_monitor_on_twenty_times_its_memory():
    # The rows that are held out take more than is left, but less than a monitor keeps otherwise.
    # With the default max_samples there are so many rows that it takes minutes: see the script.
    sizes = {"mib": 16, "layers": 12, "units": 128, "classes": 4}
    sizes |= {"max-samples": 200, "held-out": 4000}
    options = [f"--{name}={size}" for name, size in sizes.items()]
    command = [sys.executable, str(SCRIPT), *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.endswith("the same 1702 scores and p-values\n")
