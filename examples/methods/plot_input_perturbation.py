"""
=================================================
Input perturbation by ODIN: is it worth its cost?
=================================================

:class:`~skood.extraction.ODIN` (Liang et al., ICLR 2018,
`arXiv:1706.02690 <https://arxiv.org/abs/1706.02690>`_) moves every input a little,
along the sign of a gradient, so that the network becomes more confident in its
prediction. The idea is that known inputs gain more confidence by it than unknown ones.
It is an option of :class:`~skood.ActivationExtractor`, so that any detector can read
the activations of the moved inputs; the predictions stay those for the original inputs.

The first figure shows the change of an image. The second shows that in a small network
of digits the idea does not hold for every unknown input: noise and unknown digits gain
more than known digits do. The third figure shows the consequence. ODIN's change makes
the detection of noise worse, of unknown digits a little worse, and of digits of half
the contrast better, above all at temperature 1. The same step towards the nearest class
in the space of features, :class:`~skood.extraction.MahalanobisPerturbation`, helps its
own detector where there is something to gain, as long as it is small. Measure whether a
perturbation is worth its cost, a gradient and a second run of the network.
"""

# %%
# A network and unknown inputs
# ----------------------------
#
# The digits 1 and 5 are held out. Noise and faint digits, test digits of half their
# contrast, are two further kinds of inputs to be found.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skood import ActivationExtractor
from skood.calibration import prediction_confidence
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import MahalanobisDetector, MaxSoftmaxDetector
from skood.extraction import ODIN, MahalanobisPerturbation
from skood.metrics import ood_roc_auc_score

digits = load_digits_ood(held_out=(1, 5))
X, y = digits.data.reshape(len(digits.data), -1).astype(float), digits.target


def make_samples(seed):
    """A network, its training digits, and images of each kind."""
    train, test = train_test_split(
        np.flatnonzero(y != -1), test_size=400, random_state=seed
    )
    net = MLPClassifier((128, 64), max_iter=500, random_state=seed)
    net.fit(X[train], y[train])
    return (
        net,
        (X[train], y[train]),
        {
            "known digits": X[test],
            "digits 1 and 5": X[y == -1],
            "noise": make_noise("uniform", (400, 64), random_state=seed),
            "faint digits": X[test] / 2,
        },
    )


networks = [make_samples(seed) for seed in range(5)]
net, _, images = networks[0]

# %%
# The change of an image
# ----------------------
#
# For the figure, the gradient is found by moving one pixel at a time: blue pixels
# become lighter and red ones darker, each by epsilon, to raise the probability of the
# class that the network predicts. (Black and white cannot show the change where it goes
# beyond them.) The extractor computes the gradient in one step.

epsilon = 0.1
shown = np.stack(
    [images["known digits"][0], images["digits 1 and 5"][3], images["noise"][0]]
)
before = net.predict_proba(shown)
named = before.argmax(axis=1)
signs = np.array(
    [
        np.sign(net.predict_log_proba(x + 1e-4 * np.eye(64))[:, k] - np.log(p[k]))
        for x, p, k in zip(shown, before, named, strict=True)
    ]
)
changed = shown + epsilon * signs
after = net.predict_proba(changed)

fig, axes = plt.subplots(3, 3, figsize=(6, 6.4), layout="constrained")
for row, k in enumerate(named):
    name = digits.target_names[k]
    style = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
    axes[row, 0].imshow(shown[row].reshape(8, 8), **style)
    axes[row, 0].set_title(f"a {name}: {before[row, k]:.3f}")
    axes[row, 1].imshow(signs[row].reshape(8, 8), cmap="RdBu_r", vmin=-1.5, vmax=1.5)
    axes[row, 1].set_title("change")
    axes[row, 2].imshow(changed[row].reshape(8, 8), **style)
    axes[row, 2].set_title(f"a {name}: {after[row, k]:.3f}")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for ax, kind in zip(axes[:, 0], ("known digit", "unknown digit", "noise"), strict=True):
    ax.set_ylabel(kind)

extractor = ActivationExtractor(net)
perturbed = clone(extractor).set_params(perturbation=ODIN(epsilon, temperature=1))
same = np.allclose(
    perturbed.fit_transform(shown).logits,
    extractor.fit_transform(changed).logits,
    atol=1e-4,
)
print(f"the extractor gives the same logits: {same}")

# %%
# Gain of confidence
# ------------------
#
# The gain of the largest softmax probability, at temperature 1 and at 1000. There, all
# probabilities are near 1/8, and only their order counts. At temperature 1 there is
# little to gain where the network is already confident.

epsilon = 0.02
colors = dict(zip(images, ("#0072b2", "#e69f00", "#d55e00", "#009e73"), strict=True))
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, temperature in zip(axes, (1, 1000), strict=True):
    perturbed.set_params(perturbation=ODIN(epsilon, temperature))
    for kind, values in images.items():
        plain, moved = (
            prediction_confidence(e.fit_transform(values).logits / temperature)
            for e in (extractor, perturbed)
        )
        gain = moved - plain
        print(f"{kind:14} temperature {temperature:4}: mean gain {gain.mean():.2g}")
        ax.plot(plain - 1 / 8, gain, ".", color=colors[kind], alpha=0.5, label=kind)
    ax.set(
        title=f"temperature {temperature}, epsilon {epsilon}",
        xlabel="largest softmax probability - 1/8",
        ylabel="gain by the perturbation",
    )
    ax.ticklabel_format(scilimits=(-2, 2))
axes[0].legend()

# %%
# And the predictions? They are those for the original images.

A = perturbed.fit_transform(images["noise"])
print("predictions changed:", np.sum(A.predictions != net.predict(images["noise"])))

# %%
# Effect on the detection
# -----------------------
#
# The AUROC for each size of the change. Lines are means over five networks, each with
# its own division of the digits, and bands reach from the smallest to the largest. On
# the left of each panel there is no perturbation at all.

epsilons = [0, 0.01, 0.02, 0.04, 0.06, 0.08]


def aurocs(net, images, detector, perturbation):
    """AUROC of a detector for perturbed inputs, for each kind of unknown ones."""
    extractor = ActivationExtractor(net, perturbation=perturbation)
    known, *unknown = (
        detector.score_samples(extractor.fit_transform(values))
        for values in images.values()
    )
    return [
        ood_roc_auc_score(
            np.repeat([1, -1], [len(known), len(scores)]), np.r_[known, scores]
        )
        for scores in unknown
    ]


curves = []
for net, (X_train, y_train), images in networks:
    A_train = ActivationExtractor(net).fit_transform(X_train)
    ways = []
    for temperature in (1, 10, 1000):
        detector = MaxSoftmaxDetector(temperature=temperature).fit(A_train)
        ways.append((detector, [ODIN(e, temperature) for e in epsilons]))
    detector = MahalanobisDetector().fit(A_train, y_train)
    ways.append((detector, [MahalanobisPerturbation(detector, e) for e in epsilons]))
    curves.append([[aurocs(net, images, d, p) for p in ps] for d, ps in ways])

curves = np.array(curves)  # by network, way, epsilon and kind
fig, axes = plt.subplots(1, 3, figsize=(11, 4), sharey=True, layout="constrained")
styles = {
    "ODIN, temperature 1": ("#56b4e9", ":"),
    "ODIN, temperature 10": ("#0072b2", "--"),
    "ODIN, temperature 1000": ("black", "-"),
    "Mahalanobis": ("#d55e00", "-."),
}
for number, kind in enumerate(list(images)[1:]):
    ax = axes[number]
    for way, (name, (color, line)) in enumerate(styles.items()):
        values = curves[:, way, :, number]
        ax.plot(epsilons, values.mean(axis=0), line, color=color, label=name)
        low, high = values.min(axis=0), values.max(axis=0)
        ax.fill_between(epsilons, low, high, color=color, alpha=0.1)
    ax.set(title=kind, xlabel="epsilon")
axes[0].set_ylabel("AUROC")
axes[0].legend(loc="lower left")
plt.show()
