"""How often single neurons are active, how well for, and which of them are weak."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skood import Activations
from skood.activations import PackedBits
from skood.inspection import activation_count, neuron_accuracy, weak_neurons

LAYERS = [f"relu{number}" for number in range(1, 6)]


@pytest.fixture
def reference(golden):
    return golden("neuron_statistics")


def activations(reference, part):
    """The hidden layers of the reference network after their ReLU."""
    layers = {f"relu{i}": np.maximum(reference[f"pre{i}_{part}"], 0) for i in range(1, 6)}
    return Activations(layers, logits=reference[f"logits_{part}"])


def assert_equal_by_layer(found, reference, name):
    assert list(found) == LAYERS
    for number, values in enumerate(found.values(), start=1):
        np.testing.assert_allclose(values, reference[f"{name}_{number}"], rtol=1e-12)


# Activation count


def test_counts_are_those_of_the_reference(reference):
    X = activations(reference, "train")
    assert_equal_by_layer(activation_count(X), reference, "activation_count")
    every_hundredth = activation_count(X[::100])
    assert_equal_by_layer(every_hundredth, reference, "activation_count_first_of_100")


@pytest.mark.parametrize("n_units", [1, 63, 64, 130])
@pytest.mark.parametrize("n_samples", [1, 1023, 1024, 1025, 2500])
def test_packed_bits_count_as_the_bits_they_hold(n_samples, n_units):
    bits = np.random.default_rng(0).random((n_samples, n_units)) < 0.3
    packed = PackedBits.pack(bits)
    np.testing.assert_array_equal(activation_count(packed), bits.sum(axis=0))
    np.testing.assert_array_equal(activation_count(bits), bits.sum(axis=0))
    every_second = Activations({"fc": packed})[::-2]
    np.testing.assert_array_equal(activation_count(every_second)["fc"], bits[::-2].sum(axis=0))


def test_a_channel_is_active_where_any_of_its_positions_is():
    maps = np.random.default_rng(0).normal(loc=-1, size=(30, 4, 3, 2))
    expected = [sum((maps[row, unit] > 0).any() for row in range(30)) for unit in range(4)]
    assert 0 < min(expected) < max(expected) < 30
    np.testing.assert_array_equal(activation_count(maps), expected)
    np.testing.assert_array_equal(activation_count(Activations({"conv": maps}))["conv"], expected)


def test_only_outputs_above_zero_are_active():
    smallest = np.nextafter(0, 1)
    counts = activation_count([[0.0, -0.0, smallest, -smallest, -3.0, 3.0]])
    np.testing.assert_array_equal(counts, [0, 0, 1, 0, 0, 1])
    assert counts.dtype == np.int64


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float16, np.float32])
def test_counts_do_not_overflow_in_the_type_of_the_activations(dtype):
    counts = activation_count(np.ones((2100, 2), dtype=dtype))
    np.testing.assert_array_equal(counts, [2100, 2100])


def test_on_no_samples_no_neuron_is_active():
    X = Activations({"fc": np.ones((3, 2)), "bits": PackedBits.pack(np.ones((3, 5)))})
    counts = activation_count(X[:0])
    np.testing.assert_array_equal(counts["fc"], [0, 0])
    np.testing.assert_array_equal(counts["bits"], [0] * 5)


def test_counting_leaves_the_activations_as_they_were():
    layer = np.random.default_rng(0).normal(size=(5, 3))
    before = layer.copy()
    activation_count(Activations({"fc": layer}))
    np.testing.assert_array_equal(layer, before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activations_that_are_not_finite_are_refused(value):
    layer = np.array([[1.0, value]])
    with pytest.raises(ValueError, match="Input X contains"):
        activation_count(layer)
    with pytest.raises(ValueError, match="Input layer 'fc2' contains"):
        activation_count(Activations({"fc1": [[1.0]], "fc2": layer}))


# Neuron accuracy


def test_accuracies_are_those_of_the_reference(reference):
    X = activations(reference, "eval")
    # Group 0 are the test images of known digits; the others are marked -1.
    found = neuron_accuracy(X, reference["y_eval"])
    assert_equal_by_layer(found, reference, "neuron_accuracy")
    assert np.isnan(found["relu2"][7])


@given(
    n_samples=st.integers(1, 12),
    n_units=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_accuracies_are_those_of_a_loop(n_samples, n_units, seed):
    rng = np.random.default_rng(seed)
    layer = rng.integers(-1, 2, (n_samples, n_units))
    predictions, y = rng.integers(0, 2, n_samples), rng.integers(-1, 2, n_samples)
    y[0] = 1
    found = neuron_accuracy(Activations({"fc": layer}, predictions=predictions), y)["fc"]
    for unit in range(n_units):
        hits = [
            predictions[row] == y[row]
            for row in range(n_samples)
            if layer[row, unit] > 0 and y[row] != -1
        ]
        np.testing.assert_equal(found[unit], np.mean(hits) if hits else np.nan)


def test_classes_may_be_strings():
    X = Activations({"fc": [[1], [1]]}, logits=[[0, 1], [0, 1]], classes=["cat", "dog"])
    assert neuron_accuracy(X, ["cat", "dog"])["fc"] == [0.5]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "neuron_accuracy needs the class labels y, got None"),
        ([0, 1], "X has 3 samples, but y has 2"),
        ([0, 1, 7], r"among the classes of the network, \[0, 1\].*got \[7\]"),
        ([-1, -1, -1], "All 3 samples are marked out-of-distribution"),
    ],
)
def test_labels_that_do_not_fit_are_refused(y, message):
    X = Activations({"fc": np.ones((3, 2))}, logits=np.eye(3, 2))
    with pytest.raises(ValueError, match=message):
        neuron_accuracy(X, y)


def test_accuracy_needs_predictions():
    with pytest.raises(ValueError, match="needs predictions of the network, but X carries none"):
        neuron_accuracy(Activations({"fc": np.ones((3, 2))}), [0, 1, 0])
    with pytest.raises(TypeError, match="needs Activations, got ndarray"):
        neuron_accuracy(np.ones((3, 2)), [0, 1, 0])


# Weak neurons


def test_a_weak_neuron_is_low_in_every_measure():
    count = {"fc1": [0, 1, 2, 3], "fc2": [4, 5, 6, 7]}
    gradient = {"fc1": [7, 0, 6, 1], "fc2": [2, 3, 4, 5]}
    found = weak_neurons(count, gradient)
    np.testing.assert_array_equal(found["fc1"], [False, True, False, False])
    np.testing.assert_array_equal(found["fc2"], [False] * 4)


@given(
    measures=st.lists(
        st.lists(
            st.floats(-1e9, 1e9) | st.integers(0, 2) | st.just(np.nan), min_size=5, max_size=5
        ),
        min_size=1,
        max_size=3,
    ),
    quantile=st.floats(0, 1),
)
def test_low_is_at_most_the_quantile_over_all_layers(measures, quantile):
    by_layer = [{"fc1": m[:2], "fc2": m[2:]} for m in measures]
    expected = np.ones(5, dtype=bool)
    for measure in np.array(measures, dtype=float):
        known = [value for value in measure if not np.isnan(value)]
        limit = np.quantile(known, quantile) if known else -np.inf
        expected &= [value <= limit for value in measure]
    found = weak_neurons(*by_layer, quantile=quantile)
    np.testing.assert_array_equal(np.concatenate(list(found.values())), expected)


def test_equal_values_are_low_together():
    found = weak_neurons({"fc": [0, 0, 0, 5]}, quantile=0)
    np.testing.assert_array_equal(found["fc"], [True, True, True, False])


def test_nan_is_never_low_and_does_not_move_the_quantile():
    found = weak_neurons({"fc": [np.nan, 1.0, 2.0, np.nan]}, quantile=0.5)
    np.testing.assert_array_equal(found["fc"], [False, True, False, False])
    np.testing.assert_array_equal(weak_neurons({"fc": [np.nan]}, quantile=1)["fc"], [False])


def test_measures_of_other_neurons_are_refused_and_both_are_named():
    count = {"fc1": [1, 2], "fc2": [3]}
    for other in ({"fc1": [1, 2], "relu2": [3]}, {"fc1": [1, 2], "fc2": [3, 4]}, {"fc1": [1, 2]}):
        widths = {layer: len(values) for layer, values in other.items()}
        with pytest.raises(ValueError, match="same neurons") as caught:
            weak_neurons(count, other)
        assert str({"fc1": 2, "fc2": 1}) in str(caught.value)
        assert str(widths) in str(caught.value)


def test_the_order_of_layers_is_that_of_the_first_measure():
    found = weak_neurons({"fc2": [0, 9], "fc1": [9, 9]}, {"fc1": [9, 9], "fc2": [0, 9]})
    assert list(found) == ["fc2", "fc1"]
    np.testing.assert_array_equal(found["fc2"], [True, False])


@pytest.mark.parametrize(
    ("measures", "error", "message"),
    [
        ([], ValueError, "at least one measure"),
        ([[1, 2]], TypeError, "measure 0 is of type list"),
        ([{"fc": [1]}, np.ones(1)], TypeError, "measure 1 is of type ndarray"),
        ([{"fc": [[1, 2]]}], ValueError, r"measure 0 has {'fc': \(1, 2\)}"),
        ([{}], ValueError, "measure 0 has {}"),
    ],
)
def test_what_is_no_measure_by_layer_is_refused(measures, error, message):
    with pytest.raises(error, match=message):
        weak_neurons(*measures)


@pytest.mark.parametrize("quantile", [-0.1, 1.1, "low"])
def test_a_quantile_that_is_none_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile"):
        weak_neurons({"fc": [1]}, quantile=quantile)
