"""
======================================
Which layer? Why no single one is best
======================================

Which layer of a network reveals an out-of-distribution input? It depends on the input,
and so does the best percentile to binarise activations. Here, a monitor is built from
every layer with every percentile, and each is measured against five kinds of inputs
that the network does not know.

The first figure shows one map for each kind. The best setting, marked by a star, is in
another place for every kind, and a setting that finds one kind almost perfectly may be
little better than chance for another. So the best setting cannot be chosen without
knowing the future inputs. The second figure shows the solution: the ensemble of all
settings, with nothing chosen at all, does better on every kind than each of its
members, the one that is best on average included.
"""

# %%
# A network and its activations
# -----------------------------
#
# The network is trained on eight of the ten digits. Its layers are extracted once,
# under both poolings, for the digits and for images of noise.

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline

from skood import (
    ActivationExtractor,
    HammingNAPDetector,
    PercentileBinarizer,
    PoolingReducer,
)
from skood.datasets import load_digits_network, make_noise
from skood.ensemble import LayerEnsembleDetector
from skood.metrics import ood_roc_auc_score
from skood.preprocessing import LayerSelector

digits = load_digits_network(held_out=(1, 5), n_calibration=0, n_test=400)
X, y, train, test = digits.data, digits.target, digits.train, digits.test

unknown = {"digit 1": X[digits.digit == 1], "digit 5": X[digits.digit == 5]}
for kind in ("uniform", "blobs", "constant"):
    unknown[f"{kind} noise"] = make_noise(kind, (200, 1, 8, 8), random_state=0)

extractor = ActivationExtractor(
    digits.network, reducer=PoolingReducer(pooling=["max", "avg"])
)
A = extractor.fit_transform(X)
A_unknown = {kind: extractor.transform(images) for kind, images in unknown.items()}

# %%
# Every layer, every percentile, every kind
# -----------------------------------------


def aurocs(monitor):
    """AUROC of a monitor against each kind."""
    known = monitor.fit(A[train]).decision_function(A[test])
    found = []
    for activations in A_unknown.values():
        scores = np.concatenate([known, monitor.decision_function(activations)])
        found.append(
            ood_roc_auc_score(np.r_[y[test], np.full(len(activations), -1)], scores)
        )
    return found


settings = [
    (layer, percentile)
    for layer in A.layer_names
    for percentile in (10, 30, 50, 70, 90)
]
monitors = [
    make_pipeline(
        LayerSelector(layers=[layer]),
        PercentileBinarizer(percentile=percentile),
        HammingNAPDetector(),
    )
    for layer, percentile in settings
]
single = np.array([aurocs(monitor) for monitor in monitors])

fig, axes = plt.subplots(1, 5, figsize=(11, 3.4), sharey=True, layout="constrained")
for ax, kind, values in zip(
    axes, unknown, single.T.reshape(5, len(A.layer_names), 5), strict=True
):
    image = ax.imshow(values, cmap="cividis", vmin=0.4, vmax=1, aspect="auto")
    row, column = np.unravel_index(values.argmax(), values.shape)
    ax.plot(column, row, marker="*", color="#d55e00", markersize=14)
    ax.set_title(f"{kind}\nbest {values.max():.2f}", fontsize=10)
    ax.set_xticks(range(5), [10, 30, 50, 70, 90])
    ax.set_xlabel("percentile (%)")
axes[0].set_yticks(range(len(A.layer_names)), A.layer_names)
axes[0].set_ylabel("layer:pooling, first to last")
fig.colorbar(image, ax=axes, label="AUROC (0.5 is chance)", extend="min")

# %%
# The ensemble beside them
# ------------------------
#
# It has one member for each setting and averages their standardised scores. It has
# seen no unknown input.

ensemble = aurocs(LayerEnsembleDetector(monitors, combine="mean"))
best = single.mean(axis=1).argmax()

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
place = np.arange(len(unknown))
ax.plot(place, single.T, ".", color="#999999", alpha=0.6)
ax.plot([], [], ".", color="#999999", label="one layer, one percentile")
ax.plot(
    place, single.mean(axis=0), "_", color="black", markersize=24, label="their mean"
)
ax.plot(
    place + 0.12,
    single[best],
    "s",
    color="#d55e00",
    label="the best of them on average",
)
ax.plot(place - 0.12, ensemble, "D", color="#0072b2", label="ensemble of all of them")
ax.axhline(0.5, color="black", linestyle=":", linewidth=1)
ax.set_xticks(place, [kind.replace(" ", "\n") for kind in unknown])
ax.set(title="one setting, and all together", ylabel="AUROC (0.5 is chance)")
ax.legend(loc="lower right")
plt.show()

for name, values in {"ensemble": ensemble, "best single": single[best]}.items():
    print(f"{name}: {np.mean(values):.3f} on average, {np.min(values):.3f} at worst")
