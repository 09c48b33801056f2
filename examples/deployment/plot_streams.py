"""
=====================================================
Streams: learn in batches, calibrate, watch for drift
=====================================================

Images come in day by day, and nobody keeps them all. Can a monitor learn from them as
they come? How does it notice that the stream has changed? And when the change is a
harmless one, and is to stay, can it learn on?

The first figure is the life of a monitor, row by row. It learns in batches, is
calibrated, and watches. Then the lamp is exchanged for a dimmer one: the network still
reads most digits rightly, but the monitor has never seen such images, flags many, and
rings. It learns from dimmer images, is calibrated again, and is quiet. The second
figure shows how well it tells unknown digits from known ones after each batch.
"""

# %%
# The stream
# ----------
#
# The network has learnt eight digits, and never sees a 1 or a 5 in training. Its
# monitor gets rows that are new to the network, each of them once.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.neural_network import MLPClassifier

from skood import make_monitor
from skood.calibration import UncalibratedWarning
from skood.datasets import load_digits_ood
from skood.metrics import ood_roc_auc_score
from skood.monitoring import DriftMonitor

# ``partial_fit`` says that its threshold is an estimate: calibration follows.
warnings.simplefilter("ignore", UncalibratedWarning)

X, y = load_digits_ood(held_out=(1, 5), return_X_y=True)
X = X.reshape(len(X), -1)
unknown = np.flatnonzero(y == -1)
known = np.random.default_rng(0).permutation(np.flatnonzero(y != -1))
sizes = {
    "network": 330,
    "learn": 200,
    "calibrate": 200,
    "watch": 200,
    "dim: watch": 120,
    "dim: learn on": 120,
    "dim: calibrate": 120,
    "dim: watch again": 143,
}
phases = dict(
    zip(sizes, np.split(known, np.cumsum(list(sizes.values()))), strict=False)
)
net = MLPClassifier((64, 32), max_iter=500, random_state=0)
net.fit(X[phases["network"]], y[phases["network"]])
dim = 0.75 * X

# %%
# Learn in batches
# ----------------
#
# ``partial_fit`` learns from one more batch. After all of them the monitor is the same
# as by one ``fit`` of all rows, in whatever batches they came. How well it tells known
# digits from unknown ones is measured on digits that come later.

later = np.r_[phases["watch"], unknown]
monitor = make_monitor(net)
learnt, auroc = [], []
for batch in np.split(phases["learn"], 10):
    monitor.partial_fit(X[batch], y[batch])
    learnt.append(20 * (len(learnt) + 1))
    auroc.append(ood_roc_auc_score(y[later], monitor.score_samples(X[later])))

# %%
# Calibrate, and watch
# --------------------
#
# Rows that the monitor has not learnt from set the threshold. A
# :class:`~skood.monitoring.DriftMonitor` then takes rows as they come, ten at a time.

monitor.calibrate(X[phases["calibrate"]], false_alarm_rate=0.05)


def watched(monitor, images):
    """What is said of a stream of images, ten at a time."""
    drift = DriftMonitor(monitor, alpha=0.01)
    for start in range(0, len(images), 10):
        drift.update(images[start : start + 10])
    return drift


stream = np.r_[X[phases["watch"]], dim[phases["dim: watch"]]]
scores = monitor.decision_function(stream)
drift = watched(monitor, stream)
# Kept here: once the monitor is calibrated anew, nothing more is said of this stream.
history, limit, alarm = drift.history_, drift.martingale_limit_, drift.alarm_time_
print(f"The lamp is exchanged after row {sizes['watch']} of those watched.")
print(f"The alarm rings at row {alarm}, by the {drift.alarm_cause_}.")
for name, images in (("watch", X), ("dim: watch", dim)):
    rows = phases[name]
    print(
        f"{name}: {np.mean(monitor.predict(images[rows]) == -1):.0%} flagged,"
        f" the network gets {net.score(images[rows], y[rows]):.0%} right"
    )

# %%
# Learn on
# --------
#
# Somebody has looked: the lamp is meant to be so. More batches follow, of dim images.
# The threshold holds for dim images only if it is set by such, and so the monitor is
# calibrated anew. A new watch begins with it.

for batch in np.split(phases["dim: learn on"], 6):
    monitor.partial_fit(dim[batch], y[batch])
monitor.calibrate(dim[phases["dim: calibrate"]], false_alarm_rate=0.05)
scores_again = monitor.decision_function(dim[phases["dim: watch again"]])
again = watched(monitor, dim[phases["dim: watch again"]])
print(f"alarm after learning on: {again.alarm_}")
print(f"dim: watch again: {np.mean(scores_again < 0):.0%} flagged")
print(
    f"unknown digits, dim: {np.mean(monitor.predict(dim[unknown]) == -1):.0%} flagged"
)

# %%
# The life of a monitor
# ---------------------
#
# Each point is an image. Below is the evidence that the stream has changed, and the
# limit at which the watch on scores rings. The other watch, on the rate of flagged
# images, may ring earlier.

ends = np.cumsum([size for name, size in sizes.items() if name != "network"])
fig, (ax, below) = plt.subplots(2, sharex=True, figsize=(9, 5.2), layout="constrained")
fig.suptitle("scores and evidence in a stream, while a lamp fades")
for start, found, seen in (
    (ends[1], scores, history),
    (ends[5], scores_again, again.history_),
):
    rows, flagged = start + np.arange(len(found)), found < 0
    ax.plot(rows[~flagged], found[~flagged], ".", color="#0072b2")
    ax.plot(rows[flagged], found[flagged], ".", color="#d55e00")
    below.plot(start + seen["row"], seen["martingale"], color="#0072b2")
ax.axhline(0, color="0.5", linestyle="--")
below.axhline(limit, color="0.5", linestyle="--", label="limit")
for axes in (ax, below):
    axes.axvspan(ends[2], ends[-1], color="0.5", alpha=0.15, linewidth=0)
    axes.axvline(ends[1] + alarm, color="#d55e00", label="alarm")
across = ax.get_xaxis_transform()
for start, end, name in zip([0, *ends], ends, list(sizes)[1:], strict=False):
    short = name.removeprefix("dim: ").removesuffix(" again").replace(" ", "\n")
    ax.text(
        (start + end) / 2,
        1.02,
        short,
        ha="center",
        va="bottom",
        fontsize=9,
        transform=across,
    )
    ax.axvline(end, color="0.8", linewidth=0.7, zorder=0)
ax.set(ylabel="score, less threshold", xlim=(0, ends[-1]))
below.set(xlabel="row of the stream; the lamp is dim where it is grey", yscale="log")
below.set_ylabel("evidence of a change")
below.legend(loc="upper left")

# %%
# What is learnt by each batch
# ----------------------------

fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.plot(learnt, auroc, "o-", color="#0072b2")
ax.set(xlabel="rows learnt from", ylabel="AUROC, digits 1 and 5")
ax.set_title("what is learnt by each batch")
plt.show()
