"""
============================================================
Choosing a threshold: which rate, and how many held-out rows
============================================================

A lower threshold gives fewer false alarms, and finds less. A threshold from few rows
may be far off. And a rate that is right on average may be wrong for every class. How
is a threshold chosen?

The first figure shows what is found at each rate of false alarms, for inputs of several
kinds. The second shows the rates that thresholds really have, by the number of rows
that set them: of a hundred rows, some give nearly twice the rate that was asked for,
against which there is a stricter guarantee. The third has the rate of each class, which
``group_by`` makes equal.
"""

# %%
# A monitor of digits
# -------------------
#
# The network knows eight digits. Its activations are extracted once.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter
from sklearn.neural_network import MLPClassifier

from skood import ActivationExtractor, make_monitor
from skood.calibration import ConformalDetector
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import EnergyDetector

X, y = load_digits_ood(held_out=(1, 5), return_X_y=True)
X = X.reshape(len(X), -1)
rng = np.random.default_rng(0)
known, unknown = rng.permutation(np.flatnonzero(y != -1)), np.flatnonzero(y == -1)
train, learn, rest = np.split(known, [400, 700])
net = MLPClassifier((64, 32), max_iter=500, random_state=0).fit(X[train], y[train])
monitor = make_monitor(net).fit(X[learn], y[learn])

# %%
# What a rate finds
# -----------------
#
# p-values say it for all rates at once: an input is flagged at each rate that is not
# below its p-value. Half of the remaining digits calibrate, the others are the new
# digits. How many of these are flagged, the false alarms, is close to what was asked
# for: that is what calibration is for.

held_out, new = np.array_split(rest, 2)
monitor.calibrate(X[held_out])
noise = make_noise("blobs", (300, 1, 8, 8), random_state=0).reshape(300, -1)
p_values = {
    "noise": monitor.p_values(noise),
    "digits 1 and 5": monitor.p_values(X[unknown]),
    "digits read wrongly": monitor.p_values(X[new][net.predict(X[new]) != y[new]]),
    "new digits": monitor.p_values(X[new]),
}
rates = np.geomspace(0.004, 0.5, 100)
fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
colors = ["#009e73", "#d55e00", "#cc79a7", "#0072b2"]
for (name, found), color in zip(p_values.items(), colors, strict=True):
    shares = np.mean(found <= rates[:, np.newaxis], axis=1)
    ax.plot(rates, shares, color=color, drawstyle="steps-post", label=name)
ax.plot(rates, rates, color="0.5", linestyle="--", label="as asked for")
ax.set(xscale="log", xlabel="false_alarm_rate", ylabel="flagged", ylim=(0, 1.02))
ax.set_title("flagged, by the rate of false alarms")
for axis in (ax.xaxis, ax.yaxis):
    axis.set_major_formatter(PercentFormatter(1, decimals=0))
fig.legend(loc="outside upper center", ncols=2)
print({name: len(found) for name, found in p_values.items()})

# %%
# How many rows
# -------------
#
# Rows to calibrate are drawn 200 times for each number, a threshold for 5 % is set by
# them, and its rate is measured on all other rows. What is promised does not depend on
# the detector, and so this one is quick. The boxes hold half of the thresholds, the
# whiskers nine in ten. ``guarantee="training-conditional"`` promises that the very
# threshold in use keeps the rate, with 95 % confidence; it is paid for with alarms that
# are not raised.

extractor = ActivationExtractor(net)
A = extractor.fit_transform(X)
detector = EnergyDetector().fit(A[learn])
numbers = [25, 60, 100, 200, 300]


def actual_rates(n_rows, n_draws=200, **promise):
    """The rate on new rows, for each of several sets of calibration rows."""
    found = []
    for _ in range(n_draws):
        rows = rng.permutation(rest)
        calibrated = ConformalDetector(detector, false_alarm_rate=0.05, **promise)
        calibrated.fit(A[rows[:n_rows]])
        found.append(np.mean(calibrated.predict(A[rows[n_rows:]]) == -1))
    return found


fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for shift, color, guarantee in (
    (-0.2, "#0072b2", "marginal"),
    (0.2, "#d55e00", "training-conditional"),
):
    # The fewest rows of which the stricter guarantee can be given are 59.
    possible = [n for n in numbers if guarantee == "marginal" or n >= 59]
    drawn = ax.boxplot(
        [actual_rates(n, guarantee=guarantee) for n in possible],
        positions=[numbers.index(n) + shift for n in possible],
        widths=0.35,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        medianprops={"color": "black"},
        boxprops={"facecolor": color},
    )
    drawn["boxes"][0].set_label(guarantee)
ax.axhline(0.05, color="0.5", linestyle="--", label="as asked for")
ax.set(xlabel="held-out rows", ylabel="actual rate of false alarms", ylim=(0, None))
ax.set_title("200 thresholds for a rate of 5 %")
ax.set_xticks(range(len(numbers)), numbers)
ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
ax.legend()

# %%
# Each class by itself
# --------------------
#
# One threshold for all flags many digits of one class and none of another. With
# ``group_by="prediction"`` each predicted class has its own, of fewer rows each. Rates
# are means over 100 draws of 300 held-out rows.

shares = {}
for name, group_by in (("one threshold", None), ("by predicted class", "prediction")):
    flagged = np.zeros((100, 8))
    for draw in flagged:
        rows = rng.permutation(rest)
        calibrated = ConformalDetector(
            detector, false_alarm_rate=0.1, group_by=group_by
        ).fit(A[rows[:300]])
        others = rows[300:]
        verdicts = calibrated.predict(A[others])
        named = A.predictions[others]
        draw[:] = [np.mean(verdicts[named == label] == -1) for label in range(8)]
    shares[name] = flagged.mean(axis=0)

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
digits = load_digits_ood(held_out=(1, 5)).target_names
for shift, color, (name, found) in zip(
    (-0.2, 0.2), ("#0072b2", "#d55e00"), shares.items(), strict=True
):
    ax.bar(np.arange(8) + shift, found, 0.38, color=color, label=name)
ax.axhline(0.1, color="0.5", linestyle="--", label="as asked for")
ax.set(xlabel="digit that the network names", ylabel="false alarms")
ax.set_title("false alarms of each class")
ax.set_xticks(range(8), digits)
ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
ax.legend()
plt.show()
