"""The neuron count detector against references and brute force."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.pipeline import make_pipeline

from skood import Activations, NeuronCountDetector
from skood.activations import PackedBits
from skood.preprocessing import LayerSelector

STATISTICS = ("count", "coefficient", "mean_activation_count")
LAYERS = [f"relu{number}" for number in range(1, 6)]


def statistic_of(detector, X):
    assert not detector.two_sided
    sign = 1 if detector.statistic == "mean_activation_count" else -1
    return sign * detector.score_samples(X)


# References


@pytest.fixture(scope="module")
def reference(golden):
    """Activations of the reference network, and what is expected of them."""
    expected = golden("neuron_statistics")

    def read(split):
        return Activations(
            {
                name: np.maximum(expected[f"pre{number}_{split}"], 0)
                for number, name in enumerate(LAYERS, 1)
            }
        )

    counts = {name: expected[f"activation_count_{number}"] for number, name in enumerate(LAYERS, 1)}
    return read("train"), read("eval"), counts, expected


def test_activation_counts_of_the_reference_are_met_exactly(reference):
    train, _, counts, expected = reference
    detector = NeuronCountDetector().fit(train)
    assert list(detector.activation_counts_) == LAYERS
    for name in LAYERS:
        np.testing.assert_array_equal(detector.activation_counts_[name], counts[name])
    assert detector.largest_count_ == expected["largest_count"]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize(
    ("statistic", "name"),
    [
        ("count", "n_active_eval"),
        ("coefficient", "activation_coefficient_eval"),
        ("mean_activation_count", "mean_count_eval"),
    ],
)
def test_statistics_of_the_reference_are_met(reference, statistic, name, number):
    train, test, counts, expected = reference
    detector = NeuronCountDetector(statistic=statistic, activation_counts=counts)
    monitor = make_pipeline(LayerSelector(layers=[LAYERS[number]]), detector).fit(train)
    found = statistic_of(monitor[-1], test[[LAYERS[number]]])
    # The reference has no mean where no neuron is active.
    stored = np.nan_to_num(expected[name][:, number])
    np.testing.assert_allclose(found, stored, rtol=1e-12)


# Brute force


def brute_statistic(statistic, rows, counts, largest):
    """One sample after the other, in plain Python; the layers are side by side."""
    found = []
    for row in rows:
        of_active = [count for value, count in zip(row, counts, strict=True) if value > 0]
        if statistic == "count":
            found.append(len(of_active))
        elif statistic == "coefficient":
            found.append(sum(largest - count for count in of_active))
        else:
            found.append(sum(of_active) / len(of_active) if of_active else 0)
    return found


two_layers = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)).flatmap(
    lambda shape: st.tuples(
        *(
            arrays(np.float32, (shape[0], width), elements=st.sampled_from([-1, 0, 1e-30, 2]))
            for width in shape[1:]
        )
    )
)


@pytest.mark.filterwarnings("ignore:No neuron was ever active")
@pytest.mark.parametrize("statistic", STATISTICS)
@given(two_layers)
def test_the_statistic_is_that_of_a_brute_force(statistic, layers):
    A = Activations({"a": layers[0], "b": layers[1]})
    together = np.hstack(layers)
    counts = (together > 0).sum(axis=0)
    detector = NeuronCountDetector(statistic=statistic).fit(A)
    found = statistic_of(detector, A)
    expected = brute_statistic(statistic, together, counts, counts.max())
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert detector.median_ == np.median(found)
    as_array = NeuronCountDetector(statistic=statistic).fit(together)
    np.testing.assert_array_equal(as_array.activation_counts_, counts)
    np.testing.assert_array_equal(statistic_of(as_array, together), found)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_batches_do_not_show(statistic, hold_at_most):
    X = np.random.default_rng(0).normal(size=(50, 7))
    expected = NeuronCountDetector(statistic=statistic).fit(X).score_samples(X)
    hold_at_most(20)
    detector = NeuronCountDetector(statistic=statistic).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), expected)


# Behaviour


@pytest.fixture
def A():
    """Counts are 3, 2, 1, 0 and 3, 1."""
    return Activations(
        {
            "a": np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, -1]]),
            "b": np.array([[0.5, 0.0], [2.0, 0.0], [3.0, 1e-9]]),
        }
    )


@pytest.mark.parametrize("statistic", STATISTICS)
def test_bits_count_as_the_values_they_stand_for(statistic):
    values = np.random.default_rng(0).normal(size=(40, 130))
    expected = NeuronCountDetector(statistic=statistic).fit(values).score_samples(values)
    for bits in (values > 0, (values > 0).astype(np.int8), PackedBits.pack(values > 0)):
        X = Activations({"relu": bits})
        found = NeuronCountDetector(statistic=statistic).fit(X[::-1]).score_samples(X)
        np.testing.assert_array_equal(found, expected)


def test_a_sample_without_active_neurons_has_a_mean_of_zero(A):
    detector = NeuronCountDetector(statistic="mean_activation_count").fit(A)
    silent = Activations({"a": np.zeros((1, 4)), "b": -np.ones((1, 2))})
    assert detector.score_samples(silent).tolist() == [0]


def test_counts_of_other_layers_may_be_the_largest(A):
    given = {"last": [7, 0, 50], "b": [2, 3], "a": [4, 3, 2, 1]}
    detector = NeuronCountDetector(statistic="coefficient", activation_counts=given).fit(A)
    assert detector.largest_count_ == 50
    assert list(detector.activation_counts_) == ["a", "b"]
    assert statistic_of(detector, A[:1]).tolist() == [46 + 47 + 48]


def test_counts_may_be_given_for_an_array():
    X = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    given = np.array([0.5, 0.25, 1.0])
    detector = NeuronCountDetector(statistic="mean_activation_count", activation_counts=given)
    np.testing.assert_array_equal(detector.fit(X).score_samples(X), [0.75, 1.0])
    assert detector.activation_counts is given


def test_the_count_needs_no_activation_counts(A):
    given = {"a": [9, 9, 9, 9], "b": [9, 9]}
    found = NeuronCountDetector(activation_counts=given).fit(A).score_samples(A)
    np.testing.assert_array_equal(found, NeuronCountDetector().fit(A).score_samples(A))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_two_sided_scores_fall_on_both_sides_of_the_median(A, statistic):
    one_sided = NeuronCountDetector(statistic=statistic).fit(A)
    two_sided = NeuronCountDetector(statistic=statistic, two_sided=True).fit(A)
    expected = -np.abs(statistic_of(one_sided, A) - np.median(statistic_of(one_sided, A)))
    np.testing.assert_array_equal(two_sided.score_samples(A), expected)
    np.testing.assert_array_equal(two_sided.training_scores_, expected)


def test_two_sided_tells_samples_apart_that_activate_fewer_neurons():
    rng = np.random.default_rng(0)
    X = (rng.random((200, 64)) < np.repeat([0.5, 0.1], 100)[:, np.newaxis]).astype(float)
    y = np.repeat([1, -1], 100)
    assert NeuronCountDetector().fit(X, y).score(X, y) < 0.01
    assert NeuronCountDetector(two_sided=True).fit(X, y).score(X, y) > 0.95


def test_out_of_distribution_rows_are_not_counted(A):
    detector = NeuronCountDetector(statistic="coefficient").fit(A, [0, -1, 1])
    np.testing.assert_array_equal(detector.activation_counts_["a"], [2, 1, 1, 0])
    np.testing.assert_array_equal(detector.activation_counts_["b"], [2, 1])
    assert detector.training_rows_.tolist() == [0, 2]


def test_no_more_samples_are_rejected_than_asked_for():
    X = np.random.default_rng(0).random((500, 100)) < 0.5
    detector = NeuronCountDetector(false_alarm_rate=0.1).fit(X)
    assert 0.05 < np.mean(detector.predict(X) == -1) <= 0.1


def test_the_input_is_left_as_it_was(A):
    given = {"a": np.arange(4), "b": np.arange(2)}
    before = pickle.dumps((A, given))
    NeuronCountDetector(statistic="coefficient", activation_counts=given).fit(A).predict(A)
    assert pickle.dumps((A, given)) == before


# Errors


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": [1, 2, 3, 4], "c": [1, 2]}, r"no layers \['b'\]; it has \['a', 'c'\]"),
        ({"a": [1, 2, 3], "b": [1, 2]}, r"layer 'a' must have shape \(4,\), got \(3,\)"),
        ({"a": [[1, 2, 3, 4]], "b": [1, 2]}, r"layer 'a' must have shape \(4,\), got \(1, 4\)"),
        ({"a": [1, 2, 3, -4], "b": [1, 2]}, "layer 'a' must not be negative, got -4"),
        ({"a": [1, 2, 3, 4], "b": [1, np.nan]}, "layer 'b' contains NaN"),
        ({"a": [1, 2, 3, 4], "b": [1, 2], "c": [np.inf]}, "layer 'c' contains infinity"),
        ({"a": [1, 2, 3, 4], "b": [1, 2], "c": [-1]}, "layer 'c' must not be negative"),
        ({"a": [1, 2, 3, 4], "b": [1, 2], "c": [[1]]}, r"layer 'c' must have shape \(1,\)"),
        ([1, 2, 3, 4, 1, 2], "must be a dict for Activations.*got list"),
    ],
)
def test_activation_counts_that_do_not_fit_are_refused(A, given, message):
    with pytest.raises(ValueError, match=message):
        NeuronCountDetector(statistic="coefficient", activation_counts=given).fit(A)


def test_counts_by_layer_are_refused_for_an_array():
    with pytest.raises(ValueError, match="an array for an array, got dict"):
        NeuronCountDetector(activation_counts={"X": [1, 2]}).fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(3,\)"):
        NeuronCountDetector(activation_counts=[1, 2, 3]).fit([[1.0, 2.0]])


def test_feature_maps_have_to_be_pooled_first():
    with pytest.raises(ValueError, match="pool it first"):
        NeuronCountDetector().fit(Activations({"conv": np.ones((3, 2, 4, 4))}))


@pytest.mark.parametrize(
    "params",
    [
        {"statistic": "sum"},
        {"two_sided": "yes"},
        {"activation_counts": 3},
        {"false_alarm_rate": 0},
        {"false_alarm_rate": 0.6},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(A, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        NeuronCountDetector(**params).fit(A)


@pytest.mark.parametrize("statistic", ["coefficient", "mean_activation_count"])
def test_a_layer_without_any_active_neuron_is_told(statistic):
    with pytest.warns(UserWarning, match="No neuron was ever active in training"):
        detector = NeuronCountDetector(statistic=statistic).fit(np.zeros((9, 4)))
    assert not detector.score_samples(np.eye(4)).any()
