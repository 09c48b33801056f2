"""A search that keeps the default unless another detector is better by more than chance."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin, clone

from skood import Activations
from skood.detectors import EnergyDetector, KNNDetector, MaxLogitDetector, ViMDetector
from skood.metrics import make_ood_scorer
from skood.model_selection import DetectorSearchCV, OODKFold

RNG = np.random.default_rng(0)
X = np.vstack([RNG.normal(size=(200, 4)), 2.5 * RNG.normal(size=(60, 4))])
Y = np.repeat([0, -1], [200, 60])


class Noise(OutlierMixin, BaseEstimator):
    """Scores that say nothing, others for each seed, but the same for a sample in every call."""

    def __init__(self, seed=0, shift=0.0):
        self.seed = seed
        self.shift = shift

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def decision_function(self, X):
        weights = np.random.default_rng(self.seed).normal(size=(X.shape[1], 1000))
        return np.sin(1e3 * X @ weights).sum(axis=1)

    score_samples = decision_function

    def predict(self, X):
        return np.where(self.decision_function(X) >= 0, 1, -1)


class Spy(Noise):
    """Remembers the numbers of rows, which are the first feature, that it learnt from."""

    _learns_from_ood = True
    seen: list = []

    def fit(self, X, y=None):
        self.learnt_ = set(X[:, 0].tolist())
        return self

    def decision_function(self, X):
        Spy.seen.append((self.learnt_, set(X[:, 0].tolist())))
        return super().decision_function(X)


KNN = KNNDetector(normalize=False)


def test_a_better_detector_is_chosen():
    search = DetectorSearchCV([("default", MaxLogitDetector()), ("knn", KNN)]).fit(X, Y)
    assert search.best_name_ == "knn"
    assert search.best_index_ == 1
    alone = clone(KNN).fit(X, Y)
    np.testing.assert_array_equal(search.score_samples(X), alone.score_samples(X))
    np.testing.assert_array_equal(search.decision_function(X), alone.decision_function(X))
    np.testing.assert_array_equal(search.predict(X), alone.predict(X))
    np.testing.assert_array_equal(search.fit_predict(X, Y), alone.predict(X))
    assert search.score(X, Y) == alone.score(X, Y)
    assert search.best_score_ == search.cv_results_["mean_test_score"][1]


def test_detectors_that_differ_by_chance_leave_the_default():
    members = [(str(seed), Noise(seed)) for seed in range(12)]
    chosen = [
        DetectorSearchCV(members, cv=OODKFold(5, shuffle=True, random_state=seed)).fit(X, Y)
        for seed in range(10)
    ]
    best_by_mean = [search.cv_results_["mean_test_score"].argmax() for search in chosen]
    assert np.mean(np.array(best_by_mean) > 0) > 0.7
    assert np.mean([search.best_index_ > 0 for search in chosen]) < 0.4


def test_gains_are_paired_and_errors_those_of_overlapping_training_parts():
    cv = OODKFold(4, shuffle=True, random_state=0)
    results = DetectorSearchCV([("a", MaxLogitDetector()), ("b", KNN)], cv=cv).fit(X, Y).cv_results_
    by_fold = np.array([results[f"split{i}_test_score"] for i in range(4)])
    gains = by_fold[:, 1] - by_fold[:, 0]
    np.testing.assert_allclose(results["gain"], [0, gains.mean()])
    # Each fold tests 50 rows and 15 marked ones, and learns from 150.
    error = gains.std(ddof=1) * np.sqrt(1 / 4 + 65 / 150)
    np.testing.assert_allclose(results["gain_se"], [0, error])
    assert results["name"].tolist() == ["a", "b"]


def test_a_gain_below_the_smallest_or_the_error_is_none():
    members = [("default", MaxLogitDetector()), ("knn", KNN)]
    gain = DetectorSearchCV(members).fit(X, Y).cv_results_["gain"][1]
    for min_gain, expected in ((gain - 1e-9, "knn"), (gain, "default"), (0.6, "default")):
        assert DetectorSearchCV(members, min_gain=min_gain).fit(X, Y).best_name_ == expected
    one_fold = [tuple(next(OODKFold(2).split(X, Y)))]

    class OneFold:
        def split(self, X, y, groups=None):
            return one_fold

    assert DetectorSearchCV(members, cv=OneFold()).fit(X, Y).best_name_ == "default"


def test_detectors_get_ood_rows_of_the_training_part_and_never_those_they_are_scored_on():
    numbered = np.column_stack([np.arange(len(X)), X])
    Spy.seen = []
    search = DetectorSearchCV([("spy", Spy()), ("noise", Noise())]).fit(numbered, Y)
    outside = set(np.flatnonzero(Y == -1).tolist())
    assert len(Spy.seen) == 5
    for learnt, scored in Spy.seen:
        assert not learnt & scored
        assert learnt & outside
        assert scored & outside
    # The one that is chosen learns from all rows.
    assert search.best_estimator_.learnt_ == set(range(len(X)))


def test_sources_of_ood_rows_are_kept_apart():
    numbered = np.column_stack([np.arange(len(X)), X])
    groups = np.arange(len(X)) % 6
    Spy.seen = []
    DetectorSearchCV([("spy", Spy()), ("noise", Noise())]).fit(numbered, Y, groups=groups)
    for learnt, scored in Spy.seen:
        sources = [{groups[int(i)] for i in rows if Y[int(i)] == -1} for rows in (learnt, scored)]
        assert not sources[0] & sources[1]


def test_detectors_that_need_what_a_network_lacks_are_left_out_with_the_reason():
    A = Activations({"relu": X})
    members = [("knn", KNN), ("energy", EnergyDetector()), ("vim", ViMDetector())]
    search = DetectorSearchCV(members).fit(A, Y)
    assert search.cv_results_["name"].tolist() == ["knn"]
    assert "needs logits" in search.left_out_["energy"]
    assert "needs the head" in search.left_out_["vim"]
    with pytest.raises(ValueError, match="EnergyDetector needs logits"):
        DetectorSearchCV(members[1:]).fit(A, Y)


def test_another_metric_decides_where_it_is_given():
    scoring = make_ood_scorer("neg_fpr_at_95_tpr_id")
    members = [("default", MaxLogitDetector()), ("knn", KNN)]
    search = DetectorSearchCV(members, scoring=scoring).fit(X, Y)
    assert search.score(X, Y) == scoring(search.best_estimator_, X, Y) <= 0


@pytest.mark.parametrize("y", [None, np.zeros(len(X), dtype=int)])
def test_a_search_without_marked_rows_is_refused(y):
    with pytest.raises(
        ValueError, match=r"chooses by out-of-distribution rows, marked -1 in y, but"
    ):
        DetectorSearchCV([("knn", KNN)]).fit(X, y)


def test_detectors_need_names_of_their_own():
    for members in ([], [("a", KNN), ("a", KNN)]):
        with pytest.raises(ValueError, match="detectors must be pairs of a name of its own"):
            DetectorSearchCV(members).fit(X, Y)
