"""
============================
Activation maps and patterns
============================

What does a network compute from an image, and what does a monitor read of it? This
example inspects a small convolutional network that knows the digits 0 to 7. It draws
the maps of two layers, then which neurons of the last hidden layer are active for which
class, and at last two alarms of a detector: each image beside the training pattern that
is nearest to it, with the neurons that caused the alarm.
"""

# %%
# A network that knows eight digits
# ---------------------------------
#
# The digits 8 and 9 are held out, so that class 3 is the digit 3, and so on.

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np

from skood import ActivationExtractor, Activations, HammingNAPDetector
from skood.datasets import load_digits_network, make_noise
from skood.inspection import ActivationMapDisplay, PatternDisplay

digits = load_digits_network(
    held_out=(8, 9),
    channels=(16, 32),
    hidden=(48,),
    dropout=0.5,
    n_calibration=0,
    n_test=400,
    n_epochs=30,
)
X, y = digits.data, digits.target
train, test, unknown = digits.train, digits.test, digits.unknown

extractor = ActivationExtractor(digits.network, layers=["conv1", "relu2", "relu3"])
A = extractor.fit_transform(X)
print(A)
print(f"accuracy on test digits: {np.mean(A.predictions[test] == y[test]):.1%}")

# %%
# The maps of a digit
# -------------------
#
# The outputs of the first convolution for a 2: its eight most active channels, the most
# active first. Red is above 0 and blue below; the ReLU that follows cuts off the blue.
# Some channels respond to the whole digit, others to some of its strokes or edges.

two = test[y[test] == 2][0]
ActivationMapDisplay.from_activations(
    A, layer="conv1", sample=two, n_maps=8, image=X[two]
)

# %%
# Known, unknown and noise
# ------------------------
#
# The second convolution, after its ReLU, for three images. ``channels`` takes those of
# the first image for the others too, and ``vmax`` gives all one scale, so that the rows
# can be compared. The digits light up along their strokes. Noise lights up nearly
# everywhere, and in no place as brightly as the 2 does.

nine = unknown[digits.digit[unknown] == 9][0]
noise = make_noise("uniform", (1, 1, 8, 8), random_state=0)
three = Activations.concatenate([A[[two, nine]], extractor.transform(noise)])
shown = np.concatenate([X[[two, nine]], noise])
brightest = three["relu2"].max()

fig, axes = plt.subplots(3, 7, figsize=(9, 5), layout="constrained")
channels = None
for row, name in enumerate(("a 2", "a 9, unknown", "noise")):
    display = ActivationMapDisplay.from_activations(
        three,
        layer="relu2",
        sample=row,
        channels=channels,
        n_maps=6,
        image=shown[row],
        ax=axes[row],
        vmax=brightest,
    )
    channels = display.channels
    taken_for = f"{name},\ntaken for a {three.predictions[row]}"
    display.axes_[0].set_title(taken_for, fontsize="small")

# %%
# Patterns by class
# -----------------
#
# Of the last hidden layer, a detector of Hamming distances keeps one bit for each
# neuron: active or not. A row is an image, a column a neuron. Neurons are sorted by the
# class in which they are active most often, so that black blocks run down the
# diagonal. Within a known class the rows are much alike, and they differ from
# those of the other classes. The two unknown digits have no such common pattern. The
# white columns at the right are neurons that are active for no image.

hidden = A[["relu3"]]
rows = np.concatenate([test, unknown])
names = np.where(y == -1, "unknown ", "") + digits.digit.astype(str)
display = PatternDisplay.from_activations(hidden[rows], names[rows])
display.ax_.set_title("patterns by digit")
never = ~np.any(hidden["relu3"] > 0, axis=0)
print(f"{never.sum()} of {never.size} neurons are never active")

# %%
# A false alarm and a true one
# ----------------------------
#
# A detector stores the patterns of the training images and gives an alarm where the
# nearest one of the predicted class is too far away.

detector = HammingNAPDetector().fit(hidden[train], y[train])
verdict = detector.predict(hidden)
print(f"known digits flagged: {np.mean(verdict[test] == -1):.1%}")
print(f"unknown digits flagged: {np.mean(verdict[unknown] == -1):.1%}")

# %%
# Two of the alarms: the known digits that were flagged although the network got them
# right, and the unknown ones, each by the image farthest from its class. The unusual 3
# differs from the nearest training image of a 3 in 5 neurons, all of them active where
# they should not be; the 8 that was taken for a 2 differs in 10.

distances = detector.kneighbors(hidden, 1)[0][:, 0]
is_right = A.predictions[test] == y[test]
false_alarms = test[(verdict[test] == -1) & is_right]
true_alarms = unknown[verdict[unknown] == -1]

fig, axes = plt.subplots(
    2, 2, figsize=(9, 6), width_ratios=(1, 5), layout="constrained"
)
for (left, right), alarms in zip(axes, (false_alarms, true_alarms), strict=True):
    farthest = alarms[distances[alarms].argmax()]
    left.imshow(X[farthest, 0], cmap="gray")
    left.set(title=f"a {digits.digit[farthest]}", xticks=[], yticks=[])
    PatternDisplay.from_detector(detector, hidden, farthest, ax=right)
plt.show()
