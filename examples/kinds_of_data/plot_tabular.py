"""
=================================================
Tabular data: faulty rows, and misclassified ones
=================================================

A perceptron tells benign from malignant tumours by the thirty columns of a table. Then
somebody changes a unit, or fills missing cells with zeros. The network still answers,
and is as sure of itself as ever. Which rows should it not be trusted on?

The first figure shows how many rows with such faults are flagged by the confidence of
the network, by a monitor of its neurons, and by a detector that reads the table itself.
The monitor finds what drives neurons to where they have never been. It cannot see what
the network hardly reads, or what makes it look like a clear case: here, the detector
on the table is much the better one. The second figure has the opposite lesson: rows
that the network gets wrong are ordinary rows of the table, and its neurons know them.
"""

# %%
# Every row is tested once
# ------------------------
#
# Of five parts of the table, three train a network, one calibrates, and one is for
# testing; in turn, so that there are five networks. A network is a pipeline here, and
# its monitor takes rows as they are in the table.
#
# ``fit`` warns that a threshold from the training rows of the network is an estimate.
# All are calibrated afterwards, and flag about one good row in twenty.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import ActivationExtractor, Monitor, make_monitor
from skood.calibration import ConformalDetector, UncalibratedWarning
from skood.detectors import MahalanobisDetector, MaxSoftmaxDetector

warnings.simplefilter("ignore", UncalibratedWarning)

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
fifths = [rows for _, rows in StratifiedKFold(5).split(X, y)]


def network(train):
    net = make_pipeline(
        StandardScaler(), MLPClassifier((32, 16), max_iter=1000, random_state=0)
    )
    return net.fit(X.iloc[train], y[train])


def calibrated(net, train, held_out):
    """What may flag a row: by the output of the network, its neurons, or the table."""
    X_train, X_held_out = X.iloc[train], X.iloc[held_out]
    softmax = Monitor(
        [("extract", ActivationExtractor(net)), ("detect", MaxSoftmaxDetector())]
    )
    table = make_pipeline(StandardScaler(), MahalanobisDetector()).fit(X_train)
    return {
        "confidence": softmax.fit(X_train).calibrate(X_held_out),
        "monitor": make_monitor(net).fit(X_train).calibrate(X_held_out),
        "table": ConformalDetector(table).fit(X_held_out),
    }


nets, detectors, tests = [], [], []
for number in range(5):
    test, held_out, *others = fifths[number:] + fifths[:number]
    train = np.concatenate(others)
    nets.append(network(train))
    detectors.append(calibrated(nets[-1], train, held_out))
    tests.append(X.iloc[test])
methods = list(detectors[0])

# %%
# Columns that are out of order
# -----------------------------
#
# Names of columns are compared, as by every estimator of scikit-learn. Keep them: an
# array has none.

try:
    detectors[0]["monitor"].predict(tests[0].iloc[:, ::-1])
except ValueError as error:
    print(error)

# %%
# Faults that keep the names
# --------------------------
#
# The table has ten measures of the cells of a tumour: their means, standard errors, and
# "worst" values, which are the largest. A fault is a function of good rows.

means, _, worst = np.array_split(X.columns, 3)
lengths = X.columns[X.columns.str.contains("radius|perimeter")]
rng = np.random.default_rng(0)


def times(factor, columns):
    return lambda rows: rows.assign(**{name: factor * rows[name] for name in columns})


def swapped(rows):
    values = rows[[*worst, *means]].to_numpy().T
    return rows.assign(**dict(zip([*means, *worst], values, strict=True)))


faults = {
    "good rows": times(1, []),
    "one length times 1/10": times(0.1, ["worst radius"]),
    "lengths times 1/10": times(0.1, lengths),
    "lengths times 10": times(10, lengths),
    "mean and worst swapped": swapped,
    "mean missing, filled by 0": times(0, means),
    "worst missing, filled by 0": times(0, worst),
    "each column shuffled": lambda rows: rows.apply(rng.permutation),
}
flagged = {method: [] for method in methods}
for name, fault in faults.items():
    faulty = [fault(rows) for rows in tests]
    right = [
        net.predict(rows) == y[rows.index]
        for net, rows in zip(nets, faulty, strict=True)
    ]
    print(f"{name}: {np.concatenate(right).mean():.0%} are classified correctly")
    for method in methods:
        verdicts = [
            by_name[method].predict(rows)
            for by_name, rows in zip(detectors, faulty, strict=True)
        ]
        flagged[method].append(np.mean(np.concatenate(verdicts) == -1))

# %%
# What each of them flags
# -----------------------
#
# Lengths that are ten times too long drive the neurons far out, and the monitor flags
# nearly all. A tenth of a length, or a zero, is harmless to look at from inside: a
# small tumour is a benign one, and the network is the surer of it. For the covariance
# of the columns, a radius that does not fit the perimeter is impossible. Where faults
# of the table are what you fear, let a detector of skood or scikit-learn read the
# table, before the network does.

fig, ax = plt.subplots(figsize=(7, 5), layout="constrained")
places = np.arange(len(faults))
colors = dict(zip(methods, ["#999999", "#0072b2", "#d55e00"], strict=True))
for shift, method in zip([-0.27, 0, 0.27], methods, strict=True):
    shares = 100 * np.array(flagged[method])
    ax.barh(places + shift, shares, 0.27, color=colors[method], label=method)
ax.set(xlabel="rows flagged (%)", yticks=places, yticklabels=faults)
ax.set_title("faulty rows that are flagged")
ax.invert_yaxis()
fig.legend(loc="outside upper center", ncols=3)

# %%
# Rows that the network gets wrong
# --------------------------------
#
# There is nothing wrong with these rows, and so the detector on the table hardly does
# better than chance. With ``target="misclassified"``, :func:`~skood.make_monitor` makes
# a monitor that is meant for errors. Someone who looks at rows again, those with the
# smallest p-values first, finds most errors soon. There are few errors: small
# differences between curves are luck.

p_values = {method: [] for method in ["monitor of errors", *methods]}
wrong = []
for number, (net, by_name, rows) in enumerate(zip(nets, detectors, tests, strict=True)):
    _, held_out, *others = fifths[number:] + fifths[:number]
    train = np.concatenate(others)
    by_name["monitor of errors"] = (
        make_monitor(net, target="misclassified")
        .fit(X.iloc[train], y[train])
        .calibrate(X.iloc[held_out], y[held_out])
    )
    wrong.append(net.predict(rows) != y[rows.index])
    for method, found in p_values.items():
        found.append(by_name[method].p_values(rows))
wrong = np.concatenate(wrong)
print(f"rows that the networks get wrong: {wrong.sum()} of {len(wrong)}")

fig, ax = plt.subplots(figsize=(6, 4.4), layout="constrained")
colors["monitor of errors"] = "#009e73"
looked_at = 100 * np.arange(len(wrong) + 1) / len(wrong)
for method, found in p_values.items():
    errors = wrong[np.argsort(np.concatenate(found), kind="stable")]
    share = 100 * np.r_[0, np.cumsum(errors)] / errors.sum()
    ax.plot(looked_at, share, color=colors[method], label=method)
ax.plot([0, 100], [0, 100], color="0.5", linestyle="--", label="in any order")
ax.set(xlabel="rows looked at again (%)", ylabel="errors found (%)")
ax.set_title("errors of the network that are found")
ax.legend(loc="lower right")
plt.show()
