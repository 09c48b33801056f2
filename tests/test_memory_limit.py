"""Twenty times the memory: a monitor is fitted and scores under a limit, as it does without one."""

import subprocess
import sys

import numpy as np
import pytest

resource = pytest.importorskip("resource")
pytest.importorskip("torch")

MIB = 16

# A process of its own, as a limit holds for all of one.
CODE = """
import resource, sys, time, warnings
from pathlib import Path
import numpy as np
import torch
from torch import nn
from skood import make_monitor
from skood._memory import memory_left

limit, mib, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
N_LAYERS, N_UNITS = 12, 128
torch.set_num_threads(1)
torch.manual_seed(0)
layers = [nn.Linear(8, N_UNITS), nn.ReLU()]
for _ in range(N_LAYERS - 1):
    layers += [nn.Linear(N_UNITS, N_UNITS), nn.ReLU()]
network = nn.Sequential(*layers, nn.Linear(N_UNITS, 4)).eval()
n_samples = 20 * mib * 2**20 // (4 * (N_LAYERS * N_UNITS + 4))


class Rows:
    def __init__(self, n_samples, seed):
        self.n_samples, self.seed = n_samples, seed

    def __iter__(self):
        for start in range(0, self.n_samples, 256):
            rng = np.random.default_rng([self.seed, start])
            yield rng.normal(size=(min(256, self.n_samples - start), 8)).astype(np.float32)


def taken(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


warnings.simplefilter("ignore")  # of a monitor that is not calibrated
monitor = make_monitor(network).set_params(detect__max_samples=200)
monitor.fit(Rows(300, 2)).score_samples(Rows(10, 3))  # imports what is needed
found = []
kind, what = {
    "data": (resource.RLIMIT_DATA, "VmData"), "as": (resource.RLIMIT_AS, "VmSize")
}[limit]
before = resource.getrlimit(kind)
for allowed in (taken(what) + mib * 2**20, before[0]):
    resource.setrlimit(kind, (allowed, before[1]))
    time.sleep(0.2)  # what is left is looked at ten times a second
    assert found or memory_left() <= mib * 2**20
    scores = monitor.fit(Rows(n_samples, 0)).score_samples(Rows(n_samples // 32, 1))
    found.append([*scores, monitor["detect"].offset_])
np.save(file, found)
"""


def run(limit, folder):
    file = folder / f"{limit}.npy"
    command = [sys.executable, "-c", CODE, limit, str(MIB), str(file)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return np.load(file)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are those of Linux")
def test_default_monitor_on_twenty_times_its_memory(tmp_path):
    limited, unlimited = run("data", tmp_path)
    np.testing.assert_allclose(limited, unlimited, rtol=1e-5, atol=1e-5)
