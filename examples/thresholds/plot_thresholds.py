"""
==============================================
Thresholds with the right rate of false alarms
==============================================

``false_alarm_rate`` is the share of in-distribution inputs that a monitor may reject.
How many it does reject depends on the rows that set the threshold.

The figure shows the rate of false alarms on new digits against the rate that was asked
for. A threshold from the training rows of the network is an estimate, and too strict,
since the network is surer of these rows than of new ones: by half here, and several
times over where a network knows its training rows by heart (:ref:`thresholds_results`).
It does not help to hold some of them out of the *detector*, as ``validation=0.2`` does:
the network has seen them all the same. Calibrated on rows that are new to the network,
the monitor has the rate that was asked for.
"""

# %%
# Three parts of the digits
# -------------------------
#
# One part trains the network, and the monitor learns from it, too. One calibrates, and
# one is for testing. The division is drawn ten times.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator
from scipy.stats import beta
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skood import make_monitor
from skood.calibration import ConformalDetector, UncalibratedWarning

# ``fit`` says that a threshold from training rows is an estimate: here, that is known.
warnings.simplefilter("ignore", UncalibratedWarning)

X, y = load_digits(return_X_y=True)
X = X / 16
rates = np.array([0.02, 0.05, 0.1, 0.2])
n_calibrating = 500


def measured(p_values):
    """Share of the samples that are rejected, for each rate."""
    return np.mean(p_values[:, np.newaxis] <= rates, axis=0)


estimated, validated, calibrated = [], [], []
for seed in range(10):
    train, rest = train_test_split(
        np.arange(len(X)), train_size=400, stratify=y, random_state=seed
    )
    held_out, test = rest[:n_calibrating], rest[n_calibrating:]
    net = MLPClassifier((64, 32), max_iter=500, random_state=seed)
    net.fit(X[train], y[train])
    monitor = make_monitor(net).fit(X[train], y[train])

    scores = monitor.score_samples(X[test])
    thresholds = np.percentile(monitor["detect"].training_scores_, 100 * rates)
    estimated.append(np.mean(scores[:, np.newaxis] < thresholds, axis=0))

    A = monitor["extract"].transform(X)
    split = ConformalDetector(monitor["detect"], cv=0.2, random_state=seed).fit(
        A[train]
    )
    validated.append(measured(split.p_values(A[test])))

    monitor.calibrate(X[held_out])
    calibrated.append(measured(monitor.p_values(X[test])))

# %%
# Measured rates against those asked for
# --------------------------------------
#
# Lines are means over the ten divisions, points single divisions. The band holds nine
# in ten of the rates that 500 calibration rows give: quantiles of a Beta distribution,
# whatever the network and the detector.

fig, ax = plt.subplots(figsize=(7, 4.8), layout="constrained")
ranks = np.floor(rates * (n_calibrating + 1) + 1e-9)
low, high = beta.ppf([[0.05], [0.95]], ranks, n_calibrating + 1 - ranks)
ax.fill_between(
    100 * rates,
    100 * low,
    100 * high,
    color="#009e73",
    alpha=0.2,
    linewidth=0,
    label="expected of 500 calibration rows",
)
for shift, found, label, color, marker in (
    (0.97, estimated, "estimate: training rows", "#d55e00", "s"),
    (1.0, validated, "training rows held out of the detector", "#0072b2", "o"),
    (1.03, calibrated, "calibrated on held-out rows", "#009e73", "^"),
):
    percent = 100 * np.array(found)
    ax.plot(100 * rates, percent.mean(axis=0), color=color, marker=marker, label=label)
    places = np.broadcast_to(100 * shift * rates, percent.shape)
    ax.scatter(places, percent, s=6, color=color, alpha=0.5, linewidth=0)
ax.plot(100 * rates, 100 * rates, color="0.5", linestyle="--", label="as asked for")
ax.set(
    xscale="log",
    yscale="log",
    ylim=(0.5, 50),
    title="false alarms: measured, and asked for",
    xlabel="rate asked for, false_alarm_rate (%)",
    ylabel="false alarms on new digits (%)",
)
ax.xaxis.set_major_locator(FixedLocator([2, 5, 10, 20]))
ax.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50]))
for axis in (ax.xaxis, ax.yaxis):
    axis.set_major_formatter("{x:g}")
ax.minorticks_off()
ax.legend()
plt.show()
