"""The monitor of Cheng, Nührenberg and Yasuoka as one pipeline: zero or not, and Hamming balls."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood.activations import LinearHead
from skood.preprocessing import NeuronSelector

GAMMAS = [0, 1, 2, 3]


def boolean_monitor(gamma, *steps):
    detector = HammingNAPDetector(tau=gamma, group_by="correct")
    return make_pipeline(*steps, PercentileBinarizer(rule="zero"), detector)


def alarms(monitor, X):
    return monitor.predict(X) == -1


# References


@pytest.fixture(scope="module")
def reference(golden):
    """Reads a split as the monitored neurons and what the head reads of them."""
    inputs, neurons = golden("inputs"), golden("bdd_monitor")["neurons"]
    head = LinearHead(inputs["W"][:, neurons], inputs["b"], "features")

    def read(split):
        layers = {"features": inputs[f"features_{split}"][:, neurons]}
        return Activations(layers, logits=inputs[f"logits_{split}"], head=head)

    return read("train"), inputs["y_train"], read("eval")


def steps_of(golden, variant):
    """All monitored neurons, or for each class those that matter for it."""
    threshold = float(golden("bdd_monitor")["omit_fraction"])
    selector = NeuronSelector(threshold=threshold, by_prediction=True)
    return [selector] if variant == "omit" else []


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("variant", ["full", "omit"])
def test_the_pipeline_alarms_where_the_decision_diagrams_do(golden, reference, variant, gamma):
    train, y_train, queries = reference
    expected = golden("bdd_monitor")
    monitor = boolean_monitor(gamma, *steps_of(golden, variant)).fit(train, y_train)
    found = alarms(monitor, queries)
    np.testing.assert_array_equal(found, expected[f"min_distance_{variant}"] > gamma)
    if gamma < expected[f"contained_{variant}"].shape[1]:
        np.testing.assert_array_equal(found, ~expected[f"contained_{variant}"][:, gamma])


def test_the_neurons_of_each_class_are_those_of_the_authors(golden, reference):
    train, _, _ = reference
    expected = golden("bdd_monitor")
    selector = NeuronSelector(threshold=float(expected["omit_fraction"])).fit(train)
    np.testing.assert_array_equal(selector.class_support_["features"], ~expected["omitted"])


def test_each_class_stores_as_many_patterns_as_the_decision_diagrams_hold(golden, reference):
    train, y_train, _ = reference
    stores = boolean_monitor(0).fit(train, y_train)[-1].stores_
    found = [len(stores[label].patterns) if label in stores else 0 for label in range(10)]
    np.testing.assert_array_equal(found, golden("bdd_monitor")["n_stored"])


@pytest.mark.parametrize("gamma", GAMMAS)
def test_values_of_exactly_zero_and_classes_without_patterns_are_as_published(golden, gamma):
    cases = golden("edge_cases")
    train = Activations({"a": cases["bdd_train"]}, predictions=cases["bdd_predicted"])
    queries = Activations({"a": cases["bdd_query"]}, predictions=cases["bdd_query_class"])
    found = alarms(boolean_monitor(gamma).fit(train, cases["bdd_y"]), queries)
    np.testing.assert_array_equal(found, ~cases["bdd_contained"][:, gamma])
    assert found[cases["bdd_query_class"] == 1].all()


# Brute force


def enlarged(patterns, gamma):
    """The set of patterns with up to gamma bits changed, as the decision diagram holds it."""
    ball = set()
    for pattern in patterns:
        for n_changed in range(gamma + 1):
            for bits in combinations(range(len(pattern)), n_changed):
                changed = np.array(pattern)
                changed[list(bits)] ^= True
                ball.add(tuple(changed))
    return ball


@given(seed=st.integers(0, 2**32 - 1), gamma=st.sampled_from(GAMMAS), n_units=st.integers(2, 7))
def test_the_alarm_is_a_pattern_outside_the_enlarged_set_of_the_class(seed, gamma, n_units):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(40, n_units)) * (rng.random((40, n_units)) < 0.7)
    predictions, y = rng.integers(0, 3, 40), rng.integers(-1, 3, 40)
    correct = predictions[:25] == y[:25]
    assume(correct.any())
    A = Activations({"fc": values}, predictions=predictions)
    found = alarms(boolean_monitor(gamma).fit(A[:25], y[:25]), A[25:])
    bits = values > 0
    balls = {
        label: enlarged({tuple(row) for row in bits[:25][correct & (y[:25] == label)]}, gamma)
        for label in range(3)
    }
    expected = [
        tuple(row) not in balls[label]
        for row, label in zip(bits[25:], predictions[25:], strict=True)
    ]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("gamma", [*GAMMAS, 4, 100])
def test_a_predicted_class_that_was_never_classified_correctly_always_alarms(gamma):
    train = Activations({"fc": np.ones((6, 4))}, predictions=[0, 0, 0, 1, 1, 1])
    monitor = boolean_monitor(gamma).fit(train, [0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(alarms(monitor, train), [False] * 3 + [True] * 3)


def test_a_larger_gamma_never_alarms_more():
    rng = np.random.default_rng(0)
    A = Activations({"fc": rng.normal(size=(200, 12))}, predictions=rng.integers(0, 2, 200))
    y = A.predictions[:100]
    found = np.array([alarms(boolean_monitor(gamma).fit(A[:100], y), A[100:]) for gamma in GAMMAS])
    assert (found[1:] <= found[:-1]).all()
    assert 0 < found[-1].sum() < found[0].sum() <= 100
