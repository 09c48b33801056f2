"""
========================================
Activation shaping by LINe, step by step
========================================

:class:`~skood.shaping.LINe` (Ahn et al., CVPR 2023,
`arXiv:2303.13995 <https://arxiv.org/abs/2303.13995>`_) finds out which units of the
last hidden layer are important for each class, and uses only these for a sample of that
class. It clips the features, removes units and removes weights; then the logits are
computed anew, and their energy is the score.

The first two figures show what it learns and how it changes a sample. The others take
the steps one by one. On the small networks here, clipping and the removal of units both
make the energy better, and together better than the softmax output. The removal of
weights is not worth it: 10 % cost a little, and with the 90 % that were published for
large networks the score is worse than the plain energy. The last figure shows that the
clip must be neither too low nor too high.
"""

# %%
# Five networks
# -------------
#
# Each is trained on other digits than 1 and 5, with a division and initial weights of
# its own.

# sphinx_gallery_thumbnail_number = 6
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, Activations
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import EnergyDetector, MaxSoftmaxDetector
from skood.inspection import SharedNeuronDisplay
from skood.model_selection import OODKFold
from skood.shaping import LINe

digits = load_digits_ood(held_out=(1, 5))
X, y = digits.data.reshape(len(digits.data), -1), digits.target


def make_samples(seed):
    """Training digits with labels, test digits, unknown digits, and noise."""
    train, test = train_test_split(
        np.flatnonzero(y != -1), test_size=400, random_state=seed
    )
    net = MLPClassifier((256,), max_iter=500, random_state=seed)
    extractor = ActivationExtractor(net.fit(X[train], y[train]))
    A = extractor.fit_transform(X)
    noise = np.vstack(
        [
            make_noise(kind, (200, 64), random_state=seed)
            for kind in ("uniform", "blobs", "constant")
        ]
    )
    return A[train], y[train], A[test], A[y == -1], extractor.transform(noise)


networks = [make_samples(seed) for seed in range(5)]
A_train, y_train, A_test, A_unknown, A_noise = networks[0]

# %%
# What it learns
# --------------
#
# The contribution of a unit to a class is its mean over the training samples of that
# class, times its weight. In the first map each column is a class, each row a unit;
# units are ordered by the class to which they contribute most. Units that stay for a
# sample of a class are black in the second map: the tenth with the most negative
# contributions is removed. The third map has the weights that stay for a sample taken
# for a 3, one in ten.

line = LINe(activation_percentile=10, weight_percentile=90, clip=1.0)
line.fit(A_train, y_train)
contributions = line.contributions_
order = np.lexsort((-contributions.max(axis=1), contributions.argmax(axis=1)))
three = digits.target_names.tolist().index(3)

fig, axes = plt.subplots(1, 3, figsize=(10, 4.6), sharey=True, layout="constrained")
limit = np.percentile(np.abs(contributions), 99)
style = {"aspect": "auto", "interpolation": "none"}
image = axes[0].imshow(
    contributions[order], cmap="RdBu_r", vmin=-limit, vmax=limit, **style
)
axes[1].imshow(line.unit_masks_.T[order], cmap="Greys", vmin=0, vmax=1, **style)
axes[2].imshow(line.weight_mask(three).T[order], cmap="Greys", vmin=0, vmax=1, **style)
axes[0].set(title="contributions", xlabel="class", ylabel="unit")
axes[1].set(title="units that stay", xlabel="predicted class")
axes[2].set(title="weights that stay for a 3", xlabel="class of the logit")
for ax in axes:
    ax.set_xticks(range(len(digits.target_names)), digits.target_names)
fig.colorbar(image, ax=axes, label="contribution (first map)", extend="both")

# %%
# What the classes share
# ----------------------
#
# Of the tenth of the units that contribute most to a class, how many are in that tenth
# for more than a share of the classes too? A band reaches from the class that shares
# least to the one that shares most. Of the eight classes a unit is always in the top of
# one, 12.5 %. Beyond that the lines fall fast: most of a class's top units are its own,
# or shared with one other class. Where they stay high, as they may with many classes,
# the removal of units cannot discriminate between the classes.

display = SharedNeuronDisplay.from_contributions(
    {
        f"network {number}": LINe().fit(A_some, y_some)
        for number, (A_some, y_some, *_) in enumerate(networks[:2])
    }
)
display.ax_.set_title("how many classes share a top unit")

# %%
# A sample before and after
# -------------------------
#
# The features of a digit and of an image of noise before (grey) and after (blue). Units
# are ordered by their contribution to the predicted class. Those at the right end are
# removed. Their contribution to the class is negative, although they are active for its
# samples. Nearly all of them are active for the digit, and not so many for the noise:
# the digit's logit gains more by their removal.

fig, axes = plt.subplots(2, 1, figsize=(8, 4.6), sharex=True, layout="constrained")
for ax, name, A in zip(axes, ("a digit", "noise"), (A_test, A_noise), strict=True):
    sample = A[:1]
    taken_for = sample.predictions[0]
    order = np.argsort(-contributions[:, taken_for])
    ax.vlines(range(256), 0, sample.features[0, order], color="#bbbbbb", linewidth=2)
    shaped = line.transform(sample)["hidden_0"][0]
    ax.vlines(range(256), 0, shaped[order], color="#0072b2", linewidth=2)
    ax.set(
        title=f"{name}, taken for a {digits.target_names[taken_for]}", ylabel="feature"
    )
axes[1].set_xlabel("units, by contribution to the predicted class")

# %%
# Step by step
# ------------
#
# Each step is the pipeline with the later ones switched off by ``None``. These are the
# scores of the first network. Clipping brings down noise of high energy. The removal
# of units raises known digits more than noise. The removal of 90 % of the weights puts
# most of the noise among the known digits.

steps = {
    "energy": LINe(activation_percentile=None, weight_percentile=None, clip=None),
    "+ clipping": LINe(activation_percentile=None, weight_percentile=None, clip=1.0),
    "+ removal of units": LINe(
        activation_percentile=10, weight_percentile=None, clip=1.0
    ),
    "+ removal of weights, 10 %": LINe(
        activation_percentile=10, weight_percentile=10, clip=1.0
    ),
    "+ removal of weights, 90 %": LINe(
        activation_percentile=10, weight_percentile=90, clip=1.0
    ),
}
monitors = {
    name: make_pipeline(shaper, EnergyDetector()) for name, shaper in steps.items()
}
fig, axes = plt.subplots(1, 5, figsize=(12, 3), sharey=True, layout="constrained")
for ax, (name, monitor) in zip(axes, monitors.items(), strict=True):
    monitor.fit(A_train, y_train)
    scores = [monitor.score_samples(A) for A in (A_test, A_unknown, A_noise)]
    bins = np.linspace(
        np.min(np.concatenate(scores)), np.max(np.concatenate(scores)), 30
    )
    for values, label, color in zip(
        scores,
        ("known digits", "digits 1 and 5", "noise"),
        ("#0072b2", "#e69f00", "#d55e00"),
        strict=True,
    ):
        ax.hist(
            values,
            bins,
            density=True,
            histtype="step",
            linewidth=1.5,
            color=color,
            label=label,
        )
    ax.set(title=name, xlabel="energy score")
    ax.title.set_fontsize(10)
axes[0].legend(fontsize=8)
axes[0].set_ylabel("density")

# %%
# The same for all five networks, beside the softmax output. Points are means, lines
# reach from the smallest to the largest.

monitors = {"softmax": MaxSoftmaxDetector(), **monitors}


def aurocs(monitor, samples):
    """AUROC against unknown digits, and against noise."""
    train, labels, test, *kinds = samples
    monitor.fit(train, labels)
    return [
        monitor.score(
            Activations.concatenate([test, unknown]),
            np.repeat([1, -1], [len(test), len(unknown)]),
        )
        for unknown in kinds
    ]


found = np.array(
    [[aurocs(monitor, s) for s in networks] for monitor in monitors.values()]
)
fig, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
places = np.arange(len(monitors))[::-1]
colors = ["#666666", "#d55e00", *["#0072b2"] * 4]
for ax, kind, values in zip(
    axes, ("digits 1 and 5", "noise"), np.moveaxis(found, 2, 0), strict=True
):
    ax.hlines(places, values.min(axis=1), values.max(axis=1), color=colors)
    ax.scatter(values.mean(axis=1), places, color=colors)
    ax.set(title=kind, xlabel="AUROC", yticks=places, yticklabels=list(monitors))
    ax.grid(axis="x", alpha=0.3)
for name, values in zip(monitors, found.mean(axis=1), strict=True):
    print(f"{name:27} digits 1 and 5: {values[0]:.3f}, noise: {values[1]:.3f}")

# %%
# Where to clip
# -------------
#
# The clip as a parameter of a grid search, without removal of weights, against noise
# and against unknown digits. Every network has a line; the means are thick. Against
# noise a clip of 0.6 to 0.8 is best, which cuts a fifth of the features or more.
# Against unknown digits it makes little difference, as long as it is not far lower.

clips = [0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2]
curves = []
for A_train, y_train, _, *kinds in networks:
    for unknown in kinds:
        search = GridSearchCV(
            monitors["+ removal of units"],
            {"line__clip": clips},
            cv=OODKFold(3, shuffle=True, random_state=0),
            refit=False,
        ).fit(
            Activations.concatenate([A_train, unknown]),
            np.concatenate([y_train, np.full(len(unknown), -1)]),
        )
        curves.append(search.cv_results_["mean_test_score"])

curves = np.reshape(curves, (len(networks), 2, len(clips)))
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for values, label, color in zip(
    np.moveaxis(curves, 1, 0),
    ("digits 1 and 5", "noise"),
    ("#e69f00", "#d55e00"),
    strict=True,
):
    ax.plot(clips, values.T, color=color, linewidth=0.8, alpha=0.5)
    ax.plot(clips, values.mean(axis=0), "o-", color=color, linewidth=2, label=label)
ax.set(title="where to clip", xlabel="clip", ylabel="AUROC (cross-validation)")
ax.legend()
plt.show()
