"""
========================================
A skorch net, and why an image is flagged
========================================

A fitted skorch net goes into :class:`skood.ActivationExtractor` as it is. The activations are extracted
once; everything after that works on them.

A verdict can be explained: ``kneighbors`` of :class:`skood.HammingNAPDetector` returns the training
images of the predicted class for which the network's neurons fired most alike. The figure shows, on the
left, the four digits that the network knows best and the four that are strangest to it, and beside each
the three nearest training images. Images that are accepted have neighbours that look like them,
at a distance of a few neurons. For those that are flagged, the nearest training images of the class
that the network named are many neurons away, and look different.
"""

# %%
# A skorch net
# ------------
#
# It is trained on eight of the ten digits; ``y == -1`` marks the others, 1 and 5.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetClassifier
from torch import nn

from skood import (
    ActivationExtractor,
    HammingNAPDetector,
    LayerSelector,
    PercentileBinarizer,
    PoolingReducer,
)
from skood.datasets import load_digits_ood
from skood.metrics import ood_roc_auc_score

digits = load_digits_ood(held_out=(1, 5))
X, y = digits.data, digits.target
train = np.flatnonzero(y[:1200] != -1)
test = np.arange(1200, len(X))


class DigitNet(nn.Module):
    """Two convolutional layers and a hidden layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(32 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 8)
        )

    def forward(self, images):
        """Logits of the eight digits."""
        return self.classifier(self.features(images))


torch.manual_seed(0)
net = NeuralNetClassifier(
    DigitNet,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.001,
    batch_size=64,
    max_epochs=20,
    train_split=None,
    verbose=0,
).fit(X[train], y[train])

# %%
# Extract once
# ------------
#
# The layers have the names that torch gives them. The hidden layer of the classifier is monitored
# here.

A = ActivationExtractor(net, reducer=PoolingReducer("max")).fit_transform(X)
print(A)

monitor = make_pipeline(
    LayerSelector("classifier.*"), PercentileBinarizer(70), HammingNAPDetector()
).fit(A[train], y[train])
scores = monitor.score_samples(A[test])
print(f"AUROC: {ood_roc_auc_score(y[test], scores):.2f}")

# %%
# The nearest training images
# ---------------------------
#
# Row numbers returned by ``kneighbors`` count the rows given to ``fit``.

order = np.argsort(scores)
shown = test[np.r_[order[-4:], order[:4]]]
distances, rows = monitor[-1].kneighbors(monitor[:-1].transform(A[shown]), n_neighbors=3)

fig, axes = plt.subplots(4, 8, figsize=(9, 5.2), layout="constrained")
for place, i in enumerate(shown):
    row, first = place % 4, 0 if place < 4 else 4
    named = digits.target_names[A.predictions[i]]
    axes[row, first].set_title(f"{digits.digit[i]}, named {named}", fontsize=9)
    axes[row, first].imshow(X[i, 0], cmap="gray_r")
    for neighbor in range(3):
        ax = axes[row, first + 1 + neighbor]
        ax.imshow(X[train[rows[place, neighbor]], 0], cmap="Blues" if first == 0 else "Oranges")
        ax.set_title(f"{distances[place, neighbor]:.0f} neurons", fontsize=8)
for ax in axes.flat:
    ax.axis("off")
fig.text(0.25, 1.0, "accepted: image, nearest training images", ha="center", va="bottom")
fig.text(0.75, 1.0, "flagged: image, nearest training images", ha="center", va="bottom")
plt.show()
