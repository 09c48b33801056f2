"""
========================================
Regression: where a network extrapolates
========================================

A regressor has no classes and no confidence: it answers each input with a number. Which
numbers lie between data that it has learnt from, and which are extrapolated? The
neurons of its hidden layers tell. :func:`~skood.make_monitor` takes regressors as they
are; what needs classes or logits is left out.

The first figure shows a curve with a gap in the data. The monitor flags the gap and
both ends. In the gap the network happens to be right, at the ends it is wrong: nothing
in the data could tell. The second figure is about patients who are heavier than any in
training, and has a warning: near the margin of a table of ten columns, few are flagged.
"""

# %%
# A curve
# -------
#
# There are no data between -1 and 1, and none beyond -4 and 4. Half of what is there
# trains the network and the monitor, the other half calibrates.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import make_monitor
from skood.calibration import ConformalDetector, UncalibratedWarning
from skood.detectors import MahalanobisDetector

# ``fit`` says that a threshold from training rows is an estimate: calibration follows.
warnings.simplefilter("ignore", UncalibratedWarning)


def curve(x):
    return np.sin(2 * x) + 0.3 * x


rng = np.random.default_rng(0)
x = rng.choice([-1, 1], size=600) * rng.uniform(1, 4, size=600)
y = curve(x) + rng.normal(0, 0.1, size=600)
train, held_out = slice(300), slice(300, 600)
net = make_pipeline(
    StandardScaler(),
    MLPRegressor(
        hidden_layer_sizes=(64, 64),
        activation="tanh",
        solver="lbfgs",
        max_iter=2000,
        random_state=0,
    ),
)
net.fit(x[train, np.newaxis], y[train])
monitor = make_monitor(net).fit(x[train, np.newaxis])
monitor.calibrate(x[held_out, np.newaxis])
print(*str(monitor).splitlines()[:6], sep="\n")

# %%
# What it flags
# -------------

places = np.linspace(-7, 7, 400)
verdicts = monitor.predict(places[:, np.newaxis])
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.fill_between(
    places,
    0,
    1,
    where=verdicts == -1,
    transform=ax.get_xaxis_transform(),
    color="#d55e00",
    alpha=0.2,
    linewidth=0,
    label="flagged",
)
ax.plot(x[train], y[train], ".", color="0.5", markersize=4, label="training data")
ax.plot(places, curve(places), "--", color="#009e73", label="true curve")
ax.plot(places, net.predict(places[:, np.newaxis]), color="#0072b2", label="network")
ax.set(xlabel="input", ylabel="output", ylim=(-5, 5), xlim=(-7, 7))
ax.set_title("a network beyond its training data")
ax.legend(loc="upper left", ncols=2)

# %%
# Patients who are heavier than all others
# ----------------------------------------
#
# A real table has ten columns, and each patient is at the margin in some of them. Here,
# networks learn the progress of diabetes from patients whose body mass index is below a
# limit; the heaviest three in ten are left out. Each of ten networks has its own
# division of the others: to learn from, to calibrate, and to test. Beside its monitor,
# a detector of skood reads the columns of the table.

patients, progress = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
target = (progress - progress.mean()) / progress.std()
bmi = patients["bmi"].to_numpy()
limit = np.quantile(bmi, 0.7)
methods = ["monitor of the neurons", "detector on the table"]
verdicts, errors = {method: [] for method in methods}, []
for seed in range(10):
    light = np.random.default_rng(seed).permutation(np.flatnonzero(bmi <= limit))
    train, held_out, _ = np.split(light, [160, 240])
    unseen = np.setdiff1d(np.arange(len(bmi)), np.r_[train, held_out])
    X_train, X_held_out = patients.iloc[train], patients.iloc[held_out]
    net = make_pipeline(
        StandardScaler(),
        MLPRegressor(
            hidden_layer_sizes=(32, 16),
            alpha=10,
            solver="lbfgs",
            max_iter=2000,
            random_state=seed,
        ),
    ).fit(X_train, target[train])
    monitor = make_monitor(net).fit(X_train).calibrate(X_held_out)
    table = make_pipeline(StandardScaler(), MahalanobisDetector()).fit(X_train)
    table = ConformalDetector(table).fit(X_held_out)
    X_unseen = patients.iloc[unseen]
    for method, detector in zip(methods, (monitor, table), strict=True):
        # NaN: the network of this round has seen the patient.
        flags = np.full(len(bmi), np.nan)
        flags[unseen] = detector.predict(X_unseen) == -1
        verdicts[method].append(flags)
    error = np.full(len(bmi), np.nan)
    error[unseen] = progress.std() * np.abs(net.predict(X_unseen) - target[unseen])
    errors.append(error)

# %%
# Flagged, by body mass index
# ---------------------------
#
# Neither detector flags many of the patients just beyond the limit: in all ten columns
# taken together, they still are like others. Of those far beyond it, both flag most.
# Where a single column must not leave its range, check that column. The error grows
# with the index on this side of the limit already: to extrapolate is one reason of
# errors, and not the only one.

edges = np.quantile(bmi, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1])
group = np.clip(np.searchsorted(edges, bmi), 1, len(edges) - 1) - 1
middles = [bmi[group == number].mean() for number in range(len(edges) - 1)]


def by_group(values):
    return [np.nanmean(np.array(values)[:, group == i]) for i in range(len(middles))]


fig, (ax, below) = plt.subplots(
    2, sharex=True, figsize=(7, 5), height_ratios=[2, 1], layout="constrained"
)
for method, color in zip(methods, ["#0072b2", "#d55e00"], strict=True):
    shares = 100 * np.array(by_group(verdicts[method]))
    ax.plot(middles, shares, "o-", color=color, label=method)
below.plot(middles, by_group(errors), "o-", color="0.5")
for axes in (ax, below):
    axes.axvline(limit, color="black", linestyle="--", label="heaviest in training")
ax.set(ylabel="patients flagged (%)", ylim=(0, 100))
ax.set_title("alarms and errors by body mass index")
below.set(xlabel="body mass index", ylabel="error of the network", ylim=(0, None))
ax.legend(loc="upper left")
plt.show()
