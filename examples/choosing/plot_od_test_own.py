"""
=========================================
Is your own detector better? An OD-test
=========================================

A new idea for a detector works well on the first thing that one tries it on. Is it
better than what there is, on inputs that nobody had in mind, and by more than luck?
:func:`~skood.model_selection.od_test` takes a detector of yours beside those of skood
and of scikit-learn, and judges all of them by the same rows.

The detector of this page compares directions: the cosine of the angle between the
activations of an input and the mean activations of each class. The first figure has
the mean area under the ROC curve of each detector, over all kinds of unknown inputs;
the second has the kinds one by one. The answer is printed at the end, with what the
difference is worth.
"""

# %%
# Your own detector
# -----------------
#
# Two methods are enough (:ref:`adding_a_detector`): ``_fit`` gets in-distribution rows
# alone, and ``_score_samples`` gives a score for each row, higher for in-distribution.
# Validation of inputs, the threshold, ``predict`` and the rest come with the template.
# scikit-learn's own checks of estimators say whether it is a good citizen.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from skood import ActivationExtractor, PoolingReducer, make_monitor
from skood.datasets import load_digits_network, make_noise
from skood.detectors import (
    BaseOneClassDetector,
    EnergyDetector,
    KNNDetector,
    MahalanobisDetector,
)
from skood.ensemble import LayerEnsembleDetector
from skood.inspection import MeanPerformanceDisplay
from skood.model_selection import compare, od_test
from skood.preprocessing import LayerSelector


class CosineDetector(BaseOneClassDetector):
    """Cosine of the angle to the nearest class mean."""

    def _fit(self, X, y):
        values = np.asarray(X, dtype=np.float64)
        labels, number = np.unique(self._lookup_classes(X), return_inverse=True)
        self.means_ = np.array(
            [values[number == k].mean(axis=0) for k in range(len(labels))]
        )

    def _score_samples(self, X):
        values = np.asarray(X, dtype=np.float64)
        return cosine_similarity(values, self.means_).max(axis=1)


check_estimator(CosineDetector(), on_skip=None)
print("It passes all checks of scikit-learn.")

# %%
# Networks, and what they do not know
# -----------------------------------
#
# Two networks of torch know eight digits each. Unknown are the digits that they have
# not learnt, and images that are no digits, or not as they should be. Each network runs
# once over each set.

in_distribution, labels, out_sets = {}, {}, {}
for held_out in [(1, 5), (3, 8)]:
    digits = load_digits_network(held_out, n_calibration=0, n_test=400)
    X, test = digits.data, digits.data[digits.test]
    unknown = {f"digit {digit}": X[digits.digit == digit] for digit in held_out}
    unknown |= {
        "noise": make_noise("blobs", test.shape, random_state=0),
        "negatives": 1 - test,
        "upside down": test[:, :, ::-1].copy(),
        "two digits": np.maximum(test, test[::-1]),
    }
    extractor = ActivationExtractor(
        digits.network, reducer=PoolingReducer(pooling=["max", "avg"])
    )
    source = "digits without {} and {}".format(*held_out)
    A = extractor.fit_transform(X[digits.train])
    in_distribution[source] = A, extractor.transform(test)
    labels[source] = digits.target[digits.train], digits.target[digits.test]
    out_sets[source] = {
        name: extractor.transform(images) for name, images in unknown.items()
    }
print(A)

# %%
# The test
# --------
#
# A detector for one layer is put behind a selector of that layer, or is a member of an
# ensemble with one for each layer. Detectors of scikit-learn need nothing else.

last = LayerSelector(layers=["relu4"])
detectors = {
    "own, last layer": make_pipeline(last, CosineDetector()),
    "own, all layers": LayerEnsembleDetector(CosineDetector()),
    "default monitor": make_monitor(digits.network)["detect"],
    "energy": EnergyDetector(),
    "KNN": make_pipeline(last, KNNDetector(n_neighbors=5)),
    "Mahalanobis": make_pipeline(last, MahalanobisDetector()),
    "isolation forest": make_pipeline(last, IsolationForest(random_state=0)),
    "local outlier factor": make_pipeline(last, LocalOutlierFactor(novelty=True)),
}
table = od_test(detectors, in_distribution, out_sets, y=labels)
display = MeanPerformanceDisplay.from_table(table)
display.figure_.suptitle("means over unknown inputs")

# %%
# Kind by kind
# ------------
#
# No detector is the best on all kinds. Who had tried negatives or noise only would have
# found the own detector on all layers to be as good as any.

kinds = table.pivot_table("auroc", index="detector", columns="test")
kinds = kinds.loc[kinds.mean(axis=1).sort_values(ascending=False).index]
fig, ax = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
ax.imshow(kinds, vmin=0.5, vmax=1, cmap="viridis", aspect="auto")
for row, values in enumerate(kinds.to_numpy()):
    for column, value in enumerate(values):
        color = "black" if value > 0.8 else "white"
        ax.text(column, row, f"{value:.2f}", color=color, ha="center", va="center")
ax.set(
    xticks=range(kinds.shape[1]),
    xticklabels=kinds.columns,
    yticks=range(len(kinds)),
    yticklabels=kinds.index,
    title="AUROC, mean of the networks that have the kind",
)
ax.tick_params(axis="x", rotation=25)

# %%
# Is it better?
# -------------
#
# :func:`~skood.model_selection.compare` pairs what two detectors have on the same rows.
# A difference of less than twice its standard error may be luck. Here, the own detector
# on all layers beats the energy of the logits where that fails badly, but not by more
# than luck; and it does not reach the default monitor.

columns = ["detector", "difference", "difference_se", "won", "worst", "worst_test"]
for reference in ("energy", "default monitor"):
    found = compare(table, reference, by="detector", metric="auroc")
    own = found[found["detector"].str.startswith("own")]
    print(f"beside: {reference}")
    print(own[columns].round(3).to_string(index=False))
plt.show()
