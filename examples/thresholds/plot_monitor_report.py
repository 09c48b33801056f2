"""
==========================
A report before deployment
==========================

Before a monitor is put to use, somebody wants to know how often it will ring, what it
finds and what it does not. :meth:`skood.Monitor.report` measures that and says it with
numbers of rows and exact intervals, as Markdown, as HTML and as tables.

The figure compares two thresholds of one monitor by the calibration curves of their
reports: the rate of false alarms on images that nothing was learnt from, against the
rate that was asked for. That of ``fit`` is an estimate from images that the network was
trained on, which it knows too well: on new ones there are two to five times as many
alarms as were asked for, at rates of 5 % and less. That of ``calibrate``, from held-out
images, has the rate that was asked for, within what so few images can tell. Below is
the report itself, as a notebook shows it.
"""

# %%
# Three parts of the known digits
# -------------------------------
#
# The digits 1 and 5 are unknown to the network. Of the others, some train it and fit
# the monitor, some calibrate the threshold, and the rest are for the report.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skood import make_monitor
from skood.datasets import load_digits_ood, make_noise

X, y = load_digits_ood(held_out=(1, 5), return_X_y=True)
X = X.reshape(len(X), -1)
unknown = np.flatnonzero(y == -1)
train, rest = train_test_split(np.flatnonzero(y != -1), train_size=300, random_state=0)
held_out, test = train_test_split(rest, test_size=0.5, random_state=0)
net = MLPClassifier((64, 32), max_iter=500, random_state=0).fit(X[train], y[train])

# %%
# Two reports
# -----------
#
# ``fit`` warns that its threshold is an estimate: the network gets none of these images
# wrong, as of those that it was trained on.

sets = {
    "digits 1 and 5": X[unknown],
    "noise": make_noise("uniform", (200, 64), random_state=0),
}
monitor = make_monitor(net).fit(X[train], y[train])
estimated = monitor.report(X[test], sets, y_test=y[test])
monitor.calibrate(X[held_out])
calibrated = monitor.report(X[test], sets, y_test=y[test])

fig, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
ends = [0.005, 0.5]
ax.plot(ends, ends, color="black", linestyle="--", label="as asked for")
for report, label, color, marker in (
    (estimated, "threshold of fit, an estimate", "#d55e00", "s"),
    (calibrated, "threshold of calibrate", "#0072b2", "o"),
):
    asked, measured, low, high = (
        np.array([entry[key] for entry in report.calibration_curve])
        for key in ("asked", "rejected", "low", "high")
    )
    ax.plot(asked, measured, color=color, marker=marker, label=label)
    ax.fill_between(asked, np.maximum(low, 1e-3), high, color=color, alpha=0.15)
ax.set(xscale="log", yscale="log", ylim=(0.002, 1))
ax.set(
    title="false alarms: measured, and asked for",
    xlabel="rate of false alarms asked for",
    ylabel="rate on new images",
)
ax.legend()
plt.show()

# %%
# The report
# ----------
#
# A notebook shows it as a page; ``calibrated.save(folder)`` writes ``report.md``,
# ``report.html`` and the figures.

# sphinx_gallery_capture_repr_block = ("_repr_html_",)
calibrated
