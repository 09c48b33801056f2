"""
===========================================
Text as a bag of words: topics not seen yet
===========================================

A network sorts documentation into the six topics that it has been taught. A bag of
words counts the words that it knows and drops all others, so that a document on
something else arrives as a few common words, and gets one of the six names. Are there
documents that should be sent to a person instead?

The first figure shows the scores of a monitor, a point for each document. Topics that
have little in common with the six score low. Near ones, such as random numbers beside
statistics, are hard to tell from what is known, and most of their documents are not
flagged. The second figure compares detectors: none of them is good on near topics.
"""

# %%
# Documents that are installed already
# ------------------------------------
#
# The documents are docstrings. Those of six parts of SciPy are the known topics. Other
# parts of SciPy, NumPy and scikit-learn, and the manual of Python, are unseen ones.

import importlib
import inspect
import warnings
from pydoc_data.topics import topics as manual

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, Monitor, make_monitor
from skood.calibration import UncalibratedWarning
from skood.detectors import EnergyDetector, MaxSoftmaxDetector
from skood.metrics import ood_roc_auc_score

# ``fit`` says that a threshold from training rows is an estimate: calibration follows.
warnings.simplefilter("ignore", UncalibratedWarning)


def docstrings(name):
    """What the public functions and classes of a module say of themselves."""
    module = importlib.import_module(name)
    found = [
        inspect.getdoc(getattr(module, member)) for member in sorted(module.__all__)
    ]
    return np.array([text for text in found if text and len(text) > 200], dtype=object)


known = ["stats", "signal", "special", "linalg", "optimize", "interpolate"]
documents = {name: docstrings(f"scipy.{name}") for name in known}
X = np.concatenate(list(documents.values()))
y = np.repeat(known, [len(texts) for texts in documents.values()])
unseen = {
    "random numbers": docstrings("numpy.random"),
    "images": docstrings("scipy.ndimage"),
    "metrics": docstrings("sklearn.metrics"),
    "linear models": docstrings("sklearn.linear_model"),
    "strings": docstrings("numpy.strings"),
    "Python": np.array(list(manual.values()), dtype=object),
}
print({name: len(texts) for name, texts in (documents | unseen).items()})

# %%
# A network, and what watches it
# ------------------------------
#
# Half of the documents train a network, a quarter calibrates, and a quarter is for
# testing. The network is a pipeline, which takes texts, and so do its monitors. There
# are three networks, by three divisions.


def watched(seed):
    """A network, its monitors, and the rows to test them on."""
    train, rest = train_test_split(
        np.arange(len(X)), test_size=0.5, stratify=y, random_state=seed
    )
    held_out, test = train_test_split(
        rest, test_size=0.5, stratify=y[rest], random_state=seed
    )
    words = TfidfVectorizer(stop_words="english", min_df=3, sublinear_tf=True)
    net = make_pipeline(words, MLPClassifier((64, 32), max_iter=300, random_state=seed))
    net.fit(X[train], y[train])
    extractor = ActivationExtractor(net)
    monitors = {
        "default monitor": make_monitor(net),
        "energy": Monitor([("extract", extractor), ("detect", EnergyDetector())]),
        "softmax": Monitor([("extract", extractor), ("detect", MaxSoftmaxDetector())]),
    }
    for monitor in monitors.values():
        monitor.fit(X[train], y[train]).calibrate(X[held_out])
    return net, monitors, test


networks = [watched(seed) for seed in range(3)]
net, monitors, test = networks[0]
monitor = monitors["default monitor"]
print(f"words that the first network knows: {len(net[0].vocabulary_)}")
print(f"new documents on known topics, right: {net.score(X[test], y[test]):.0%}")

# %%
# A point for each document
# -------------------------
#
# All points are new to the first network. The numbers are shares of documents flagged.

sets = {name: X[test[y[test] == name]] for name in known} | unseen
fig, ax = plt.subplots(figsize=(7, 5), layout="constrained")
rng = np.random.default_rng(0)
for place, (name, texts) in enumerate(sets.items()):
    scores = monitor.decision_function(texts)
    color = "#0072b2" if name in known else "#d55e00"
    shaken = place + rng.uniform(-0.25, 0.25, len(texts))
    ax.scatter(scores, shaken, s=9, color=color, alpha=0.6, linewidth=0)
    share = f"{np.mean(scores < 0):.0%}"
    ax.text(1.02, place, share, transform=ax.get_yaxis_transform(), va="center")
ax.axvline(0, color="0.5", linestyle="--")
ax.set(
    xlabel="score of the monitor, less its threshold",
    yticks=range(len(sets)),
    yticklabels=sets,
)
ax.set_title("Known topics are blue, unseen ones orange", fontsize=11)
ax.invert_yaxis()

# %%
# Which detector?
# ---------------
#
# The area under the ROC curve of telling unseen topics from known ones: points are
# networks, and bars their means. The default monitor does not do better here than the
# energy of the logits, one number that the network computes anyway. That is no rule:
# :ref:`comparing <od_test>` takes few lines.

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
shifts, colors = [-0.27, 0, 0.27], ["#0072b2", "#d55e00", "#999999"]
places = np.arange(len(unseen))
for shift, color, method in zip(shifts, colors, monitors, strict=True):
    auroc = np.empty((len(networks), len(unseen)))
    for row, (_, by_name, new) in zip(auroc, networks, strict=True):
        inside = by_name[method].score_samples(X[new])
        for column, texts in enumerate(unseen.values()):
            scores = np.r_[inside, by_name[method].score_samples(texts)]
            marks = np.repeat([1, -1], [len(inside), len(texts)])
            row[column] = ood_roc_auc_score(marks, scores)
    print(f"{method}: mean AUROC {auroc.mean():.3f}")
    ax.bar(places + shift, auroc.mean(axis=0), 0.25, color=color, label=method)
    for row in auroc:
        ax.scatter(places + shift, row, s=10, color="black", zorder=3)
ax.set(ylim=(0.5, 1.01), ylabel="AUROC", xticks=places, xticklabels=unseen)
ax.set_title("how well unseen topics are found")
fig.legend(loc="outside upper center", ncols=3)

# %%
# A question is not a document
# ----------------------------
#
# Out-of-distribution is whatever differs from the documents of training: not only
# another topic. Of a text in which no word is known, nothing is left. The network
# answers all such texts alike, and all of them are flagged. But a line on a known topic
# has far fewer words than a document has, and is flagged, too, though the answer is
# right. Who expects questions has to train and calibrate with questions.

texts = [
    "Fit a distribution to data by maximum likelihood.",
    "Solve a system of linear equations with a symmetric matrix.",
    "Design a low-pass filter of order four.",
    "Knead the dough for ten minutes.",
    "Den Teig zehn Minuten kneten.",
]
for text, p_value in zip(texts, monitor.p_values(texts), strict=True):
    answer, words = net.predict([text])[0], net[0].transform([text]).nnz
    print(f"{text}\n  {words} known words, taken for {answer}, p-value {p_value:.3f}")
plt.show()
