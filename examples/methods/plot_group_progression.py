"""
====================================
Group progression through the layers
====================================

Which training images are most similar to this one, in the activations of a network? The
answer changes from layer to layer. In each layer, the training images whose patterns of
active neurons are nearest to that of an image are its *layer group*; the group of the
last hidden layer is its *final group*. :class:`skood.GroupProgressionDetector` follows
both through the layers.

The network below knows eight of the ten digits. The first two figures show that images
which it classifies rightly are consistent: in every layer they are near to their final
group, and most of the layer group has the class that is predicted. Images that are
misclassified or unknown, and noise on which the network is confident, are farther from
their final group in every layer, and their layer groups are mixed, above all in the
first layers. The third figure shows how well this detects unknown images: noise much
better than the softmax output does, unknown digits only about as well.
"""

# %%
# A network with five hidden layers
# ---------------------------------
#
# The digits 1 and 5 are held out, and 700 images of the others are left for testing;
# drawing them at random matters, as the images are in the order of their writers.
# Random pixels are a second kind of unknown images. Patterns are as in the thesis that
# proposed the method [1]_: the weaker half of a layer's neurons are 0, the stronger
# half 1.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skood import ActivationExtractor, GroupProgressionDetector, PercentileBinarizer
from skood.calibration import prediction_confidence
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import MaxSoftmaxDetector
from skood.inspection import OODRocCurveDisplay, ProgressionDisplay
from skood.metrics import make_ood_scorer

X, y = load_digits_ood(held_out=(1, 5), return_X_y=True)
X = X.reshape(len(X), -1)
train, test = train_test_split(np.flatnonzero(y != -1), test_size=700, random_state=0)
net = MLPClassifier((64,) * 5, max_iter=500, random_state=0).fit(X[train], y[train])

noise = make_noise("uniform", (600, 64), random_state=0)
A = ActivationExtractor(net).fit_transform(np.concatenate([X, noise]))
patterns = PercentileBinarizer(percentile=50, rule="rank").fit_transform(A)
y = np.r_[y, np.full(len(noise), -1)]

# %%
# Four sets of images
# -------------------
#
# Of the noise, only images on which the network is confident are kept: most of them.

is_noise = np.arange(len(y)) >= len(X)
groups = np.select(
    [is_noise, y == -1, A.predictions == y],
    ["noise", "ones and fives", "known and right"],
    "misclassified",
)
sure_noise = np.flatnonzero(is_noise & (prediction_confidence(A) > 0.8))
shown = np.r_[test, np.flatnonzero((y == -1) & ~is_noise), sure_noise]
print(f"noise with a confidence above 80 %: {len(sure_noise) / len(noise):.0%}")

# %%
# How far the final group is
# --------------------------
#
# A group has 30 of the 733 images that the network was trained on. Points are means,
# bars reach from the 25th to the 75th percentile. Images that are known and right are
# nearest to their final group in every layer. Noise is farthest, above all in the first
# layer.

detector = GroupProgressionDetector(n_neighbors=30).fit(patterns[train])

fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
ProgressionDisplay.from_estimator(detector, patterns[shown], groups[shown], ax=ax)
ax.set(title="distance to the final group", ylabel="mean distance (% of the bits)")

# %%
# How many of the layer group have the predicted class
# ----------------------------------------------------
#
# Where an image is known and right, most of its layer group has the predicted class,
# back to the first layer. For the other images, a quarter of the group or more is of
# other classes even in the last layer, and about half or more in the first layer. Few
# images are misclassified, so their line is the least certain.

fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
ProgressionDisplay.from_estimator(
    detector, patterns[shown], groups[shown], feature="matching", ax=ax
)
ax.set_title("agreement with the predicted class")

# %%
# Detection of unknown inputs
# ---------------------------
#
# The detector condenses the distances, the matching shares, or both into one score. It
# has seen no unknown image: it standardises each number over the training images and
# takes the mean.
#
# Noise is found best by the distances, and by all three scores better than by the
# softmax output, for which this noise is hard by choice: the network is confident on
# it. Ones and fives look much like known digits. Here the four curves are close.

detectors = {
    "distance": GroupProgressionDetector(n_neighbors=30, features="distance"),
    "matching": GroupProgressionDetector(n_neighbors=30, features="matching"),
    "both": GroupProgressionDetector(n_neighbors=30, features="both"),
    "softmax": MaxSoftmaxDetector(),
}
for detector in detectors.values():
    detector.fit(patterns[train])

fig, axes = plt.subplots(1, 2, figsize=(9, 4.5), sharey=True, layout="constrained")
for ax, kind in zip(axes, ("ones and fives", "noise"), strict=True):
    rows = np.r_[test, shown[groups[shown] == kind]]
    OODRocCurveDisplay.from_estimator(detectors, patterns[rows], y[rows], ax=ax)
    ax.set_title(kind)
    ax.label_outer()
plt.show()

# %%
# What about mistakes?
# --------------------
#
# The same scores can discriminate misclassified from correctly classified images of
# known digits. The softmax output, which shows when a second class is nearly as likely,
# is a strong rival here: the matching shares come close to it, and the distances do
# worst. Few images are misclassified, so small differences mean little.

scorer = make_ood_scorer(target="misclassified")
for name, detector in detectors.items():
    print(f"{name}: AUROC {scorer(detector, patterns[test], y[test]):.2f}")

# %%
# .. rubric:: References
#
# .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
#    classification error detection", master's dissertation, UCLouvain, 2018.
