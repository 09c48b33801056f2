"""
=====================================
Auto-configuration by a grid search
=====================================

Which layer, pooling and percentile make the best monitor? To scikit-learn, these are
parameters like any others, so :class:`~sklearn.model_selection.GridSearchCV` finds
out, with a splitter that keeps out-of-distribution samples out of the training parts.
The activations are extracted once; the network does not run during the search.

The search knows one kind of unknown input, smooth noise. The first figure shows what it
found: the AUROC against that noise differs widely between settings. The second figure
tests the result on four kinds of unknown inputs that the search has not seen. The best
single setting finds the other kinds of noise, but is worse than the softmax output
against unknown digits: it was chosen for noise.
:meth:`~skood.ensemble.LayerEnsembleDetector.from_search` combines the best setting of
each layer. This ensemble is the best of the four monitors against the digit 1 and
against noise, which it finds without an error. Against the digit 5 it is far better
than the single setting, and not quite as good as the output alone.
"""

# %%
# A network, its activations, and unknown inputs
# ----------------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skood import (
    ActivationExtractor,
    Activations,
    HammingNAPDetector,
    PercentileBinarizer,
    PoolingReducer,
)
from skood.datasets import load_digits_network, make_noise
from skood.detectors import EnergyDetector, MaxSoftmaxDetector
from skood.ensemble import LayerEnsembleDetector
from skood.metrics import make_ood_scorer
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector

digits = load_digits_network(held_out=(1, 5), n_calibration=0, n_test=400)
X, y, train, test = digits.data, digits.target, digits.train, digits.test

noise = {
    kind: make_noise(kind, (200, 1, 8, 8), random_state=0)
    for kind in ("blobs", "uniform", "constant")
}

extractor = ActivationExtractor(digits.network)
A = extractor.fit_transform(X)
A_noise = {kind: extractor.transform(images) for kind, images in noise.items()}
print(A)

# %%
# The search
# ----------
#
# Training digits and smooth noise, marked by ``y == -1``, are joined. ``OODKFold``
# puts noise into the test parts only.

A_search = Activations.concatenate([A[train], A_noise["blobs"]])
y_search = np.r_[y[train], np.full(len(A_noise["blobs"]), -1)]

monitor = Pipeline(
    [
        ("select", LayerSelector()),
        ("pool", PoolingReducer()),
        ("binarize", PercentileBinarizer()),
        ("detect", HammingNAPDetector()),
    ]
)
grid = {
    "select__layers": [[layer] for layer in A.layer_names],
    "pool__pooling": ["max", "avg"],
    "binarize__percentile": [10, 30, 50, 70, 90],
}
search = GridSearchCV(
    monitor,
    grid,
    scoring=make_ood_scorer("roc_auc"),
    cv=OODKFold(5, shuffle=True, random_state=0),
).fit(A_search, y_search)
print(search.best_params_)

# %%
# What the search found
# ---------------------
#
# ``cv_results_`` has the settings in the order of the parameters' names: percentile,
# pooling, layer.

found = search.cv_results_["mean_test_score"].reshape(5, 2, len(A.layer_names))
fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
for ax, pooling, values in zip(
    axes, grid["pool__pooling"], np.moveaxis(found, 1, 0), strict=True
):
    image = ax.imshow(values.T, cmap="cividis", vmin=0.4, vmax=1, aspect="auto")
    for (column, row), value in np.ndenumerate(values):
        color = "black" if value > 0.75 else "white"
        ax.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color=color,
        )
    ax.set_title(f"{pooling} pooling")
    ax.set_xticks(range(5), grid["binarize__percentile"])
    ax.set_xlabel("percentile (%)")
axes[0].set_yticks(range(len(A.layer_names)), A.layer_names)
axes[0].set_ylabel("layer")
fig.colorbar(image, ax=axes, label="AUROC against smooth noise", extend="min")

# %%
# Unknown inputs that the search has not seen
# -------------------------------------------
#
# The digits 1 and 5 and two other kinds of noise. All monitors learn from the training
# digits.

monitors = {
    "softmax output": MaxSoftmaxDetector(),
    "energy of the output": EnergyDetector(),
    "best single setting": search.best_estimator_,
    "ensemble from the search": LayerEnsembleDetector.from_search(search, n_layers=4),
}
unseen = {
    "digit 1": A[np.flatnonzero(digits.digit == 1)],
    "digit 5": A[np.flatnonzero(digits.digit == 5)],
    "uniform noise": A_noise["uniform"],
    "constant noise": A_noise["constant"],
}
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
colors = ("#999999", "#e69f00", "#56b4e9", "#0072b2")
for number, ((name, monitor), color) in enumerate(
    zip(monitors.items(), colors, strict=True)
):
    monitor.fit(A[train], y[train])
    aurocs = [
        monitor.score(
            Activations.concatenate([A[test], unknown]),
            np.r_[y[test], np.full(len(unknown), -1)],
        )
        for unknown in unseen.values()
    ]
    place = np.arange(len(unseen)) + 0.2 * (number - 1.5)
    bars = ax.bar(place, aurocs, width=0.18, color=color, label=name)
    ax.bar_label(bars, fmt="%.2f", fontsize=8)
ax.set_xticks(range(len(unseen)), unseen)
ax.set(
    title="unknown inputs that the search has not seen",
    ylim=(0.5, 1.03),
    ylabel="AUROC (0.5 is chance)",
)
ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=8)
plt.show()
