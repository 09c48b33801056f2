"""Detectors that keep their training samples: one contract for finding the nearest of them."""

import inspect
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from _estimators import detectors
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError

from skood import Activations, GroupProgressionDetector, HammingNAPDetector
from skood.activations import LinearHead, PackedBits
from skood.detectors import KNNDetector, NearestExamples, NNGuideDetector
from skood.inspection import explain

KEEPERS = [detector for detector in detectors() if hasattr(detector, "kneighbors")]
each_keeper = pytest.mark.parametrize("detector", KEEPERS, ids=lambda d: type(d).__name__)
WIDTHS = {"relu1": 6, "relu2": 9}
N_INSIDE = 45


def samples(n_samples, seed):
    rng = np.random.default_rng(seed)
    classes = np.arange(n_samples) % 3
    layers = {
        name: np.maximum(
            np.random.default_rng(width).normal(size=(3, width))[classes]
            + 0.6 * rng.normal(size=(n_samples, width)),
            0,
        )
        for name, width in WIDTHS.items()
    }
    head = LinearHead(np.random.default_rng(0).normal(size=(3, 9)), input_layer="relu2")
    logits = head.logits(layers["relu2"])
    return Activations(layers, logits=logits, predictions=classes, head=head)


@pytest.fixture(scope="module")
def A():
    return samples(60, seed=1)


@pytest.fixture(scope="module")
def y():
    """Every fourth row is out-of-distribution."""
    return np.where(np.arange(60) % 4 == 1, -1, np.arange(60) % 3)


@pytest.fixture(scope="module")
def new():
    return samples(8, seed=2)


def fit(detector, A, y):
    detector = clone(detector)
    if isinstance(detector, GroupProgressionDetector):
        detector.set_params(estimator=LinearDiscriminantAnalysis())
    return detector.fit(A, y)


def unpacked(layer):
    return layer.unpack() if isinstance(layer, PackedBits) else np.asarray(layer)


# The contract, for every detector that has it


def test_both_methods_come_together_and_are_found():
    with_examples = [d for d in detectors() if hasattr(d, "nearest_examples")]
    assert [type(d) for d in with_examples] == [type(d) for d in KEEPERS]
    assert {type(d) for d in KEEPERS} >= {
        GroupProgressionDetector,
        HammingNAPDetector,
        KNNDetector,
        NNGuideDetector,
    }


@each_keeper
def test_signatures_are_the_same(detector):
    (_, n_neighbors) = inspect.signature(detector.kneighbors).parameters.items()
    assert n_neighbors[0] == "n_neighbors"
    assert n_neighbors[1].default is None
    (_, n_examples) = inspect.signature(detector.nearest_examples).parameters.items()
    assert n_examples[0] == "n_examples"
    assert n_examples[1].default == 5


@each_keeper
def test_default_number_is_that_of_the_detector_or_five(detector, A, y, new):
    detector = fit(detector, A, y)
    expected = getattr(detector, "n_neighbors_", 5)
    assert detector.kneighbors(new)[1].shape == (8, expected)
    assert detector.nearest_examples(new).rows.shape == (8, 5)


@each_keeper
def test_rows_are_in_distribution_rows_of_fit_nearest_first(detector, A, y, new):
    detector = fit(detector, A, y)
    distances, rows = detector.kneighbors(new, 7)
    assert distances.shape == rows.shape == (8, 7)
    assert rows.dtype.kind == "i"
    assert (y[rows] != -1).all()
    assert all(len(set(found)) == 7 for found in rows.tolist())
    assert (np.diff(distances, axis=1) >= 0).all()


@each_keeper
def test_fewer_neighbours_are_the_first_of_more(detector, A, y, new):
    detector = fit(detector, A, y)
    few, many = detector.kneighbors(new, 2), detector.kneighbors(new, 6)
    for few_part, many_part in zip(few, many, strict=True):
        np.testing.assert_array_equal(few_part, many_part[:, :2])


@each_keeper
def test_where_there_are_too_few_samples_the_row_is_minus_one(detector, A, y, new):
    detector = fit(detector, A, y)
    distances, rows = detector.kneighbors(new, 100)
    assert distances.shape == rows.shape == (8, 100)
    n_found = (rows >= 0).sum(axis=1)
    assert ((n_found > 0) & (n_found <= N_INSIDE)).all()
    for sample, n in enumerate(n_found):
        assert (rows[sample, :n] >= 0).all()
        farthest = distances[sample, n:]
        assert (farthest == farthest[0]).all()
        assert farthest[0] >= distances[sample, n - 1]


@each_keeper
def test_examples_have_the_rows_of_kneighbors_and_what_their_neurons_do(detector, A, y, new):
    detector = fit(detector, A, y)
    found = detector.nearest_examples(new, 4)
    assert isinstance(found, NearestExamples)
    distances, rows = detector.kneighbors(new, 4)
    np.testing.assert_array_equal(found.distances, distances)
    np.testing.assert_array_equal(found.rows, rows)
    assert set(found.layers) <= set(WIDTHS)
    assert sum(WIDTHS[name] for name in found.layers) == detector.n_features_in_
    for name, values in found.layers.items():
        expected = A[name][rows]
        if values.dtype == bool:
            np.testing.assert_array_equal(values, expected > 0)
            continue
        if getattr(detector, "normalize", False):  # which keeps directions
            expected = expected / np.linalg.norm(expected, axis=2, keepdims=True)
            expected = expected * np.linalg.norm(new[name], axis=1)[:, np.newaxis, np.newaxis]
        np.testing.assert_allclose(values, expected, rtol=1e-12)


@each_keeper
def test_labels_are_the_classes_of_the_rows_where_they_are_known(detector, A, y, new):
    found = fit(detector, A, y).nearest_examples(new, 50)
    if found.labels is not None:
        expected = np.where(found.rows < 0, -1, A.predictions[found.rows])
        np.testing.assert_array_equal(found.labels, expected)


@each_keeper
def test_rows_count_all_batches_one_after_the_other(detector, A, y, new):
    if not hasattr(detector, "partial_fit"):
        pytest.skip("learns from one batch")
    whole, parts = fit(detector, A, y), clone(detector)
    for rows in (slice(41), slice(41, 42), slice(42, None)):
        parts.partial_fit(A[rows], y[rows])
    expected, found = (d.nearest_examples(new, 6) for d in (whole, parts))
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.distances, expected.distances)
    for name, values in found.layers.items():
        np.testing.assert_array_equal(values, expected.layers[name])


@each_keeper
def test_arrays_are_one_layer_without_classes(detector, A, new):
    X, X_new = A["relu2"], new["relu2"]
    found = clone(detector)
    if isinstance(found, GroupProgressionDetector):
        found.set_params(n_neighbors=10)
    found = found.fit(X).nearest_examples(X_new, 3)
    assert list(found.layers) == ["X"]
    assert found.layers["X"].shape == (8, 3, 9)
    assert found.labels is None


@each_keeper
def test_nothing_is_changed_by_a_search(detector, A, y, new):
    detector = fit(detector, A, y)
    before = detector.score_samples(new)
    for values in detector.nearest_examples(new).layers.values():
        values[:] = 0
    np.testing.assert_array_equal(detector.score_samples(new), before)


@each_keeper
@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (2.5, TypeError)])
def test_numbers_of_neighbours_that_make_no_sense_are_refused(detector, number, error, A, y, new):
    detector = fit(detector, A, y)
    with pytest.raises(error, match="n_neighbors"):
        detector.kneighbors(new, number)
    with pytest.raises(error, match="n_examples"):
        detector.nearest_examples(new, number)


@each_keeper
def test_unfitted_detectors_and_other_layers_are_refused(detector, A, y):
    for method in ("kneighbors", "nearest_examples"):
        with pytest.raises(NotFittedError):
            getattr(clone(detector), method)(A)
        with pytest.raises(ValueError, match="layer"):
            getattr(fit(detector, A, y), method)(A[["relu1"]])


def test_what_was_found_cannot_be_exchanged(A, y):
    found = fit(HammingNAPDetector(), A, y).nearest_examples(A[:1])
    with pytest.raises(FrozenInstanceError):
        found.rows = found.rows[:, :1]


# Single detectors


def test_distances_of_groups_are_those_of_the_last_layer(A, y, new):
    detector = fit(GroupProgressionDetector(n_neighbors=10), A, y)
    distances, rows = detector.kneighbors(new, 50)
    bits, stored = new["relu2"] > 0, A["relu2"] > 0
    to_all = (bits[:, np.newaxis] != stored[y != -1]).sum(axis=2)
    np.testing.assert_array_equal(distances[:, :N_INSIDE], np.sort(to_all, axis=1))
    np.testing.assert_array_equal(distances[:, N_INSIDE:], 9)
    apart = (bits[:, np.newaxis] != stored[rows[:, :N_INSIDE]]).sum(axis=2)
    np.testing.assert_array_equal(distances[:, :N_INSIDE], apart)


def guidance(A, new):
    """Cosine of the features times the energy of each training sample, by the formula."""
    features, others = new["relu2"], A["relu2"]
    cosines = (features @ others.T) / np.outer(
        np.linalg.norm(features, axis=1), np.linalg.norm(others, axis=1)
    )
    return cosines * np.log(np.exp(A.logits).sum(axis=1))


@pytest.mark.parametrize("bank_fraction", [1.0, 0.5])
def test_samples_that_guide_most_are_nearest(bank_fraction, A, y, new):
    detector = NNGuideDetector(n_neighbors=5, bank_fraction=bank_fraction, random_state=0)
    detector.fit(A, y)
    distances, rows = detector.kneighbors(new)
    of_bank = guidance(A, new)[:, detector.bank_rows_]
    np.testing.assert_array_equal(rows, detector.bank_rows_[np.argsort(-of_bank, axis=1)[:, :5]])
    np.testing.assert_allclose(distances, -np.sort(of_bank, axis=1)[:, ::-1][:, :5])
    energies = np.log(np.exp(new.logits).sum(axis=1))
    np.testing.assert_allclose(detector.score_samples(new), -distances.mean(axis=1) * energies)


def test_a_stored_class_counts_not_the_predicted_one(A):
    labels = (np.arange(60) + 1) % 3
    found = HammingNAPDetector(group_by="label").fit(A, labels).nearest_examples(A[:3], 2)
    np.testing.assert_array_equal(found.labels, labels[found.rows])
    np.testing.assert_array_equal(found.labels, np.repeat(A.predictions[:3], 2).reshape(3, 2))


# Explanations need nothing but the method


class NearestMean(KNNDetector):
    """A detector of nobody's list, which has the method under its own steam."""

    kneighbors = None

    def nearest_examples(self, X, n_examples=5):
        rows = np.tile(np.arange(n_examples), (len(X), 1))
        return NearestExamples(rows * 1.5, rows, None, {"relu2": np.full((*rows.shape, 9), 0.25)})


def test_a_new_detector_that_finds_examples_is_explained(A, new):
    detector = NearestMean(n_neighbors=3, normalize=False).fit(A)
    found = explain(detector, new[:2], n_neighbors=3)
    np.testing.assert_array_equal(found.neighbors, [[0, 1, 2]] * 2)
    np.testing.assert_array_equal(found.distances, [[0, 1.5, 3]] * 2)
    np.testing.assert_array_equal(found.neighbor_values["relu2"], np.full((2, 9), 0.25))
    # What is not known of the examples cannot weigh.
    assert not found.neuron_weights["relu1"].any()
    assert np.isnan(found.neighbor_values["relu1"]).all()
    assert found.neuron_weights["relu2"].any()
    given = explain(detector, new[:2], X_train=A, n_neighbors=3)
    np.testing.assert_allclose(given.neighbor_values["relu1"][0], A["relu1"][:3].mean(axis=0))


def test_guided_energy_is_explained_without_training_data(A, y, new):
    detector = fit(NNGuideDetector(n_neighbors=5), A, y)
    found = explain(detector, new[:2])
    np.testing.assert_array_equal(found.neighbors, detector.kneighbors(new[:2], 5)[1])
    assert found.neuron_weights["relu2"].any()
    assert not found.neuron_weights["relu1"].any()


# Types of numbers


@each_keeper
@pytest.mark.parametrize("number", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy_count_as_those_of_python(detector, number, A, y, new):
    fitted = fit(detector, A, y)
    expected = fitted.kneighbors(new, 5)
    for found, wanted in zip(fitted.kneighbors(new, number(5)), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    found, wanted = (fitted.nearest_examples(new, n) for n in (number(2), 2))
    np.testing.assert_array_equal(found.rows, wanted.rows)
    if "n_neighbors" in detector.get_params():
        few, same = (clone(detector).set_params(n_neighbors=n) for n in (number(40), 40))
        fitted = fit(few, A, y)
        np.testing.assert_array_equal(fitted.score_samples(new), fit(same, A, y).score_samples(new))
        assert type(fitted.n_neighbors_) is int


@each_keeper
@pytest.mark.parametrize("flag", [True, False])
def test_true_and_false_are_no_numbers_of_samples(detector, flag, A, y, new):
    fitted = fit(detector, A, y)
    with pytest.raises(
        TypeError, match=f"n_neighbors must be an integer of at least 1, got {flag}"
    ):
        fitted.kneighbors(new, flag)
    with pytest.raises(TypeError, match=f"n_examples must be an integer of at least 1, got {flag}"):
        fitted.nearest_examples(new, flag)
    if "n_neighbors" in detector.get_params():
        with pytest.raises(ValueError, match=f"'n_neighbors' parameter .* an int .* Got {flag}"):
            fit(clone(detector).set_params(n_neighbors=flag), A, y)
