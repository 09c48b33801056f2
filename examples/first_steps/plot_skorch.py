"""
=========================================
A skorch net, and why an image is flagged
=========================================

A fitted skorch net is passed to :class:`skood.ActivationExtractor` directly. The
activations are extracted once; everything after that works on them.

A decision can be explained: ``kneighbors`` of :class:`skood.HammingNAPDetector` returns
the training images of the predicted class for which the network's neurons fired most
alike. The figure shows, on the left, the four test images that the monitor accepts most
readily, on the right the four that are strangest to it, and beside each the three
nearest training images. The accepted ones have neighbours that look like them, in which
the very same neurons fire. For the flagged ones, the nearest training images of the
class that the network named differ in about 20 of the 128 neurons, and look different.
Three of them are fives, which the network does not know. The fourth is a six that it
took for a four: a monitor also finds inputs that are known and misclassified.
"""

# %%
# A skorch net
# ------------
#
# It is trained on eight of the ten digits; ``y == -1`` marks the others, 1 and 5.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetClassifier
from torch import nn

from skood import (
    ActivationExtractor,
    HammingNAPDetector,
    PercentileBinarizer,
    PoolingReducer,
)
from skood.datasets import load_digits_ood
from skood.metrics import ood_roc_auc_score
from skood.preprocessing import LayerSelector

digits = load_digits_ood(held_out=(1, 5))
X, y = digits.data, digits.target
train, test = train_test_split(np.flatnonzero(y != -1), test_size=400, random_state=0)
test = np.r_[test, np.flatnonzero(y == -1)]


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
# The layers have the names that torch gives them. The hidden layer of the classifier
# is monitored here.

A = ActivationExtractor(net, reducer=PoolingReducer(pooling="max")).fit_transform(X)
print(A)

monitor = make_pipeline(
    LayerSelector(layers="classifier.*"),
    PercentileBinarizer(percentile=70),
    HammingNAPDetector(),
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
distances, rows = monitor[-1].kneighbors(
    monitor[:-1].transform(A[shown]), n_neighbors=3
)

fig = plt.figure(figsize=(9, 5.4), layout="constrained")
accepted, flagged = fig.subfigures(1, 2, wspace=0.06)
accepted.suptitle("accepted: image and nearest training images")
flagged.suptitle("flagged: image and nearest training images")
axes = np.vstack([half.subplots(4, 4) for half in (accepted, flagged)])
for row, i in enumerate(shown):
    named = digits.target_names[A.predictions[i]]
    axes[row, 0].set_title(f"a {digits.digit[i]}, named {named}", fontsize=9)
    axes[row, 0].imshow(X[i, 0], cmap="gray_r")
    for ax, neighbor, distance in zip(
        axes[row, 1:], rows[row], distances[row], strict=True
    ):
        ax.set_title(f"{distance:.0f} neurons", fontsize=9)
        ax.imshow(X[train[neighbor], 0], cmap="Blues")
for ax in axes.flat:
    ax.axis("off")
plt.show()
