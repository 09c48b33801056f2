"""A search that keeps the default unless another detector helps by more than chance."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline

from skood import Activations
from skood.detectors import EnergyDetector, KNNDetector, MaxLogitDetector, ViMDetector
from skood.ensemble import LayerEnsembleDetector
from skood.metrics import make_ood_scorer
from skood.model_selection import DetectorSearchCV, OODKFold
from skood.preprocessing import LayerSelector

RNG = np.random.default_rng(0)
X = np.vstack([RNG.normal(size=(200, 4)), 2.5 * RNG.normal(size=(60, 4))])
Y = np.repeat([0, -1], [200, 60])
A = Activations({"relu": X}, logits=X)


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
        return np.sin(1e3 * np.asarray(X) @ weights).sum(axis=1)

    score_samples = decision_function

    def predict(self, X):
        return np.where(self.decision_function(X) >= 0, 1, -1)


class Spy(Noise):
    """Remembers the numbers of rows, which are the first feature, that it learnt from."""

    _learns_from_ood = True
    seen: list = []

    def fit(self, X, y=None):
        self.learnt_ = set(np.asarray(X)[:, 0].tolist())
        return self

    def decision_function(self, X):
        Spy.seen.append((self.learnt_, set(np.asarray(X)[:, 0].tolist())))
        return super().decision_function(X)


class NegatedKNN(KNNDetector):
    """The worst there is."""

    def decision_function(self, X):
        return -super().decision_function(X)


class Broken(Noise):
    def fit(self, X, y=None):
        raise RuntimeError("not today")


KNN = KNNDetector(normalize=False)


def instead(detectors, **params):
    return DetectorSearchCV(detectors, beside_default=False, **params)


def test_a_better_detector_takes_the_place_of_the_default():
    search = instead([("default", MaxLogitDetector()), ("knn", KNN)]).fit(A, Y)
    assert search.best_name_ == "knn"
    assert search.best_index_ == 1
    alone = clone(KNN).fit(A, Y)
    np.testing.assert_array_equal(search.score_samples(A), alone.score_samples(A))
    np.testing.assert_array_equal(search.decision_function(A), alone.decision_function(A))
    np.testing.assert_array_equal(search.predict(A), alone.predict(A))
    np.testing.assert_array_equal(search.fit_predict(A, Y), alone.predict(A))
    assert search.score(A, Y) == alone.score(A, Y)
    assert search.best_score_ == search.cv_results_["mean_test_score"][1]


def test_the_table_is_that_of_a_grid_search():
    members = [("default", MaxLogitDetector()), ("knn", KNN), ("vim", NegatedKNN())]
    results = instead(members).fit(A, Y).cv_results_
    grid = GridSearchCV(
        Pipeline([("detector", MaxLogitDetector())]),
        {"detector": [detector for _, detector in members]},
        scoring=make_ood_scorer(),
        cv=OODKFold(5, shuffle=True, random_state=0),
    ).fit(A, Y)
    for name in set(grid.cv_results_) & set(results) - {"mean_fit_time"}:
        np.testing.assert_array_equal(results[name], grid.cv_results_[name], err_msg=name)
    assert {"split4_test_score", "std_test_score", "rank_test_score"} <= set(results)


def test_beside_the_default_both_scores_are_averaged():
    members = [("default", MaxLogitDetector(false_alarm_rate=0.1)), ("knn", KNN)]
    search = DetectorSearchCV(members).fit(A, Y)
    assert search.best_name_ == "knn"
    both = LayerEnsembleDetector(
        [detector for _, detector in members], combine="mean", false_alarm_rate=0.1
    ).fit(A, Y)
    np.testing.assert_array_equal(search.score_samples(A), both.score_samples(A))
    assert search.best_estimator_.offset_ == both.offset_
    cv = OODKFold(5, shuffle=True, random_state=0)
    expected = cross_val_score(both, A, Y, cv=cv, scoring=make_ood_scorer())
    assert search.best_score_ == expected.mean()


@pytest.mark.parametrize("beside_default", [True, False])
def test_a_rate_takes_the_place_of_that_of_every_detector(beside_default):
    pipeline = Pipeline([("select", LayerSelector()), ("knn", KNN)])
    members = [("default", MaxLogitDetector()), ("knn", pipeline)]
    at_tenth = [
        ("default", MaxLogitDetector(false_alarm_rate=0.1)),
        ("knn", clone(pipeline).set_params(knn__false_alarm_rate=0.1)),
    ]
    search = DetectorSearchCV(members, beside_default=beside_default, false_alarm_rate=0.1)
    expected = DetectorSearchCV(at_tenth, beside_default=beside_default)
    assert search.fit(A, Y).best_name_ == "knn"
    np.testing.assert_array_equal(
        search.decision_function(A), expected.fit(A, Y).decision_function(A)
    )
    assert search.set_params(min_gain=0.9).fit(A, Y).best_estimator_.false_alarm_rate == 0.1
    # Those of the user are left as they are.
    assert {members[0][1].false_alarm_rate, pipeline["knn"].false_alarm_rate} == {0.05}


def test_a_rate_needs_detectors_that_have_one_where_their_threshold_may_count():
    knn, other = ("knn", KNN), ("noise", Noise())
    with pytest.raises(ValueError, match=r"false_alarm_rate=0.1 .* but \['noise'\] have none"):
        DetectorSearchCV([other, knn], false_alarm_rate=0.1).fit(A, Y)
    with pytest.raises(ValueError, match=r"but \['noise'\] have none"):
        instead([knn, other], false_alarm_rate=0.1).fit(A, Y)
    beside = DetectorSearchCV([knn, other], false_alarm_rate=0.1).fit(A, Y)
    assert np.mean(beside.best_estimator_.training_scores_ < beside.best_estimator_.offset_) == 0.1
    with pytest.raises(ValueError, match="'false_alarm_rate' parameter of DetectorSea"):
        instead([knn], false_alarm_rate=0.6).fit(A, Y)


def test_a_detector_weighted_by_ood_rows_gets_them_beside_the_default():
    weighted = LayerEnsembleDetector(KNN, combine="weighted")
    search = DetectorSearchCV([("default", MaxLogitDetector()), ("weighted", weighted)]).fit(A, Y)
    assert search.best_name_ == "weighted"
    copy = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(copy.predict(A), search.predict(A))


def test_detectors_that_differ_by_chance_leave_the_default():
    members = [(str(seed), Noise(seed)) for seed in range(6)]
    chosen, best_by_mean = [], []
    for seed in range(20):
        rows = np.random.default_rng(seed).normal(size=(150, 4))
        search = instead(members).fit(rows, np.repeat([0, -1], [100, 50]))
        chosen.append(search.best_index_ > 0)
        best_by_mean.append(search.cv_results_["mean_test_score"].argmax() > 0)
    assert np.mean(best_by_mean) > 0.6
    assert np.mean(chosen) < 0.3


@pytest.mark.parametrize("beside_default", [True, False])
def test_gains_are_paired_and_errors_those_of_overlapping_training_parts(beside_default):
    members, cv = [("a", MaxLogitDetector()), ("b", KNN)], OODKFold(4, shuffle=True, random_state=0)
    search = DetectorSearchCV(members, cv=cv, beside_default=beside_default).fit(A, Y)
    results = search.cv_results_
    by_fold = np.array([results[f"split{i}_test_score"] for i in range(4)])
    gains = by_fold[:, 1] - by_fold[:, 0]
    np.testing.assert_allclose(results["gain"], [0, gains.mean()])
    # Each fold tests 50 rows and 15 marked ones, and learns from 150.
    error = gains.std(ddof=1) * np.sqrt(1 / 4 + 65 / 150)
    np.testing.assert_allclose(results["gain_se"], [0, error])
    assert results["name"].tolist() == ["a", "b"]


def test_a_gain_below_the_smallest_or_the_error_is_none():
    members = [("default", MaxLogitDetector()), ("knn", KNN)]
    gain = instead(members).fit(A, Y).cv_results_["gain"][1]
    for min_gain, expected in ((gain - 1e-9, "knn"), (gain, "default"), (0.9, "default")):
        assert instead(members, min_gain=min_gain).fit(A, Y).best_name_ == expected
    one_fold = OODKFold(2)

    class OneFold:
        def split(self, X, y, groups=None):
            return [next(one_fold.split(X, y))]

    assert instead(members, cv=OneFold()).fit(A, Y).best_name_ == "default"


def test_a_detector_that_fails_is_told_of_and_not_chosen():
    many = KNNDetector(n_neighbors=5)
    members = [("default", MaxLogitDetector()), ("broken", Broken()), ("knn", many)]
    with pytest.warns(FitFailedWarning, match="'broken' failed in a fold.*RuntimeError: not today"):
        search = DetectorSearchCV(members).fit(A, Y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True, False]
    with pytest.raises(RuntimeError, match="not today"):
        DetectorSearchCV(members[1:]).fit(A, Y)


def test_detectors_get_ood_rows_of_the_training_part_and_never_those_they_are_scored_on():
    numbered = np.column_stack([np.arange(len(X)), X])
    Spy.seen = []
    search = instead([("spy", Spy()), ("noise", Noise())]).fit(numbered, Y)
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
    instead([("spy", Spy()), ("noise", Noise())]).fit(numbered, Y, groups=groups)
    for learnt, scored in Spy.seen:
        sources = [{groups[int(i)] for i in rows if Y[int(i)] == -1} for rows in (learnt, scored)]
        assert not sources[0] & sources[1]


def test_detectors_that_need_what_a_network_lacks_are_left_out_with_the_reason():
    layers = Activations({"relu": X})
    members = [("knn", KNN), ("energy", EnergyDetector()), ("vim", ViMDetector())]
    search = DetectorSearchCV(members).fit(layers, Y)
    assert search.cv_results_["name"].tolist() == ["knn"]
    assert "needs logits" in search.left_out_["energy"]
    assert "needs the head" in search.left_out_["vim"]
    with pytest.raises(ValueError, match="EnergyDetector needs logits"):
        DetectorSearchCV(members[1:]).fit(layers, Y)


def test_another_metric_decides_where_it_is_given():
    scoring = make_ood_scorer("neg_fpr_at_95_tpr_id")
    members = [("default", MaxLogitDetector()), ("knn", KNN)]
    search = DetectorSearchCV(members, scoring=scoring).fit(A, Y)
    assert search.score(A, Y) == scoring(search.best_estimator_, A, Y) <= 0


@pytest.mark.parametrize("y", [None, np.zeros(len(X), dtype=int)])
@pytest.mark.parametrize("labels", [Y, Y.astype(str), Y.astype(float)])
def test_marks_that_came_with_the_samples_are_named_where_y_has_none(y, labels):
    carrying = A.assign(labels=labels)
    message = (
        r"marked -1 in y, but .*X.labels, mark 60 of 260 rows -1, .*monitor.fit\(A, A.labels\)"
    )
    for estimator in (DetectorSearchCV([("knn", KNN)]), LayerEnsembleDetector(KNN, n_layers=1)):
        with pytest.raises(ValueError, match=message.removeprefix("marked -1 in y, but .*")):
            estimator.fit(carrying, y)
    with pytest.raises(ValueError, match=message):
        DetectorSearchCV([("knn", KNN)]).fit(carrying, y)
    with pytest.raises(ValueError, match=r"X\.labels, mark 60 of 260 rows -1"):
        list(OODKFold(3).split(carrying, y))
    unmarked = A.assign(labels=np.zeros(len(X), dtype=int))
    with pytest.raises(ValueError, match="Mark some, or do without"):
        DetectorSearchCV([("knn", KNN)]).fit(unmarked, y)


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


def test_too_few_marked_rows_are_counted_in_words():
    X = np.random.default_rng(0).random((40, 3))
    y = np.repeat([1, -1], [37, 3])
    with pytest.raises(ValueError, match="got 37 and 3"):
        DetectorSearchCV([("energy", EnergyDetector())]).fit(X, y)
