"""NNGuide against references and brute force."""

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import NNGuideDetector
from skood.detectors._bounded_rows import hash_layers
from skood.model_selection import OODKFold


@pytest.fixture
def A():
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(60, 8)), 0).astype(np.float32)
    head = LinearHead(rng.normal(size=(4, 8)), 3 + rng.normal(size=4), "fc")
    return Activations({"fc": features}, logits=head.logits(features), head=head)


# References


@pytest.mark.parametrize("k", [10, 50])
def test_scores_are_those_of_the_reference(golden, penultimate, k):
    train, test, expected = penultimate("train"), penultimate("eval"), golden("nci_fdbd_nnguide")
    found = NNGuideDetector(n_neighbors=k).fit(train).score_samples(test)
    np.testing.assert_allclose(found, expected[f"openood_nnguide_k{k}"], rtol=1e-5)
    np.testing.assert_allclose(found, -expected[f"pytorch_ood_nnguide_k{k}"], rtol=1e-5)


# Brute force


def brute_score(k, bank, bank_logits, row, logits):
    guidance = [
        row @ stored / (np.linalg.norm(row) * np.linalg.norm(stored)) * logsumexp(stored_logits)
        for stored, stored_logits in zip(bank, bank_logits, strict=True)
    ]
    return np.mean(sorted(guidance)[-k:]) * logsumexp(logits)


samples = st.tuples(st.integers(4, 30), st.integers(1, 6), st.integers(0, 1000))


@given(shape=samples, k=st.integers(1, 3), offset=st.sampled_from([0.0, 5.0, -5.0]))
def test_scores_are_those_of_a_brute_force(shape, k, offset):
    n_samples, n_units, seed = shape
    rng = np.random.default_rng(seed)
    head = LinearHead(rng.normal(size=(3, n_units)), np.full(3, offset), "fc")
    train, queries = rng.normal(size=(n_samples, n_units)), rng.normal(size=(5, n_units))
    detector = NNGuideDetector(n_neighbors=k).fit(Activations({"fc": train}, head=head))
    found = detector.score_samples(Activations({"fc": queries}, head=head))
    bank_logits = head.logits(train)
    expected = [brute_score(k, train, bank_logits, row, head.logits(row)) for row in queries]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@given(shape=samples, k=st.integers(1, 3))
def test_training_samples_are_scored_by_the_others(shape, k):
    n_samples, n_units, seed = shape
    rng = np.random.default_rng(seed)
    head = LinearHead(rng.normal(size=(3, n_units)), np.full(3, 4.0), "fc")
    train = rng.normal(size=(n_samples, n_units))
    detector = NNGuideDetector(n_neighbors=k).fit(Activations({"fc": train}, head=head))
    logits = head.logits(train)
    for row in range(n_samples):
        others = np.delete(np.arange(n_samples), row)
        expected = brute_score(k, train[others], logits[others], train[row], logits[row])
        assert detector.training_scores_[row] == pytest.approx(expected, rel=1e-9, abs=1e-12)


# Search


@pytest.fixture(params=["faiss", "matrix products"])
def search(request, monkeypatch):
    if request.param == "faiss":
        pytest.importorskip("faiss")
    else:
        monkeypatch.setitem(sys.modules, "faiss", None)


@pytest.mark.usefixtures("search")
def test_neighbours_that_single_precision_mixes_up_are_found():
    rng = np.random.default_rng(0)
    # Cosines that differ by less than single precision can hold, in groups of five.
    train = np.repeat(rng.normal(size=(20, 6)), 5, axis=0)
    train += 1e-6 * rng.normal(size=train.shape)
    queries = train[::7] + 1e-6 * rng.normal(size=train[::7].shape)
    head = LinearHead(np.eye(6), np.full(6, 5.0), "fc")
    detector = NNGuideDetector(n_neighbors=3).fit(Activations({"fc": train}, head=head))
    found = detector.score_samples(Activations({"fc": queries}, head=head))
    logits = head.logits(train)
    expected = [brute_score(3, train, logits, row, head.logits(row)) for row in queries]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.usefixtures("search")
def test_order_and_company_of_samples_do_not_matter(A):
    expected = NNGuideDetector().fit(A).score_samples(A)
    order = np.random.default_rng(1).permutation(60)
    found = NNGuideDetector().fit(A[order]).score_samples(A[[3, 50, 7]])
    np.testing.assert_allclose(found, expected[[3, 50, 7]], rtol=1e-13)


def test_batches_do_not_show(A, hold_at_most):
    expected = NNGuideDetector(n_neighbors=5).fit(A)
    hold_at_most(250)
    found = NNGuideDetector(n_neighbors=5).fit(A)
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-13)
    np.testing.assert_allclose(found.score_samples(A), expected.score_samples(A), rtol=1e-13)


# Definition


def test_an_overconfident_sample_far_from_all_others_scores_low():
    head = LinearHead(np.eye(3), np.full(3, 2.0), "fc")
    train = np.array([[5.0, 1, 0], [5, 0, 0], [4, 1, 0], [0, 5, 0], [1, 5, 0], [0, 4, 1]])
    detector = NNGuideDetector(n_neighbors=2).fit(Activations({"fc": train}, head=head))
    scores = detector.score_samples(Activations({"fc": [[5.0, 0, 0], [0, 0, 9]]}, head=head))
    assert scores[0] > 2 * scores[1]


def test_silent_features_are_not_guided(A):
    detector = NNGuideDetector(n_neighbors=3).fit(A)
    silent = Activations({"fc": np.zeros((1, 8))}, logits=[[9.0, 0, 0, 0]])
    assert detector.score_samples(silent).tolist() == [0]
    all_silent = Activations({"fc": np.zeros((5, 8))}, head=A.head)
    with pytest.warns(UserWarning, match="features of all stored samples are 0: .* is blind"):
        assert not NNGuideDetector(n_neighbors=3).fit(all_silent).training_scores_.any()


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_energies_and_features_of_any_size_are_compared(A, scale):
    big = Activations({"fc": scale * A["fc"].astype(float)}, logits=A.logits * scale, head=A.head)
    detector = NNGuideDetector(n_neighbors=3).fit(big)
    expected = brute_score(3, A["fc"][1:], big.logits[1:], A["fc"][0], big.logits[0])
    assert detector.training_scores_[0] == pytest.approx(expected, rel=1e-6)


def test_integers_are_scored_as_what_they_are(A):
    whole = (4 * A["fc"]).astype(np.int8)
    expected = NNGuideDetector().fit(Activations({"fc": whole.astype(float)}, head=A.head))
    found = NNGuideDetector().fit(Activations({"fc": whole}, head=A.head))
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-12)


# The bank


def test_the_bank_may_be_a_part_of_the_training_samples(A):
    y = np.where(np.arange(60) % 4, 0, -1)
    detector = NNGuideDetector(n_neighbors=3, bank_fraction=0.4, random_state=0).fit(A, y)
    assert len(detector.bank_rows_) == 18
    assert set(detector.bank_rows_) < set(detector.training_rows_)
    assert len(detector.training_scores_) == 45
    alone = NNGuideDetector(n_neighbors=3).fit(A[detector.bank_rows_])
    np.testing.assert_allclose(detector.score_samples(A), alone.score_samples(A), rtol=1e-12)
    in_bank = np.isin(detector.training_rows_, detector.bank_rows_)
    np.testing.assert_allclose(
        detector.training_scores_[in_bank], alone.training_scores_, rtol=1e-12
    )
    as_new = detector.score_samples(A[detector.training_rows_])
    np.testing.assert_allclose(detector.training_scores_[~in_bank], as_new[~in_bank], rtol=1e-12)


def test_the_bank_is_drawn_by_the_random_state(A):
    first, again, other = (
        NNGuideDetector(n_neighbors=3, bank_fraction=0.2, random_state=seed).fit(A).bank_rows_
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(NNGuideDetector().fit(A).bank_rows_, np.arange(60))


def test_a_small_bank_has_fewer_neighbours(A):
    with pytest.warns(UserWarning, match="n_neighbors=10, but a sample has only 4 others") as seen:
        detector = NNGuideDetector().fit(A[:5])
    assert seen[0].filename == __file__
    assert detector.n_neighbors_ == 4
    with pytest.warns(UserWarning, match="only 1 other"):
        assert len(NNGuideDetector(bank_fraction=0.001).fit(A).bank_rows_) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NNGuideDetector(n_neighbors=4).fit(A[:5])


def test_one_sample_has_no_neighbour(A):
    with pytest.raises(ValueError, match="at least 2 in-distribution samples, got n_samples = 1"):
        NNGuideDetector(n_neighbors=1).fit(A[:2], [0, -1])


# As a detector


def test_the_fitted_detector_keeps_a_copy(A):
    features = A["fc"].copy()
    given = Activations({"fc": features}, logits=A.logits, head=A.head)
    detector = NNGuideDetector().fit(given)
    expected = detector.score_samples(A)
    features[:] = 1
    np.testing.assert_array_equal(detector.score_samples(A), expected)


def test_a_refit_equals_a_fresh_fit(A):
    refitted = NNGuideDetector(n_neighbors=2, bank_fraction=0.5, random_state=0).fit(A)
    refitted.set_params(n_neighbors=5, bank_fraction=1.0).fit(A[::2])
    fresh = NNGuideDetector(n_neighbors=5).fit(A[::2])
    np.testing.assert_array_equal(refitted.score_samples(A), fresh.score_samples(A))
    assert refitted.offset_ == fresh.offset_


def test_the_number_of_neighbours_can_be_searched(A):
    y = np.where(np.arange(60) % 3, 0, -1)
    search = GridSearchCV(
        NNGuideDetector(), {"n_neighbors": [1, 5, 15]}, cv=OODKFold(3), error_score="raise"
    ).fit(A, y)
    assert len(set(search.cv_results_["mean_test_score"])) > 1


@pytest.mark.parametrize(
    "params",
    [{"n_neighbors": 0}, {"n_neighbors": 1.5}, {"bank_fraction": 0}, {"bank_fraction": 1.1}],
    ids=str,
)
def test_parameters_out_of_range_are_refused(A, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        NNGuideDetector(**params).fit(A)


# Batches


@pytest.mark.parametrize("ends", [[20, 40], [4, 5, 6], [59]], ids=str)
def test_batches_guide_as_one_fit_does(A, ends):
    expected = NNGuideDetector(n_neighbors=3).fit(A)
    first, *others = np.split(np.arange(60), ends)
    found = NNGuideDetector(n_neighbors=1).fit(A[first]).set_params(n_neighbors=3)
    for rows in others:
        found.partial_fit(A[rows])
    np.testing.assert_array_equal(found.bank_rows_, np.arange(60))
    np.testing.assert_array_equal(found.training_scores_, expected.training_scores_)
    np.testing.assert_array_equal(found.score_samples(A), expected.score_samples(A))


def test_of_samples_that_are_there_twice_one_is_left_out(A):
    rows = np.r_[np.arange(10), np.arange(10), 3]
    detector = NNGuideDetector(n_neighbors=2).fit(A[rows])
    for place, row in enumerate(rows):
        others = np.delete(rows, place)
        expected = brute_score(2, A["fc"][others], A.logits[others], A["fc"][row], A.logits[row])
        assert detector.training_scores_[place] == pytest.approx(expected, rel=1e-5)


def test_a_bank_that_is_drawn_from_all_samples_needs_these_at_once(A):
    detector = NNGuideDetector(n_neighbors=3, bank_fraction=0.5, random_state=0).fit(A)
    for method in ("partial_fit", "merge"):
        assert hasattr(NNGuideDetector(), method)
        assert not hasattr(detector, method)
    with pytest.raises(AttributeError) as refusal:
        detector.merge(detector)
    assert "bank_fraction=0.5 draws from all of them" in str(refusal.value.__cause__)


# Bounded memory


def test_with_max_samples_the_rows_with_the_smallest_hashes_guide(A):
    detector = NNGuideDetector(n_neighbors=3, max_samples=20).fit(A)
    stored = np.sort(np.argsort(hash_layers(A))[:20])
    np.testing.assert_array_equal(np.sort(detector.bank_rows_), stored)
    expected = NNGuideDetector(n_neighbors=3).fit(A[stored])
    np.testing.assert_allclose(detector.score_samples(A), expected.score_samples(A))
    scores = expected.score_samples(A)
    scores[stored] = expected.training_scores_
    np.testing.assert_allclose(detector.training_scores_, scores)
    enough = NNGuideDetector(n_neighbors=3, max_samples=60).fit(A)
    exact = NNGuideDetector(n_neighbors=3).fit(A)
    np.testing.assert_array_equal(enough.training_scores_, exact.training_scores_)


def test_max_samples_are_the_same_of_any_batches_and_merges(A):
    whole = NNGuideDetector(n_neighbors=3, max_samples=20).fit(A)
    order = np.random.default_rng(0).permutation(60)
    batched = NNGuideDetector(n_neighbors=3, max_samples=20)
    for rows in np.split(order, [30, 34, 35]):
        batched.partial_fit(A[rows])
    first, other = (
        NNGuideDetector(n_neighbors=3, max_samples=20).fit(A[rows]) for rows in np.split(order, [9])
    )
    for found in (batched, first.merge(other)):
        np.testing.assert_allclose(found.score_samples(A), whole.score_samples(A), rtol=1e-12)
        assert sorted(order[found.bank_rows_]) == sorted(whole.bank_rows_)


def test_two_bounds_of_what_is_stored_are_refused(A):
    with pytest.raises(ValueError, match=r"bank_fraction=0.5 and max_samples=20 both"):
        NNGuideDetector(bank_fraction=0.5, max_samples=20).fit(A)
