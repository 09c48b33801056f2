"""
============================================
Calibrated confidence by temperature scaling
============================================

A network that was trained until it made no more errors on its training images is
overconfident: it is confident on nearly every image, also where it is wrong.
Calibration corrects this. :class:`~skood.calibration.TemperatureScaler` divides its
logits by one number, found on images that the network was not trained on. A confidence
of 90 % then means: right nine times out of ten.

The first figure shows accuracy by confidence, before and after. Before, nearly all
images have a confidence above 90 %, and the network is right less often than its
confidence says. After, accuracy follows confidence, up to the chance of bins with few
images, and the expected calibration error (ECE) is less than half of what it was.

Calibration changes no prediction, and improves a monitor little. The second figure
shows, for ten networks, how the temperature changes the detection of unknown and of
misclassified digits by the confidence. At the calibrated temperatures the former are
found a little better, the latter hardly so. For unknown digits a far higher temperature
is better on average, though not for each network; for misclassified ones it is worse.
"""

# %%
# An overconfident network
# ------------------------
#
# The digits 1 and 5 are unknown to the network. It is trained on 150 images of the
# others, without any regularisation. The images that are left are shuffled and divided
# in two: one half is for the scaler, the other for testing.

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skood import ActivationExtractor
from skood.calibration import (
    ReliabilityDisplay,
    TemperatureScaler,
    expected_calibration_error,
    prediction_confidence,
)
from skood.datasets import load_digits_ood
from skood.detectors import MaxSoftmaxDetector
from skood.metrics import ood_roc_auc_score

X, y = load_digits_ood(held_out=(1, 5), return_X_y=True)
X = X.reshape(len(X), -1)
known, unknown = np.flatnonzero(y != -1), np.flatnonzero(y == -1)


def train_network(seed):
    """Activations for all images, and the rows for calibration and for testing."""
    train, rest = train_test_split(
        known, train_size=150, stratify=y[known], random_state=seed
    )
    calibration, test = train_test_split(
        rest, test_size=0.5, stratify=y[rest], random_state=seed
    )
    net = MLPClassifier(
        (64, 32), solver="lbfgs", alpha=0, max_iter=500, random_state=seed
    )
    net.fit(X[train], y[train])
    return ActivationExtractor(net).fit_transform(X), calibration, test


A, calibration, test = train_network(seed=0)
correct = A.predictions[test] == y[test]
print(f"accuracy:        {correct.mean():.2f}")
print(f"mean confidence: {prediction_confidence(A[test]).mean():.2f}")

# %%
# Temperature scaling
# -------------------
#
# ``fit`` finds the temperature that makes the labels of the calibration images most
# likely. ``transform`` divides the logits by it and leaves the predictions alone.

scaler = TemperatureScaler().fit(A[calibration], y[calibration])
scaled = scaler.transform(A)
print(f"temperature: {scaler.temperature_:.0f}")
print(f"predictions changed: {np.sum(scaled.predictions != A.predictions)}")

fig, axes = plt.subplots(1, 2, figsize=(9, 4.9), layout="constrained")
fig.suptitle("accuracy by confidence, before and after temperature scaling")
for ax, name, activations in zip(axes, ("before", "after"), (A, scaled), strict=True):
    confidence = prediction_confidence(activations[test])
    print(f"ECE {name}: {expected_calibration_error(correct, confidence):.2f}")
    ReliabilityDisplay.from_predictions(correct, confidence, name=name, ax=ax)

# %%
# What it does to a monitor
# -------------------------
#
# The maximum softmax probability is the simplest monitor there is. With more than two
# classes, the temperature changes on which of two images the network is more confident,
# and so the monitor.
#
# The network above is the first of ten, each with its own division of the images. Lines
# are means of the change of the AUROC against temperature 1, and bands reach from the
# smallest to the largest. The marks at the bottom are the calibrated temperatures.


def aurocs(A, test, temperature):
    """How well confidence finds unknown digits, and misclassified ones."""
    scaled = A.assign(logits=A.logits / temperature)
    scores = MaxSoftmaxDetector().fit(scaled[test]).score_samples(scaled)
    rows = np.r_[test, unknown]
    is_right = A.predictions[test] == y[test]
    return np.array(
        [
            ood_roc_auc_score(y[rows], scores[rows]),
            ood_roc_auc_score(np.where(is_right, 1, -1), scores[test]),
        ]
    )


temperatures = np.geomspace(0.3, 1000, 25)
calibrated, change_by_calibration, changes = [], [], []
for seed in range(10):
    A, calibration, test = train_network(seed)
    T = TemperatureScaler().fit(A[calibration], y[calibration]).temperature_
    as_it_is = aurocs(A, test, 1)
    calibrated.append(T)
    change_by_calibration.append(aurocs(A, test, T) - as_it_is)
    changes.append([aurocs(A, test, t) - as_it_is for t in temperatures])

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for kind, color, line, by_calibration, by_temperature in zip(
    ("unknown digits", "misclassified digits"),
    ("#d55e00", "#0072b2"),
    ("-", "--"),
    np.transpose(change_by_calibration),
    np.transpose(changes),
    strict=True,
):
    print(f"{kind}, change of the AUROC by calibration: {by_calibration.mean():+.3f}")
    mean, low, high = (f(by_temperature, axis=1) for f in (np.mean, np.min, np.max))
    ax.plot(temperatures, mean, color=color, linestyle=line, label=kind)
    ax.fill_between(temperatures, low, high, color=color, alpha=0.15)
marks = np.full(len(calibrated), ax.get_ylim()[0])
ax.plot(calibrated, marks, "k|", markersize=14, label="calibrated temperatures")
ax.axhline(0, color="black", linewidth=0.8)
ax.set(title="detection at other temperatures")
ax.set(xscale="log", xlabel="temperature", ylabel="change of the AUROC")
ax.xaxis.set_major_formatter("{x:g}")
ax.legend(loc="upper left")
plt.show()
