"""The Mahalanobis detector against references and brute force."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.covariance import (
    OAS,
    EmpiricalCovariance,
    GraphicalLasso,
    LedoitWolf,
    MinCovDet,
    ShrunkCovariance,
)
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import Activations
from skood.activations import PackedBits
from skood.detectors import MahalanobisDetector
from skood.detectors._mahalanobis import _parts
from skood.detectors._tied_moments import N_PARTS, number_parts
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector

# References


@pytest.fixture(scope="module")
def network(golden):
    return golden("inputs"), golden("mahalanobis")


@pytest.mark.parametrize("relative", [False, True])
def test_distances_are_those_of_the_reference(network, relative):
    inputs, expected = network
    detector = MahalanobisDetector(relative=relative)
    detector.fit(inputs["features_train"], inputs["y_train"])
    np.testing.assert_allclose(detector.class_means_["X"], expected["class_means_f64"], rtol=1e-12)
    squared = -2 * detector.score_samples(inputs["features_eval"])
    reference = expected["relative_f64" if relative else "squared_f64"]
    np.testing.assert_allclose(squared, reference, rtol=1e-6, atol=1e-8)


def test_scores_of_layers_are_those_of_the_authors(network):
    inputs, expected = network
    names = [f"conv{number}" for number in range(1, 6)]

    def layers(split):
        pooled = {name: inputs[f"{name}_avg_{split}"] for name in names}
        n_samples = len(pooled["conv1"])
        return Activations({**pooled, "fc1": inputs[f"features_{split}"][:n_samples]})

    detector = MahalanobisDetector().fit(layers("train"), inputs["y_train"][:450])
    scores = detector.layer_scores(layers("eval"))
    # The reference took the means of maps in double precision; here they come in single.
    for name, layer in zip([*names, "fc1"], scores.T, strict=True):
        np.testing.assert_allclose(-layer, expected[f"official_{name}_f64"], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(detector.score_samples(layers("eval")), scores.sum(axis=1))


def test_dead_units_have_no_weight(golden):
    edge = golden("edge_cases")
    detector = MahalanobisDetector().fit(edge["feat_train"], edge["feat_y"])
    squared = -2 * detector.score_samples(edge["feat_query"])
    expected = np.abs(edge["feat_mahalanobis_openood"])
    np.testing.assert_allclose(squared, expected, rtol=1e-4, atol=1e-4)
    assert not detector.precision_["X"][2].any()


# Brute force


def brute_squares(query, rows, labels):
    """Smallest squared distance of one sample, by the formulas of the paper."""
    classes = sorted(set(labels))
    means = np.array([rows[labels == label].mean(axis=0) for label in classes])
    residuals = rows - means[np.searchsorted(classes, labels)]
    precision = np.linalg.pinv(residuals.T @ residuals / len(rows), rcond=1e-12, hermitian=True)
    apart = query - means
    return np.einsum("cu,uv,cv->c", apart, precision, apart).min()


def brute_score(query, rows, labels, relative):
    squared = brute_squares(query, rows, labels)
    if relative:
        squared -= brute_squares(query, rows, np.zeros(len(rows)))
    return -0.5 * squared


few_rows = st.tuples(st.integers(2, 12), st.integers(1, 4), st.integers(0, 99)).map(
    lambda args: np.random.default_rng(args[2]).integers(0, 4, size=args[:2]).astype(float)
)


@pytest.mark.filterwarnings("ignore:Layer 'X' does not vary")
@given(
    X=few_rows,
    relative=st.booleans(),
    n_classes=st.integers(1, 4),
    offset=st.sampled_from([0, 1e3]),
)
def test_scores_are_those_of_a_brute_force(X, relative, n_classes, offset):
    """Also with single samples of a class, duplicates, constant units and too few samples."""
    labels = np.arange(len(X)) % n_classes
    rows = X + offset
    relative = relative and n_classes > 1
    detector = MahalanobisDetector(relative=relative).fit(rows, labels)
    query = np.vstack([rows, rows[:1] + 1.5])
    expected = [brute_score(row - offset, X, labels, relative) for row in query]
    np.testing.assert_allclose(detector.score_samples(query), expected, atol=1e-6)

    others = [np.arange(len(X)) != row for row in range(len(X))]
    left_out = [
        brute_score(X[row], X[rest], labels[rest], relative) for row, rest in enumerate(others)
    ]
    np.testing.assert_allclose(detector.training_scores_, left_out, atol=1e-6)


@given(
    X=st.tuples(st.integers(1, 4), st.integers(1, 3)).map(np.ones),
    covariance=st.sampled_from([None, LedoitWolf(), EmpiricalCovariance()]),
)
def test_constant_activations_tell_nothing(X, covariance):
    with pytest.warns(UserWarning, match="Layer 'X' does not vary .* LayerSelector"):
        detector = MahalanobisDetector(covariance=covariance).fit(0.1 * X)
    np.testing.assert_array_equal(detector.score_samples([[7.0] * X.shape[1]]), [0])
    np.testing.assert_array_equal(detector.training_scores_, 0)


def test_equal_rows_of_each_class_leave_no_covariance():
    # Ten times 0.1 divided by ten is not 0.1.
    X = np.repeat([[0.1, 0.7], [0.3, 0.9]], 10, axis=0)
    with pytest.warns(UserWarning, match="does not vary within classes"):
        detector = MahalanobisDetector().fit(X, np.repeat([0, 1], 10))
    assert not detector.precision_["X"].any()


def test_the_layer_that_is_blind_is_named():
    rows = np.random.default_rng(0).normal(size=(20, 2))
    A = Activations({"dead": np.zeros((20, 3)), "fc": rows})
    with pytest.warns(UserWarning, match="Layer 'dead' does not vary") as caught:
        detector = MahalanobisDetector().fit(A)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    other = Activations({"dead": np.ones((20, 3)), "fc": A["fc"]})
    np.testing.assert_array_equal(detector.layer_scores(other)[:, 0], 0)


def test_distant_classes_cost_no_precision():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(90, 6))
    labels = np.arange(90) % 3
    near, far = (noise + labels[:, np.newaxis] * apart for apart in (1e2, 1e6))
    expected = MahalanobisDetector().fit(near, labels).score_samples(near)
    detector = MahalanobisDetector().fit(far + 1e6, labels)
    np.testing.assert_allclose(detector.score_samples(far + 1e6), expected, rtol=1e-7)


# Classes


@pytest.fixture(scope="module")
def data():
    """Three classes in three layers, the last of which tells nothing; samples of none of them."""
    rng = np.random.default_rng(0)
    label = np.r_[np.arange(240) % 3, np.full(60, -1)]
    layers = {}
    for name, shift in {"relu1": 0.5, "relu2": 1.0, "noise": 0.0}.items():
        centers = np.vstack([rng.normal(size=(3, 8)), np.full(8, shift)])
        layers[name] = rng.normal(size=(300, 8)) + (shift > 0) * centers[label]
    return Activations(layers, predictions=np.maximum(label, 0)), label


def test_classes_are_labels_or_else_predictions(data):
    A, y = data
    A, y = A[y >= 0], y[y >= 0]
    wrong = Activations(dict(A.items()), predictions=np.roll(A.predictions, 1))
    expected = MahalanobisDetector().fit(A).score_samples(A)
    by_label = MahalanobisDetector().fit(wrong, y)
    np.testing.assert_array_equal(by_label.score_samples(A), expected)
    np.testing.assert_array_equal(by_label.class_labels_, [0, 1, 2])
    for labels in (None, np.ones(len(y))):
        by_prediction = MahalanobisDetector().fit(A, labels)
        np.testing.assert_array_equal(by_prediction.score_samples(A), expected)
    bare = Activations(dict(A.items()))
    one_class = MahalanobisDetector().fit(bare)
    np.testing.assert_allclose(one_class.class_means_["relu1"], [A["relu1"].mean(axis=0)])
    # To score samples, predictions are not needed.
    np.testing.assert_array_equal(by_label.score_samples(bare), expected)


def test_labels_may_be_text(data):
    A, y = data
    inside = y >= 0
    names = np.array(["cat", "dog", "emu"])[y[inside]]
    detector = MahalanobisDetector().fit(A[inside], names)
    assert detector.class_labels_.tolist() == ["cat", "dog", "emu"]
    expected = MahalanobisDetector().fit(A[inside], y[inside])
    np.testing.assert_array_equal(detector.score_samples(A), expected.score_samples(A))


def test_bits_are_zeros_and_ones():
    bits = np.random.default_rng(0).random((60, 70)) < 0.5
    expected = MahalanobisDetector().fit(bits.astype(float)).score_samples(bits.astype(float))
    packed = Activations({"relu": PackedBits.pack(bits)})
    found = MahalanobisDetector().fit(packed).score_samples(packed)
    np.testing.assert_array_equal(found, expected)


# Covariance estimators


@pytest.mark.parametrize(
    "estimator",
    [LedoitWolf(), OAS(), ShrunkCovariance(shrinkage=0.3), MinCovDet(random_state=0)],
    ids=lambda estimator: type(estimator).__name__,
)
def test_the_precision_is_that_of_the_given_estimator(data, estimator):
    A, y = data
    inside = y >= 0
    X, labels = A["relu1"][inside], y[inside]
    detector = MahalanobisDetector(covariance=estimator).fit(X, labels)
    means = np.array([X[labels == label].mean(axis=0) for label in range(3)])
    fitted = estimator.set_params(assume_centered=True).fit(X - means[labels])
    np.testing.assert_allclose(detector.precision_["X"], fitted.get_precision(), rtol=1e-9)
    expected = cdist(A["relu1"], means, "mahalanobis", VI=fitted.get_precision()).min(axis=1)
    np.testing.assert_allclose(detector.score_samples(A["relu1"]), -0.5 * expected**2)


def test_the_given_estimator_is_left_alone(data):
    A, y = data
    estimator = LedoitWolf()
    MahalanobisDetector(covariance=estimator).fit(A, y)
    assert vars(estimator) == vars(LedoitWolf())


def test_the_empirical_estimator_is_the_default(data):
    A, y = data
    expected = MahalanobisDetector().fit(A[["relu1"]], y)
    detector = MahalanobisDetector(covariance=EmpiricalCovariance()).fit(A[["relu1"]], y)
    np.testing.assert_allclose(
        detector.score_samples(A[["relu1"]]), expected.score_samples(A[["relu1"]])
    )
    # One leaves each sample out, the other a fifth of them.
    assert detector.offset_ == pytest.approx(expected.offset_, rel=0.1)


@pytest.mark.parametrize(
    "estimator",
    [LedoitWolf(), OAS(), ShrunkCovariance(), MinCovDet(random_state=0), GraphicalLasso()],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("relative", [False, True])
def test_dead_units_do_no_harm_to_any_estimator(data, estimator, relative):
    A, y = data
    X = np.hstack([A["relu1"], np.zeros((300, 3))])
    detector = MahalanobisDetector(covariance=estimator, relative=relative).fit(X, y)
    expected = MahalanobisDetector(covariance=estimator, relative=relative).fit(X[:, :8], y)
    X[:, 8:] = 5
    np.testing.assert_allclose(detector.score_samples(X), expected.score_samples(X[:, :8]))


@pytest.mark.parametrize("covariance", [None, LedoitWolf()], ids=["empirical", "shrunk"])
@pytest.mark.parametrize("relative", [False, True])
def test_few_training_samples_do_not_make_the_threshold_strict(covariance, relative):
    rng = np.random.default_rng(0)
    centers = 3 * rng.normal(size=(4, 60))
    labels = np.arange(2200) % 4
    X = rng.normal(size=(2200, 60)) + centers[labels]
    detector = MahalanobisDetector(covariance=covariance, relative=relative, false_alarm_rate=0.1)
    detector.fit(X[:200], labels[:200])
    assert np.mean(detector.predict(X[200:]) == -1) == pytest.approx(0.1, abs=0.06)
    if covariance is None:
        in_sample = np.percentile(detector.score_samples(X[:200]), 10)
        assert np.mean(detector.score_samples(X[200:]) < in_sample) > 0.25


# Normalised activations


def by_hand(rows):
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("covariance", [None, LedoitWolf()], ids=["empirical", "shrunk"])
@pytest.mark.parametrize("relative", [False, True])
def test_each_layer_is_normalised_by_itself(data, relative, covariance):
    A, y = data
    units = Activations({name: by_hand(layer) for name, layer in A.items()})
    params = {"relative": relative, "covariance": covariance}
    expected = MahalanobisDetector(**params).fit(units, y)
    detector = MahalanobisDetector(normalize=True, **params).fit(A, y)
    for name in A.layer_names:
        np.testing.assert_allclose(detector.class_means_[name], expected.class_means_[name])
        np.testing.assert_allclose(
            detector.precision_[name], expected.precision_[name], rtol=1e-6, atol=1e-6
        )
    if covariance is not None:
        return  # samples are left out in parts, by what they hold, which weigh the layers
    np.testing.assert_allclose(detector.layer_weights_, expected.layer_weights_, rtol=1e-5)
    for found, scores in (
        (detector.score_samples(A), expected.score_samples(units)),
        # Each sample is left out here, too.
        (detector.training_scores_, expected.training_scores_),
    ):
        np.testing.assert_allclose(found, scores, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Layer 'X' does not vary")
@given(X=few_rows, relative=st.booleans(), seed=st.integers(0, 99))
def test_scores_of_normalised_rows_are_those_of_a_brute_force(X, relative, seed):
    X = np.hstack([X - 1.5, np.ones((len(X), 1))])
    labels = np.arange(len(X)) % 2
    detector = MahalanobisDetector(relative=relative, normalize=True)
    scaled = X * np.random.default_rng(seed).uniform(0.1, 9, size=(len(X), 1))
    detector.fit(scaled, labels)
    units = by_hand(X)
    expected = [brute_score(row, units, labels, relative) for row in units]
    np.testing.assert_allclose(detector.score_samples(X), expected, atol=1e-6)
    others = [np.arange(len(X)) != row for row in range(len(X))]
    left_out = [
        brute_score(units[row], units[rest], labels[rest], relative)
        for row, rest in enumerate(others)
    ]
    np.testing.assert_allclose(detector.training_scores_, left_out, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-140, 1e-3, 1e140])
@pytest.mark.parametrize("relative", [False, True])
def test_the_length_of_normalised_rows_does_not_matter(data, relative, factor):
    A, y = data
    X, inside = A["relu1"], y >= 0
    detector = MahalanobisDetector(relative=relative, normalize=True).fit(X[inside], y[inside])
    expected = detector.score_samples(X)
    np.testing.assert_allclose(detector.score_samples(factor * X), expected, rtol=1e-9)
    detector.fit(factor * X[inside], y[inside])
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol=1e-9)


def test_rows_without_any_activation_stay_so_when_normalised():
    X = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0], [4.0, 4.0]])
    detector = MahalanobisDetector(normalize=True).fit(X)
    root = np.sqrt(0.5)
    np.testing.assert_allclose(detector.class_means_["X"], [[(1 + root) / 4] * 2])
    assert np.isfinite(detector.training_scores_).all()
    assert detector.score_samples([[0.0, 0.0]]) < detector.score_samples([[1.0, 1.0]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_in_proportion_leave_no_covariance_when_normalised(dtype):
    factors = np.random.default_rng(0).uniform(1, 9, size=(60, 1))
    X = (factors * [[0.1, 0.7, 0.3]]).astype(dtype)
    with pytest.warns(UserWarning, match="does not vary within classes"):
        detector = MahalanobisDetector(normalize=True).fit(X)
    assert not detector.precision_["X"].any()
    np.testing.assert_array_equal(detector.training_scores_, 0)


def test_normalising_helps_where_lengths_say_nothing():
    rng = np.random.default_rng(0)
    y = np.r_[np.arange(400) % 3, np.full(200, -1)]
    directions = np.vstack([4 * np.eye(3, 12), np.zeros(12)])
    X = directions[y] + rng.normal(size=(600, 12))
    X *= np.exp(rng.normal(size=(600, 1)))
    known, new = np.arange(600) < 200, np.arange(600) >= 200
    plain, normalised = (
        MahalanobisDetector(normalize=normalize).fit(X[known], y[known]).score(X[new], y[new])
        for normalize in (False, True)
    )
    assert normalised > 0.97 > 0.9 > plain


# Shrinkage, and few principal axes


def class_scatter(X, labels):
    """Residuals from class means, their covariance, and the means."""
    means = np.array([X[labels == label].mean(axis=0) for label in np.unique(labels)])
    residuals = X - means[np.unique(labels, return_inverse=True)[1]]
    return residuals, residuals.T @ residuals / len(X), means


def nearest_squares(query, means, covariance):
    apart = query - means
    return np.einsum("cu,uv,cv->c", apart, np.linalg.inv(covariance), apart).min()


def shrunk(covariance, shrinkage):
    mean_variance = np.trace(covariance) / len(covariance)
    return (1 - shrinkage) * covariance + shrinkage * mean_variance * np.eye(len(covariance))


def share_the_rest(covariance, n_components):
    """Probabilistic principal components: the leading axes, and one variance beside them."""
    values, vectors = np.linalg.eigh(covariance)
    values[:-n_components] = values[:-n_components].mean()
    return vectors * values @ vectors.T


def without_row(X, labels, row):
    rest = np.arange(len(X)) != row
    return X[rest], labels[rest]


@given(
    X=few_rows,
    shrinkage=st.sampled_from([1e-3, 0.1, 0.9]),
    n_classes=st.integers(1, 4),
    dead=st.integers(0, 2),
    scale=st.sampled_from([1e-120, 1.0, 1e120]),
)
def test_shrunk_scores_are_those_of_a_brute_force(X, shrinkage, n_classes, dead, scale):
    """Also with single samples of a class, duplicates, dead units and too few samples."""
    labels = np.arange(len(X)) % n_classes
    X = np.hstack([X, np.ones((len(X), dead))])
    residuals, covariance, means = class_scatter(X, labels)
    if np.abs(residuals).max() < 1e-9:
        return
    detector = MahalanobisDetector(shrinkage=shrinkage).fit(scale * X, labels)
    query = np.vstack([X, X[:1] + 1.5])
    full = shrunk(covariance, shrinkage)
    expected = [-0.5 * nearest_squares(row, means, full) for row in query]
    np.testing.assert_allclose(detector.score_samples(scale * query), expected, 1e-7, 1e-9)
    np.testing.assert_allclose(
        detector.precision_["X"] * scale @ full * scale, np.eye(len(full)), atol=1e-7
    )

    for row, found in enumerate(-2 * detector.training_scores_):
        others, their_labels = without_row(X, labels, row)
        left, true, left_means = class_scatter(others, their_labels)
        if np.abs(left).max() < 1e-9:
            continue
        exact = nearest_squares(X[row], left_means, shrunk(true, shrinkage))
        # Only the mean variance is still that of all samples.
        lost = 1 - len(others) * np.trace(true) / len(X) / np.trace(covariance)
        assert exact * (1 - lost) - 1e-7 <= found <= exact * (1 + 1e-7) + 1e-7
        kept = len(X) / len(others) * np.trace(covariance) / len(covariance)
        same = (1 - shrinkage) * true + shrinkage * kept * np.eye(len(true))
        assert found == pytest.approx(nearest_squares(X[row], left_means, same), 1e-6, 1e-9)


def test_a_unit_that_never_varied_counts_with_shrinkage():
    X = np.hstack([np.random.default_rng(0).normal(size=(50, 3)), np.full((50, 1), 2.0)])
    moved = X[:1] + np.eye(4)[3]
    plain = MahalanobisDetector().fit(X)
    assert plain.score_samples(moved) == plain.score_samples(X[:1])
    shrunken = MahalanobisDetector(shrinkage=0.1).fit(X)
    variance = 0.1 * X.var(axis=0).mean()
    difference = shrunken.score_samples(X[:1]) - shrunken.score_samples(moved)
    np.testing.assert_allclose(difference, 0.5 / variance)


@pytest.fixture(params=["whole", "leading", "few rows"])
def wide(request, monkeypatch):
    """Samples of three classes in 12 units, and how many axes to keep; by each decomposition."""
    if request.param != "whole":
        monkeypatch.setattr("skood.detectors._tied_gaussian._WIDEST_MATRIX", 4)
    rng = np.random.default_rng(1)
    n_rows, n_components = (8, 9) if request.param == "few rows" else (40, 3)
    labels = np.arange(n_rows) % 3
    X = rng.normal(size=(n_rows, 12)) * np.geomspace(3, 0.1, 12) + rng.normal(size=(3, 12))[labels]
    return X, labels, n_components


@pytest.mark.parametrize("shrinkage", [0.0, 0.2])
def test_directions_beside_the_leading_axes_share_their_variance(wide, shrinkage):
    X, labels, n_components = wide
    detector = MahalanobisDetector(shrinkage=shrinkage, n_components=n_components).fit(X, labels)
    _, covariance, means = class_scatter(X, labels)
    if shrinkage or len(X) > 12:
        full = shrunk(share_the_rest(covariance, n_components), shrinkage)
        precision = np.linalg.inv(full)
    else:
        # No variance remains that could be shared.
        precision = np.linalg.pinv(covariance, rcond=1e-12, hermitian=True)
    np.testing.assert_allclose(detector.precision_["X"], precision, rtol=1e-6, atol=1e-8)
    query = np.vstack([X, 10 * np.random.default_rng(0).normal(size=(20, 12))])
    expected = cdist(query, means, "mahalanobis", VI=precision).min(axis=1) ** 2
    np.testing.assert_allclose(-2 * detector.score_samples(query), expected, rtol=1e-7)


def test_samples_are_left_out_by_parts_where_variance_is_left_over(wide):
    X, labels, _ = wide
    params = {"shrinkage": 0.1, "n_components": 3}
    detector = MahalanobisDetector(**params).fit(X, labels)
    expected = np.empty(len(X))
    parts = _parts(X, np.unique(labels, return_inverse=True)[1], len(X))
    assert max(map(len, parts)) <= -(-len(X) // 5)
    assert sorted(np.concatenate(parts)) == list(range(len(X)))
    for held_out in parts:
        learnt = np.setdiff1d(np.arange(len(X)), held_out)
        part = MahalanobisDetector(**params).fit(X[learnt], labels[learnt])
        expected[held_out] = part.score_samples(X[held_out])
    np.testing.assert_allclose(detector.training_scores_, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def many():
    """Samples of three classes in two layers of 12 and of 20 units."""
    rng = np.random.default_rng(2)
    labels = np.arange(300) % 3
    layers = {}
    for name, n_units in {"a": 12, "b": 20}.items():
        units = rng.normal(size=(300, n_units)) * np.geomspace(3, 0.1, n_units)
        layers[name] = units + rng.normal(size=(3, n_units))[labels]
    return Activations(layers), labels


def test_a_fifth_of_many_samples_is_left_out_at_a_time(many):
    A, labels = many
    params = {"shrinkage": 0.1, "n_components": 3}
    detector = MahalanobisDetector(**params).fit(A["a"], labels)
    numbers = number_parts(A["a"])
    assert np.bincount(numbers).min() > 300 / N_PARTS / 2
    for number in range(N_PARTS):
        learnt, left_out = numbers != number, numbers == number
        part = MahalanobisDetector(**params).fit(A["a"][learnt], labels[learnt])
        np.testing.assert_allclose(
            detector.training_scores_[left_out], part.score_samples(A["a"][left_out]), rtol=1e-8
        )


@pytest.mark.parametrize("n_held", [90, 30, 8])
@pytest.mark.parametrize(
    "params",
    [
        {"n_components": 3},
        {"n_components": 3, "shrinkage": 0.1, "normalize": True},
        {"n_components": 15, "relative": True},
        {"covariance": LedoitWolf()},
    ],
    ids=str,
)
def test_thresholds_do_not_depend_on_how_many_rows_are_held(many, hold_at_most, params, n_held):
    A, labels = many
    expected = MahalanobisDetector(**params).fit(A, labels)
    hold_at_most(n_held * 32)
    found = MahalanobisDetector(**params).fit(A, labels)
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-8)
    assert found.offset_ == pytest.approx(expected.offset_, rel=1e-8)
    assert found.class_accuracy_ == expected.class_accuracy_


def test_streams_leave_out_the_same_parts(many):
    A, labels = many
    params = {"n_components": 3, "shrinkage": 0.1}
    expected = MahalanobisDetector(**params).fit(A, labels)
    first, second = MahalanobisDetector(**params), MahalanobisDetector(**params)
    for rows in np.array_split(np.arange(200), 3):
        first.partial_fit(A[rows], labels[rows])
    found = first.merge(second.fit(A[200:], labels[200:]))
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-8)
    assert found.offset_ == pytest.approx(expected.offset_, rel=1e-8)


def test_of_rows_that_repeat_no_part_holds_most():
    """A row that is there a hundred times is in one part, without which little is left."""
    rng = np.random.default_rng(0)
    X = np.vstack([np.repeat(rng.normal(size=(1, 12)), 100, axis=0), rng.normal(size=(40, 12))])
    detector = MahalanobisDetector(shrinkage=0.1, n_components=3).fit(X)
    # So parts of all rows are left out that are alike in size.
    assert np.median(detector.training_scores_[:100]) > np.median(detector.training_scores_[100:])
    assert detector.offset_ < detector.training_scores_[:100].min()


@pytest.mark.parametrize(
    "params", [{"n_components": 3}, {"covariance": LedoitWolf()}, {"relative": True}], ids=str
)
def test_no_order_of_rows_changes_the_scores_of_rows_left_out(wide, params):
    X, labels, _ = wide
    order = np.random.default_rng(0).permutation(len(X))
    detector = MahalanobisDetector(**params).fit(X, labels)
    other = MahalanobisDetector(**params).fit(X[order], labels[order])
    np.testing.assert_allclose(
        other.training_scores_, detector.training_scores_[order], rtol=1e-6, atol=1e-9
    )
    assert other.offset_ == pytest.approx(detector.offset_)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_few_axes_do_not_make_the_threshold_strict(decay):
    rng = np.random.default_rng(0)
    labels = np.arange(1300) % 4
    X = rng.normal(size=(1300, 150)) + rng.normal(size=(4, 150))[labels]
    X *= np.arange(1, 151) ** -decay
    detector = MahalanobisDetector(normalize=True, shrinkage=0.1, n_components=60)
    detector.fit(X[:300], labels[:300])
    assert np.mean(detector.predict(X[300:]) == -1) == pytest.approx(0.04, abs=0.035)


@pytest.mark.parametrize("params", [{}, {"shrinkage": 0.1}], ids=str)
@pytest.mark.parametrize("relative", [False, True])
def test_as_many_axes_as_there_are_change_nothing(wide, params, relative):
    X, labels, _ = wide
    X = np.hstack([X, np.ones((len(X), 2))])
    expected = MahalanobisDetector(relative=relative, **params).fit(X, labels)
    detector = MahalanobisDetector(relative=relative, n_components=12, **params).fit(X, labels)
    query = X + np.random.default_rng(0).normal(size=X.shape)
    np.testing.assert_allclose(
        detector.score_samples(query), expected.score_samples(query), rtol=1e-7, atol=1e-8
    )
    np.testing.assert_allclose(
        detector.training_scores_, expected.training_scores_, rtol=1e-6, atol=1e-7
    )


def test_few_axes_of_an_estimated_covariance(data):
    A, y = data
    X, labels = A["relu1"][y >= 0], y[y >= 0]
    detector = MahalanobisDetector(covariance=OAS(), n_components=3).fit(X, labels)
    residuals, _, means = class_scatter(X, labels)
    estimated = OAS(assume_centered=True).fit(residuals).covariance_
    precision = np.linalg.inv(share_the_rest(estimated, 3))
    expected = cdist(A["relu1"], means, "mahalanobis", VI=precision).min(axis=1) ** 2
    np.testing.assert_allclose(-2 * detector.score_samples(A["relu1"]), expected, rtol=1e-7)


def test_many_units_take_memory_for_the_axes_that_are_kept():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3000)).astype(np.float32)
    detector = MahalanobisDetector(normalize=True, shrinkage=0.1, n_components=16)
    detector.fit(X, np.arange(200) % 4)
    # The axes, the directions between four means, the means, and some rows of numbers.
    assert len(pickle.dumps(detector)) < 8 * 3000 * (16 + 3 + 4 + 3) + 2**14


def test_the_precision_is_not_kept(data):
    A, _ = data
    detector = MahalanobisDetector().fit(A)
    assert "precision_" not in vars(detector)
    assert not hasattr(MahalanobisDetector(), "precision_")


def test_shrinkage_and_an_estimator_are_refused_together(data):
    A, y = data
    detector = MahalanobisDetector(shrinkage=0.1, covariance=LedoitWolf())
    with pytest.raises(ValueError, match=r"shrinkage=0.1 .* covariance=LedoitWolf\(\)"):
        detector.fit(A, y)


@pytest.mark.parametrize("n_components", [None, 5])
@pytest.mark.parametrize("relative", [False, True])
def test_a_thousand_classes_of_few_samples_have_finite_scores(n_components, relative):
    rng = np.random.default_rng(0)
    predictions = rng.integers(0, 1000, size=300)
    X = np.maximum(rng.normal(size=(300, 40)), 0).astype(np.float32)
    A = Activations({"relu": X}, predictions=predictions)
    detector = MahalanobisDetector(
        normalize=True,
        shrinkage=0.1,
        n_components=n_components,
        relative=relative,
        group_by="prediction",
    ).fit(A)
    assert np.isfinite(detector.training_scores_).all()
    alone = np.bincount(predictions)[predictions] == 1
    if not relative:
        # They cannot be near to themselves.
        assert alone.any()
        assert (detector.training_scores_[alone] < -1).all()
    assert np.isfinite(detector.score_samples(Activations({"relu": -X}))).all()


def test_equal_rows_are_blind_with_shrinkage_too():
    X = np.repeat([[0.1, 0.7], [0.3, 0.9]], 10, axis=0)
    detector = MahalanobisDetector(shrinkage=0.5, n_components=1)
    with pytest.warns(UserWarning, match="does not vary within classes"):
        detector.fit(X, np.repeat([0, 1], 10))
    np.testing.assert_array_equal(detector.score_samples([[7.0, 7.0]]), [0])


# Layers


def test_layers_are_summed_where_no_row_is_out_of_distribution(data):
    A, y = data
    detector = MahalanobisDetector().fit(A[y >= 0], y[y >= 0])
    np.testing.assert_array_equal(detector.layer_weights_, 1)
    alone = [MahalanobisDetector().fit(A[[name]][y >= 0], y[y >= 0]) for name in A.layer_names]
    scores = [
        part.score_samples(A[[name]]) for part, name in zip(alone, A.layer_names, strict=True)
    ]
    np.testing.assert_allclose(detector.layer_scores(A), np.transpose(scores))
    np.testing.assert_allclose(detector.score_samples(A), np.sum(scores, axis=0))
    left_out = np.sum([part.training_scores_ for part in alone], axis=0)
    np.testing.assert_allclose(detector.training_scores_, left_out)


def test_layers_are_weighted_by_logistic_regression(data):
    A, y = data
    detector = MahalanobisDetector().fit(A, y)
    plain = MahalanobisDetector().fit(A[y >= 0], y[y >= 0])
    for name in A.layer_names:
        np.testing.assert_array_equal(detector.class_means_[name], plain.class_means_[name])
        np.testing.assert_array_equal(detector.precision_[name], plain.precision_[name])
    left_out = np.column_stack(
        [MahalanobisDetector().fit(A[[name]], y).training_scores_ for name in A.layer_names]
    )
    scores = np.vstack([left_out, plain.layer_scores(A[y < 0])])
    pipe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", tol=1e-8))
    log_odds = pipe.fit(scores, np.arange(len(scores)) < len(left_out)).decision_function(scores)
    found = scores @ detector.layer_weights_
    np.testing.assert_allclose(found - found[0], log_odds - log_odds[0], atol=1e-4)
    np.testing.assert_allclose(
        detector.score_samples(A), detector.layer_scores(A) @ detector.layer_weights_
    )
    # The layer that tells nothing is hardly listened to.
    assert abs(detector.layer_weights_[2]) < 0.5 * min(detector.layer_weights_[:2])
    assert detector.score(A, y) > plain.score(A, y)


def test_of_one_layer_nothing_is_learnt_from_rows_marked_ood(data):
    A, y = data
    only = A[["relu1"]]
    with_ood = MahalanobisDetector().fit(only, y)
    without = MahalanobisDetector().fit(only[y >= 0], y[y >= 0])
    np.testing.assert_array_equal(with_ood.score_samples(only), without.score_samples(only))
    assert with_ood.offset_ == without.offset_


def test_relative_distances_tell_near_samples_apart():
    # Out-of-distribution samples are unusual in few units that tell classes apart; in many others
    # all samples vary alike.
    rng = np.random.default_rng(0)
    y = np.r_[np.arange(300) % 2, np.full(100, -1)]
    X = rng.normal(size=(400, 40))
    X[:, 0] += np.r_[np.where(y[:300] == 0, -5, 5), np.zeros(100)]
    aurocs = [
        roc_auc_score(y >= 0, MahalanobisDetector(relative=relative).fit(X, y).score_samples(X))
        for relative in (False, True)
    ]
    assert aurocs[1] > 0.99 > aurocs[0]


# Life of a detector


def test_batches_do_not_show(data, hold_at_most):
    A, y = data
    expected = MahalanobisDetector(relative=True).fit(A, y)
    scores = expected.score_samples(A)
    hold_at_most(60)
    detector = MahalanobisDetector(relative=True).fit(A, y)
    np.testing.assert_allclose(detector.score_samples(A), scores, rtol=1e-11)
    np.testing.assert_allclose(detector.training_scores_, expected.training_scores_, rtol=1e-9)


def test_a_search_changes_scores(data):
    A, y = data
    search = GridSearchCV(
        make_pipeline(LayerSelector(layers="relu1"), MahalanobisDetector()),
        {
            "mahalanobisdetector__relative": [False, True],
            "mahalanobisdetector__covariance": [None, ShrunkCovariance(shrinkage=0.9)],
        },
        cv=OODKFold(3),
        error_score="raise",
    ).fit(A, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 4


# Errors


def test_one_class_has_no_relative_distances(data):
    A, _ = data
    with pytest.raises(ValueError, match=r"several classes, .* of 300 samples, all are of"):
        MahalanobisDetector(relative=True).fit(A["relu1"])


def test_maps_have_to_be_pooled():
    A = Activations({"conv": np.ones((4, 3, 2, 2))})
    with pytest.raises(ValueError, match=r"layer 'conv' has shape .*PoolingReducer"):
        MahalanobisDetector().fit(A)


@pytest.mark.parametrize(
    "params",
    [
        {"relative": "yes"},
        {"normalize": "l2"},
        {"covariance": "ledoit"},
        {"covariance": StandardScaler()},
    ],
    ids=["relative", "normalize", "text", "estimator"],
)
def test_parameters_out_of_range_are_refused(data, params):
    A, y = data
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        MahalanobisDetector(**params).fit(A, y)


def test_an_unfitted_detector_says_so(data):
    with pytest.raises(NotFittedError):
        MahalanobisDetector().layer_scores(data[0])
