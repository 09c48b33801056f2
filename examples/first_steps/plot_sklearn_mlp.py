"""
========================================
A network of scikit-learn, without torch
========================================

skood monitors :class:`~sklearn.neural_network.MLPClassifier` and ``MLPRegressor``
without torch, which need not be installed. Detectors of scikit-learn can read their
activations too.

The network below knows eight of the ten digits. The figure shows, for three monitors,
how many unknown digits, the 1 and the 5, are found at each rate of false alarms. The
activation patterns of the two hidden layers find the most, at nearly every rate. The
local outlier factor on the same layers, a detector of scikit-learn, comes second: it
finds more than the softmax output, except at low rates of false alarms.
"""

# %%
# The network, and all its layers
# -------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, HammingNAPDetector, PercentileBinarizer
from skood.datasets import load_digits_ood
from skood.detectors import MaxSoftmaxDetector
from skood.ensemble import LayerEnsembleDetector

X, y = load_digits_ood(held_out=(1, 5), return_X_y=True)
X = X.reshape(len(X), -1)
train, test = train_test_split(np.flatnonzero(y != -1), test_size=400, random_state=0)
test = np.r_[test, np.flatnonzero(y == -1)]
net = MLPClassifier((128, 64), max_iter=500, random_state=0).fit(X[train], y[train])

A = ActivationExtractor(net).fit_transform(X)
print(A)

# %%
# Three monitors
# --------------
#
# The first reads the output alone. The others read the hidden layers, one member for
# each.

monitors = {
    "softmax output": MaxSoftmaxDetector(),
    "activation patterns": LayerEnsembleDetector(
        make_pipeline(PercentileBinarizer(percentile=50), HammingNAPDetector())
    ),
    "local outlier factor": LayerEnsembleDetector(LocalOutlierFactor(novelty=True)),
}
for monitor in monitors.values():
    monitor.fit(A[train], y[train])

# %%
# Unknown digits found, against false alarms
# ------------------------------------------
#
# scikit-learn's display takes the scores with their sign turned, for here the unknown
# digits are the positive class.

fig, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
styles = (("#999999", ":"), ("#0072b2", "-"), ("#d55e00", "--"))
for (name, monitor), (color, line) in zip(monitors.items(), styles, strict=True):
    RocCurveDisplay.from_predictions(
        y[test] == -1,
        -monitor.decision_function(A[test]),
        name=name,
        ax=ax,
        curve_kwargs={"color": color, "linestyle": line},
    )
ax.set(
    title="unknown digits found, by false alarms",
    xlabel="known digits flagged (share)",
    ylabel="unknown digits flagged (share)",
)
ax.legend(loc="lower right", fontsize=8)
plt.show()
