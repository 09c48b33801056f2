"""Units may be in any axis but the first: what is said of them does not depend on which."""

import matplotlib
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from skood import Activations, PoolingReducer
from skood.activations import Column
from skood.detectors import GramDetector, KNNDetector
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.inspection import (
    ActivationMapDisplay,
    MeanActivationDisplay,
    NeuronStatistics,
    activation_count,
    explain,
    neuron_accuracy,
)

matplotlib.use("agg")

MAPS = np.random.default_rng(0).normal(loc=-1, size=(40, 3, 5, 4))
FLAT = np.random.default_rng(1).random((40, 6))
LABELS = np.arange(40) % 2


def build(unit_axis):
    """The same maps, with their three channels in that axis."""
    maps = Column(np.moveaxis(MAPS, 1, unit_axis), unit_axis=unit_axis)
    return Activations({"maps": maps, "fc": FLAT}, predictions=np.arange(40) % 3 % 2)


def explained(A):
    detector = LayerEnsembleDetector(
        make_pipeline(PoolingReducer(pooling="max"), KNNDetector(n_neighbors=5)), combine="mean"
    )
    found = explain(detector.fit(A[4:]), A[:4], X_train=A[4:])
    return [
        *(found.neuron_weights[name] for name in A.layer_names),
        *(found.values[name] for name in A.layer_names),
        *(found.neighbor_values[name] for name in A.layer_names),
        *found.layer_weights.values(),
    ]


def mean_activations(A):
    display = MeanActivationDisplay.from_activations(A, LABELS, layer="maps")
    return [*display.means.values(), *display.active_shares.values(), display.order_]


def drawn_maps(A):
    display = ActivationMapDisplay.from_activations(A, layer="maps", sample=3, n_maps=2)
    return [display.maps, display.channels]


def statistics(A):
    found = NeuronStatistics.from_activations(A, LABELS)
    return [found[column] for column in found.columns]


MEASURES = {
    "explain": explained,
    "activation_count": lambda A: list(activation_count(A).values()),
    "neuron_accuracy": lambda A: list(neuron_accuracy(A, LABELS).values()),
    "NeuronStatistics": statistics,
    "MeanActivationDisplay": mean_activations,
    "ActivationMapDisplay": drawn_maps,
    "PoolingReducer": lambda A: [np.asarray(PoolingReducer().fit_transform(A))],
    "AutoNAPDetector": lambda A: [AutoNAPDetector(random_state=0).fit(A, LABELS).score_samples(A)],
    "GramDetector": lambda A: [GramDetector().fit(A, LABELS).score_samples(A)],
}


@pytest.mark.parametrize("unit_axis", [2, 3])
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_units_are_the_same_in_any_axis(measure, unit_axis):
    found, expected = measure(build(unit_axis)), measure(build(1))
    assert len(found) == len(expected)
    for values, those_of_the_second_axis in zip(found, expected, strict=True):
        if np.asarray(values).dtype.kind == "f":
            np.testing.assert_allclose(values, those_of_the_second_axis, rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(values, those_of_the_second_axis)


def test_tokens_have_a_value_for_each_unit_and_not_for_each_token():
    tokens = np.random.default_rng(2).normal(size=(30, 7, 3))
    A = Activations({"block": Column(tokens, unit_axis=2)}, predictions=np.zeros(30, dtype=int))
    expected = (tokens > 0).any(axis=1).sum(axis=0)
    np.testing.assert_array_equal(activation_count(A)["block"], expected)
    assert neuron_accuracy(A, np.zeros(30, dtype=int))["block"].shape == (3,)
    display = MeanActivationDisplay.from_activations(A, ["all"] * 30, layer="block")
    np.testing.assert_allclose(display.means["all"], tokens.mean(axis=(0, 1)))


def test_the_weight_of_a_unit_is_that_of_its_change_at_all_tokens():
    tokens = np.random.default_rng(2).normal(size=(30, 7, 3))
    A = Activations({"block": Column(tokens, unit_axis=2)})
    detector = LayerEnsembleDetector(
        make_pipeline(PoolingReducer(pooling="avg"), KNNDetector(n_neighbors=5)), combine="mean"
    ).fit(A[1:])
    found = explain(detector, A[:1], X_train=A[1:])
    before = detector.score_samples(A[:1])[0]
    for unit in range(3):
        changed = tokens[:1].copy()
        changed[0, :, unit] = tokens[1 + found.neighbors[0, 0], :, unit]
        after = detector.score_samples(A[:1].assign({"block": changed}))[0]
        assert found.neuron_weights["block"][0, unit] == pytest.approx(after - before, rel=1e-9)


def test_a_map_that_is_refused_is_named_with_its_own_shape():
    A = Activations({"block": Column(np.ones((2, 7, 3)), unit_axis=2)})
    with pytest.raises(ValueError, match=r"samples of shape \(7, 3\)"):
        ActivationMapDisplay.from_activations(A, layer="block")
