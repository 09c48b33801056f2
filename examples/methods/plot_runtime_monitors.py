"""
=====================================
Boolean and Gaussian runtime monitors
=====================================

A runtime monitor stores the neuron activation patterns of a layer for training samples,
and raises an alarm for a new pattern. The Boolean monitor (Cheng et al., DATE 2019,
`arXiv:1809.06573 <https://arxiv.org/abs/1809.06573>`_) uses which neurons are on: it
raises an alarm if more than :math:`\\gamma` of them differ from every pattern that is
stored for the predicted class.

The first figure counts its alarms. With every step of :math:`\\gamma` they are fewer,
and more of them are about a misclassified digit, but more errors are missed: at 0, 41 %
of the known digits raise an alarm and 92 % of the misclassified ones do; at 2, 4 % and
32 %. The second figure compares Hamming distances of real values, of patterns, and the
Gaussian monitor [1]_. Hamming distance says nothing about the real values of a
convolution and a lot about their signs. In the last figure whole groups of samples are
compared with their class, and a few unknown digits among 20 move the divergence.

Between them stands the triangle test [1]_: triangles, drawn as if by the hand that
wrote the digits, are fed to the networks.
"""

# %%
# Five networks
# -------------
#
# Each is trained on half of the digits other than 1 and 5, with dropout, and with a
# division and initial weights of its own. The layer ``relu3`` is monitored: 40 neurons
# in front of the output. ``conv2`` has the values of the second convolution before its
# ReLU.

# sphinx_gallery_thumbnail_number = 4
import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skood import (
    ActivationExtractor,
    Activations,
    HammingNAPDetector,
    PercentileBinarizer,
)
from skood.datasets import load_digits_network, load_digits_ood, make_triangles
from skood.detectors import GaussianActivationDetector, MaxSoftmaxDetector
from skood.metrics import ood_roc_auc_score
from skood.preprocessing import NeuronSelector

triangles = make_triangles((300, 1, 8, 8), random_state=0)


def make_samples(seed):
    """Training digits, test digits, both with labels, unknown digits, and triangles."""
    digits = load_digits_network(
        held_out=(1, 5),
        channels=(8, 16),
        hidden=(40,),
        dropout=0.3,
        n_calibration=0,
        n_test=717,
        n_epochs=30,
        random_state=seed,
    )
    X, y, train, test = digits.data, digits.target, digits.train, digits.test
    extractor = ActivationExtractor(digits.network, ["conv2", "relu3"])
    A = extractor.fit_transform(X)
    drawn = extractor.transform(triangles)
    return A[train], y[train], A[test], y[test], A[digits.unknown], drawn


*networks, drawn_triangles = zip(
    *[make_samples(seed) for seed in range(5)], strict=True
)
networks = list(zip(*networks, strict=True))
n_wrong = [np.sum(A.predictions != labels) for _, _, A, labels, _ in networks]
print("test digits:", len(networks[0][2]), "misclassified:", *n_wrong)

# %%
# How many alarms
# ---------------
#
# The monitor is a pipeline: neurons on or off, and the distance to the patterns of
# training digits that were classified right. ``tau`` is :math:`\gamma`. With a
# :class:`~skood.preprocessing.NeuronSelector`, only the neurons with a large weight for
# the predicted class count. That makes alarms rarer and changes little else: a
# :math:`\gamma` of 0 then gives about as many alarms as one of 1 does for all units,
# and misses a few more errors.

gammas = range(4)
variants = {
    "all units": [],
    "units of the class": [NeuronSelector(threshold=0.45, by_prediction=True)],
}


def count(steps, gamma):
    """Alarms, all for known digits; wrong ones among them; for unknown digits."""
    counts = []
    for train, labels, test, test_labels, unknown in networks:
        monitor = make_pipeline(
            *steps,
            PercentileBinarizer(rule="zero"),
            HammingNAPDetector(tau=gamma, group_by="correct"),
        ).fit(train[["relu3"]], labels)
        alarm = monitor.predict(test[["relu3"]]) == -1
        wrong = test.predictions != test_labels
        unknown_alarms = np.sum(monitor.predict(unknown[["relu3"]]) == -1)
        counts.append([alarm.sum(), np.sum(alarm & wrong), unknown_alarms])
    return np.sum(counts, axis=0)


n_known = sum(len(A) for _, _, A, _, _ in networks)
n_unknown = sum(len(A) for *_, A in networks)
fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for (name, steps), color, marker in zip(
    variants.items(), ("#0072b2", "#d55e00"), "os", strict=True
):
    found = np.array([count(steps, gamma) for gamma in gammas])
    alarms, caught, unknown_alarms = found.T
    rates = 100 * alarms / n_known
    precisions = 100 * caught / np.where(alarms > 0, alarms, np.nan)
    recalls = 100 * caught / sum(n_wrong)
    unknown_rates = 100 * unknown_alarms / n_unknown
    print(f"{name}, alarms of test digits: {rates.round(1)} %")
    print(f"  misclassified among them: {precisions.round(0)} %")
    print(f"  misclassified that are caught: {recalls.round(0)} %")
    print(f"  alarms of unknown digits: {unknown_rates.round(0)} %")
    style = {"color": color, "marker": marker, "label": name}
    axes[0].plot(gammas, rates, **style)
    axes[0].plot(gammas, unknown_rates, **style, linestyle="--")
    axes[1].plot(gammas, precisions, **style)
    axes[2].plot(gammas, recalls, **style)
axes[0].set(title="digits with an alarm (dashed: 1 and 5)", ylabel="%")
axes[1].set(title="alarms that are misclassified")
axes[2].set(title="misclassified with an alarm")
for ax in axes:
    ax.set(xlabel="gamma", xticks=gammas)
axes[1].legend()

# %%
# Hamming distance of real values
# -------------------------------
#
# Hamming distance counts the values that are not equal. That is a question for bits: of
# the real values of ``conv2`` hardly any are equal, for any two images. On the left,
# minus the share of values that differ from the nearest training digit of the predicted
# class: from 91 % to all of them. What is equal are blank corners. In the middle, minus
# the number of differing bits of patterns, which only show what is above 0; on the
# right, the log density of :class:`~skood.detectors.GaussianActivationDetector`.


def nearest_share(A, train):
    """Share of the values that differ from those of the nearest training digit."""
    shares = np.ones(len(A))
    for label in np.unique(A.predictions):
        stored = np.asarray(train[train.predictions == label])
        rows = A.predictions == label
        shares[rows] = cdist(np.asarray(A[rows]), stored, "hamming").min(axis=1)
    return shares


def flat(A):
    """Maps as one row of values."""
    return A.replace({"conv2": A["conv2"].reshape(len(A), -1)})


patterns = make_pipeline(PercentileBinarizer(rule="zero"), HammingNAPDetector())
gaussians = GaussianActivationDetector()


def scores(A, train, layer):
    """By name, higher for more usual samples."""
    return {
        "Hamming, real values": -nearest_share(layer(A), layer(train)),
        "Hamming, patterns": patterns.fit(layer(train)).score_samples(layer(A)),
        "Gaussians": gaussians.fit(layer(train)).score_samples(layer(A)),
    }


train, _, test, _, unknown = networks[0]
known_scores, unknown_scores = scores(test, train, flat), scores(unknown, train, flat)
fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for ax, name in zip(axes, known_scores, strict=True):
    values = known_scores[name], unknown_scores[name]
    low, high = np.percentile(np.concatenate(values), [0.5, 100])
    bins = np.linspace(min(low, high - 0.1), high, 31)
    for found, label, color in zip(
        values, ("known digits", "digits 1 and 5"), ("#0072b2", "#d55e00"), strict=True
    ):
        ax.hist(found, bins, density=True, alpha=0.6, color=color, label=label)
    ax.set(title=name, xlabel="score", yticks=[])
axes[0].legend(loc="upper right")

# %%
# The same in numbers: areas under the ROC curve, means over the networks. On the
# convolution, patterns are best of all for unknown digits, and the real values no
# better than chance. After a ReLU, zeros are equal, so that in ``relu3`` real values
# carry some information, nearly as much as the patterns: 40 bits are few here. There
# the Gaussians are best. For misclassified digits, the largest softmax output is hard
# to beat.


def aurocs(score):
    """Of misclassified against right digits, and of unknown against known ones."""
    found = {}
    for train, _, test, test_labels, unknown in networks:
        right = np.where(test.predictions == test_labels, 1, -1)
        kinds = np.repeat([1, -1], [len(test), len(unknown)])
        unknown_scores = score(unknown, train)
        for name, values in score(test, train).items():
            both = np.concatenate([values, unknown_scores[name]])
            found.setdefault(name, []).append(
                [ood_roc_auc_score(right, values), ood_roc_auc_score(kinds, both)]
            )
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def softmax(A, train):
    """The yardstick, which reads the logits."""
    return {"largest softmax output": MaxSoftmaxDetector().fit(train).score_samples(A)}


comparisons = {
    "conv2": lambda A, train: scores(A, train, flat),
    "relu3": lambda A, train: scores(A, train, lambda A: A[["relu3"]]),
    "logits": softmax,
}
for place, score in comparisons.items():
    for name, (wrong, unseen) in aurocs(score).items():
        print(
            f"{place}, {name}: misclassified {wrong:.2f}, digits 1 and 5 {unseen:.2f}"
        )

# %%
# The triangle test
# -----------------
#
# No network has seen a triangle, and all of them name a digit for each. For most
# triangles the softmax output is confident. Patterns and Gaussians are set to the same
# rate of false alarms, 5 % of the training digits, each left out of the patterns.

detectors = {
    "softmax": lambda A: A[["relu3"]],
    "patterns, conv2": flat,
    "Gaussians, conv2": flat,
    "patterns, relu3": lambda A: A[["relu3"]],
    "Gaussians, relu3": lambda A: A[["relu3"]],
}
kinds = {"softmax": MaxSoftmaxDetector(), "patterns": patterns, "Gaussians": gaussians}
names = load_digits_ood(held_out=(1, 5)).target_names
fig, axes = plt.subplots(2, 8, figsize=(9, 2.9), layout="constrained")
fig.suptitle("triangles, and what the network takes them for")
for ax, image, predicted in zip(
    axes.flat, triangles, drawn_triangles[0].predictions, strict=False
):
    ax.imshow(image[0], cmap="gray_r")
    ax.set_title(f"taken for {names[predicted]}", fontsize=8)
    ax.set_axis_off()
for name, layer in detectors.items():
    found = []
    for (learnt, _, digit, _, _), drawn in zip(networks, drawn_triangles, strict=True):
        detector = clone(kinds[name.split(",")[0]]).fit(layer(learnt))
        both = Activations.concatenate([layer(digit), layer(drawn)])
        scores_of_both = detector.score_samples(both)
        is_known = np.repeat([1, -1], [len(digit), len(drawn)])
        rejected = detector.predict(both) == -1
        found.append(
            [
                rejected[is_known == -1].mean(),
                rejected[is_known == 1].mean(),
                ood_roc_auc_score(is_known, scores_of_both),
            ]
        )
    of_triangles, of_digits, auroc = np.mean(found, axis=0)
    print(
        f"{name:17} rejects {of_triangles:.0%} of the triangles and {of_digits:.0%} of "
        f"the test digits; AUROC {auroc:.2f}"
    )

# %%
# Groups of samples
# -----------------
#
# What a single sample does not show, a group may: ``kl_divergence`` fits Gaussians to
# the samples of a group and measures how far they are from those of their class. Here
# are groups of 20 digits that the network takes for the same class, a part of them 1 or
# 5. Each point is a group, and lines are medians. With 5 unknown digits in a group, the
# median is more than twice that of none, though single groups still overlap.

rng = np.random.default_rng(0)
gaussians.fit(train[["relu3"]])
shares = [0, 2, 5, 10, 20]
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for place, n_unknown in enumerate(shares):
    divergences = []
    for label in np.unique(test.predictions):
        known_rows = np.flatnonzero(test.predictions == label)
        unknown_rows = np.flatnonzero(unknown.predictions == label)
        if len(unknown_rows) < n_unknown:
            continue
        for _ in range(10):
            group = Activations.concatenate(
                [
                    test[rng.choice(known_rows, 20 - n_unknown, replace=False)],
                    unknown[rng.choice(unknown_rows, n_unknown, replace=False)],
                ]
            )
            divergences += gaussians.kl_divergence(group[["relu3"]]).values()
    offsets = rng.uniform(-0.25, 0.25, len(divergences))
    ax.scatter(place + offsets, divergences, s=12, alpha=0.6, color="#0072b2")
    ax.hlines(np.median(divergences), place - 0.35, place + 0.35, color="#d55e00")
    print(f"{n_unknown} unknown digits: median {np.median(divergences):.1f} nats")
ax.set_yscale("log")
ax.set_xticks(range(len(shares)), shares)
ax.set(
    title="groups of 20 digits of one predicted class",
    xlabel="unknown digits among the 20",
    ylabel="KL divergence (nats)",
)
plt.show()

# %%
# .. rubric:: References
#
# .. [1] S. K. Gaddipati, J. Bandlamudi, "Monitoring neuron activations for out of
#    distribution detection", Hochschule Bonn-Rhein-Sieg, 2020 (slides).
