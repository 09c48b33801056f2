"""
==========
Quickstart
==========

A network that was trained on eight of the ten digits cannot say "none of these": shown
a 1 or a 5, it names one of the eight, and often with confidence. A runtime monitor
reads the activations of its neurons and flags such out-of-distribution inputs.
:func:`skood.make_monitor` builds one with good defaults. It needs the network and
training images, and no out-of-distribution examples.

The first figure shows the scores. Those of unknown digits lie below those of most
known digits, though the two overlap, since an unknown digit may look much like a known
one. The threshold flags few of the known digits, and most of the unknown
ones. The second figure shows the unknown digits that are least like anything the
network was trained on, and what the network took them for.
"""

# %%
# A network that knows eight digits
# ---------------------------------
#
# The network is an ordinary module of torch; yours takes its place. The digits 1 and 5
# are held out: ``y == -1`` marks them. The network is trained on some images of the
# other digits; of 400 that are left, half set the threshold and half are for testing.

import matplotlib.pyplot as plt
import numpy as np
import torch

from skood import make_monitor
from skood.datasets import load_digits_network
from skood.metrics import ood_roc_auc_score

digits = load_digits_network(held_out=(1, 5))
X, y = digits.data, digits.target
test, unknown = digits.test, digits.unknown
print(digits.network)

# %%
# The monitor
# -----------
#
# The monitor is a scikit-learn pipeline. ``fit`` runs the network once over the
# training images. It learns where the activations of each layer lie for each class and
# which neurons fire together, and what the outputs are like; and from how well each
# layer tells the classes apart, how much it counts. ``score_samples`` is higher for
# inputs that look in-distribution, and ``predict`` gives 1 or -1. The network knows its
# training images better than others: the threshold from these is an estimate, of which
# ``fit`` warns. ``calibrate`` sets one by images that the network has not seen: on
# average, at most 5 % of new known digits are below it. Printed, the monitor shows what
# watches what.

monitor = make_monitor(digits.network)
monitor.fit(X[digits.train])
monitor.calibrate(X[digits.calibration])
print(*str(monitor).splitlines()[:9], sep="\n")
scores = monitor.score_samples(X)
verdict = monitor.predict(X)

rows = np.r_[test, unknown]
print(f"AUROC: {ood_roc_auc_score(y[rows], scores[rows]):.2f}")
print(f"known digits flagged: {np.mean(verdict[test] == -1):.0%}")
print(f"unknown digits flagged: {np.mean(verdict[unknown] == -1):.0%}")

# %%
# Scores of known and unknown digits
# ----------------------------------
#
# One image in a hundred lies further to the left.

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
bins = np.linspace(np.percentile(scores[rows], 1), scores.max(), 40)
ax.hist(scores[test], bins, color="#0072b2", alpha=0.7, label="known digits")
ax.hist(
    scores[unknown], bins, color="#d55e00", alpha=0.7, label="unknown digits, 1 and 5"
)
ax.axvline(monitor.offset_, color="black", linestyle="--", label="threshold")
ax.set(
    title="images of known and of unknown digits",
    xlabel="score of the monitor (weighted sum of log p-values)",
    ylabel="images",
)
ax.legend()

# %%
# What was flagged
# ----------------
#
# The ten unknown images with the lowest scores, and the digit that the network took
# each for.

with torch.no_grad():
    named = digits.target_names[digits.network(torch.from_numpy(X)).argmax(dim=1)]
fig, axes = plt.subplots(2, 5, figsize=(7, 3.6), layout="constrained")
for ax, i in zip(axes.flat, unknown[np.argsort(scores[unknown])], strict=False):
    ax.imshow(X[i, 0], cmap="gray_r")
    ax.set_title(f"a {digits.digit[i]}, taken for {named[i]}", fontsize=9)
    ax.axis("off")
plt.show()
