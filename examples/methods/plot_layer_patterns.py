"""
==================================
Layer activation patterns compared
==================================

Three detectors compare the neuron activation patterns of every layer: how many neurons
fire, how far their pattern lies from the clusters of training patterns, and whether the
training samples with the nearest patterns agree from layer to layer. None of them is
shown any out-of-distribution input. How well do they detect inputs on which the network
should not be trusted, compared with the network's own confidence?
"""

# %%
# A network and four kinds of inputs
# ----------------------------------
#
# A perceptron with five hidden layers learns 900 digits other than 1 and 5. It is
# tested on the rest of those digits, some of which it misclassifies, on ones and fives,
# and on random pixels. Of these, only images on which it is at least 80 % confident are
# kept: its confidence cannot detect them. All of it is done for five random divisions
# of the digits.

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from sklearn.neural_network import MLPClassifier

from skood import (
    ActivationExtractor,
    ClusterDistanceDetector,
    GroupProgressionDetector,
    NeuronCountDetector,
    PercentileBinarizer,
)
from skood.calibration import prediction_confidence
from skood.datasets import load_digits_ood
from skood.detectors import MaxSoftmaxDetector
from skood.ensemble import LayerEnsembleDetector
from skood.inspection import ClusterDistanceDisplay
from skood.metrics import ood_roc_auc_score

digits = load_digits_ood(held_out=(1, 5))
X, y = digits.data.reshape(len(digits.data), -1), digits.target


def make_samples(seed):
    """Activations, the training rows, and the rows of each kind of other inputs."""
    rng = np.random.default_rng(seed)
    known = rng.permutation(np.flatnonzero(y != -1))
    train, test = known[:900], known[900:]
    net = MLPClassifier((64,) * 5, max_iter=300, random_state=seed)
    net.fit(X[train], y[train])
    noise = rng.random((1000, X.shape[1]))
    A = ActivationExtractor(net).fit_transform(np.concatenate([X, noise]))
    is_right = A.predictions[test] == y[test]
    is_confident = prediction_confidence(A[len(X) :]) > 0.8
    return A, {
        "training digits": train,
        "digits": test,
        "digits, right": test[is_right],
        "digits, wrong": test[~is_right],
        "ones and fives": np.flatnonzero(y == -1),
        "noise": len(X) + np.flatnonzero(is_confident),
    }


# %%
# The detectors
# -------------
#
# All but the last are those of a thesis [1]_. Some read activations, others binary
# patterns, in which half of the bits of each layer are 1. Distances to clusters are
# averaged over the layers. The last detector reads logits alone: the network's own
# confidence.

DETECTORS = {
    "number of active neurons": NeuronCountDetector(),
    "the same, two-sided": NeuronCountDetector(two_sided=True),
    "cluster distance": LayerEnsembleDetector(
        ClusterDistanceDetector(n_clusters=8, random_state=0), combine="mean"
    ),
    "progression: distance": GroupProgressionDetector(
        n_neighbors=30, features="distance"
    ),
    "progression: matching": GroupProgressionDetector(
        n_neighbors=30, features="matching"
    ),
    "progression: both": GroupProgressionDetector(n_neighbors=30),
    "maximum softmax probability": MaxSoftmaxDetector(),
}
TASKS = {
    "ones and fives": ("digits", "ones and fives"),
    "confident noise": ("digits", "noise"),
    "wrong among right digits": ("digits, right", "digits, wrong"),
}
READ_ACTIVATIONS = (NeuronCountDetector, MaxSoftmaxDetector)
binarizer = PercentileBinarizer(percentile=50, rule="rank")

aurocs = {task: {name: [] for name in DETECTORS} for task in TASKS}
for seed in range(5):
    A, rows = make_samples(seed)
    patterns = binarizer.fit_transform(A)
    for name, detector in DETECTORS.items():
        read = A if isinstance(detector, READ_ACTIVATIONS) else patterns
        scores = detector.fit(read[rows["training digits"]]).score_samples(read)
        for task, (inside, outside) in TASKS.items():
            y_true = np.repeat([1, -1], [len(rows[inside]), len(rows[outside])])
            tested = np.concatenate([rows[inside], rows[outside]])
            aurocs[task][name].append(ood_roc_auc_score(y_true, scores[tested]))

# %%
# AUROC of the detectors
# ----------------------
#
# A point is the mean area under the ROC curve over the five divisions, a line reaches
# from the smallest to the largest.

fig, axes = plt.subplots(
    1, 3, figsize=(10, 3.6), sharex=True, sharey=True, layout="constrained"
)
places = np.arange(len(DETECTORS))[::-1]
for ax, (task, by_detector) in zip(axes, aurocs.items(), strict=True):
    values = np.array(list(by_detector.values()))
    ax.hlines(places, values.min(axis=1), values.max(axis=1), color="#0072b2")
    ax.plot(values.mean(axis=1), places, "o", color="#0072b2")
    ax.axvline(0.5, color="0.6", linestyle=":")
    ax.set(title=task, xlabel="AUROC", yticks=places, yticklabels=list(by_detector))
    ax.grid(axis="x", alpha=0.3)
plt.show()

# %%
# The progression detectors find unknown digits better than the network's confidence
# does. Noise that the network is confident about is found best by the distances, to the
# final group and to clusters. The network's own mistakes are detected best by its
# confidence, if only by a little. The number of active neurons alone is the weakest,
# and looking at both of its tails does not help: in these networks other inputs do
# activate more neurons.

# %%
# Clusters, classes and confidence
# --------------------------------
#
# How many clusters are there in a layer? Left to itself, the detector chooses the
# number with the best mean silhouette. A sample matches where the network predicts the
# class that dominates its cluster. In the last division of the digits:

known_digits = patterns[rows["digits"]]
for layer in patterns.layer_names:
    detector = ClusterDistanceDetector(random_state=0)
    detector.fit(patterns[[layer]][rows["training digits"]])
    share = detector.matches(known_digits[[layer]]).mean()
    print(f"{layer}: {detector.n_clusters_} clusters, {share:.0%} of the digits match")

# %%
# Every layer has one cluster for each class. The figure divides samples by the
# confidence of the network, for the last layer. Even where the network is confident,
# unknown digits mostly lie farther from the centre of their cluster than digits that it
# gets right, and so do the few that it gets wrong. A faint box has fewer than ten
# samples.

kinds = ["digits, right", "digits, wrong", "ones and fives"]
shown = np.concatenate([rows[kind] for kind in kinds])
fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
ClusterDistanceDisplay.from_estimator(
    detector,
    patterns[[layer]][shown],
    groups=np.repeat(kinds, [len(rows[kind]) for kind in kinds]),
    n_categories=5,
    ax=ax,
)
ax.set(
    title="distance to the cluster, by confidence",
    ylabel="cluster distance\ncoefficient",
)
plt.show()

# %%
# .. rubric:: References
#
# .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
#    classification error detection", master's dissertation, UCLouvain, 2018.
