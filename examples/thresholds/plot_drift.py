"""
=============================
Drift of the data in a stream
=============================

A monitor is calibrated on digits, and then watches a stream of others. From row 300 on
the light fades: each image is a little darker than the one before.
:class:`skood.monitoring.DriftMonitor` rings while the images still look right, and in a
stream in which nothing changes it ever rings with a probability of at most ``alpha``.
"""

# %%
# A calibrated monitor
# --------------------
#
# 700 digits train the network and its monitor, 500 others calibrate the monitor, and
# the rest will come in as a stream. ``fit`` would warn that its threshold is an
# estimate: it is calibrated right after.

# sphinx_gallery_thumbnail_number = 3
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skood import make_monitor
from skood.calibration import UncalibratedWarning
from skood.monitoring import DriftDisplay, DriftMonitor

X, y = load_digits(return_X_y=True)
X = X / 16
train, rest = train_test_split(
    np.arange(len(X)), train_size=700, stratify=y, random_state=0
)
calibration, new = train_test_split(
    rest, train_size=500, stratify=y[rest], random_state=0
)
net = MLPClassifier((64, 32), max_iter=500, random_state=0).fit(X[train], y[train])
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UncalibratedWarning)
    monitor = make_monitor(net).fit(X[train], y[train])
monitor.calibrate(X[calibration], false_alarm_rate=0.05)

# %%
# The light fades
# ---------------
#
# Over 250 images, the light falls to half of what it was.

start, end = 300, 550
brightness = np.interp(np.arange(end), [start, end], [1, 0.5])
stream = brightness[:, np.newaxis] * X[new][:end]

drift = DriftMonitor(monitor, alpha=0.01)
for image in stream:
    drift.update(image[np.newaxis])
alarm = drift.alarm_time_ - 1
print(f"Rings at row {drift.alarm_time_}, by the {drift.alarm_cause_}.")
print(f"The light there is at {brightness[alarm]:.0%}.")

# %%
# On top, each row is a point at its p-value: uniform between 0 and 1 at first, and
# small when scores fall. In the middle is the rate of rejected images with its lower
# bound, which has to pass the limit. At the bottom is the evidence of the p-values, a
# martingale: who bets against an unchanged stream cannot expect to win.

display = DriftDisplay.from_estimator(drift)
for ax in display.axes_:
    ax.axvspan(start, end, color="0.5", alpha=0.15, linewidth=0)
display.figure_.suptitle("Grey: the light fades")
plt.show()

# %%
# How dark it is when the alarm rings
# -----------------------------------
#
# One digit in the light of several rows.

rows = [0, start, alarm, (alarm + end) // 2, end - 1]
fig, axes = plt.subplots(1, len(rows), figsize=(8, 2.2), layout="constrained")
for ax, row in zip(axes, rows, strict=True):
    image = brightness[row] * X[new[0]]
    ax.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
    ax.set_title(f"row {row + 1}" + (", alarm" if row == alarm else ""), fontsize=10)
    ax.set_axis_off()
plt.show()

# %%
# Nothing changes, and something does
# -----------------------------------
#
# The same images in another order, ten times, do not ring. Sorted by their class they
# do, although not one of them is new: a stream in which classes come one after the
# other is not exchangeable, and nor is a video. The promise does not apply to them.

rng = np.random.default_rng(0)
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for number in range(10):
    drift = DriftMonitor(monitor).update(X[rng.permutation(new)])
    history = drift.history_
    label = "in random order" if number == 0 else None
    ax.plot(history["row"], history["martingale"], color="#3a9bd9", label=label)
drift = DriftMonitor(monitor).update(X[new][np.argsort(y[new], kind="stable")])
history = drift.history_
ax.plot(history["row"], history["martingale"], color="#d55e00", label="sorted by class")
ax.axhline(
    drift.martingale_limit_, color=ax.yaxis.label.get_color(), ls="--", label="limit"
)
ax.set(title="the same images in other orders")
ax.set(yscale="log", xlabel="row of the stream", ylabel="evidence")
ax.legend()
plt.show()
