"""
=========================================
AutoNAP, the published auto-configuration
=========================================

:class:`skood.ensemble.AutoNAPDetector` configures itself as Olber et al. (CVPR 2023,
`arXiv:2212.14268 <https://arxiv.org/abs/2212.14268>`_) do. For every layer, pooling and
percentile it finds the threshold on the Hamming distance that best discriminates
in-distribution from OOD validation samples. It keeps the best setting of each layer,
and adds up by how much the distances exceed their thresholds.

The first figure shows the validation accuracies of all 40 settings, and the setting
that was kept of each layer. It need not have the highest accuracy, because the rule
also prefers small thresholds.

The next two figures show how far the validation can be trusted. Accuracies on uniform
noise agree with those of the validation (correlation 0.85), accuracies on unknown
digits agree less (0.7), and there the best setting of the validation is one among many.
The histograms show how the percentile changes the distances: in this layer, 30 detects
more of the unknown digits, 90 more of the noise.

The last figure shows the score for digits, and for unknown inputs that played no part
in the choice. The score ranks well: noise lies far below the known digits, and most of
the unknown digits lie below, too. The published decision, however, maximises the
accuracy on equal numbers of both kinds. In this small network one neuron that deviates
is enough for an alarm, and more than a third of the known digits are flagged. The
majority vote misses more instead. If you want a certain rate of false alarms, take the
threshold from ``training_scores_``: the scores of the validation samples, which store
no patterns.
"""

# %%
# A network and its activations
# -----------------------------
#
# Of the eight digits that the network knows, 400 images are left for testing, and 300,
# which the network has not seen either, set the thresholds, against as many images of
# smooth noise. The others train the network and store patterns.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skood import (
    ActivationExtractor,
    Activations,
    HammingNAPDetector,
    PercentileBinarizer,
    PoolingReducer,
)
from skood.datasets import load_digits_network, make_noise
from skood.ensemble import AutoNAPDetector
from skood.inspection import HammingDistanceDisplay, SettingAccuracyDisplay

digits = load_digits_network(held_out=(1, 5), n_calibration=300, n_test=400)
X, y = digits.data, digits.target
train, validation, test = digits.train, digits.calibration, digits.test

extractor = ActivationExtractor(digits.network)
A = extractor.fit_transform(X)
smooth, uniform = (
    extractor.transform(make_noise(kind, (len(validation), 1, 8, 8), random_state=0))
    for kind in ("blobs", "uniform")
)

# %%
# The detector
# ------------
#
# ``sample_split`` is -1 where a row stores a pattern and 0 where it sets thresholds.

A_fit = Activations.concatenate([A[train], A[validation], smooth])
y_fit = np.r_[y[train], y[validation], np.full(len(smooth), -1)]
sample_split = np.r_[np.full(len(train), -1), np.zeros(len(validation) + len(smooth))]
detector = AutoNAPDetector(keep_settings=True)
detector = detector.fit(A_fit, y_fit, sample_split=sample_split)

for layer, pooling, percentile, tau, accuracy in zip(
    detector.layers_,
    detector.poolings_,
    detector.percentiles_,
    detector.taus_,
    detector.accuracies_,
    strict=True,
):
    print(f"{layer}: {pooling}, {percentile} %, tau {tau}, accuracy {accuracy:.3f}")

# %%
# All settings, and those that were kept
# --------------------------------------

tried = detector.results_
fig, axes = plt.subplots(1, 4, figsize=(10, 3.2), sharey=True, layout="constrained")
for number, (ax, layer) in enumerate(zip(axes, detector.layers_, strict=True)):
    for pooling, color, marker in (("max", "#0072b2", "o"), ("avg", "#d55e00", "s")):
        rows = (tried["layer"] == layer) & (tried["pooling"] == pooling)
        ax.plot(
            tried["percentile"][rows],
            tried["accuracy"][rows],
            color=color,
            marker=marker,
            label=f"{pooling} pooling",
        )
    ax.plot(
        detector.percentiles_[number],
        detector.accuracies_[number],
        "*",
        color="black",
        markersize=13,
        label="kept",
    )
    ax.set(title=layer, xlabel="percentile (%)", xticks=[10, 30, 50, 70, 90])
axes[0].set_ylabel("accuracy on validation samples")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

# %%
# Does the validation predict the test?
# -------------------------------------
#
# With ``keep_settings=True`` the detector can report how well every setting would have
# done on other samples. A point is a setting; the ones that were kept are ringed.

groups = {
    "known digits": A[test],
    "digits 1 and 5": A[np.flatnonzero(y == -1)],
    "uniform noise": uniform,
}
fig, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for ax, name in zip(axes, ("uniform noise", "digits 1 and 5"), strict=True):
    samples = Activations.concatenate([A[test], groups[name]])
    labels = np.repeat([1, -1], [len(test), len(groups[name])])
    display = SettingAccuracyDisplay.from_estimator(detector, samples, labels, ax=ax)
    ax.set_title(f"validation: blobs, test: {name}")
    print(f"{name}: Pearson {display.pearson_:.2f}, Spearman {display.spearman_:.2f}")

# %%
# One percentile against another
# ------------------------------
#
# Distances of one layer with the percentiles 30 and 90. The threshold rejects 5 % of
# the stored digits, each left out. With 30, more of the unknown digits are flagged,
# with 90 more of the noise, for fewer false alarms. All patterns of a layer
# have the same number of ones here, so that every distance is even.

samples = Activations.concatenate(list(groups.values()))
sizes = [len(part) for part in groups.values()]
fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, percentile in zip(axes, (30, 90), strict=True):
    monitor = make_pipeline(
        PoolingReducer(pooling="avg"),
        PercentileBinarizer(percentile=percentile),
        HammingNAPDetector(),
    ).fit(A[train][["relu3"]])
    display = HammingDistanceDisplay.from_estimator(
        monitor,
        samples[["relu3"]],
        np.repeat([1, -1, -1], sizes),
        groups=np.repeat(list(groups), sizes),
        ax=ax,
    )
    ax.set_title(f"relu3, percentile {percentile}")
    rates = {name: f"{rate:.0%}" for name, rate in display.alarm_rates_.items()}
    print(f"percentile {percentile}, flagged: {rates}")

# %%
# Scores of what it has not seen
# ------------------------------
#
# The published decision flags what lies below 0; the other threshold rejects 5 % of
# the validation samples.

threshold = np.percentile(detector.training_scores_, 5)
vote = (
    clone(detector)
    .set_params(combine="vote")
    .fit(A_fit, y_fit, sample_split=sample_split)
)

fig, axes = plt.subplots(3, 1, figsize=(7, 5.4), sharex=True, layout="constrained")
colors = ("#0072b2", "#e69f00", "#d55e00")
for ax, (name, samples), color in zip(axes, groups.items(), colors, strict=True):
    scores = detector.score_samples(samples)
    ax.hist(scores, np.arange(-50, 10, 2), color=color)
    ax.axvline(0, color="black", linestyle="--", label="published")
    ax.axvline(
        threshold, color="black", linestyle=":", label="5 % of validation samples"
    )
    ax.set(
        title=f"{name}: {np.mean(scores < 0):.0%} flagged by the sum, "
        f"{np.mean(vote.predict(samples) == -1):.0%} by vote, "
        f"{np.mean(scores < threshold):.0%} below the 5 % threshold",
        ylabel="images",
    )
    ax.title.set_fontsize(10)
axes[0].legend(loc="upper left")
axes[-1].set_xlabel("score: minus the weighted sum of distance - tau (neurons)")
plt.show()
