"""
==============================================
Thresholds with the right rate of false alarms
==============================================

``false_alarm_rate`` is the share of in-distribution inputs that a monitor may reject. A
detector that stores its training samples cannot learn the threshold from their plain
scores: each finds itself at distance 0, and nearly every new sample is farther away. So
:class:`skood.HammingNAPDetector` scores each training sample with itself left out.

The figure shows the rate of false alarms on digits that neither the network nor the
monitor has seen, against the rate that was set. With the naive threshold almost every
image is rejected, at any setting. With the training samples left out one by one, the
rate follows the setting. It is a little too high at small rates when the monitor was
fitted on the images that the network was trained on, because a network is more
confident on those than on new ones. Fitted on other images of the same kind, the
monitor has the rate that was set.
"""

# %%
# Three parts of the digits
# -------------------------
#
# One part trains the network, one is left for the monitor, and one is for testing. The
# division is drawn ten times.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, HammingNAPDetector, PercentileBinarizer

X, y = load_digits(return_X_y=True)
X = X / 16
nominal = np.array([0.01, 0.02, 0.05, 0.1, 0.2])


def false_alarms(detector, patterns, scores):
    """Share of the patterns below the thresholds that the given scores set."""
    thresholds = np.percentile(scores, 100 * nominal)
    return np.mean(detector.score_samples(patterns)[:, np.newaxis] < thresholds, axis=0)


naive, left_out, left_out_fresh = [], [], []
for seed in range(10):
    rest, test = train_test_split(
        np.arange(len(X)), test_size=600, stratify=y, random_state=seed
    )
    own, fresh = train_test_split(
        rest, test_size=0.5, stratify=y[rest], random_state=seed
    )
    net = MLPClassifier((64, 32), max_iter=500, random_state=seed).fit(X[own], y[own])
    patterns = make_pipeline(
        ActivationExtractor(net), PercentileBinarizer(percentile=50)
    ).fit_transform(X)

    detector = HammingNAPDetector().fit(patterns[own])
    scores_as_they_are = detector.score_samples(patterns[own])
    naive.append(false_alarms(detector, patterns[test], scores_as_they_are))
    left_out.append(false_alarms(detector, patterns[test], detector.training_scores_))

    detector = HammingNAPDetector().fit(patterns[fresh])
    left_out_fresh.append(
        false_alarms(detector, patterns[test], detector.training_scores_)
    )

# %%
# Measured rates against the setting
# ----------------------------------
#
# Lines are means over the ten divisions, bands reach from the smallest to the largest.

fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for rates, label, color, marker in (
    (naive, "naive: training samples not left out", "#d55e00", "s"),
    (left_out, "left out, on the network's training images", "#0072b2", "o"),
    (left_out_fresh, "left out, on images new to the network", "#009e73", "^"),
):
    percent = 100 * np.array(rates)
    ax.plot(
        100 * nominal, percent.mean(axis=0), color=color, marker=marker, label=label
    )
    ax.fill_between(
        100 * nominal, percent.min(axis=0), percent.max(axis=0), color=color, alpha=0.15
    )
ax.plot(100 * nominal, 100 * nominal, color="black", linestyle="--", label="as set")
ax.set(
    xscale="log",
    yscale="log",
    xlabel="rate that was set, false_alarm_rate (%)",
    ylabel="false alarms on new digits (%)",
)
for axis in (ax.xaxis, ax.yaxis):
    axis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100]))
    axis.set_major_formatter("{x:.0f}")
ax.minorticks_off()
ax.legend()
plt.show()
