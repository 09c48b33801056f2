"""
=====================================================
Outlier exposure with a reject class: which outliers?
=====================================================

:class:`skood.training.DecoyClassClassifier` trains a network with one more output, for
outliers (outlier exposure with a reject class). What it then rejects depends on the
outliers in training: noise, mixtures and rotated images, which are made of the training
images, or those that the user has.

Small convolutional networks learn eight of the ten digits, each with outliers of
another source, and are tested on several kinds of unknown images. The first figure
shows the outliers. The second compares the networks with a plain one. What was shown in
training is found nearly without error, and most decoy classes find noise and blobs
better than the plain network does. But no source helps against all. Trained on
mixtures, the network takes rotated digits for more familiar than upright ones. And for
the digit 5, which no outlier resembles, the largest probability of the plain network is
a better score than any decoy class. Multiplied with the largest probability of the
other classes, most decoy classes come near to it, and the best of them are as good as
before on the other kinds.
"""

# %%
# Images, and networks with any number of outputs
# -----------------------------------------------
#
# The digits 1 and 5 are unknown. Half of the ones serve as outliers that the user has.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from skood.datasets import load_digits_ood, make_noise
from skood.metrics import ood_roc_auc_score
from skood.training import DecoyClassClassifier

digits = load_digits_ood(held_out=(1, 5))
X, y = digits.data, digits.target
ones = np.flatnonzero(digits.digit == 1)
fives = np.flatnonzero(digits.digit == 5)
known_ones, new_ones = ones[::2], ones[1::2]


class DigitNet(nn.Module):
    """Two convolutional layers and a hidden layer."""

    def __init__(self, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 64),
            nn.ReLU(),
            nn.Linear(64, n_outputs),
        )

    def forward(self, images):
        """Logits of the classes."""
        return self.layers(images)


def make_net(n_outputs, seed):
    torch.manual_seed(seed)
    return NeuralNetClassifier(
        DigitNet,
        module__n_outputs=n_outputs,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        batch_size=200,
        max_epochs=8,
        train_split=None,
        verbose=0,
    )


# %%
# What the networks are shown
# ---------------------------
#
# ``make_outliers`` returns the outliers that ``fit`` makes. Mixtures come close to
# digits and yet are none. Noise is between the smallest and the largest value that a
# pixel has in the training images, so pixels that are always empty stay empty. Some
# rotated images could pass for digits: a 0 remains one.

sources = {
    "noise": "noise",
    "mixed": "mixed",
    "rotated": "rotated",
    "all three": ["noise", "mixed", "rotated"],
    "ones": None,
}

fig, axes = plt.subplots(4, 8, figsize=(7, 4.1), layout="constrained")
fig.suptitle("outliers in training")
for row, name in zip(axes, ("noise", "mixed", "rotated", "ones"), strict=True):
    classifier = DecoyClassClassifier(
        make_net(9, 0), outliers=sources[name], random_state=0
    )
    shown = X[known_ones] if name == "ones" else classifier.make_outliers(X, y)
    for ax, image in zip(row, shown, strict=False):
        ax.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)

# %%
# Which unknowns are found
# ------------------------
#
# The plain network has no decoy class: its score is the largest probability. The score
# of the others, on the left, is one minus the probability of the decoy class. On the
# right it is multiplied with the largest probability that the image has of being of a
# class, given that it is of one. The product is what the network with one more output
# gives to the likeliest digit. Numbers are areas under the ROC curve, means of three
# networks with a division and initial weights of their own. Frames mark kinds of which
# other images were outliers in training.


def samples_of(seed):
    """Training rows, test images with labels, and the kinds of unknown images."""
    train, test = train_test_split(
        np.flatnonzero(y != -1), test_size=400, random_state=seed
    )
    shape = (200, 1, 8, 8)
    unknown = {
        "noise": make_noise("uniform", shape, random_state=seed),
        "rotated": np.rot90(X[test], axes=(-2, -1)).copy(),
        "digit 1": X[new_ones],
        "digit 5": X[fives],
        "blobs": make_noise("blobs", shape, random_state=seed),
    }
    return train, X[test], y[test], unknown


def train_all(train, seed):
    """A plain net, and a classifier with a decoy class for each source of outliers."""
    classifiers = {"plain": make_net(8, seed).fit(X[train], y[train])}
    for name, outliers in sources.items():
        rows = np.r_[train, known_ones] if name == "ones" else train
        classifiers[name] = DecoyClassClassifier(
            make_net(9, seed), outliers=outliers, reject_label=-1, random_state=seed
        ).fit(X[rows], y[rows])
    return classifiers


def scores(classifier, images):
    """The score, and its product with the largest probability of a class."""
    largest = classifier.predict_proba(images).astype(float).max(axis=1)
    if isinstance(classifier, NeuralNetClassifier):
        return largest, largest
    score = classifier.score_samples(images)
    return score, score * largest


def aurocs(classifier, known, unknown):
    """Areas under the ROC curve, for both scores and each kind."""
    areas = []
    for images in unknown.values():
        is_known = np.repeat([1, -1], [len(known), len(images)])
        both = scores(classifier, np.concatenate([known, images]))
        areas.append([ood_roc_auc_score(is_known, score) for score in both])
    return np.transpose(areas)


found = []
for seed in range(3):
    train, known, labels, unknown = samples_of(seed)
    classifiers = train_all(train, seed)
    found.append([aurocs(c, known, unknown) for c in classifiers.values()])

found = np.mean(found, axis=0)
seen = {
    "noise": ["noise"],
    "rotated": ["rotated"],
    "all three": ["noise", "rotated"],
    "ones": ["digit 1"],
}
kinds, names = list(unknown), list(classifiers)
titles = ("decoy class alone", "times the largest probability")
fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for ax, title, values in zip(axes, titles, np.moveaxis(found, 1, 0), strict=True):
    image = ax.imshow(values, cmap="cividis", vmin=0.2, vmax=1, aspect="auto")
    for i, j in np.ndindex(values.shape):
        color = "black" if values[i, j] > 0.6 else "white"
        ax.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", color=color)
    for name, columns in seen.items():
        for kind in columns:
            corner = kinds.index(kind) - 0.47, names.index(name) - 0.45
            ax.add_patch(plt.Rectangle(corner, 0.94, 0.9, fill=False, linewidth=2.5))
    ax.set_xticks(range(len(kinds)), kinds)
    ax.set(title=title, xlabel="unknown images")
axes[0].set_yticks(range(len(names)), names)
axes[0].set_ylabel("outliers in training")
fig.colorbar(image, ax=axes, label="AUROC")

# %%
# Rejected
# --------
#
# With ``reject_label`` the classifier answers itself. At the default threshold an image
# is rejected that is more likely a decoy than a digit. Few known digits are, but many
# unknown digits pass, unless they were shown. A higher threshold, which is set by
# ``false_alarm_rate``, rejects more of them. Shares are those of the last of the three
# divisions.

for name, classifier in list(classifiers.items())[1:]:
    answers = classifier.predict(known)
    rejected = {
        kind: np.mean(classifier.predict(images) == -1)
        for kind, images in {"known": known, **unknown}.items()
    }
    print(f"{name}: {np.mean(answers == labels):.3f} of the known digits named rightly")
    print("   rejected:", ", ".join(f"{k} {v:.2f}" for k, v in rejected.items()))
plt.show()
