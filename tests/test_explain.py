"""Explanations against loops over neurons, and of samples that were disturbed on purpose."""

import pickle

import numpy as np
import pytest
from _estimators import detectors
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM

from skood import (
    Activations,
    GroupProgressionDetector,
    HammingNAPDetector,
    PercentileBinarizer,
    PoolingReducer,
    make_monitor,
)
from skood.activations import LinearHead
from skood.detectors import (
    ActivationIntervalDetector,
    EnergyDetector,
    GaussianActivationDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxLogitDetector,
    NACDetector,
    ViMDetector,
)
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.inspection import _nearest_examples, explain
from skood.preprocessing import LayerSelector
from skood.shaping import DICE, ReAct

N_INSIDE, N_OUTSIDE = 150, 20


@pytest.fixture(scope="module")
def data():
    """Three classes with centers of their own in two layers, samples with none, and a head."""
    rng = np.random.default_rng(0)
    label = np.arange(N_INSIDE) % 3
    layers = {}
    for name, width in {"relu1": 12, "relu2": 20}.items():
        centers = 2 * rng.normal(size=(3, width))
        inside = centers[label] + 0.4 * rng.normal(size=(N_INSIDE, width))
        layers[name] = np.maximum(np.vstack([inside, rng.normal(size=(N_OUTSIDE, width))]), 0)
    means = np.stack([layers["relu2"][:N_INSIDE][label == c].mean(axis=0) for c in range(3)])
    head = LinearHead(means - means.mean(axis=0), -0.5 * (means**2).sum(axis=1), "relu2")
    A = Activations(layers, logits=head.logits(layers["relu2"]), head=head)
    return A, np.r_[label, np.full(N_OUTSIDE, -1)]


def fit(detector, data):
    A, y = data
    if isinstance(detector, GroupProgressionDetector):
        detector = clone(detector).set_params(estimator=LinearDiscriminantAnalysis())
    return clone(detector).fit(A, y)


def with_logits_of_head(A):
    return A.assign(logits=A.head.logits(A["relu2"]))


def weights_by_loop(detector, sample, example):
    """Rise of the score for each neuron, changed one at a time, and for each layer."""
    before = detector.score_samples(sample)[0]

    def rise(name, values):
        changed = with_logits_of_head(sample.assign({name: values}))
        return detector.score_samples(changed)[0] - before

    neurons = {}
    for name, own in sample.items():
        neurons[name] = np.empty(own.shape[1])
        for unit in range(own.shape[1]):
            values = own.copy()
            values[0, unit] = example[name][0, unit]
            neurons[name][unit] = rise(name, values)
    return neurons, {name: rise(name, example[name]) for name in sample.layer_names}


SCORED_BY_LOOP = [
    ActivationIntervalDetector(),
    EnergyDetector(),
    GaussianActivationDetector(),
    HammingNAPDetector(),
    HammingNAPDetector(break_ties=False),
    KNNDetector(n_neighbors=5, normalize=False),
    LayerEnsembleDetector(KNNDetector(n_neighbors=5), combine="mean"),
    LayerEnsembleDetector(HammingNAPDetector(), combine="weighted"),
    MahalanobisDetector(),
    MaxLogitDetector(),
    NACDetector(),
    ViMDetector(n_components=5),
]


def setting(detector):
    return repr(detector).replace("Detector", "")


# Weights


@pytest.mark.parametrize("detector", SCORED_BY_LOOP, ids=setting)
def test_weights_are_those_of_a_loop_over_neurons(detector, data):
    A, y = data
    detector = fit(detector, data)
    X = A[[3, N_INSIDE + 2]]
    found = explain(detector, X, X_train=A, y_train=y)
    for i in range(len(X)):
        neurons, layers = weights_by_loop(detector, X[[i]], A[found.neighbors[i, :1]])
        for name in A.layer_names:
            np.testing.assert_allclose(found.neuron_weights[name][i], neurons[name], atol=1e-5)
            assert found.layer_weights[name][i] == pytest.approx(layers[name], abs=1e-5)
    assert max(np.abs(weights).max() for weights in found.neuron_weights.values()) > 0.01


@pytest.mark.parametrize("combine", ["fisher", "vote"])
def test_weights_of_ranks_are_those_of_the_mean(combine, data):
    A, y = data
    X = A[[-1]]
    ranks, mean = (
        explain(
            fit(LayerEnsembleDetector(KNNDetector(n_neighbors=5), combine=name), data),
            X,
            X_train=A,
            y_train=y,
        )
        for name in (combine, "mean")
    )
    for name in A.layer_names:
        np.testing.assert_array_equal(ranks.neuron_weights[name], mean.neuron_weights[name])
        np.testing.assert_array_equal(ranks.layer_weights[name], mean.layer_weights[name])
    assert ranks.scores[0] != mean.scores[0]


def test_directions_of_knn_get_the_norm_of_the_sample(data):
    A, _ = data
    detector = fit(KNNDetector(n_neighbors=5), data)
    sample = A[[N_INSIDE]]
    found = explain(detector, sample)
    nearest = A[found.neighbors[0, :1]]
    scaled = nearest.assign(
        {
            name: nearest[name] * np.linalg.norm(own) / np.linalg.norm(nearest[name])
            for name, own in sample.items()
        }
    )
    neurons, layers = weights_by_loop(detector, sample, scaled)
    for name in A.layer_names:
        np.testing.assert_allclose(found.neuron_weights[name][0], neurons[name], atol=1e-5)
        assert found.layer_weights[name][0] == pytest.approx(layers[name], abs=1e-5)


@pytest.mark.parametrize(
    "detector",
    [
        ActivationIntervalDetector(),
        GaussianActivationDetector(),
        KNNDetector(n_neighbors=5),
        LayerEnsembleDetector(KNNDetector(n_neighbors=5)),
        MahalanobisDetector(),
    ],
    ids=setting,
)
def test_a_disturbed_neuron_is_named_first(detector, data):
    A, y = data
    values = A["relu2"][[6]].copy()
    values[0, 13] += 30
    X = A[[6]].assign({"relu2": values})
    found = explain(fit(detector, data), X, X_train=A, y_train=y)
    assert found.top_neurons()[0][:2] == ("relu2", 13)
    assert found.top_layers()[0][0] == "relu2"


def test_a_silenced_neuron_is_named_first_where_logits_are_scored(data):
    A, y = data
    label = A.predictions[6]
    values = A["relu2"][[6]].copy()
    unit = (values[0] * A.head.weight[label]).argmax()
    values[0, unit] = 0
    X = with_logits_of_head(A[[6]].assign({"relu2": values}))
    for detector in (MaxLogitDetector(), EnergyDetector()):
        found = explain(fit(detector, data), X, X_train=A, y_train=y)
        assert found.top_neurons()[0][:2] == ("relu2", unit)
        assert not found.neuron_weights["relu1"].any()


def test_layers_that_are_not_read_weigh_nothing():
    rng = np.random.default_rng(0)
    layers = {"relu1": rng.random((300, 90)), "relu2": rng.random((300, 60))}
    head = LinearHead(rng.normal(size=(4, 60)), input_layer="relu2")
    A = Activations(layers, logits=head.logits(layers["relu2"]), head=head)
    found = explain(ViMDetector(n_components=20).fit(A[5:]), A[:5], X_train=A[5:])
    assert not found.neuron_weights["relu1"].any()
    assert (found.neuron_weights["relu2"] != 0).all()


def test_logits_follow_the_head_of_the_detector_where_samples_come_without(data):
    A, y = data
    detector = fit(ViMDetector(n_components=5), data)
    with_head, without = (
        explain(detector, X, X_train=A, y_train=y) for X in (A[-2:], A[-2:].assign(head=None))
    )
    np.testing.assert_array_equal(
        with_head.neuron_weights["relu2"], without.neuron_weights["relu2"]
    )


def test_disturbed_bits_are_named_and_each_weighs_one(data):
    A, _ = data
    bits = {name: layer > 0 for name, layer in A.items()}
    inside = A.replace(bits)
    detector = HammingNAPDetector(break_ties=False).fit(inside[:N_INSIDE])
    disturbed = {name: layer[[9]].copy() for name, layer in bits.items()}
    for name, unit in [("relu1", 2), ("relu2", 5), ("relu2", 11)]:
        disturbed[name][0, unit] ^= True
    found = explain(detector, inside[[9]].replace(disturbed), n_neighbors=1)
    nearest = inside[found.neighbors[0]]
    for name in A.layer_names:
        differs = disturbed[name] != nearest[name]
        np.testing.assert_array_equal(found.neuron_weights[name], differs)
        np.testing.assert_array_equal(found.layer_weights[name], differs.sum(axis=1))
    assert sum(found.layer_weights.values())[0] == found.distances[0, 0] > 0
    assert len(found.top_neurons()) == found.distances[0, 0]


def test_a_training_sample_weighs_nothing_and_is_its_own_neighbour(data):
    A, y = data
    found = explain(fit(GaussianActivationDetector(), data), A[[4]], X_train=A, y_train=y)
    assert found.neighbors[0, 0] == 4
    assert found.distances[0, 0] == 0
    assert not any(weights.any() for weights in found.neuron_weights.values())
    assert found.top_neurons() == found.top_layers() == []
    assert "neurons that weigh most: none" in str(found)


@pytest.mark.parametrize(
    "detector", [GaussianActivationDetector(), HammingNAPDetector()], ids=setting
)
def test_false_alarm_rate_does_not_change_the_weights(detector, data):
    A, y = data
    few, many = (
        explain(
            fit(detector.set_params(false_alarm_rate=share), data), A[-3:], X_train=A, y_train=y
        )
        for share in (0.01, 0.5)
    )
    for name in A.layer_names:
        np.testing.assert_array_equal(few.neuron_weights[name], many.neuron_weights[name])
        np.testing.assert_array_equal(few.layer_weights[name], many.layer_weights[name])
    assert few.threshold < many.threshold


def test_equal_weights_are_ordered_by_what_the_neighbours_do():
    fires = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    detector = HammingNAPDetector(break_ties=False).fit(fires)
    found = explain(detector, [[0, 0, 1, 1, 1]], n_neighbors=3)
    assert found.neighbors[0, 0] == 0
    # All three neighbours differ in the first and the last neuron, two of them in the second.
    assert found.top_neurons() == [("X", 0, 1.0), ("X", 4, 1.0), ("X", 1, 1.0)]


# Neighbours


@pytest.mark.parametrize(
    "detector",
    [HammingNAPDetector(), KNNDetector(n_neighbors=5), KNNDetector(normalize=False)],
    ids=setting,
)
def test_neighbours_are_those_of_the_detector(detector, data):
    A, y = data
    detector = fit(detector, data)
    X = A[[0, 7, N_INSIDE + 3]]
    found = explain(detector, X, n_neighbors=4)
    distances, rows = detector.kneighbors(X, 4)
    np.testing.assert_array_equal(found.neighbors, rows)
    np.testing.assert_array_equal(found.distances, distances)
    np.testing.assert_array_equal(explain(detector, X, y_train=y).neighbor_labels[:, :4], y[rows])


def test_neighbours_of_groups_are_nearest_in_the_last_layer(data):
    A, _ = data
    detector = fit(GroupProgressionDetector(n_neighbors=10), data)
    found = explain(detector, A[-2:], n_neighbors=6)
    bits = A["relu2"] > 0
    distances = (bits[-2:, np.newaxis] != bits[:N_INSIDE]).sum(axis=2)
    np.testing.assert_array_equal(found.distances, np.sort(distances, axis=1)[:, :6])
    np.testing.assert_array_equal(
        found.distances, np.take_along_axis(distances, found.neighbors, axis=1)
    )
    np.testing.assert_array_equal(found.neighbor_labels, A.predictions[found.neighbors])
    for name in A.layer_names:
        expected = (A[name] > 0)[found.neighbors].mean(axis=1)
        np.testing.assert_allclose(found.neighbor_values[name], expected)


def test_other_neighbours_are_the_nearest_of_the_predicted_class(data):
    A, y = data
    X = A[[N_INSIDE + 1]]
    found = explain(fit(MahalanobisDetector(), data), X, X_train=A, y_train=y)
    squares = 0
    for name, layer in A.items():
        scale = (layer[:N_INSIDE] ** 2).sum(axis=1).mean()
        squares = squares + ((layer - X[name]) ** 2).sum(axis=1) / scale
    squares[(A.predictions != X.predictions[0]) | (y == -1)] = np.inf
    np.testing.assert_array_equal(found.neighbors[0], np.argsort(squares)[:5])
    np.testing.assert_allclose(found.distances[0], np.sqrt(np.sort(squares)[:5]))
    np.testing.assert_array_equal(found.neighbor_labels[0], y[found.neighbors[0]])


def test_other_neighbours_of_patterns_are_nearest_by_hamming_distance(data):
    A, y = data
    monitor = make_pipeline(PercentileBinarizer(percentile=30), ActivationIntervalDetector()).fit(
        A, y
    )
    found = explain(monitor, A[[-1]], X_train=A, y_train=y)
    bits = monitor[0].transform(A)
    differing = sum((np.asarray(b) != np.asarray(b[[-1]])).sum(axis=1) for _, b in bits.items())
    nearest = np.sort(differing[(A.predictions == A.predictions[-1]) & (y != -1)])[:5]
    np.testing.assert_array_equal(found.distances[0], nearest)


def test_a_search_of_another_librarys_detector_is_used(data):
    A, _ = data
    detector = LocalOutlierFactor(novelty=True).fit(A[:N_INSIDE])
    found = explain(detector, A[-2:], X_train=A[:N_INSIDE], n_neighbors=3)
    np.testing.assert_array_equal(found.neighbors, detector.kneighbors(A[-2:], 3)[1])
    with pytest.raises(ValueError, match="X_train has 5 samples, but LocalOutlierFactor"):
        explain(detector, A[-2:], X_train=A[:5])


def test_thresholds_may_be_arrays_of_one_value():
    X = np.random.default_rng(0).normal(size=(40, 3))
    detector = OneClassSVM().fit(X)
    found = explain(detector, X[:2], X_train=X)
    assert found.threshold == pytest.approx(detector.offset_[0])


def test_a_search_of_another_librarys_detector_goes_by_the_samples_of_its_fit():
    X = np.random.default_rng(0).normal(size=(40, 3))
    detector = LocalOutlierFactor(5, novelty=True).fit(X[:20])
    with pytest.raises(ValueError, match=r"X_train has 40 samples.*those that it was fitted on"):
        explain(detector, X[30:], X_train=X)
    labels = np.repeat([-1, 1], 10)
    found = explain(detector, X[30:], X_train=X[:20], y_train=labels)
    assert (found.neighbors >= 10).all()


def test_fewer_training_samples_than_neighbours_leave_places_free():
    X = np.random.default_rng(0).normal(size=(4, 3))
    found = explain(KNNDetector(n_neighbors=2).fit(X), X[:1], n_neighbors=6)
    assert sorted(found.neighbors[0, :4]) == [0, 1, 2, 3]
    assert found.neighbors[0, 4:].tolist() == [-1, -1]
    assert np.isinf(found.distances[0, 4:]).all()


def test_a_normalised_training_sample_weighs_nothing():
    X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    found = explain(KNNDetector(n_neighbors=3).fit(X), X)
    assert (found.neuron_weights["X"] == 0).all()


@pytest.mark.parametrize("shape", [ReAct(), DICE()])
def test_layers_that_are_not_read_weigh_nothing_in_single_precision(shape):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 20))
    layers = {name: rng.random((80, 20)).astype(np.float32) for name in ("early", "fc")}
    logits = (layers["fc"] @ weight.T).astype(np.float32)
    A = Activations(layers, logits=logits, head=LinearHead(weight, input_layer="fc"))
    detector = make_pipeline(clone(shape), EnergyDetector()).fit(A[:60])
    found = explain(detector, A[60:63], X_train=A[:60])
    assert (found.neuron_weights["early"] == 0).all()
    assert (found.neuron_weights["fc"] != 0).any()


@pytest.mark.parametrize("detector", detectors(), ids=lambda d: type(d).__name__)
@pytest.mark.filterwarnings("ignore:n_neighbors=20, but a sample has only")
def test_every_detector_is_explained_and_ood_rows_are_no_neighbours(detector, data):
    A, y = data
    detector = fit(detector, data)
    X = A[[5, N_INSIDE + 4]]
    before = pickle.dumps((A, X))
    found = explain(detector, X, X_train=A, y_train=y)
    assert pickle.dumps((A, X)) == before
    np.testing.assert_allclose(found.scores, detector.score_samples(X))
    np.testing.assert_array_equal(found.alarms, detector.predict(X) == -1)
    assert (y[found.neighbors] != -1).all()
    assert (found.neighbors >= 0).all()
    assert all(np.isfinite(weights).all() for weights in found.neuron_weights.values())
    assert all(np.isfinite(weights).all() for weights in found.layer_weights.values())
    assert str(found).count("\n    row ") == 2 * 5


def test_detectors_that_keep_their_training_samples_need_nothing_else(data):
    A, _ = data
    for detector in (
        HammingNAPDetector(),
        KNNDetector(n_neighbors=5),
        GroupProgressionDetector(n_neighbors=5),
    ):
        detector = fit(detector, data)
        alone, given = explain(detector, A[[-1]]), explain(detector, A[[-1]], X_train=A)
        np.testing.assert_array_equal(alone.neighbors, given.neighbors)
        for name in A.layer_names:
            np.testing.assert_array_equal(alone.neuron_weights[name], given.neuron_weights[name])
        np.testing.assert_array_equal(given.neighbor_labels[0], A.predictions[given.neighbors[0]])


@pytest.mark.parametrize(
    "detector",
    [HammingNAPDetector(), KNNDetector(n_neighbors=5, normalize=False), GroupProgressionDetector()],
    ids=setting,
)
@pytest.mark.filterwarnings("ignore:n_neighbors=300, but a sample has only")
def test_what_is_kept_is_that_of_the_rows_named(detector, data):
    A, y = data
    order = np.random.default_rng(1).permutation(len(A))
    shuffled, labels = A[order], y[order]
    if isinstance(detector, GroupProgressionDetector):
        detector = fit(detector, (shuffled, labels))
    else:
        detector = clone(detector).fit(shuffled[:60], labels[:60])
        detector.partial_fit(shuffled[60:], labels[60:])
    found = explain(detector, A[[0, 1, -1]], y_train=labels)
    assert (found.neighbor_labels != -1).all()
    np.testing.assert_array_equal(found.neighbor_labels, labels[found.neighbors])
    are_bits = not isinstance(detector, KNNDetector)
    for name, layer in shuffled.items():
        values = (layer > 0 if are_bits else layer)[found.neighbors]
        np.testing.assert_allclose(found.neighbor_values[name], values.mean(axis=1))


def test_without_predictions_neighbours_have_no_class():
    fires = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
    for detector in (HammingNAPDetector(), GroupProgressionDetector(n_neighbors=2)):
        found = explain(detector.fit(fires), fires[:1], n_neighbors=2)
        assert found.neighbor_labels is None
        assert "class" not in str(found)


def test_a_class_without_examples_has_no_neighbours_and_no_weights(data):
    A, y = data
    X = Activations(dict(A[[0]].items()), predictions=[7])
    for detector in (HammingNAPDetector(), MahalanobisDetector()):
        found = explain(fit(detector, data), X, X_train=A, y_train=y)
        assert (found.neighbors == -1).all()
        assert (found.neighbor_labels == -1).all()
        assert np.isnan(found.neuron_weights["relu1"]).all()
        assert np.isnan(found.layer_weights["relu2"]).all()
        assert "none of this class" in str(found)


def test_too_few_examples_are_filled_up():
    fires = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
    A = Activations({"relu": fires}, predictions=[0, 0, 1])
    labels = np.array(["cat", "cat", "dog"])
    for detector in (HammingNAPDetector(), IsolationForest(random_state=0)):
        found = explain(detector.fit(A), A[:1], X_train=A, y_train=labels, n_neighbors=3)
        np.testing.assert_array_equal(found.neighbors, [[0, 1, -1]])
        np.testing.assert_array_equal(found.neighbor_labels, [["cat", "cat", ""]])
        np.testing.assert_allclose(found.neighbor_values["relu"], [[1, 0.5, 0]])
    with pytest.warns(UserWarning, match="a sample has only 2 others"):
        groups = GroupProgressionDetector().fit(fires)
    found = explain(groups, [[1, 1, 1]], n_neighbors=4)
    assert sorted(found.neighbors[0]) == [-1, 0, 1, 2]
    assert found.distances[0, -1] == 3


# Kinds of input


@pytest.mark.parametrize("are_bits", [False, True])
def test_training_samples_are_read_some_at_a_time(data, are_bits, hold_at_most, monkeypatch):
    A, y = data
    if are_bits:
        A = A.replace({name: values > 0.5 for name, values in A.items()})
    detector = ActivationIntervalDetector().fit(A, y)
    X = A[[0, 1, 160]]
    whole = explain(detector, X, X_train=A, y_train=y, n_neighbors=4)
    read = []
    hold_at_most(20 * A.shape[1])
    of_rows = _nearest_examples._squared_distances
    monkeypatch.setattr(
        _nearest_examples,
        "_squared_distances",
        lambda samples, block: read.append(len(block)) or of_rows(samples, block),
    )
    found = explain(detector, X, X_train=A, y_train=y, n_neighbors=4)
    assert max(read) <= 20
    np.testing.assert_array_equal(found.neighbors, whole.neighbors)
    np.testing.assert_allclose(found.distances, whole.distances, rtol=1e-12, atol=1e-7)


@pytest.mark.parametrize("detector", SCORED_BY_LOOP, ids=setting)
def test_several_samples_are_explained_as_each_alone(detector, data):
    A, y = data
    detector = fit(detector, data)
    rows = [2, N_INSIDE + 5, 40]
    together = explain(detector, A[rows], X_train=A, y_train=y)
    for i, row in enumerate(rows):
        alone = explain(detector, A[[row]], X_train=A, y_train=y)
        np.testing.assert_array_equal(alone.neighbors[0], together.neighbors[i])
        assert alone.alarms[0] == together.alarms[i]
        for name in A.layer_names:
            np.testing.assert_allclose(
                alone.neuron_weights[name][0], together.neuron_weights[name][i], atol=1e-5
            )


def test_many_copies_are_scored_in_batches(data, hold_at_most):
    A, y = data
    detector = fit(GaussianActivationDetector(), data)
    whole = explain(detector, A[-2:], X_train=A, y_train=y)
    hold_at_most(3 * A.shape[1])
    parts = explain(detector, A[-2:], X_train=A, y_train=y)
    for name in A.layer_names:
        np.testing.assert_allclose(parts.neuron_weights[name], whole.neuron_weights[name])
        np.testing.assert_allclose(parts.layer_weights[name], whole.layer_weights[name])


def test_steps_of_a_pipeline_are_applied_first(data):
    A, y = data
    monitor = make_pipeline(
        LayerSelector(layers="relu2"),
        PercentileBinarizer(percentile=20),
        HammingNAPDetector(break_ties=False),
    ).fit(A, y)
    bits = monitor[:-1].transform(A)
    found, expected = explain(monitor, A[[-1]]), explain(monitor[-1], bits[[-1]])
    np.testing.assert_array_equal(found.neighbors, expected.neighbors)
    np.testing.assert_array_equal(found.neuron_weights["relu2"], expected.neuron_weights["relu2"])
    assert list(found.neuron_weights) == ["relu2"]
    assert found.scores[0] == monitor.score_samples(A[[-1]])[0]


@pytest.mark.parametrize("shaper", [ReAct(percentile=90), DICE(sparsity=50)], ids=["ReAct", "DICE"])
def test_shaping_is_part_of_what_is_explained(shaper, data):
    A, y = data
    monitor = make_pipeline(shaper, EnergyDetector()).fit(A, y)
    sample = A[[-1]]
    found = explain(monitor, sample, X_train=A, y_train=y)
    neurons, layers = weights_by_loop(monitor, sample, A[found.neighbors[0, :1]])
    np.testing.assert_allclose(found.neuron_weights["relu2"][0], neurons["relu2"], atol=1e-9)
    assert found.layer_weights["relu2"][0] == pytest.approx(layers["relu2"])
    assert np.abs(neurons["relu2"]).max() > 0.1


@pytest.mark.filterwarnings("ignore:ReAct clips features at")
def test_shaping_before_a_detector_that_keeps_samples_is_a_step_before(data):
    A, y = data
    monitor = make_pipeline(ReAct(percentile=50), KNNDetector(n_neighbors=5)).fit(A, y)
    shaped = monitor[0].transform(A)
    found, expected = explain(monitor, A[[-1]]), explain(monitor[-1], shaped[[-1]])
    np.testing.assert_array_equal(found.neuron_weights["relu2"], expected.neuron_weights["relu2"])


def test_channels_of_maps_are_units():
    rng = np.random.default_rng(0)
    maps = rng.random((60, 6, 3, 3)).astype(np.float32)
    A = Activations({"conv": maps, "fc": rng.random((60, 4))}, predictions=np.arange(60) % 2)
    detector = LayerEnsembleDetector(
        make_pipeline(PoolingReducer(pooling="max"), KNNDetector(n_neighbors=5)), combine="mean"
    ).fit(A)
    disturbed = maps[[0]].copy()
    disturbed[0, 4, 1] = 20
    X = A[[0]].assign({"conv": disturbed})
    found = explain(detector, X, X_train=A[1:])
    assert found.neuron_weights["conv"].shape == found.values["conv"].shape == (1, 6)
    assert found.top_neurons()[0][:2] == ("conv", 4)
    np.testing.assert_allclose(found.values["conv"], disturbed.mean(axis=(2, 3)))
    before = detector.score_samples(X)[0]
    disturbed[0, 4] = A[1:]["conv"][found.neighbors[0, 0], 4]
    after = detector.score_samples(A[[0]].assign({"conv": disturbed}))[0]
    assert found.neuron_weights["conv"][0, 4] == pytest.approx(after - before, rel=1e-5)


def test_arrays_and_data_frames_are_explained():
    pandas = pytest.importorskip("pandas")
    X = np.random.default_rng(0).normal(size=(80, 3))
    far = np.array([[0.0, 40.0, 0.0]])
    of_array = explain(MahalanobisDetector().fit(X), far, X_train=X)
    assert of_array.top_neurons()[0][:2] == ("X", 1)
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    of_frame = explain(
        MahalanobisDetector().fit(frame),
        pandas.DataFrame(far, columns=frame.columns),
        X_train=frame,
    )
    np.testing.assert_allclose(of_frame.neuron_weights["X"], of_array.neuron_weights["X"])
    assert of_array.predictions is None
    assert of_array.neighbor_labels is None


def test_packed_and_plain_patterns_are_explained_alike(data):
    A, y = data
    packed = PercentileBinarizer(rule="zero").fit_transform(A)
    plain, bits = (explain(HammingNAPDetector().fit(B, y), B[-2:]) for B in (A, packed))
    for name in A.layer_names:
        np.testing.assert_array_equal(plain.neuron_weights[name], bits.neuron_weights[name])
        np.testing.assert_array_equal(plain.values[name], bits.values[name])
    array = A["relu1"]
    found = explain(HammingNAPDetector().fit(array[:N_INSIDE]), array[-1:])
    np.testing.assert_array_equal(found.values["X"], array[-1:] > 0)


# The result


def test_report_reads_as_text(data):
    fires = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]])
    A = Activations({"relu": fires}, predictions=[0, 0, 1, 1])
    X = Activations({"relu": [[0, 1, 1, 0], [0, 0, 1, 1]]}, predictions=[0, 1])
    found = explain(HammingNAPDetector(tau=1, break_ties=False).fit(A), X, n_neighbors=2)
    assert str(found).splitlines() == [
        "Sample 0: alarm (score -2, threshold -1)",
        "  predicted class: 0",
        "  nearest training examples  distance  class",
        "    row 0                           2  0",
        "    row 1                           2  0",
        "  layers that weigh most: relu +2",
        "  neurons that weigh most      weight     here   nearby",
        "    relu[0]                        +1        0        1",
        "    relu[2]                        +1        1        0",
        "",
        "Sample 1: no alarm (score 0, threshold -1)",
        "  predicted class: 1",
        "  nearest training examples  distance  class",
        "    row 2                           0  1",
        "    row 3                           1  1",
        "  layers that weigh most: none",
        "  neurons that weigh most: none",
    ]
    assert repr(found) == "Explanation(n_samples=2, n_alarms=1, n_neighbors=2, layers=['relu'])"


@pytest.mark.parametrize("factor", [1 / 8, 8])
def test_an_input_on_a_wrong_scale_is_explained_by_norms(factor):
    X, y = load_digits(return_X_y=True)
    X = X / 16
    network = MLPClassifier((40, 20), max_iter=300, random_state=0).fit(X[:1000], y[:1000])
    monitor = make_monitor(network).fit(X[1000:1600])
    found = monitor.explain(factor * X[1600:1603], X_train=X[1000:1600])
    assert found.alarms.all()
    added = found.contributions
    np.testing.assert_allclose(sum(added.values()), found.scores)
    for sample in range(3):
        name, most = found.top_detectors(sample)[0]
        assert (name, most) == ("norms", added["norms"][sample])
        assert most < found.threshold
        ratios = found.norm_ratios(sample)
        for layer in monitor.layers_:
            here = np.linalg.norm(found.values[layer][sample])
            nearby = np.linalg.norm(found.neighbor_values[layer][sample])
            assert ratios[layer] == pytest.approx(here / nearby)
            assert ratios[layer] > 3 if factor > 1 else ratios[layer] < 0.5
    report = str(found).splitlines()
    assert f"  detectors that object most: norms {added['norms'][0]:+.3g}" in report[2]
    first = monitor.layers_[0]
    (line,) = [line for line in report[:12] if "norms beside those nearby" in line]
    assert f"{first} x{found.norm_ratios(0)[first]:.3g}" in line


def test_usual_norms_and_those_of_silent_examples_are_not_reported():
    A = Activations({"a": [[3.0, 4.0], [4.0, 3.0]], "dead": np.zeros((2, 2))})
    new = Activations({"a": [[5.0, 5.0]], "dead": [[1.0, 0.0]]})
    detector = KNNDetector(n_neighbors=1, normalize=False).fit(A)
    found = explain(detector, new, n_neighbors=1)
    assert found.norm_ratios() == {"a": pytest.approx(np.sqrt(2))}
    assert "norms" not in str(found)
    assert found.contributions is None
    assert found.top_detectors() == []
    assert "object" not in str(found)
    larger = Activations({"a": [[6.0, 8.0]], "dead": [[1.0, 0.0]]})
    found = explain(detector, larger, n_neighbors=1)
    assert "  norms beside those nearby: a x2" in str(found).splitlines()


def test_only_as_many_neurons_as_asked_for_are_named(data):
    A, y = data
    detector = fit(GaussianActivationDetector(), data)
    for n_neurons in (1, 4):
        found = explain(detector, A[[-1]], X_train=A, y_train=y, n_neurons=n_neurons)
        named = found.top_neurons()
        assert len(named) == n_neurons
        weights = np.concatenate([weights[0] for weights in found.neuron_weights.values()])
        np.testing.assert_array_equal([w for *_, w in named], np.sort(weights)[::-1][:n_neurons])
        for layer, unit, weight in named:
            assert found.neuron_weights[layer][0, unit] == weight


def test_frame_has_a_row_for_each_neuron(data):
    pytest.importorskip("pandas")
    A, _ = data
    found = explain(fit(HammingNAPDetector(), data), A[-2:])
    frame = found.to_frame()
    assert len(frame) == 2 * A.shape[1]
    row = frame[(frame["sample"] == 1) & (frame.layer == "relu2") & (frame.unit == 7)].iloc[0]
    assert row.weight == found.neuron_weights["relu2"][1, 7]
    assert row.value == found.values["relu2"][1, 7]
    assert row.neighbor_value == found.neighbor_values["relu2"][1, 7]


def test_no_threshold_is_named_where_layers_vote(data):
    A, y = data
    detector = AutoNAPDetector(combine="vote", random_state=0).fit(A, y)
    found = explain(detector, A[[0, -1]], X_train=A, y_train=y)
    np.testing.assert_array_equal(found.alarms, detector.predict(A[[0, -1]]) == -1)
    assert found.threshold is None
    assert (
        fit(HammingNAPDetector(), data).offset_
        == explain(fit(HammingNAPDetector(), data), A[[0]]).threshold
    )


# Errors


def test_what_is_no_fitted_outlier_detector_is_refused(data):
    A, _ = data
    with pytest.raises(NotFittedError):
        explain(HammingNAPDetector(), A)
    with pytest.raises(NotFittedError):
        explain(make_pipeline(LayerSelector(layers="relu1"), HammingNAPDetector()), A)
    with pytest.raises(TypeError, match="Expected an outlier detector, got LogisticRegression"):
        explain(LogisticRegression(), A)
    with pytest.raises(TypeError, match="Expected an outlier detector, got 3"):
        explain(3, A)


def test_missing_training_data_are_asked_for(data):
    A, _ = data
    with pytest.raises(ValueError, match="EnergyDetector does not keep its training samples"):
        explain(fit(EnergyDetector(), data), A[:1])


def test_training_data_of_another_kind_are_refused(data):
    A, y = data
    kept, other = fit(HammingNAPDetector(), data), fit(EnergyDetector(), data)
    with pytest.raises(ValueError, match=r"X_train has the layers .*, but X has"):
        explain(other, A[:1], X_train=A[["relu1"]])
    with pytest.raises(ValueError, match="fitted on 170 samples, but X_train has 9"):
        explain(kept, A[:1], X_train=A[:9])
    with pytest.raises(ValueError, match="170 training samples, but y_train has 4 labels"):
        explain(kept, A[:1], y_train=y[:4])
    with pytest.raises(ValueError, match="170 training samples, but y_train has 4 labels"):
        explain(other, A[:1], X_train=A, y_train=y[:4])
    with pytest.raises(ValueError, match="All 20 samples of X_train are marked -1"):
        explain(other, A[:1], X_train=A[-20:], y_train=y[-20:])
    with pytest.raises(ValueError, match="layers"):
        explain(kept, A[["relu1"]])


@pytest.mark.parametrize("params", [{"n_neighbors": 0}, {"n_neurons": 0}, {"n_neighbors": 2.5}])
def test_numbers_below_one_are_refused(params, data):
    A, _ = data
    with pytest.raises(ValueError, match=next(iter(params))):
        explain(fit(HammingNAPDetector(), data), A[:1], **params)
