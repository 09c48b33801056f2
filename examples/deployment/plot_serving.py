"""
================================================
Serving a monitor over HTTP: save, load, latency
================================================

A network is trained in one process, by one script, and is in use in another, where
inputs come one at a time. How does a monitor get there, and how long does it keep them
waiting? Here it is saved to a folder, which holds no code. A fresh process loads the
folder and answers by HTTP, and is asked for one digit after the other.

The first figure shows digits, and what the service says of each. The second shows how
long an answer takes on the machine that has made this page: the way by HTTP is longer
than the work of the monitor.
"""

# %%
# Fit, calibrate, save
# --------------------
#
# The network knows eight digits, and not the 1 and the 5. A perceptron of scikit-learn
# is saved along with the monitor. Of a torch network the folder holds the weights, and
# the service is told of a function that makes the architecture, by
# ``--network module:function`` (:ref:`deploy_files`).

import atexit
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skood import make_monitor
from skood.calibration import UncalibratedWarning
from skood.datasets import load_digits_ood

# ``fit`` says that a threshold from training rows is an estimate: calibration follows.
warnings.simplefilter("ignore", UncalibratedWarning)

digits = load_digits_ood(held_out=(1, 5))
X, y = digits.data.reshape(len(digits.data), -1), digits.target
unknown = np.flatnonzero(y == -1)
train, rest = train_test_split(np.flatnonzero(y != -1), test_size=500, random_state=0)
held_out, test = rest[:300], rest[300:]
net = MLPClassifier((64, 32), max_iter=500, random_state=0).fit(X[train], y[train])
monitor = make_monitor(net).fit(X[train], y[train])
monitor.calibrate(X[held_out], false_alarm_rate=0.05)

place = tempfile.TemporaryDirectory()
folder = Path(place.name) / "monitor"
monitor.save(folder)
for file in sorted(path for path in folder.rglob("*") if path.is_file()):
    print(f"{file.name}: {file.stat().st_size / 1024:.0f} KiB")

# %%
# A process that serves it
# ------------------------
#
# One command loads the folder, and listens where only this machine reaches it. Port 0
# stands for any that is free; the log says which.

log = Path(place.name) / "log.txt"
command = [sys.executable, "-m", "skood.serving", str(folder), "--port", "0"]
with log.open("wb") as output:
    server = subprocess.Popen(command, stdout=output, stderr=output)
atexit.register(server.kill)  # should anything fail below


def address(seconds=60):
    """Where the service listens, as soon as it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"The service did not start: {log.read_text()}")


url = address()
# Not by a proxy that the environment may name.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(rows):
    """Labels, verdicts and p-values of rows."""
    body = json.dumps({"rows": rows.tolist()}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/predict", body, headers)
    with opener.open(request, timeout=30) as answer:
        return json.load(answer)["predictions"]


print(json.dumps(ask(X[unknown[:1]]), indent=1))

# %%
# What it says of digits
# ----------------------
#
# Known digits are in the upper row, unknown ones in the lower. Flagged ones are orange.

rng = np.random.default_rng(0)
shown = np.r_[rng.choice(test, 5, replace=False), rng.choice(unknown, 5, replace=False)]
fig, axes = plt.subplots(2, 5, figsize=(7, 4), layout="constrained")
for ax, row, said in zip(axes.flat, shown, ask(X[shown]), strict=True):
    color = "#0072b2" if said["verdict"] == 1 else "#d55e00"
    ax.imshow(X[row].reshape(8, 8), cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"taken for {digits.target_names[said['label']]}", fontsize=10)
    ax.set_xlabel(f"p = {said['p_value']:.3f}", color=color, fontsize=10)
    for spine in ax.spines.values():
        spine.set(color=color, linewidth=3)

# %%
# How long an answer takes
# ------------------------
#
# One row is asked for at a time: of the network alone, of the monitor in this process,
# of the same when it is open, in which state it does once what need not be done for
# each input, and of the service. Each is asked 300 times, after some calls that are not
# counted.


def milliseconds(call, n_calls=300):
    rows = X[rng.choice(test, n_calls + 20)]
    times = []
    for row in rows:
        start = time.perf_counter()
        call(row[np.newaxis])
        times.append(1000 * (time.perf_counter() - start))
    return times[20:]


taken = {
    "network alone": milliseconds(net.predict),
    "monitor": milliseconds(monitor.predict),
}
with monitor.open():
    taken["monitor, open"] = milliseconds(monitor.predict)
taken["service, by HTTP"] = milliseconds(ask)

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for number, times in enumerate(taken.values()):
    shaken = number + rng.uniform(-0.25, 0.25, len(times))
    ax.scatter(times, shaken, s=6, color="#0072b2", alpha=0.4, linewidth=0)
    ax.plot(2 * [np.median(times)], [number - 0.35, number + 0.35], color="#d55e00")
ax.set(
    xscale="log", xlabel="time (ms)", yticks=range(len(taken)), yticklabels=list(taken)
)
ax.set_title("One row at a time; lines are medians", fontsize=11)
ax.invert_yaxis()
for name, times in taken.items():
    print(f"{name}: {np.median(times):.2f} ms")

# %%
# What the service knows of its stream
# ------------------------------------
#
# Some unknown digits pass, as the figure shows. But where nothing but unknown digits
# come in, more are flagged than known digits account for, and the service says that the
# stream has changed: ``alarm_time`` is the row at which it rang.


def drift():
    with opener.open(f"{url}/health", timeout=30) as answer:
        said = json.load(answer)["drift"]
    return {name: said[name] for name in ("rows", "alarm", "alarm_time", "alarm_cause")}


print("after known digits:", drift())
flagged = np.mean([said["verdict"] == -1 for said in ask(X[unknown[:100]])])
print(f"unknown digits flagged: {flagged:.0%}")
print("after unknown digits:", drift())

server.terminate()
server.wait(timeout=30)
place.cleanup()
plt.show()
