"""Twenty times the memory: a monitor is fitted and scores under a limit, as it does without one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")
pytest.importorskip("torch")

SCRIPT = Path(__file__).with_name("_twenty_times.py")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are those of Linux")
def test_default_monitor_on_twenty_times_its_memory():
    # With the default max_samples there are so many rows that it takes minutes: see the script.
    sizes = {"mib": 16, "layers": 12, "units": 128, "classes": 4, "max-samples": 200}
    options = [f"--{name}={size}" for name, size in sizes.items()]
    command = [sys.executable, str(SCRIPT), *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.endswith("the same 1702 scores\n")
