"""
==============================================
Activation shaping: ReAct, DICE, ASH and SCALE
==============================================

Shaping changes what the last layer reads, or its weights, and computes the logits anew,
in the hope that unknown inputs lose more by it than known ones. Every method is a
transformer, so they compose in pipelines, any detector of logits can follow, and a grid
search sets their parameters.

The first figure shows what each does to one sample. The second compares them on five
small networks, with the percentiles that were published for large ones. Clipping, by
:class:`~skood.shaping.ReAct` or :class:`~skood.shaping.VRA`, is worth it: the energy of
the output detects noise worse than the plain softmax does, and with clipping about as
well or better. Unknown digits are found as before. The other methods lose to the
softmax output on average, :class:`~skood.shaping.DICE` and :class:`~skood.shaping.ASH`
by far: they remove 90 % of the weights or features, of which a small network has few to
spare. The third figure shows the search for percentiles that fit.
"""

# %%
# Five networks
# -------------
#
# Each is trained on other digits than 1 and 5, with a division and initial weights of
# its own. Of the activations the shaping reads the hidden layer, the one in front of
# the last.

# sphinx_gallery_thumbnail_number = 3
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, Activations
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import EnergyDetector, MaxSoftmaxDetector
from skood.metrics import fpr_at_tpr_score, ood_roc_auc_score
from skood.model_selection import OODKFold
from skood.shaping import ASH, DICE, SCALE, VRA, ReAct

digits = load_digits_ood(held_out=(1, 5))
X, y = digits.data.reshape(len(digits.data), -1), digits.target
KINDS = {
    "uniform noise": "uniform",
    "smooth noise": "blobs",
    "constant noise": "constant",
}


def make_samples(seed):
    """Training digits with labels, test digits, and unknown inputs of each kind."""
    train, test = train_test_split(
        np.flatnonzero(y != -1), test_size=400, random_state=seed
    )
    net = MLPClassifier((256,), max_iter=500, random_state=seed)
    extractor = ActivationExtractor(net.fit(X[train], y[train]))
    A = extractor.fit_transform(X)
    unknown = {"digits 1 and 5": A[y == -1]}
    for name, kind in KINDS.items():
        noise = make_noise(kind, (200, 64), random_state=seed)
        unknown[name] = extractor.transform(noise)
    return A[train], y[train], A[test], unknown


networks = [make_samples(seed) for seed in range(5)]
A_train, y_train, A_test, unknown = networks[0]
print(A_train)

# %%
# What shaping does to a sample
# -----------------------------
#
# The features of one digit, largest first, before (grey) and after (blue). ReAct clips
# at a percentile of the training features. VRA also removes small ones. ASH keeps the
# largest of each sample, and scales them up by how much they stand out; SCALE scales
# all of them so. DICE leaves features alone and removes weights: for it, the figure has
# the products of features and weights that add up to the logit of the predicted class.
# It keeps none with a negative contribution to a class.

sample = A_test[:1]
named = sample.predictions[0]
features, weight = sample.features[0], sample.head.weight[named]
ranks = np.arange(len(features))

fig, axes = plt.subplots(1, 5, figsize=(11, 3), layout="constrained")
order = np.argsort(-features)
for ax, shaper in zip(axes, (ReAct(), VRA(), ASH(), SCALE()), strict=False):
    shaped = shaper.fit(A_train, y_train).transform(sample)
    ax.fill_between(ranks, features[order], color="#cccccc")
    ax.plot(shaped["hidden_0"][0, order], color="#0072b2")
    ax.set(title=repr(shaper), yscale="log", ylim=(0.05, 100))
    ax.label_outer()
dice = DICE().fit(A_train, y_train)
order = np.argsort(-features * weight)
axes[4].fill_between(ranks, (features * weight)[order], color="#cccccc")
kept = (features * dice.sparse_head_.weight[named])[order]
axes[4].vlines(ranks[kept > 0], 0, kept[kept > 0], color="#0072b2")
axes[4].set(title=repr(dice), ylabel="feature x weight")
axes[0].set_ylabel("feature")
for ax in axes:
    ax.set(xlabel="units, ranked", xticks=[0, 128, 256])

# %%
# The predictions stay those of the network, also where the logits change.

shaped = make_pipeline(ReAct(), DICE()).fit(A_train, y_train).transform(A_test)
other = np.mean(shaped.logits.argmax(axis=1) != A_test.logits.argmax(axis=1))
print(f"largest logit is another: {other:.0%} of the test digits")
print(f"predictions that changed: {np.sum(shaped.predictions != A_test.predictions)}")

# %%
# Alone and composed
# ------------------
#
# Points are means over the five networks, lines reach from the smallest to the largest.
# Dotted lines continue the means of the two outputs without shaping.

detectors = {
    "softmax": MaxSoftmaxDetector(),
    "energy": EnergyDetector(),
    "ReAct": make_pipeline(ReAct(), EnergyDetector()),
    "VRA": make_pipeline(VRA(), EnergyDetector()),
    "ASH": make_pipeline(ASH(), EnergyDetector()),
    "SCALE": make_pipeline(SCALE(), EnergyDetector()),
    "DICE": make_pipeline(DICE(), EnergyDetector()),
    "ReAct + SCALE": make_pipeline(ReAct(), SCALE(), EnergyDetector()),
    "ReAct + DICE": make_pipeline(ReAct(), DICE(), EnergyDetector()),
}


def auroc_and_fpr(detector, samples):
    """AUROC and FPR95 of a fitted detector against each kind of unknown inputs."""
    _, _, known, unknown = samples
    known = detector.score_samples(known)
    found = []
    for activations in unknown.values():
        scores = np.concatenate([known, detector.score_samples(activations)])
        kinds = np.repeat([1, -1], [len(known), len(activations)])
        found.append(
            [ood_roc_auc_score(kinds, scores), fpr_at_tpr_score(kinds, scores)]
        )
    return np.array(found)


results = {
    name: np.array([auroc_and_fpr(detector.fit(*s[:2]), s) for s in networks])
    for name, detector in detectors.items()
}

fig, axes = plt.subplots(
    1, 4, figsize=(11, 3.4), sharex=True, sharey=True, layout="constrained"
)
places = np.arange(len(detectors))[::-1]
colors = ["#666666", "#d55e00", *["#0072b2"] * (len(detectors) - 2)]
aurocs = np.array(list(results.values()))[..., 0]
for ax, kind, values in zip(axes, unknown, np.moveaxis(aurocs, 2, 0), strict=True):
    ax.hlines(places, values.min(axis=1), values.max(axis=1), color=colors)
    ax.scatter(values.mean(axis=1), places, color=colors)
    for value, color in zip(values[:2].mean(axis=1), colors, strict=False):
        ax.axvline(value, color=color, linestyle=":")
    ax.set(title=kind, xlabel="AUROC", yticks=places, yticklabels=list(detectors))

# %%
# The same as means over kinds and networks. FPR95 is the share of unknown inputs that
# pass where the threshold lets 95 % of the known digits pass.

print(f"{'':14} AUROC  FPR95")
for name, values in results.items():
    auroc, fpr = values.mean(axis=(0, 1))
    print(f"{name:14} {auroc:.3f}  {fpr:.3f}")

# %%
# A search for percentiles
# ------------------------
#
# ReAct and DICE composed, on the first network, with smooth noise as the unknown inputs
# that are at hand. A percentile of 100 hardly clips, and a sparsity of 0 removes one
# weight. The search keeps the weights and clips lower than published.

smooth = unknown["smooth noise"]
grid = {
    "react__percentile": [60, 70, 80, 90, 95, 100],
    "dice__sparsity": [0, 10, 30, 50, 70, 90],
}
search = GridSearchCV(
    detectors["ReAct + DICE"], grid, cv=OODKFold(5, shuffle=True, random_state=0)
).fit(
    Activations.concatenate([A_train, smooth]),
    np.concatenate([y_train, np.full(len(smooth), -1)]),
)
print(search.best_params_)

# The parameters are in the order of their names.
table = search.cv_results_["mean_test_score"].reshape(6, 6)
fig, ax = plt.subplots(figsize=(5.6, 4), layout="constrained")
image = ax.imshow(table, cmap="cividis", aspect="auto")
for (row, column), value in np.ndenumerate(table):
    color = "black" if image.norm(value) > 0.5 else "white"
    ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
ax.set_xticks(range(6), grid["react__percentile"])
ax.set_yticks(range(6), grid["dice__sparsity"])
ax.set(
    title="ReAct and DICE composed",
    xlabel="ReAct: percentile (%)",
    ylabel="DICE: sparsity (%)",
)
fig.colorbar(image, label="AUROC against smooth noise")

# %%
# What it found, against the kinds that it has not seen:

for name, detector in {
    "as published": detectors["ReAct + DICE"].fit(A_train, y_train),
    "found": search.best_estimator_.fit(A_train, y_train),
}.items():
    values = auroc_and_fpr(detector, networks[0])[:, 0]
    print(f"{name}:", *(f"{k} {v:.2f}" for k, v in zip(unknown, values, strict=True)))
plt.show()
