"""
============================================
Why an input is flagged: explaining an alarm
============================================

A detector of out-of-distribution images gives an alarm. Why?
:func:`skood.inspection.explain` answers with training images and with neurons: which
training images are the nearest, what are their classes, and which neurons and layers
would have to change for the score to rise.

The first two figures explain two alarms. One is right: the image is a digit that the
network has never seen, and no training image is near it. One is false: a known digit to
which a few training images are similar, but too few. The last figure is a test with a
known answer: a single neuron is disturbed, and the explanation has to name it.
"""

# %%
# A network and a detector
# ------------------------
#
# The digits 1 and 5 are held out. The network has two hidden layers. The detector
# measures the distance to the fifth-nearest training image, in the outputs of both
# layers.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skood import ActivationExtractor
from skood.datasets import load_digits_ood
from skood.detectors import KNNDetector
from skood.inspection import explain

digits = load_digits_ood(held_out=(1, 5))
X, digit = digits.data.reshape(len(digits.data), -1), digits.digit
unknown = np.flatnonzero(digits.target == -1)
train, test = train_test_split(
    np.flatnonzero(digits.target != -1), test_size=400, random_state=0
)
net = MLPClassifier((64, 32), max_iter=500, random_state=0)
A = ActivationExtractor(net.fit(X[train], digit[train])).fit_transform(X)

detector = KNNDetector(n_neighbors=5).fit(A[train])
alarms = detector.predict(A) == -1
print(f"known digits flagged: {alarms[test].mean():.0%}")
print(f"unknown digits flagged: {alarms[unknown].mean():.0%}")

# %%
# Two alarms
# ----------
#
# Of unknown and of known digits, the image with the lowest score. The detector has kept
# the training images, so it can say which are the nearest; ``y_train`` has their
# classes. ``print`` gives a report.
#
# The weight of a neuron is the rise of the score if this neuron had its value for the
# nearest training image, and all others did not change.

scores = detector.score_samples(A)
true_alarm = unknown[scores[unknown].argmin()]
false_alarm = test[scores[test].argmin()]
found = explain(
    detector, A[[true_alarm, false_alarm]], y_train=digit[train], n_neurons=8
)
print(found)

# %%
# The figures show the same: the image beside its neighbours, with class and distance,
# and below them the weights.

COLORS = {"hidden_0": "#0072b2", "hidden_1": "#e69f00"}


def draw_neighbors(found, sample, image, fig):
    """The image, and the nearest training images with class and distance."""
    axes = fig.subplots(1, 1 + found.neighbors.shape[1])
    axes[0].imshow(image.reshape(8, 8), cmap="gray_r")
    axes[0].set_title(f"taken for a {found.predictions[sample]}", fontsize=10)
    for spine in axes[0].spines.values():
        spine.set(color="#d55e00", linewidth=3)
    for ax, row, label, distance in zip(
        axes[1:],
        found.neighbors[sample],
        found.neighbor_labels[sample],
        found.distances[sample],
        strict=True,
    ):
        ax.imshow(X[train[row]].reshape(8, 8), cmap="gray_r")
        ax.set_title(f"a {label}, at {distance:.2f}", fontsize=10)
    for ax in axes:
        ax.set(xticks=[], yticks=[])


def draw_weights(found, sample, fig):
    """Bars of layers and neurons, and what these neurons do, beside the neighbours'."""
    by_layer, by_neuron, values = fig.subplots(1, 3, width_ratios=[1, 1.6, 1.6])
    for layer, weights in found.layer_weights.items():
        by_layer.barh(layer, weights[sample], color=COLORS[layer])
    by_layer.set(title="layers", xlabel="weight: rise\nof the score")
    for layer, unit, weight in found.top_neurons(sample):
        name = f"{layer}[{unit}]"
        by_neuron.barh(name, weight, color=COLORS[layer])
        here = found.values[layer][sample, unit]
        nearby = found.neighbor_values[layer][sample, unit]
        values.plot([here, nearby], [name, name], color="#999999", zorder=1)
        values.scatter(nearby, name, color="white", edgecolor="#666666", zorder=2)
        values.scatter(here, name, color="#d55e00", zorder=2)
    by_neuron.set(title="neurons that weigh most", xlabel="weight: rise\nof the score")
    values.set(title="what they do", xlabel="output of\nthe neuron")
    values.set_yticks(values.get_yticks(), [])
    fig.legend(
        [values.collections[1], values.collections[0]],
        ["this image", "mean of neighbours"],
        loc="outside lower right",
        ncols=2,
        fontsize=8,
    )
    for ax in (by_layer, by_neuron, values):
        ax.invert_yaxis()
        ax.locator_params(axis="x", nbins=2)


def draw(found, sample, image, title):
    """Neighbours above, weights below."""
    fig = plt.figure(figsize=(9, 5.4), layout="constrained")
    fig.suptitle(f"{title} (threshold at distance {-found.threshold:.2f})")
    above, below = fig.subfigures(2, 1, height_ratios=[1, 1.9])
    draw_neighbors(found, sample, image, above)
    draw_weights(found, sample, below)


# %%
# **The true alarm.** The network takes this 5 for a 2, and the nearest training images
# are 2s, too. But none is near: even the first is far beyond the threshold. The weights
# say that this shows in the first layer above all: there the network sees something
# else than in a 2, although it names a 2 in the end.

draw(found, 0, X[true_alarm], f"A true alarm: a {digit[true_alarm]}, never seen")

# %%
# **The false alarm.** This 2 has a training image near it, well within the threshold.
# But there are few like it: the fourth neighbour is an 8, and the fifth, whose distance
# is the score, is far. No layer stands out, and the weights are small. More training
# images of such a 2 would help, or a smaller ``n_neighbors``.

draw(found, 1, X[false_alarm], f"A false alarm: a {digit[false_alarm]}")

# %%
# A test with a known answer
# --------------------------
#
# In each of 100 known digits, one neuron is stuck: at 0, at its largest output in
# training, or at another multiple of that. It is another neuron each time, drawn at
# random among those that are ever active. How many of the digits are flagged, and how
# often does the explanation name the stuck neuron first?

rng = np.random.default_rng(0)
known = A[test[:100]]
largest = {layer: values.max(axis=0) for layer, values in A[train].items()}
active = [
    (layer, unit)
    for layer in A.layer_names
    for unit in np.flatnonzero(largest[layer] > 0)
]
stuck = [active[i] for i in rng.integers(len(active), size=len(known))]
factors = [0, 0.5, 1, 1.5, 2, 3]
flagged, named = [], []
for factor in factors:
    layers = {layer: values.copy() for layer, values in known.items()}
    for i, (layer, unit) in enumerate(stuck):
        layers[layer][i, unit] = factor * largest[layer][unit]
    found = explain(detector, known.assign(layers), n_neurons=1)
    first = [found.top_neurons(i)[0][:2] for i in range(len(known))]
    flagged.append(found.alarms.mean())
    named.append(np.mean([a == b for a, b in zip(first, stuck, strict=True)]))

# %%
# At its largest output and above, it is named first nearly always, and long before
# most of the digits are flagged. At 0, or in the middle of its range, a neuron may do
# what it would have done anyway, and then there is nothing to find.

fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
ax.plot(factors, named, "o-", color="#0072b2", label="stuck neuron named first")
ax.plot(factors, flagged, "s--", color="#d55e00", label="flagged")
ax.set(
    title="does the explanation name the stuck neuron?",
    xlabel="output of the stuck neuron, as a multiple of its largest in training",
    ylabel="share of the digits",
    ylim=(0, 1.03),
)
ax.legend()
for factor, share, alarm in zip(factors, named, flagged, strict=True):
    print(f"stuck at {factor:3}: {share:4.0%} named first, {alarm:4.0%} flagged")
plt.show()
