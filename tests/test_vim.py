"""Virtual-logit matching against references and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import EnergyDetector, ViMDetector
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector


@pytest.fixture
def A():
    """Features of a trained network, in which some units are dead."""
    rng = np.random.default_rng(0)
    centers = 3 * np.maximum(rng.normal(size=(4, 12)), 0)
    features = np.maximum(centers[np.arange(80) % 4] + 0.4 * rng.normal(size=(80, 12)), 0)
    features[:, 9:] = 0
    head = LinearHead(centers - centers.mean(axis=0), rng.normal(size=4), "fc")
    return Activations({"fc": features}, logits=head.logits(features), head=head)


def with_features(A, features, **parts):
    return Activations({"fc": features}, head=A.head, **parts)


# References


@pytest.fixture(scope="module")
def reference(golden):
    inputs = golden("inputs")
    head = LinearHead(inputs["W"], inputs["b"], "fc")

    def read(split):
        # In double precision, as the reference computed them.
        features = inputs[f"features_{split}"].astype(np.float64)
        return Activations({"fc": features}, logits=head.logits(features), head=head)

    return read("train"), read("eval"), golden("vim")


@pytest.mark.parametrize("setting", [0, 1])
def test_scores_are_those_of_the_reference(reference, setting):
    train, test, expected = reference
    detector = ViMDetector(n_components=int(expected["dims"][setting])).fit(train)
    np.testing.assert_allclose(detector.origin_, expected["origin_f64"], rtol=1e-6, atol=1e-8)
    assert detector.alpha_ == pytest.approx(expected[f"alpha_{setting}"][-1], rel=1e-6)
    scores = detector.score_samples(test)
    np.testing.assert_allclose(-scores, expected[f"score_f64_{setting}"], rtol=1e-6, atol=1e-8)
    residual = (logsumexp(test.logits, axis=1) - scores) / detector.alpha_
    stored = expected[f"residual_norm_f64_{setting}"]
    np.testing.assert_allclose(residual, stored, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("setting", [0, 1])
@pytest.mark.parametrize(("library", "atol"), [("openood", 0.02), ("pytorch_ood", 0.3)])
def test_scores_are_near_those_of_other_libraries(reference, setting, library, atol):
    train, test, expected = reference
    found = ViMDetector(n_components=int(expected["dims"][setting])).fit(train).score_samples(test)
    np.testing.assert_allclose(-found, expected[f"{library}_{setting}"], atol=atol)


# Brute force


def brute_scores(head, n_components, train, queries):
    """By the formulas of the paper."""
    origin = -np.linalg.pinv(head.weight) @ head.bias
    moments = (train - origin).T @ (train - origin)
    null_space = np.linalg.eigh(moments)[1][:, : len(moments) - n_components]

    def residual(features):
        return np.linalg.norm((features - origin) @ null_space, axis=1)

    alpha = head.logits(train).max(axis=1).mean() / residual(train).mean()
    return logsumexp(head.logits(queries), axis=1) - alpha * residual(queries)


@given(n_units=st.integers(3, 9), n_components=st.integers(0, 8), seed=st.integers(0, 1000))
def test_scores_are_those_of_a_brute_force(n_units, n_components, seed):
    rng = np.random.default_rng(seed)
    n_components = min(n_components, n_units - 1)
    head = LinearHead(rng.normal(size=(4, n_units)), 5 + rng.normal(size=4), "fc")
    train, queries = rng.normal(size=(30, n_units)) + 1, 3 * rng.normal(size=(10, n_units))
    detector = ViMDetector(n_components=n_components).fit(Activations({"fc": train}, head=head))
    assert detector.n_components_ == n_components
    found = detector.score_samples(Activations({"fc": queries}, head=head))
    expected = brute_scores(head, n_components, train, queries)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


# Definition


def test_axes_are_those_of_the_largest_moments_about_the_origin(A):
    detector = ViMDetector(n_components=3).fit(A)
    axes = detector.components_
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    moments = (((A["fc"] - detector.origin_) @ axes.T) ** 2).sum(axis=0)
    assert (np.diff(moments) < 0).all()
    singular = np.linalg.svd(A["fc"] - detector.origin_, compute_uv=False)
    np.testing.assert_allclose(moments, singular[:3] ** 2)


def test_the_head_gives_no_logits_at_the_origin(A):
    weight = A.head.weight + A["fc"][:4]
    head = LinearHead(weight, A.head.bias, "fc")
    detector = ViMDetector().fit(Activations({"fc": A["fc"]}, head=head))
    np.testing.assert_allclose(head.logits(detector.origin_), np.zeros(4), atol=1e-12)


def test_the_residual_is_as_large_as_the_largest_logit_on_average(A):
    detector = ViMDetector(n_components=3).fit(A)
    virtual = logsumexp(A.logits, axis=1) - detector.training_scores_
    assert virtual.mean() == pytest.approx(A.logits.max(axis=1).mean())


@pytest.mark.parametrize(
    ("n_units", "expected"), [(1, 0), (7, 3), (766, 383), (768, 512), (2047, 512), (2048, 1000)]
)
def test_the_dimension_of_the_authors_is_the_default(n_units, expected):
    assert ViMDetector()._n_components(n_units) == expected


def test_without_a_residual_the_energy_is_left(A):
    live = A["fc"][:, :9]
    head = LinearHead(A.head.weight[:, :9], A.head.bias, "fc")
    everything = ViMDetector(n_components=9).fit(Activations({"fc": live}, head=head))
    logits = head.logits(live)
    energies = EnergyDetector().fit(logits).training_scores_
    np.testing.assert_array_equal(everything.training_scores_, energies)
    np.testing.assert_allclose(energies, logsumexp(logits, axis=1), rtol=1e-14)


def test_a_dead_unit_that_comes_to_life_outweighs_the_energy(A):
    detector = ViMDetector(n_components=11).fit(A)
    assert detector.n_components_ < 11
    np.testing.assert_allclose(detector.training_scores_, logsumexp(A.logits, axis=1), rtol=1e-5)
    alive = A["fc"][:3] + np.r_[np.zeros(9), 0.01, 0, 0]
    scores = detector.score_samples(with_features(A, alive, logits=A.logits[:3]))
    assert (scores < detector.training_scores_.min() - 1000).all()
    assert np.isfinite(scores).all()


def test_a_residual_tells_against_a_sample_where_logits_are_negative(A):
    head = LinearHead(A.head.weight, A.head.bias - 1000, "fc")
    detector = ViMDetector(n_components=3).fit(Activations({"fc": A["fc"]}, head=head))
    outside = np.zeros(12)
    outside[10] = 5.0
    near, far = (with_features(A, A["fc"][:9] + k * outside, logits=A.logits[:9]) for k in (0, 1))
    assert (detector.score_samples(far) < detector.score_samples(near)).all()


@pytest.mark.filterwarnings("ignore:The features of all training samples are where")
@pytest.mark.parametrize("features", [np.zeros((5, 4)), np.ones((5, 4)), 1e-200 * np.eye(4)])
@pytest.mark.parametrize("n_components", ["auto", 0, 3])
def test_scores_of_degenerate_samples_are_finite(features, n_components):
    A = Activations({"fc": features}, head=LinearHead(np.ones((2, 4)), input_layer="fc"))
    detector = ViMDetector(n_components=n_components).fit(A)
    others = Activations({"fc": np.arange(8.0).reshape(2, 4)}, logits=[[1, 2], [3, 4]])
    assert np.isfinite(detector.score_samples(others)).all()


def test_equal_rows_of_weights_do_no_harm():
    rng = np.random.default_rng(0)
    # Centred in single precision, as trained weights may be: their sum is 0 but for rounding.
    weight = rng.normal(size=(3, 8)).astype(np.float32)
    weight -= weight.mean(axis=0)
    head = LinearHead(weight, np.array([1.0, 2.0, 3.0], dtype=np.float32), "fc")
    detector = ViMDetector().fit(Activations({"fc": rng.normal(size=(50, 8))}, head=head))
    assert np.linalg.norm(detector.origin_) < 10


# As a detector


def test_batches_do_not_show(A, hold_at_most):
    expected = ViMDetector().fit(A)
    hold_at_most(100)
    found = ViMDetector().fit(A)
    np.testing.assert_allclose(found.score_samples(A), expected.score_samples(A), rtol=1e-10)
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-10)


def test_training_samples_are_scored_as_new_ones(A):
    detector = ViMDetector().fit(A)
    np.testing.assert_allclose(detector.training_scores_, detector.score_samples(A), rtol=1e-12)


def test_a_refit_equals_a_fresh_fit(A):
    others = with_features(A, A["fc"][::-2] + 0.5)
    refitted = ViMDetector(n_components=2).fit(A).set_params(n_components=5).fit(others)
    fresh = ViMDetector(n_components=5).fit(others)
    assert vars(refitted).keys() == vars(fresh).keys()
    np.testing.assert_array_equal(refitted.score_samples(A), fresh.score_samples(A))
    assert refitted.offset_ == fresh.offset_


def test_the_dimension_can_be_searched(A):
    rng = np.random.default_rng(1)
    outside = np.maximum(rng.normal(size=(40, 12)), 0)
    both = np.vstack([A["fc"], outside])
    X = Activations({"other": np.ones((120, 2)), "fc": both}, head=A.head)
    search = GridSearchCV(
        make_pipeline(LayerSelector(layers="fc"), ViMDetector()),
        {"vimdetector__n_components": [0, 3, 6]},
        cv=OODKFold(3),
        error_score="raise",
    ).fit(X, np.r_[np.arange(80) % 4, np.full(40, -1)])
    assert len(set(search.cv_results_["mean_test_score"])) == 3
    assert search.best_score_ > 0.9


@pytest.mark.parametrize("n_components", [-1, 2.5, "all", None])
def test_a_dimension_out_of_range_is_refused(A, n_components):
    with pytest.raises(ValueError, match="n_components"):
        ViMDetector(n_components=n_components).fit(A)


def test_more_components_than_units_are_refused(A):
    with pytest.raises(ValueError, match=r"n_components=13 must be at most 12, the number of unit"):
        ViMDetector(n_components=13).fit(A)


def test_features_that_are_where_logits_vanish_leave_the_energy_alone():
    A = Activations({"fc": np.zeros((5, 4))}, head=LinearHead(np.ones((2, 4)), input_layer="fc"))
    with pytest.warns(UserWarning, match="no residual to compare with"):
        detector = ViMDetector().fit(A)
    assert detector.alpha_ == 0
