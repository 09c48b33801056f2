"""
===========================================
A denoising classifier with a reject option
===========================================

:class:`~skood.training.DenoisingClassifier` trains one network to classify images and
to reconstruct them without noise. It has a reject option: it rejects an image on which
it is not confident, or which it reconstructs badly.

It learns the digits 1 to 9 here and has never seen a 0. The first figure shows the
training, the next ones the reconstructions and their errors, class by class, the last
the two numbers that decide. On these small images the decoder discriminates zeros from
other digits better than the classifier does.
"""

# %%
# Training
# --------
#
# The classifier is a net of skorch, so the learning rate schedule is a callback of
# skorch. Nine in ten of the training images are learnt from, the others set the
# thresholds. Half of the images of a batch are covered with noise and a square.

# sphinx_gallery_thumbnail_number = 3
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import logit
from sklearn.model_selection import train_test_split
from skorch.callbacks import LRScheduler

from skood.datasets import load_digits_ood, make_noise
from skood.inspection import ReconstructionDisplay, ReconstructionErrorDisplay
from skood.metrics import ood_roc_auc_score
from skood.training import DenoisingClassifier

digits = load_digits_ood(held_out=(0,))
X, y = digits.data, digits.digit
train, rest = train_test_split(np.flatnonzero(y != 0), test_size=600, random_state=0)
test, held_out = rest[:400], rest[400:]

n_epochs = 20
schedule = LRScheduler(policy="CosineAnnealingLR", T_max=n_epochs)
classifier = DenoisingClassifier(
    module__width=16,
    max_epochs=n_epochs,
    batch_size=32,
    lr=0.01,
    callbacks=[schedule],
    reject_label="unknown",
    random_state=0,
    verbose=0,
).fit(X[train], y[train])
print(f"rejected below a probability of {classifier.softmax_threshold_:.2f}")
print(f"or above an error of {classifier.error_threshold_:.4f}")

history = classifier.history
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for kind, style in [("train", "--"), ("valid", "-")]:
    axes[0].plot(history[:, f"{kind}_loss"], style, label=f"{kind} loss")
axes[0].set(title="loss", xlabel="epoch", ylabel="loss", ylim=(0, None))
axes[0].legend()
axes[1].plot(history[:, "valid_acc"], color="#009e73", label="accuracy")
axes[1].plot(
    10 * np.array(history[:, "valid_reconstruction"]),
    color="#d55e00",
    label="10 x squared error",
)
axes[1].set(title="images held out", xlabel="epoch", ylabel="share, error", ylim=(0, 1))
axes[1].legend(loc="center right")
plt.show()

# %%
# Reconstructions
# ---------------
#
# Each image stands beside its reconstruction by the decoder, with the error above.
# Noise is removed. A zero, a rotated digit or a blob is reconstructed with the strokes
# of the digits that the decoder knows.

rng = np.random.default_rng(0)
known = X[test]
noisy = known + rng.normal(0, 0.3, known.shape).astype(np.float32)
sets = {
    "digits": known,
    "with noise": noisy,
    "zeros": X[y == 0],
    "turned": np.rot90(known, axes=(-2, -1)),
    "blobs": make_noise("blobs", (100, 1, 8, 8), random_state=0),
}
images = np.concatenate([some[:6] for some in sets.values()])
names = np.repeat(list(sets), 6)
ReconstructionDisplay.from_estimator(
    classifier, images, names, order="first", vmin=0, vmax=1
)
plt.show()

# %%
# Errors by class
# ---------------
#
# The zeros, which it does not know, have the largest errors. The dotted line is the
# threshold on the error; above it are also some of the known digits, whose images
# follow: the three largest errors of each class.

rows = np.append(test, np.flatnonzero(y == 0))
display = ReconstructionErrorDisplay.from_estimator(classifier, X[rows], y[rows])
display.ax_.set(title="error of the reconstruction, by digit", ylim=(0, 0.12))
ReconstructionDisplay.from_estimator(classifier, X[rows], y[rows], n_images=3)
plt.show()

# %%
# Two numbers decide
# ------------------
#
# An image is accepted in the lower right quarter: the classifier is confident, and the
# error is small.

colors = {
    "digits": "#0072b2",
    "zeros": "#d55e00",
    "turned": "#009e73",
    "blobs": "#cc79a7",
}
figure, ax = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
for (name, color), marker in zip(colors.items(), "o^sD", strict=True):
    probability = classifier.predict_proba(sets[name]).max(axis=1).astype(float)
    log_odds = logit(np.minimum(probability, 1 - 1e-7))
    error = classifier.reconstruction_error(sets[name])
    ax.plot(log_odds, error, marker, color=color, ms=4, alpha=0.6, label=name)
ax.axvline(logit(classifier.softmax_threshold_), color="black", ls=":")
ax.axhline(classifier.error_threshold_, color="black", ls=":")
ax.set(title="accepted in the lower right quarter", yscale="log")
ax.set(xlabel="log-odds of the predicted class", ylabel="error")
ax.legend()
plt.show()

# %%
# How many are found
# ------------------
#
# ``predict`` answers with the class, or with the ``reject_label``.

right = classifier.predict(known) == y[test]
print(f"digits kept and right: {right.mean():.1%}")
for name in ("zeros", "turned", "blobs"):
    rejected = classifier.predict(sets[name]) == "unknown"
    print(f"{name} found: {rejected.mean():.1%}")

# %%
# Other thresholds need no new training. Here the classifier decides alone, and then
# by the published rule [1]_: a probability of .659, and the smallest error of digits to
# which noise is added, which are rotated or covered, and passed through the decoder.
# The decoder reconstructs its own output well, so this error is far too small for
# images like these.

unknown = np.append(np.ones(len(test)), -np.ones(sum(y == 0)))
rules = {
    "both, found together": {"softmax_threshold": "auto", "error_quantile": "auto"},
    "classifier alone": {"softmax_threshold": "auto", "error_quantile": None},
    "published": {
        "softmax_threshold": 0.659,
        "error_quantile": 0.0,
        "pseudo_ood": ("noise+rotation+decoder", "noise+occlusion+decoder"),
    },
}
for name, rule in rules.items():
    classifier.set_params(**rule).set_thresholds(X[held_out])
    right = (classifier.predict(known) == y[test]).mean()
    found = classifier.is_ood(sets["zeros"]).mean()
    scores = classifier.score_samples(np.concatenate([known, sets["zeros"]]))
    auroc = ood_roc_auc_score(unknown, scores)
    print(f"{name:>21}: zeros {found:.1%}, digits {right:.1%}, AUROC {auroc:.3f}")

# %%
# .. rubric:: References
#
# .. [1] Y. Song, "Deep Learning Lab, final project report", Yonsei University.
