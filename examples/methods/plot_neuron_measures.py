"""
=======================================
Neuron measures: what single neurons do
=======================================

How often does a neuron fire, is the network right when it does, what did it learn, and
how much does the output depend on it? :class:`skood.inspection.NeuronStatistics` holds
the answers in one table, and displays draw them.

The first figure shows that most neurons have an accuracy below that of the network,
since misclassified images activate more neurons. The second one shows where the weak
neurons are: low in activation count, gradient and influence at once. The third one
shows how much each neuron is activated by digits that the network knows, by digits that
it does not know, and by noise. In the last layer the two unknown kinds are more like
each other than like the known digits.
"""

# %%
# A network, recorded during training
# -----------------------------------
#
# A perceptron with five hidden layers learns 900 digits other than 1 and 5. As in the
# thesis that the measures come from [1]_, its biases begin at 1. The recorder counts
# how often each neuron is active, and averages the gradients of its incoming weights.

# sphinx_gallery_thumbnail_number = 3
from collections import OrderedDict

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from skood import ActivationExtractor, Activations, PercentileBinarizer
from skood.datasets import load_digits_ood, make_noise
from skood.inspection import (
    MeanActivationDisplay,
    NeuronMeasureDisplay,
    NeuronStatistics,
)
from skood.training import TrainingRecorder

digits = load_digits_ood(held_out=(1, 5))
X, y = digits.data, digits.target
# The digits are ordered by writer.
known = np.random.default_rng(0).permutation(np.flatnonzero(y != -1))
train, test = known[:900], known[900:]

torch.manual_seed(0)
modules = OrderedDict(flatten=nn.Flatten())
for number in range(1, 6):
    modules[f"linear{number}"] = nn.Linear(64, 64)
    modules[f"relu{number}"] = nn.ReLU()
modules["output"] = nn.Linear(64, 8)
net = nn.Sequential(modules)
for name, parameter in net.named_parameters():
    if name.endswith("bias"):
        nn.init.ones_(parameter)

optimizer = torch.optim.Adam(net.parameters())
images, labels = torch.from_numpy(X[train]), torch.from_numpy(y[train])
with TrainingRecorder(net) as recorder:
    for _ in range(5):
        for batch in torch.randperm(len(train)).split(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()

# %%
# The table
# ---------
#
# Accuracies and activation counts are those on the digits left for testing.

relus = [f"relu{number}" for number in range(1, 6)]
extractor = ActivationExtractor(net, layers=relus)
A = extractor.fit_transform(X)
statistics = NeuronStatistics.from_activations(
    A[test], y[test], network=net, recorder=recorder
)
table = statistics.to_frame()
columns = ["activation_rate", "accuracy", "average_gradient", "influence_l2"]
print(table.groupby("layer")[columns].mean().round(3))

# %%
# Neuron accuracy
# ---------------
#
# Three measures in one figure: the height of a bar is the accuracy of a neuron, bars
# stand in the order of how often it fired in training, and the colour is its average
# gradient. In every layer most of the bars end under the dotted line, the accuracy of
# the network: of the images that activate a neuron, the network gets a smaller share
# right than of all images. The bars that end far from the line are those of neurons
# that fire for fewer images, on the right. A neuron that fires for nearly every image
# cannot be far from it. The bars are cut at 0.8.

is_right = A.predictions[test] == y[test]
display = NeuronMeasureDisplay.from_statistics(
    statistics, "accuracy", sort_by="training_count", color="average_gradient"
)
display.axes_[0].set_ylim(0.8, 1)

# %%
# How can most of the parts do worse than the whole? An image counts once for each
# neuron that it activates, and images that the network gets wrong activate more. So do
# digits that it does not know, and noise: :class:`skood.NeuronCountDetector` makes use
# of that.

unknown = np.flatnonzero(y == -1)
A_noise = extractor.transform(make_noise("uniform", (400, 1, 8, 8), random_state=0))
samples = {
    "classified right": A[test][is_right],
    "classified wrong": A[test][~is_right],
    "digits 1 and 5": A[unknown],
    "noise": A_noise,
}
print(f"{'active neurons':18}", *relus)
for name, part in samples.items():
    counts = [np.mean(np.sum(layer > 0, axis=1)) for _, layer in part.items()]
    print(f"{name:18}", *(f"{count:5.1f}" for count in counts))

# %%
# Weak neurons
# ------------
#
# A weak neuron is in the lowest quarter of all neurons in activation count in training,
# in average gradient and in influence. Influence grows from layer to layer: the neurons
# of low influence are those of the first layer and some of the second. Low counts begin
# in the second layer and become more frequent from there on. So most weak neurons are
# in the second layer. The one elsewhere was not activated by any sample of any batch:
# its influence is 0, and so it has no bar that could be seen. The count uses the first
# sample of each batch only: by it one more neuron would be dead.

print(table.groupby("layer")["weak"].sum())
print("never active:", sum(np.sum(~ever) for ever in recorder.ever_active_.values()))
print("count 0, and weak:", np.sum(table["weak"] & (table["training_count"] == 0)))
NeuronMeasureDisplay.from_statistics(statistics, "influence_l2", color="weak")

# %%
# Known digits, unknown digits and noise
# --------------------------------------
#
# In the first layer the unknown digits follow the known ones, being digits too, and
# noise is different. In the last layer unknown digits and noise follow each other. Most
# neurons are less active for them there than for known digits: more neurons fire, but
# less strongly.

groups = np.repeat(
    ["known digits", "digits 1 and 5", "noise"],
    [len(test), len(unknown), len(A_noise)],
)
A_sets = Activations.concatenate([A[test], A[unknown], A_noise])
fig, axes = plt.subplots(2, 1, figsize=(8, 7), layout="constrained")
for ax, layer in zip(axes, ["relu1", "relu5"], strict=True):
    MeanActivationDisplay.from_activations(A_sets, groups, layer=layer, ax=ax)
plt.show()

# %%
# Sorted by how often the neurons fired in training, and one diagram for each set, the
# binary patterns show which neurons the unknown images add. Under each diagram is the
# share of neurons that an image of the set activates.

MeanActivationDisplay.from_activations(
    PercentileBinarizer(rule="zero").fit_transform(A_sets),
    groups,
    layer="relu5",
    sort_by=statistics.by_layer("training_count"),
    sorted_by="activation count in training",
    separate=True,
    marker="o",
    linestyle="none",
)
plt.show()

# %%
# .. rubric:: References
#
# .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
#    classification error detection", master's dissertation, UCLouvain, 2018.
