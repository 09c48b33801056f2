"""Norms of layers against logarithms by hand, refits without a sample, and scaled inputs."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skood import Activations
from skood.activations import PackedBits
from skood.detectors import ActivationNormDetector


def activations(n_rows=90, seed=0, **parts):
    """Three layers, whose norms differ by class and go together."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % 3
    size = np.exp(0.2 * y + 0.1 * rng.normal(size=n_rows))[:, np.newaxis]
    layers = {
        "a": size * rng.uniform(0.5, 1, (n_rows, 4)),
        "b": 30 * size**2 * rng.uniform(0.5, 1, (n_rows, 9)),
        "c": np.maximum(rng.normal(size=(n_rows, 6)), 0.01),
    }
    return Activations(layers, **parts), y


def log_norms(A, means):
    return np.column_stack(
        [np.log(np.linalg.norm(np.asarray(A[name]), axis=1) / means[name] + 1e-6) for name in means]
    )


def brute_scores(A, classes, new, shrinkage):
    """Minus half the squared distance to the nearest class, all by numpy."""
    means = {name: np.linalg.norm(np.asarray(layer), axis=1).mean() for name, layer in A.items()}
    rows, new = log_norms(A, means), log_norms(new, means)
    centers = np.array([rows[classes == c].mean(axis=0) for c in np.unique(classes)])
    own = centers[np.searchsorted(np.unique(classes), classes)]
    covariance = (rows - own).T @ (rows - own) / len(rows)
    mean_variance = np.trace(covariance) / len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * mean_variance * np.eye(len(covariance))
    steps = new[:, np.newaxis] - centers
    squares = np.einsum("nci,ij,ncj->nc", steps, np.linalg.inv(covariance), steps)
    return -0.5 * squares.min(axis=1)


@pytest.mark.parametrize("shrinkage", [0, 0.1, 0.5])
def test_scores_are_mahalanobis_distances_of_log_norms(shrinkage):
    A, y = activations()
    new, _ = activations(seed=1)
    detector = ActivationNormDetector(shrinkage=shrinkage).fit(A, y)
    np.testing.assert_allclose(detector.score_samples(new), brute_scores(A, y, new, shrinkage))


def test_two_layers_by_hand():
    # Norms 5 and 10, and 2 and 8: mean norms 7.5 and 5; the logarithms differ from their mean by
    # half of log 2 and of log 4, so that the distance of a training sample is 1 in one axis.
    layers = {"a": [[3.0, 4.0], [6.0, 8.0]], "b": [[2.0], [8.0]]}
    detector = ActivationNormDetector(shrinkage=0).fit(Activations(layers))
    assert detector.mean_norms_ == pytest.approx({"a": 7.5, "b": 5})
    middle = {"a": [[np.sqrt(50), 0.0]], "b": [[4.0]]}
    assert detector.score_samples(Activations(middle)) == pytest.approx([0], abs=1e-9)
    assert detector.score_samples(Activations(layers)) == pytest.approx([-0.5, -0.5])


def test_classes_are_labels_or_predictions():
    A, y = activations()
    new, _ = activations(seed=1)
    predictions = np.where(np.arange(len(y)) % 10 == 0, (y + 1) % 3, y)
    with_predictions, _ = activations(predictions=predictions)
    new_with_predictions, _ = activations(seed=1, predictions=y)
    one_class = np.zeros(len(y), dtype=int)
    for detector, X, labels, classes in [
        (ActivationNormDetector(), A, y, y),
        (ActivationNormDetector(), with_predictions, y, y),
        (ActivationNormDetector(), with_predictions, None, predictions),
        (ActivationNormDetector(group_by="prediction"), with_predictions, y, predictions),
        (ActivationNormDetector(), A, None, one_class),
        (ActivationNormDetector(), A, one_class + 1, one_class),
    ]:
        found = detector.fit(X, labels)
        seen = new if X is A else new_with_predictions
        expected = brute_scores(A, classes, new, 0.1)
        np.testing.assert_allclose(found.score_samples(seen), expected)


def test_samples_that_are_classified_wrong_do_not_count():
    A, y = activations()
    predictions = np.where(np.arange(len(y)) % 10 == 0, (y + 1) % 3, y)
    X, _ = activations(predictions=predictions)
    is_right = np.flatnonzero(predictions == y)
    found = ActivationNormDetector(group_by="correct").fit(X, y)
    # The unit of a norm does not matter, but for the share of silence.
    expected = brute_scores(A[is_right], y[is_right], A, 0.1)
    np.testing.assert_allclose(found.score_samples(X), expected, rtol=1e-5)


def test_messages_name_the_detector():
    A, y = activations()
    wrong, _ = activations(predictions=(y + 1) % 3)
    with pytest.raises(ValueError, match="ActivationNormDetector with group_by='correct'"):
        ActivationNormDetector(group_by="correct").fit(wrong, y)
    with pytest.raises(ValueError, match="group_by='correct' needs predictions"):
        ActivationNormDetector(group_by="correct").fit(A, y)
    with pytest.raises(ValueError, match="shrinkage"):
        ActivationNormDetector(shrinkage=1).fit(A)
    with pytest.raises(NotFittedError):
        ActivationNormDetector().score_samples(A)


def test_training_scores_are_those_of_a_fit_without_the_sample():
    A, y = activations(n_rows=45)
    detector = ActivationNormDetector(shrinkage=0).fit(A, y)
    for row in range(len(A)):
        others = np.delete(np.arange(len(A)), row)
        without = ActivationNormDetector(shrinkage=0).fit(A[others], y[others])
        # The mean norms alone, which change 10^-6 in units of them, keep the sample.
        expected = without.score_samples(A[[row]])[0]
        assert detector.training_scores_[row] == pytest.approx(expected, rel=1e-4)
    assert detector.training_scores_.mean() < 1.1 * detector.score_samples(A).mean()


def test_threshold_rejects_as_many_new_samples_as_it_says():
    A, y = activations(n_rows=600)
    new, _ = activations(n_rows=3000, seed=1)
    rejected = ActivationNormDetector(false_alarm_rate=0.1).fit(A, y).predict(new) == -1
    assert rejected.mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("factor", [1 / 255, 0.2, 3, 255])
def test_scaled_samples_are_found_and_directions_do_not_matter(factor):
    A, y = activations(n_rows=300)
    new, _ = activations(n_rows=300, seed=1)
    detector = ActivationNormDetector().fit(A, y)
    scaled = new.replace({name: factor * layer for name, layer in new.items()})
    assert np.mean(detector.predict(scaled) == -1) > 0.98
    turned = new.replace({name: -layer[:, ::-1] for name, layer in new.items()})
    np.testing.assert_allclose(detector.score_samples(turned), detector.score_samples(new))


@pytest.mark.parametrize("unit", [1e-100, 1e100])
def test_units_of_layers_do_not_matter(unit):
    A, y = activations()
    new, _ = activations(seed=1)
    scaled, new_scaled = (X.assign({"b": unit * X["b"]}) for X in (A, new))
    expected = ActivationNormDetector().fit(A, y).score_samples(new)
    found = ActivationNormDetector().fit(scaled, y).score_samples(new_scaled)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_values_whose_squares_leave_the_range_are_refused(size):
    A, y = activations()
    with pytest.raises(ValueError, match="layer 'b' holds values of a size of up to"):
        ActivationNormDetector().fit(A.assign({"b": size * A["b"]}), y)


@pytest.mark.parametrize("size", [0, 1e-310, 1e-200])
def test_samples_with_next_to_no_activation_are_alarms(size):
    A, y = activations()
    detector = ActivationNormDetector().fit(A, y)
    silent = A[[0]].replace({name: size * layer[:1] for name, layer in A.items()})
    assert detector.score_samples(silent)[0] < 10 * detector.offset_ < 0
    np.testing.assert_allclose(detector.score_samples(silent), brute_scores(A, y, silent, 0.1))


@pytest.mark.parametrize("dtype", ["f2", "f4", "i4", "u1", np.longdouble])
def test_layers_of_any_type(dtype):
    A, y = activations()
    typed = A.replace({name: (10 * np.asarray(layer)).astype(dtype) for name, layer in A.items()})
    double = A.replace({name: np.asarray(layer, dtype="f8") for name, layer in typed.items()})
    np.testing.assert_allclose(
        ActivationNormDetector().fit(typed, y).score_samples(typed),
        brute_scores(double, y, double, 0.1),
    )


def test_bits_count_as_ones_packed_or_not():
    rng = np.random.default_rng(0)
    bits = {name: rng.random((80, n)) < 0.5 for name, n in {"a": 20, "b": 33}.items()}
    plain = Activations(bits)
    packed = Activations({name: PackedBits.pack(layer) for name, layer in bits.items()})
    expected = brute_scores(plain, np.zeros(80), plain, 0.1)
    for X in (plain, packed):
        np.testing.assert_allclose(ActivationNormDetector().fit(X).score_samples(X), expected)


def test_maps_are_refused_with_the_way_out():
    maps = Activations({"conv": np.random.default_rng(0).random((20, 3, 2, 2))})
    with pytest.raises(ValueError, match=r"layer 'conv' has shape \(20, 3, 2, 2\).*PoolingReducer"):
        ActivationNormDetector().fit(maps)


def test_a_plain_array_is_one_layer():
    X = np.random.default_rng(0).random((50, 4))
    found = ActivationNormDetector().fit(X).score_samples(X)
    A = Activations({"X": X})
    np.testing.assert_allclose(found, brute_scores(A, np.zeros(50), A, 0.1))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_layers_whose_norms_tell_nothing_are_not_read(dtype):
    A, y = activations()
    rows = np.random.default_rng(1).normal(size=(len(A), 7))
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)
    layers = {"zero": np.zeros((len(A), 2)), **dict(A.items()), "unit": 3 * unit}
    found = ActivationNormDetector().fit(Activations(layers), y)
    assert list(found.mean_norms_) == ["a", "b", "c"]
    np.testing.assert_allclose(found.score_samples(Activations(layers)), brute_scores(A, y, A, 0.1))


@pytest.mark.parametrize("rows", [np.zeros((9, 3)), np.eye(3)[np.arange(9) % 3], np.ones((1, 3))])
def test_norms_that_never_vary_are_warned_of_by_the_names_of_the_layers(rows):
    X = Activations({"relu": rows})
    with pytest.warns(UserWarning, match=r"norms of the layers \['relu'\] do not vary") as caught:
        found = ActivationNormDetector().fit(X)
    assert len(caught) == 1
    assert "ActivationNormDetector is blind" in str(caught[0].message)
    np.testing.assert_array_equal(found.score_samples(X), 0)
    assert (found.predict(X) == 1).all()


def test_norms_that_vary_between_classes_alone_tell_nothing():
    y = np.arange(30) % 3
    X = Activations({"relu": (1.0 + y)[:, np.newaxis] * np.ones(4)})
    with pytest.warns(UserWarning, match="do not vary within classes"):
        ActivationNormDetector().fit(X, y)
    assert list(ActivationNormDetector().fit(X).mean_norms_) == ["relu"]


def test_rows_marked_as_ood_are_not_learnt_from():
    A, y = activations()
    far = A[:20].replace({name: 100 * np.asarray(layer[:20]) for name, layer in A.items()})
    layers = {name: np.concatenate([A[name], far[name]]) for name in A.layer_names}
    both = Activations(layers)
    found = ActivationNormDetector().fit(both, np.r_[y, np.full(20, -1)])
    np.testing.assert_allclose(found.score_samples(A), brute_scores(A, y, A, 0.1))
    assert found.training_rows_.tolist() == list(range(len(A)))


def test_order_copies_and_batches_do_not_matter():
    A, y = activations()
    new, _ = activations(seed=1)
    detector = ActivationNormDetector().fit(A, y)
    scores = detector.score_samples(new)
    order = np.random.default_rng(0).permutation(len(A))
    for other in (
        clone(detector).fit(A[order], y[order]),
        clone(detector).fit(A[["c", "a", "b"]], y),
        pickle.loads(pickle.dumps(detector)),
    ):
        np.testing.assert_allclose(other.score_samples(new[list(other.mean_norms_)]), scores)
    single = [detector.score_samples(new[[row]])[0] for row in range(len(new))]
    np.testing.assert_allclose(single, scores)


def test_a_further_fit_forgets_the_first():
    A, y = activations()
    detector = ActivationNormDetector()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(A.replace({"a": np.ones((len(A), 2))}), y)
    np.testing.assert_allclose(detector.fit(A, y).score_samples(A), brute_scores(A, y, A, 0.1))
