"""Twenty times the memory: under a limit, a monitor does what it does without one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")
pytest.importorskip("torch")

SCRIPT = Path(__file__).with_name("_twenty_times.py")


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="limits are those of Linux"
)


def run(what, **sizes):
    """The last line that the script prints."""
    options = [f"--{name.replace('_', '-')}={size}" for name, size in sizes.items()]
    command = [sys.executable, str(SCRIPT), f"--what={what}", *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout.splitlines()[-1]


def test_default_monitor_on_twenty_times_its_memory():
    # The rows that are held out take more than is left, but less than a monitor keeps otherwise.
    # With the default max_samples there are so many rows that it takes minutes: see the script.
    sizes = {"mib": 16, "layers": 12, "units": 128, "classes": 4}
    assert run("default", **sizes, max_samples=200, held_out=4000) == "the same 3406 values"


@pytest.mark.parametrize(
    "what", ["both", "classes", "risk", "drift", "layers", "patterns", "explanation"]
)
def test_the_same_values_under_a_limit(what):
    sizes = {"mib": 16, "layers": 6, "units": 128, "classes": 4, "times": 2}
    assert run(what, **sizes, max_samples=100, held_out=2000).startswith("the same ")
