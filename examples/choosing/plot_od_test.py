"""
==================================================
OD-test: detectors on inputs that they do not know
==================================================

Which detector is good, and is it better than another by more than luck? What a monitor
will meet is not known when it is made, so it must not be judged on the inputs that it
was configured with. :func:`~skood.model_selection.od_test` takes each kind of unknown
input once for configuration, and reports on every other kind.

Two networks know eight of the ten digits each. Unknown are the other two digits and
three kinds of noise. The table has a row for each network, detector, validation set
and test set; :func:`~skood.model_selection.summarize` averages it, and
:func:`~skood.model_selection.compare` says what a difference is worth.
"""

# %%
# Two networks, and what they do not know
# ---------------------------------------
#
# Each network runs once over its digits and over each unknown set. One half of its
# digits is for training, of the network and of the detectors, the other for testing.

import matplotlib.pyplot as plt
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skood import ActivationExtractor, make_monitor
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import (
    EnergyDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxSoftmaxDetector,
)
from skood.ensemble import AutoNAPDetector
from skood.inspection import (
    MeanPerformanceDisplay,
    TransferDisplay,
    ValidationTestDisplay,
)
from skood.model_selection import compare, od_test, summarize

in_distribution, labels, out_sets = {}, {}, {}
for held_out in [(1, 5), (3, 8)]:
    digits = load_digits_ood(held_out=held_out)
    X, y = digits.data.reshape(len(digits.data), -1), digits.target
    X_train, X_test, y_train, y_test = train_test_split(
        X[y != -1], y[y != -1], test_size=0.5, random_state=0
    )
    net = MLPClassifier((64, 48, 32), random_state=0, max_iter=300)
    net.fit(X_train, y_train)
    unknown = {f"digit {digit}": X[digits.digit == digit] for digit in held_out}
    for kind in ("blobs", "uniform", "constant"):
        noise = make_noise(kind, (200, 1, 8, 8), random_state=0)
        unknown[f"{kind} noise"] = noise.reshape(200, -1)

    extractor = ActivationExtractor(net)
    source = "digits without {} and {}".format(*held_out)
    in_distribution[source] = (
        extractor.fit_transform(X_train),
        extractor.transform(X_test),
    )
    labels[source] = y_train, y_test
    out_sets[source] = {name: extractor.transform(X) for name, X in unknown.items()}

# %%
# The test
# --------
#
# Most detectors learn from known digits alone. They are fitted once for each network,
# and have the same values in the rows of all validation sets. ``AutoNAPDetector``
# chooses its settings by the validation set.

detectors = {
    "softmax": MaxSoftmaxDetector(),
    "energy": EnergyDetector(),
    "KNN": KNNDetector(n_neighbors=5),
    "Mahalanobis": MahalanobisDetector(),
    "isolation forest": IsolationForest(random_state=0),
    "AutoNAP": AutoNAPDetector(random_state=0),
    "default monitor": make_monitor(net)["detect"],
}
table = od_test(detectors, in_distribution, out_sets, y=labels)
columns = ["source", "detector", "validation", "test", "accuracy", "auroc"]
print(table[columns].sample(5, random_state=0).round(3).to_string(index=False))

# %%
# Means
# -----
#
# Rows of one test set are averaged first: standard errors are over test sets, of which
# there are ten, five for each network.

summary = summarize(table, by="detector", metrics=["auroc", "accuracy"])
print(summary.sort_values("auroc", ascending=False).round(3).to_string(index=False))
display = MeanPerformanceDisplay.from_table(table)
display.figure_.suptitle("means over unknown inputs")

# %%
# Differences
# -----------
#
# What is hard for one detector is hard for others, too. Differences on the same cells
# therefore vary less than the means do. The columns ``worst`` name the cell in which a
# detector falls behind the softmax output furthest.

differences = compare(table, "softmax", by="detector")
columns = ["detector", "difference", "difference_se", "won", "worst", "worst_test"]
print(differences[columns].round(3).to_string(index=False))

# %%
# What a validation set is good for
# ---------------------------------
#
# A point is a detector with one network and one validation set. To the right, it is
# good on that set, and at the top, it is good on the others.

display = ValidationTestDisplay.from_table(table, metric="auroc")
display.ax_.set_title("validation and test")

# %%
# One detector in detail: what ``AutoNAPDetector`` chooses by one set (a row), on the
# other sets (the columns).

rows = table[table["source"] == "digits without 1 and 5"]
TransferDisplay.from_table(rows, "AutoNAP")
plt.show()
