"""
===============================================
Detectors of scikit-learn and PyOD on a layer
===============================================

A layer of :class:`skood.Activations` converts to a matrix. So the outlier and novelty
detectors of scikit-learn and of `PyOD <https://pyod.readthedocs.io>`_ can read it. They
stand beside skood's own in pipelines, and as members of an ensemble of layers.

The first figure shows how well each detects five kinds of unknown inputs among known
digits. On the last hidden layer, detectors that treat all known digits as one cluster
are at or below chance against the digit 5, and little better against the 1. The second
figure shows why: unknown inputs lie between the classes, in the middle of the cluster.
Detectors that look at the nearest neighbours, or at each class, do well. On all layers
together noise is found almost perfectly by all but ECOD, since the first layers reveal
it. But detectors that assume one cluster hardly discriminate the digit 5 from the
digits that the network knows.
"""

# %%
# A network and its layers
# ------------------------
#
# The digits 1 and 5 are held out. The last hidden layer is ``relu3``.

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from pyod.models.ecod import ECOD
from pyod.models.knn import KNN
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skood import ActivationExtractor, PoolingReducer
from skood.datasets import load_digits_network, make_noise
from skood.detectors import KNNDetector, MahalanobisDetector, MaxSoftmaxDetector
from skood.ensemble import LayerEnsembleDetector
from skood.metrics import ood_roc_auc_score
from skood.preprocessing import LayerSelector

digits = load_digits_network(
    held_out=(1, 5), channels=(16, 32), hidden=(128,), n_calibration=0, n_test=400
)
X, y, train, test = digits.data, digits.target, digits.train, digits.test

extractor = ActivationExtractor(digits.network, reducer=PoolingReducer(pooling="avg"))
A = extractor.fit_transform(X)
A_unknown = {f"digit {digit}": A[digits.digit == digit] for digit in (1, 5)}
for kind in ("uniform", "blobs", "constant"):
    noise = make_noise(kind, (200, 1, 8, 8), random_state=0)
    A_unknown[f"{kind}\nnoise"] = extractor.transform(noise)
print(A)

# %%
# Detectors of three libraries
# ----------------------------
#
# Those of scikit-learn are used without change. PyOD's scores have the opposite sign:
# larger means more of an outlier. For members of an ensemble, skood negates the scores;
# for other pipelines, a few lines do it. The error of a reconstruction from principal
# components is a detector in a few lines, too.


class PyODDetector(OutlierMixin, BaseEstimator):
    """A detector of PyOD with scikit-learn's sign."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X, y=None):
        """Fit the detector."""
        self.detector_ = clone(self.detector).fit(X)
        return self

    def score_samples(self, X):
        """Score samples: higher for inliers."""
        return -self.detector_.decision_function(X)


class PCAReconstruction(OutlierMixin, BaseEstimator):
    """Distance to the plane of the principal components."""

    def __init__(self, n_components=0.9):
        self.n_components = n_components

    def fit(self, X, y=None):
        """Find the plane."""
        self.pca_ = PCA(self.n_components).fit(X)
        return self

    def score_samples(self, X):
        """Score samples: minus the distance."""
        restored = self.pca_.inverse_transform(self.pca_.transform(X))
        return -np.linalg.norm(np.asarray(X) - restored, axis=1)


detectors = {
    "isolation forest": IsolationForest(random_state=0),
    "one-class SVM": make_pipeline(StandardScaler(), OneClassSVM(nu=0.05)),
    "PCA reconstruction": PCAReconstruction(),
    "local outlier factor": LocalOutlierFactor(novelty=True),
    "PyOD: ECOD": PyODDetector(ECOD()),
    "PyOD: KNN": PyODDetector(KNN()),
    "skood: k-th neighbour": KNNDetector(),
    "skood: Mahalanobis": MahalanobisDetector(),
}

# %%
# On one layer, and on all
# ------------------------
#
# :class:`~skood.preprocessing.LayerSelector` hands a detector the last hidden layer.
# :class:`~skood.ensemble.LayerEnsembleDetector` fits a copy of it on each layer and
# combines their p-values, so that the scale of their scores does not matter. The
# softmax output is the same in both tables: it reads the logits alone.


def aurocs(monitor):
    """AUROC of a monitor against each kind of unknown inputs."""
    known = monitor.fit(A[train], y[train]).score_samples(A[test])
    found = []
    for activations in A_unknown.values():
        scores = np.concatenate([known, monitor.score_samples(activations)])
        found.append(
            ood_roc_auc_score(np.r_[y[test], np.full(len(activations), -1)], scores)
        )
    return found


softmax = aurocs(MaxSoftmaxDetector())
one_layer, all_layers = [softmax], [softmax]
for detector in detectors.values():
    one_layer.append(aurocs(make_pipeline(LayerSelector(layers="relu3"), detector)))
    all_layers.append(aurocs(LayerEnsembleDetector(detector)))

fig, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
for ax, name, table in zip(
    axes, ("last hidden layer", "all layers"), (one_layer, all_layers), strict=True
):
    image = ax.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        color = "black" if value > 0.5 else "white"
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    ax.set_title(name)
    ax.set_xticks(range(len(A_unknown)), A_unknown)
axes[0].set_yticks(range(1 + len(detectors)), ["softmax output", *detectors])
fig.colorbar(image, ax=axes, label="AUROC (0.5 is chance)")

# %%
# Between the classes
# -------------------
#
# Two distances in the last hidden layer, for each image: to the mean of all training
# digits, and to the fifth nearest of them. Most unknown digits, and the noise, are
# nearer to the mean than most known digits, but farther from their neighbours.

layer = A["relu3"][train]
center = layer.mean(axis=0)
neighbors = KNNDetector(n_neighbors=5, normalize=False).fit(layer)
groups = {
    "known digits": A[test],
    "digits 1 and 5": A[y == -1],
    "uniform noise": A_unknown["uniform\nnoise"],
}
fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
colors, markers = ("#0072b2", "#e69f00", "#d55e00"), ("o", "^", "s")
for (name, samples), color, marker in zip(groups.items(), colors, markers, strict=True):
    values = samples["relu3"]
    ax.plot(
        np.linalg.norm(values - center, axis=1),
        -neighbors.score_samples(values),
        marker,
        color=color,
        markersize=4,
        alpha=0.6,
        label=name,
    )
ax.set(
    title="last hidden layer",
    xlabel="distance to the mean of the training digits",
    ylabel="distance to the fifth nearest training digit",
)
ax.legend()
plt.show()
