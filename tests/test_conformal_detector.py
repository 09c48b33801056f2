"""ConformalDetector: against counting by hand, and the rates that it promises."""

import pickle
from fractions import Fraction
from math import floor

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import beta, binom, norm
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedKFold,
)
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import ActivationExtractor, Activations, make_monitor
from skood._conformal import less_rounding
from skood.calibration import ConformalDetector
from skood.detectors import EnergyDetector, KNNDetector, MaxSoftmaxDetector
from skood.ensemble import AutoNAPDetector
from skood.model_selection import OODKFold

FEW = "ignore:.*calibration row"


class Given(OutlierMixin, BaseEstimator):
    """Scores that the samples bring along, in their first column."""

    def fit(self, X, y=None):
        self.is_fitted_ = True
        return self

    def score_samples(self, X):
        return np.asarray(X, dtype=float)[:, 0]


class NearMean(OutlierMixin, BaseEstimator):
    """Minus the distance to the mean of what it was fitted on, and what that was."""

    def fit(self, X, y=None):
        self.X_, self.y_ = np.asarray(X), y
        self.mean_ = self.X_.mean(axis=0)
        return self

    def score_samples(self, X):
        return -np.linalg.norm(np.asarray(X) - self.mean_, axis=1)


class Base(BaseEstimator):
    """What PyOD's base class is, without PyOD."""


Base.__name__, Base.__module__ = "BaseDetector", "pyod.models.base"


class FarFromMean(Base):
    """Large for outliers; labels would be taken for marks of them."""

    def fit(self, X, y=None):
        assert y is None
        self.n_fitted_ = len(X)
        self.mean_ = np.asarray(X).mean(axis=0)
        return self

    def decision_function(self, X):
        return np.linalg.norm(np.asarray(X) - self.mean_, axis=1)


def column(scores):
    return np.asarray(scores, dtype=float)[:, np.newaxis]


def calibrated(scores, **params):
    """A detector whose calibration scores are those given."""
    return ConformalDetector(Given().fit(None), **params).fit(column(scores))


def activations(scores, classes):
    return Activations({"score": column(scores)}, predictions=np.asarray(classes))


def p_by_hand(calibration, score, guarantee="marginal", confidence=0.95):
    n, i = len(calibration), sum(c <= score for c in calibration)
    if guarantee == "marginal":
        return (1 + i) / (n + 1)
    return 1.0 if i == n else beta.ppf(confidence, i + 1, n - i)


CALIBRATION = {
    "distinct": np.random.default_rng(0).normal(size=57),
    "ties": np.random.default_rng(1).integers(0, 6, size=57).astype(float),
    "two values": np.repeat([0.0, 1.0], [3, 54]),
    "all equal": np.full(40, 2.0),
    "one": np.array([1.0]),
}
PROMISES = {
    "marginal": {},
    "training": {"guarantee": "training-conditional"},
    "sure": {"guarantee": "training-conditional", "confidence": 0.999},
}


@pytest.mark.filterwarnings(FEW)
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("kind", CALIBRATION)
def test_p_values_verdicts_and_thresholds_by_hand(kind, promise, rate):
    calibration, promise = CALIBRATION[kind], PROMISES[promise]
    new = np.concatenate([calibration, [-9.0, 0.5, 9.0]])
    detector = calibrated(calibration, false_alarm_rate=rate, **promise)
    p = detector.p_values(column(new))
    assert_allclose(p, [p_by_hand(calibration, s, **promise) for s in new], rtol=1e-12)
    assert_array_equal(detector.predict(column(new)), np.where(p <= rate, -1, 1))
    # The threshold is the largest score below which everything is rejected.
    ks = [k for k in range(1, len(calibration) + 1) if _p_of_rank(k, calibration, promise) <= rate]
    threshold = np.sort(calibration)[len(ks) - 1] if ks else -np.inf
    assert detector.offset_ == threshold
    assert_array_equal(detector.decision_function(column(new)), new - threshold)
    assert_array_equal(detector.score_samples(column(new)), new)


def _p_of_rank(k, calibration, promise):
    return p_by_hand(np.arange(len(calibration)), k - 1.5, **promise)


def test_what_is_kept_of_the_calibration():
    scores = np.array([3.0, 1.0, 2.0, 5.0])
    detector = ConformalDetector(Given().fit(None), false_alarm_rate=0.4)
    y = [0, 1, -1, 1]
    assert detector.fit(column(scores), y) is detector
    assert_array_equal(detector.calibration_scores_, [3, 1, 5])
    assert_array_equal(detector.calibration_rows_, [0, 1, 3])
    assert detector.n_calibration_samples_ == 3
    assert detector.estimator_ is detector.detector
    assert detector.estimators_ == [detector.detector]
    assert detector.offset_ == 1  # the first of three, floor(0.4 * 4) = 1
    assert not hasattr(detector, "offsets_")


@pytest.mark.parametrize("rate", ["0.05", "0.1", "0.01", "0.2"])
def test_the_number_of_rejected_ranks_is_the_exact_floor(rate):
    for n in [*range(1, 120), 199, 499, 999]:
        detector = ConformalDetector(Given().fit(None), false_alarm_rate=float(rate))
        k = floor(Fraction(rate) * (n + 1))
        if k == 0:
            with pytest.warns(UserWarning, match="nothing is rejected"):
                detector.fit(column(range(n)))
            assert detector.offset_ == -np.inf
        else:
            assert detector.fit(column(range(n))).offset_ == k - 1
        assert (detector.predict(column(np.arange(n) - 0.5)) == -1).sum() == k


def test_too_few_rows_are_warned_of_and_reject_nothing():
    with pytest.warns(
        UserWarning,
        match=r"^18 calibration row.* rate of 0.05: .* give is 0.0527; 0.05 needs at least 19 of",
    ):
        detector = calibrated(range(18))
    assert_array_equal(detector.predict(column([-1e9, -np.inf, 0])), 1)
    assert (detector.decision_function(column([-1e9, 0, np.inf])) == np.inf).all()
    with pytest.warns(UserWarning, match=r"needs at least 59 of them for a confidence of 0.95"):
        calibrated(range(58), guarantee="training-conditional")
    assert calibrated(range(59), guarantee="training-conditional").offset_ == 0


def test_scores_may_be_infinite():
    detector = calibrated([-np.inf, -np.inf, 0.0, np.inf], false_alarm_rate=0.4)
    assert detector.offset_ == -np.inf
    new = column([-np.inf, 0.0, np.inf])
    assert_array_equal(detector.decision_function(new), [0, np.inf, np.inf])
    assert_array_equal(detector.p_values(new), [0.6, 0.8, 1.0])
    detector = calibrated([0.0, np.inf, np.inf, np.inf], false_alarm_rate=0.4)
    assert_array_equal(detector.decision_function(new), [-np.inf, -np.inf, 0])
    assert_array_equal(detector.predict(new), [-1, -1, 1])


SCORES = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False))


@pytest.mark.filterwarnings(FEW)
@given(
    calibration=st.lists(SCORES, min_size=1, max_size=50),
    new=st.lists(SCORES, min_size=1, max_size=10),
    rate=st.one_of(st.sampled_from([0.05, 0.1, 0.2, 0.5]), st.floats(0.01, 0.99)),
    promise=st.sampled_from(list(PROMISES.values())),
    n_classes=st.integers(1, 4),
    by_class=st.booleans(),
)
def test_verdicts_are_those_of_p_values(calibration, new, rate, promise, n_classes, by_class):
    group_by = "prediction" if by_class else None
    params = {"false_alarm_rate": rate, "group_by": group_by, **promise}
    known = activations(calibration, np.arange(len(calibration)) % n_classes)
    new = [*new, *calibration]
    A = activations(new, np.arange(len(new)) % (n_classes + 1))
    detector = ConformalDetector(Given().fit(None), **params).fit(known)
    p, decisions = detector.p_values(A), detector.decision_function(A)
    assert_array_equal(detector.predict(A) == -1, p <= rate)
    assert_array_equal(decisions < 0, p <= rate)
    assert not np.isnan(decisions).any()
    assert (p > 0).all()
    assert (p <= 1).all()
    for s, c, found in zip(new, A.predictions, p, strict=True):
        rows = known.predictions == c if by_class else slice(None)
        # A score that is lower by rounding only counts as equal.
        reference = np.asarray(less_rounding(calibration, of=calibration))[rows]
        assert found == pytest.approx(p_by_hand(reference, s, **promise), rel=1e-10)


# Classes.

COUNTS = {0: 200, 1: 100, 2: 60, 3: 19, 4: 5}


@pytest.fixture
def five_classes():
    """Calibration rows of five classes, whose scores differ; five rows are of the rarest."""
    rng = np.random.default_rng(3)
    classes = rng.permutation(np.repeat(list(COUNTS), list(COUNTS.values())))
    return activations(np.round(rng.normal(size=len(classes)) + classes, 1), classes)


@pytest.mark.parametrize("promise", PROMISES)
def test_each_predicted_class_has_its_own_threshold(five_classes, promise):
    promise = PROMISES[promise]
    detector = ConformalDetector(Given().fit(None), group_by="prediction", **promise)
    with pytest.warns(UserWarning, match=r"predicted classes have too few calibration rows"):
        detector.fit(five_classes)
    assert not hasattr(detector, "offset_")
    rng = np.random.default_rng(4)
    A = activations(np.round(2 * rng.normal(size=400), 1), rng.integers(0, 5, size=400))
    scores, p = np.asarray(A)[:, 0], detector.p_values(A)
    own = {c: np.asarray(five_classes)[five_classes.predictions == c, 0] for c in COUNTS}
    expected = [p_by_hand(own[c], s, **promise) for s, c in zip(scores, A.predictions, strict=True)]
    assert_allclose(p, expected, rtol=1e-12)
    assert_array_equal(detector.predict(A), np.where(p <= 0.05, -1, 1))
    assert list(detector.offsets_) == list(COUNTS)
    offsets = np.array([detector.offsets_[c] for c in A.predictions])
    assert_array_equal(detector.decision_function(A), scores - offsets)
    assert_array_equal(detector.score_samples(A), scores)
    assert detector.offsets_[4] == -np.inf


def test_classes_with_too_few_rows_are_named(five_classes):
    detector = ConformalDetector(Given().fit(None), group_by="prediction")
    with pytest.warns(
        UserWarning,
        match=r"1 of 5 predicted classes .* is rejected: 4: 5\. 0.05 needs at least 19 rows of a "
        r"class; the smallest rate that 5 can give is 0.167\.",
    ):
        detector.fit(five_classes)


def test_classes_of_the_network_without_rows_are_named_in_fit_and_where_they_are_predicted():
    rng = np.random.default_rng(0)
    logits = np.column_stack([rng.normal(size=50), np.full((50, 2), -9.0)])
    A = Activations({"x": rng.normal(size=(50, 1))}, logits=logits, classes=["a", "b", "c"])
    with pytest.warns(UserWarning, match=r"2 of 3 predicted classes .* is rejected: 'b': 0, 'c': "):
        detector = ConformalDetector(Given().fit(None), group_by="prediction").fit(A)
    other = Activations({"x": A["x"]}, logits=np.roll(logits, 1, axis=1), classes=A.classes)
    assert set(other.predictions) == {"b"}
    for method in (detector.p_values, detector.predict, detector.decision_function):
        with pytest.warns(UserWarning, match=r"50 of 50 samples .* cannot be rejected: 'b': 50\."):
            found = method(other)
        assert set(found) <= {1.0, np.inf}
    assert_array_equal(detector.score_samples(other), np.asarray(A)[:, 0])


def test_another_network_is_refused_where_classes_count():
    A = activations(range(40), np.zeros(40, dtype=int))
    detector = ConformalDetector(Given().fit(None), group_by="prediction").fit(A)
    with pytest.raises(ValueError, match="ConformalDetector was fitted on are numbers"):
        detector.predict(activations([0.0], ["a"]))


@pytest.mark.parametrize("X", [np.zeros((40, 1)), Activations({"x": np.zeros((40, 1))})])
def test_predictions_are_needed_by_class(X):
    detector = ConformalDetector(Given().fit(None), group_by="prediction")
    with pytest.raises(ValueError, match=r"needs the classes .* carries none: give Activations"):
        detector.fit(X)
    detector = ConformalDetector(Given(), cv=0.5, group_by="prediction")
    with pytest.raises(ValueError, match=r"needs the classes .* carries none: give Activations"):
        detector.fit(X)


def test_predictions_are_needed_of_new_samples_too():
    detector = ConformalDetector(Given().fit(None), group_by="prediction")
    detector.fit(activations(range(30), np.zeros(30)))
    with pytest.raises(ValueError, match="group_by='prediction' needs the classes"):
        detector.predict(column([1.0]))


# Folds.


def cross_by_hand(detector, X, parts, new, rows=None):
    """p-values and decisions by counting, over folds and calibration rows."""
    p, decisions = [], []
    kept = set(range(len(X))) if rows is None else set(rows)
    for x in new:
        differences = []
        for learnt, held_out in parts:
            fold = clone(detector).fit(X[learnt])
            own = fold.score_samples(X[[i for i in held_out if i in kept]])
            differences += list(fold.score_samples(x[np.newaxis])[0] - own)
        n, differences = len(differences), sorted(differences, reverse=True)
        p.append((1 + sum(d >= 0 for d in differences)) / (n + 1))
        k = floor(Fraction("0.1") * (n + 1))
        decisions.append(differences[k - 1] if k else np.inf)
    return p, decisions


@pytest.fixture
def points():
    rng = np.random.default_rng(5)
    return np.round(rng.normal(size=(61, 2)), 1), np.round(2 * rng.normal(size=(30, 2)), 1)


UNEVEN = PredefinedSplit(np.repeat([0, 1, 2, -1], [3, 17, 30, 11]))


@pytest.mark.parametrize("cv", [KFold(4), UNEVEN, list(KFold(3).split(np.zeros((61, 1))))])
def test_folds_by_hand(cv, points):
    X, new = points
    parts = cv if isinstance(cv, list) else list(cv.split(X))
    expected = cross_by_hand(NearMean(), X, parts, new)
    detector = ConformalDetector(NearMean(), cv=cv, false_alarm_rate=0.1).fit(X)
    assert_allclose(detector.p_values(new), expected[0], rtol=1e-12)
    assert_allclose(detector.decision_function(new), expected[1], rtol=1e-12)
    assert_array_equal(detector.predict(new), np.where(detector.p_values(new) <= 0.1, -1, 1))
    assert 0 < (detector.predict(new) == -1).sum() < len(new)
    assert len(detector.estimators_) == len(parts)
    assert not hasattr(detector, "estimator_")
    rows = np.sort(np.concatenate([held_out for _, held_out in parts]))
    assert_array_equal(detector.calibration_rows_, rows)
    k = floor(Fraction("0.1") * (len(rows) + 1))
    assert detector.offset_ == np.sort(detector.calibration_scores_)[k - 1]
    decisions = detector.decision_function(new)
    assert_allclose(detector.score_samples(new) - detector.offset_, decisions, atol=1e-12)
    for (learnt, held_out), fitted in zip(parts, detector.estimators_, strict=True):
        assert_array_equal(fitted.X_, X[learnt])
        own = fitted.score_samples(X[held_out])
        assert_array_equal(detector.calibration_scores_[np.searchsorted(rows, held_out)], own)


def test_one_fold_is_a_share():
    X = np.random.default_rng(0).normal(size=(100, 2))
    split = next(ShuffleSplit(1, test_size=0.4, random_state=0).split(X))
    learnt, held_out = map(np.sort, split)
    by_hand = ConformalDetector(NearMean().fit(X[learnt])).fit(X[held_out])
    detector = ConformalDetector(NearMean(), cv=ShuffleSplit(1, test_size=0.4, random_state=0))
    detector.fit(X)
    assert detector.offset_ == by_hand.offset_
    assert_allclose(detector.decision_function(X), by_hand.decision_function(X), atol=1e-12)
    assert_array_equal(detector.score_samples(X), detector.estimator_.score_samples(X))
    assert detector.estimator_ is detector.estimators_[0]


def test_folds_by_class(points):
    X, new = points
    rng = np.random.default_rng(6)
    classes, new_classes = rng.integers(0, 2, size=61), rng.integers(0, 2, size=30)
    detector = ConformalDetector(
        NearMean(), cv=KFold(4), false_alarm_rate=0.1, group_by="prediction"
    ).fit(Activations({"x": X}, predictions=classes))
    A = Activations({"x": new}, predictions=new_classes)
    p, decisions = detector.p_values(A), detector.decision_function(A)
    for c in (0, 1):
        rows = np.flatnonzero(classes == c)
        parts = list(KFold(4).split(X))
        expected = cross_by_hand(NearMean(), X, parts, new[new_classes == c], rows)
        assert_allclose(p[new_classes == c], expected[0], rtol=1e-12)
        assert_allclose(decisions[new_classes == c], expected[1], rtol=1e-12)
        k = floor(Fraction("0.1") * (len(rows) + 1))
        assert detector.offsets_[c] == np.sort(detector.calibration_scores_[rows])[k - 1]
    assert np.isfinite(detector.score_samples(A)).all()


@pytest.mark.filterwarnings(FEW)
def test_folds_with_too_few_rows_still_score(points):
    X, new = points
    detector = ConformalDetector(NearMean(), cv=KFold(3)).fit(X[:12])
    assert (detector.decision_function(new) == np.inf).all()
    assert np.isfinite(detector.score_samples(new)).all()
    assert len(np.unique(detector.score_samples(new))) > 20


def test_folds_are_computed_alike_in_batches_and_by_threads(points, monkeypatch):
    X, new = points
    detector = ConformalDetector(NearMean(), cv=KFold(4), false_alarm_rate=0.1).fit(X)
    expected = detector.decision_function(new)
    monkeypatch.setattr("skood._batches._BYTES_IN_CACHE", 400)
    assert_array_equal(detector.decision_function(new), expected)
    threads = clone(detector).set_params(n_jobs=2).fit(X)
    assert_array_equal(threads.decision_function(new), expected)


@pytest.mark.parametrize(
    ("cv", "match"),
    [
        (ShuffleSplit(3, test_size=0.3, random_state=0), "holds some rows out more than once"),
        ([(np.arange(30), np.arange(20, 40))], "puts 10 rows into both parts of a split"),
        ([(np.arange(40), np.empty(0, dtype=int))], "leaves no in-distribution row to calibrate"),
        (PredefinedSplit(np.r_[np.full(35, -1), np.zeros(5)]), "leaves no in-distribution row"),
    ],
)
def test_splits_that_would_break_the_promise_are_refused(cv, match):
    y = np.r_[np.zeros(35), np.full(5, -1)]
    with pytest.raises(ValueError, match=match):
        ConformalDetector(NearMean(), cv=cv).fit(np.zeros((40, 2)), y)


def test_a_training_conditional_guarantee_over_folds_is_refused():
    detector = ConformalDetector(NearMean(), cv=5, guarantee="training-conditional")
    with pytest.raises(ValueError, match=r"needs one detector .* makes 5 detectors"):
        detector.fit(np.zeros((40, 2)))


# Rows and labels.


def test_a_share_is_stratified_and_repeatable():
    y = np.repeat(["a", "b", "c"], [60, 30, 10])
    X = np.random.default_rng(0).normal(size=(100, 2))
    detector = ConformalDetector(NearMean(), cv=0.4, random_state=3).fit(X, y)
    rows = detector.calibration_rows_
    assert np.unique(y[rows], return_counts=True)[1].tolist() == [24, 12, 4]
    assert_array_equal(detector.estimator_.X_, np.delete(X, rows, axis=0))
    assert sorted(detector.estimator_.y_) == ["a"] * 36 + ["b"] * 18 + ["c"] * 6
    assert_array_equal(clone(detector).fit(X, y).calibration_rows_, rows)
    other = clone(detector).set_params(random_state=4).fit(X, y).calibration_rows_
    assert not np.array_equal(other, rows)


@pytest.mark.parametrize("cv", [0.5, 2, KFold(2), StratifiedKFold(2), OODKFold(2)])
@pytest.mark.parametrize("texts", [False, True])
def test_marked_rows_never_calibrate(cv, texts):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    y = np.where(np.arange(120) % 3 == 0, -1, np.arange(120) % 2)
    marked = np.flatnonzero(y == -1)
    X[marked] += 100
    labels = np.where(y == -1, "-1", y.astype(str)) if texts else y
    detector = ConformalDetector(NearMean(), cv=cv, random_state=0).fit(X, labels)
    assert not np.isin(detector.calibration_rows_, marked).any()
    assert len(detector.calibration_rows_) == (40 if cv == 0.5 else 80)
    for fitted in detector.estimators_:
        # Other libraries' detectors would take marked rows for in-distribution.
        assert fitted.X_.max() < 50
        assert len(fitted.X_) == 40
        assert set(fitted.y_) == ({"0", "1"} if texts else {0, 1})


@pytest.mark.parametrize("cv", [0.5, KFold(2, shuffle=True, random_state=0)])
def test_marked_rows_go_to_a_detector_that_learns_from_them(cv):
    seen = []

    class Supervised(NearMean):
        _learns_from_ood = True

        def fit(self, X, y=None):
            seen.append(np.asarray(y))
            return super().fit(np.asarray(X)[np.asarray(y) != -1])

    y = np.where(np.arange(90) % 3 == 0, -1, 7)
    X = np.random.default_rng(0).normal(size=(90, 2))
    detector = ConformalDetector(Supervised(), cv=cv, random_state=0).fit(X, y)
    assert not np.isin(detector.calibration_rows_, np.flatnonzero(y == -1)).any()
    assert [(labels == -1).sum() for labels in seen] == [30] * len(seen)
    assert sum((labels == 7).sum() for labels in seen) == 30 * len(seen)


def test_a_supervised_detector_of_this_package_is_given_marked_rows():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 150)
    centers = rng.normal(size=(2, 32))
    inside = np.maximum(centers[label] + 0.3 * rng.normal(size=(300, 32)), 0)
    outside = np.maximum(rng.normal(size=(100, 32)), 0)
    A = Activations(
        {"relu": np.vstack([inside, outside])}, predictions=np.r_[label, rng.integers(0, 2, 100)]
    )
    y = np.r_[label, np.full(100, -1)]
    detector = ConformalDetector(AutoNAPDetector(random_state=0), cv=0.5, random_state=0).fit(A, y)
    assert detector.estimator_.n_samples_seen_ == 250
    assert detector.score(A, y) > 0.9


def test_marked_rows_go_to_searches():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 2)), np.where(np.arange(200) % 4 == 0, -1, 0)
    X[y == -1] += 6
    search = GridSearchCV(KNNDetector(n_neighbors=5), {"normalize": [True, False]}, cv=OODKFold(3))
    detector = ConformalDetector(search, cv=0.4, random_state=0).fit(X, y)
    assert detector.estimator_.best_params_ == {"normalize": False}
    assert detector.n_calibration_samples_ == 60
    assert detector.estimator_.best_estimator_.n_samples_seen_ == 140


@pytest.mark.parametrize("labels", ["numbers", "texts"])
def test_prefit_leaves_marked_rows_out(labels):
    scores = np.r_[np.arange(40.0), np.full(40, -99.0)]
    y = np.repeat([1, -1], 40) if labels == "numbers" else ["cat"] * 40 + [-1] * 40
    detector = ConformalDetector(Given().fit(None)).fit(column(scores), y)
    assert detector.n_calibration_samples_ == 40
    assert detector.offset_ == 1


def test_marks_that_come_with_the_inputs_and_not_as_y_are_warned_of():
    A = activations(range(30), np.zeros(30, dtype=int)).assign(labels=np.r_[np.zeros(29), -1])
    with pytest.warns(UserWarning, match=r"All rows count as in-distribution.*pass y=X.labels"):
        ConformalDetector(Given().fit(None)).fit(A)
    assert ConformalDetector(Given().fit(None)).fit(A, A.labels).n_calibration_samples_ == 29


def test_labels_that_do_not_fit_are_refused():
    detector = ConformalDetector(Given().fit(None))
    with pytest.raises(ValueError, match="X has 30 samples, but y has 29"):
        detector.fit(column(range(30)), np.zeros(29))
    with pytest.raises(ValueError, match="none is left"):
        detector.fit(column(range(30)), np.full(30, -1))
    A = activations(range(30), np.where(np.arange(30) % 2, -1, 1))
    with pytest.raises(ValueError, match="The network has a class -1"):
        detector.fit(A, A.predictions)
    shuffled = activations(range(30), np.zeros(30)).assign(labels=np.arange(30) % 5)
    with pytest.raises(ValueError, match="in another order"):
        detector.fit(shuffled, np.random.default_rng(0).permutation(shuffled.labels))


def test_nan_scores_are_refused_by_row():
    scores = np.arange(40.0)
    scores[[7, 9]] = np.nan
    detector = ConformalDetector(Given().fit(None))
    with pytest.raises(ValueError, match=r"score of Given is NaN in 2 of 40 rows, .* row 7"):
        detector.fit(column(scores))
    y = np.zeros(40)
    y[7] = -1
    with pytest.raises(ValueError, match=r"NaN in 1 of 39 rows, the first of them row 9"):
        detector.fit(column(scores), y)
    y[9] = -1
    detector.fit(column(scores), y)
    for method in (detector.predict, detector.score_samples, detector.p_values, detector.select):
        with pytest.raises(ValueError, match=r"NaN in 1 of 2 rows, the first of them row 1"):
            method(column([0.0, np.nan]))
    with pytest.raises(ValueError, match=r"NaN in 2 of 40 rows, the first of them row 7"):
        ConformalDetector(Given(), cv=KFold(5)).fit(column(scores))


def test_scores_of_another_shape_are_refused():
    class Columns(Given):
        def score_samples(self, X):
            return np.asarray(X)

    with pytest.raises(ValueError, match=r"gives scores of shape \(30, 2\), in place of one for"):
        ConformalDetector(Columns().fit(None)).fit(np.zeros((30, 2)))


def test_a_failed_fit_changes_nothing():
    detector = calibrated(range(40))
    before = pickle.dumps(detector)
    with pytest.raises(ValueError, match="NaN"):
        detector.fit(column([np.nan]))
    assert pickle.dumps(detector) == before


def test_a_later_fit_forgets_the_earlier(five_classes):
    detector = ConformalDetector(Given().fit(None), group_by="prediction", false_alarm_rate=0.2)
    detector.fit(five_classes).set_params(group_by=None).fit(five_classes)
    assert not hasattr(detector, "offsets_")
    assert detector.offset_ < 1
    detector.set_params(cv=3).fit(five_classes)
    assert not hasattr(detector, "estimator_")


# Detectors.


def test_a_detector_that_is_not_fitted_is_refused_with_words():
    X = np.random.default_rng(0).normal(size=(60, 2))
    detector = ConformalDetector(KNNDetector(n_neighbors=3).fit(X[:30]))
    match = r"cv='prefit' uses .* this KNNDetector is not fitted yet.*cv=0.2.*FrozenEstimator"
    with pytest.raises(NotFittedError, match=match):
        clone(detector).fit(X[30:])
    with pytest.raises(NotFittedError, match="not fitted yet"):
        detector.predict(X)
    frozen = ConformalDetector(FrozenEstimator(detector.detector))
    assert clone(frozen).fit(X[30:]).offset_ == detector.fit(X[30:]).offset_


def test_a_fitted_object_that_is_no_estimator_is_calibrated_too():
    class Scores:
        def score_samples(self, X):
            return np.asarray(X)[:, 0]

    detector = ConformalDetector(Scores()).fit(column(range(39)))
    assert detector.offset_ == 1
    unfitted = FrozenEstimator(make_pipeline(StandardScaler(), KNNDetector()))
    with pytest.raises(NotFittedError, match="cv='prefit' uses its detector as it is"):
        ConformalDetector(unfitted).fit(np.zeros((30, 2)))


def test_samples_and_scores_have_to_be_there():
    with pytest.raises(ValueError, match="Found 0 samples in ndarray, but at least 1 is needed"):
        calibrated([])
    with pytest.raises(ValueError, match="Found 0 samples"):
        ConformalDetector(Given(), cv=3).fit(np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"too few of them: n_samples=1"):
        ConformalDetector(Given(), cv=0.5).fit(np.zeros((2, 2)), [0, -1])

    class Dropping(Given):
        def score_samples(self, X):
            return super().score_samples(X)[1:]

    with pytest.raises(ValueError, match=r"gives 9 scores for 10 samples"):
        ConformalDetector(Dropping(), cv=0.5).fit(np.zeros((20, 2)))


def scikit_learn_detectors():
    return [
        IsolationForest(n_estimators=20, random_state=0),
        LocalOutlierFactor(n_neighbors=10, novelty=True),
        GaussianMixture(random_state=0),
        make_pipeline(StandardScaler(), KNNDetector(n_neighbors=3, normalize=False)),
        FarFromMean(),
    ]


@pytest.mark.parametrize("cv", ["prefit", 0.5, KFold(3)])
@pytest.mark.filterwarnings("ignore:X does not have valid feature names, but LocalOutlierFactor")
@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize("detector", scikit_learn_detectors(), ids=lambda d: type(d).__name__)
def test_detectors_of_other_libraries(detector, frame, cv):
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(300, 3)), rng.normal(size=(2000, 3))
    if frame:
        X, new = (pd.DataFrame(x, columns=["a", "b", "c"]) for x in (X, new))
    detector = clone(detector)
    if cv == "prefit":
        detector.fit(X[:150])
        X = X[150:]
    calibrated = ConformalDetector(detector, cv=cv, random_state=0)
    calibrated.fit(X, None if isinstance(detector, GaussianMixture) else np.ones(len(X)))
    assert 0.01 < (calibrated.predict(new) == -1).mean() < 0.1
    assert calibrated.predict(new[:1] * 0 + 50) == -1
    if not isinstance(detector, FarFromMean):
        assert calibrated.n_features_in_ == 3
        assert list(getattr(calibrated, "feature_names_in_", [])) == ["a", "b", "c"] * frame


def test_scores_are_required_of_a_detector():
    with pytest.raises(ValueError, match="The 'detector' parameter"):
        ConformalDetector(LocalOutlierFactor()).fit(np.zeros((9, 1)))


@pytest.mark.parametrize(
    "params",
    [
        {"false_alarm_rate": 0.0},
        {"false_alarm_rate": 1.0},
        {"false_alarm_rate": True},
        {"cv": 1},
        {"cv": 1.5},
        {"cv": "fit"},
        {"group_by": "label"},
        {"guarantee": "conditional"},
        {"confidence": 1.0},
    ],
)
def test_parameters_are_checked(params):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter"):
        ConformalDetector(Given().fit(None), **params).fit(column(range(30)))


def test_the_order_of_scores_is_the_detectors_own():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(200, 2)), rng.normal(size=(50, 2))
    knn = KNNDetector(n_neighbors=5).fit(X[:100])
    detector = ConformalDetector(knn).fit(X[100:])
    assert_array_equal(detector.score_samples(new), knn.score_samples(new))
    marks = np.where(np.arange(50) < 10, -1, 1)
    assert detector.score(new, marks) == knn.score(new, marks)
    with pytest.warns(UndefinedMetricWarning, match="no area under a ROC curve of 50"):
        assert np.isnan(detector.score(new, np.ones(50)))
    at_threshold = new[np.argmin(np.abs(detector.decision_function(new)))]
    detector.offset_  # noqa: B018
    refitted = ConformalDetector(knn, false_alarm_rate=0.5).fit(at_threshold[np.newaxis])
    assert refitted.decision_function(at_threshold[np.newaxis]) == 0
    assert refitted.predict(at_threshold[np.newaxis]) == 1


def test_it_is_cloned_pickled_and_searched():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(3, 1, size=(120, 2)), rng.normal(9, 1, size=(60, 2))])
    y = np.repeat([0, -1], [120, 60])
    search = GridSearchCV(
        ConformalDetector(KNNDetector(n_neighbors=3), cv=0.4, random_state=0),
        {"detector__normalize": [True, False]},
        cv=OODKFold(3),
        error_score="raise",
    ).fit(X, y)
    assert search.best_params_ == {"detector__normalize": False}
    best = search.best_estimator_
    copy = pickle.loads(pickle.dumps(best))
    assert_array_equal(copy.p_values(X), best.p_values(X))
    assert clone(best).get_params()["detector__n_neighbors"] == 3
    assert_array_equal(search.score_samples(X), best.score_samples(X))


def test_it_stands_in_pipelines_and_monitors():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    pipeline = make_pipeline(
        StandardScaler(),
        ConformalDetector(NearMean(), cv=GroupKFold(4), false_alarm_rate=0.1),
    )
    pipeline.fit(X, conformaldetector__groups=np.arange(200) // 10)
    rows = pipeline[-1].calibration_rows_
    assert_array_equal(rows, np.arange(200))
    assert 0.05 < (pipeline.predict(rng.normal(size=(1000, 3))) == -1).mean() < 0.15


# Networks.


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    y = np.arange(900) % 3
    X = 2 * np.eye(3)[y] + rng.normal(size=(900, 3))
    net = MLPClassifier((8,), solver="lbfgs", alpha=1.0, max_iter=2000, random_state=0).fit(
        X[:300], np.array(list("abc"))[y[:300]]
    )
    return net, X[300:600], X[600:]


@pytest.mark.parametrize("wrap", [lambda d: d, FrozenEstimator, make_pipeline])
@pytest.mark.parametrize("group_by", [None, "prediction"])
def test_raw_inputs_and_their_activations_are_read_alike(network, wrap, group_by):
    net, X, new = network
    pipeline = make_pipeline(ActivationExtractor(net, "penultimate"), EnergyDetector()).fit(X[:50])
    raw = ConformalDetector(wrap(pipeline), group_by=group_by).fit(X[50:])
    A, A_new = pipeline[:1].transform(X), pipeline[:1].transform(new)
    extracted = ConformalDetector(pipeline[-1], group_by=group_by).fit(A[50:])
    assert_array_equal(raw.p_values(new), extracted.p_values(A_new))
    assert_array_equal(raw.decision_function(new), extracted.decision_function(A_new))
    assert_array_equal(raw.predict(new), raw.predict(A_new))
    if group_by:
        assert list(raw.offsets_) == ["a", "b", "c"]


def test_the_network_runs_once(network, monkeypatch):
    net, X, new = network
    pipeline = make_pipeline(ActivationExtractor(net, "penultimate"), EnergyDetector()).fit(X[:50])
    detector = ConformalDetector(pipeline, group_by="prediction")
    runs = []
    transform = ActivationExtractor.transform

    def counted(self, X):
        runs.append(len(X))
        return transform(self, X)

    monkeypatch.setattr(ActivationExtractor, "transform", counted)
    detector.fit(X)
    detector.predict(new)
    assert runs == [len(X), len(new)]


def test_predictions_are_the_networks_own_before_shaping(network):
    """Those of the extractor, whatever later steps make of the logits."""
    net, X, _ = network

    class Turned(BaseEstimator):
        def fit(self, X, y=None):
            self.is_fitted_ = True
            return self

        def transform(self, X):
            return X.assign(logits=-X.logits)

    extractor = ActivationExtractor(net, "penultimate")
    pipeline = make_pipeline(extractor, Turned(), MaxSoftmaxDetector()).fit(X[:50])
    detector = ConformalDetector(pipeline, group_by="prediction").fit(X)
    of_network = np.unique(net.predict(X), return_counts=True)[1]
    sizes = [len(detector.calibration_scores_[net.predict(X) == c]) for c in "abc"]
    assert sizes == of_network.tolist()
    for c in "abc":
        own = detector.calibration_scores_[net.predict(X) == c]
        k = floor(Fraction("0.05") * (len(own) + 1))
        assert detector.offsets_[c] == np.sort(own)[k - 1]


@pytest.mark.parametrize("cv", [0.5, KFold(2)])
@pytest.mark.parametrize("kind", ["array", "tensor", "mapping", "activations"])
def test_clones_are_fitted_on_rows_of_inputs_of_many_kinds(kind, cv):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    X = 9 * torch.randn(200, 3)
    pipeline = make_pipeline(ActivationExtractor(net, ["1"]), KNNDetector(n_neighbors=3))
    given = {"array": X.numpy(), "tensor": X, "mapping": {"input": X}}.get(kind)
    if kind == "activations":
        given = pipeline[0].fit(X).transform(X)
    detector = ConformalDetector(pipeline, cv=cv, random_state=0, group_by="prediction")
    detector.fit(given)
    expected = ConformalDetector(pipeline, cv=cv, random_state=0, group_by="prediction")
    expected.fit(X.numpy())
    assert_array_equal(detector.calibration_rows_, expected.calibration_rows_)
    assert_allclose(detector.calibration_scores_, expected.calibration_scores_, rtol=1e-6)


def test_loaders_calibrate_a_fitted_detector_and_cannot_be_split():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    X, y = torch.randn(100, 3), torch.zeros(100)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=32)
    pipeline = make_pipeline(ActivationExtractor(net, ["1"]), KNNDetector(n_neighbors=3)).fit(X)
    detector = ConformalDetector(pipeline).fit(loader)
    assert detector.n_calibration_samples_ == 100
    assert_array_equal(detector.predict(loader), detector.predict(X))
    with pytest.raises(TypeError, match="Rows of DataLoader cannot be selected"):
        ConformalDetector(pipeline, cv=0.5).fit(loader)


def test_a_monitor_is_a_detector(network):
    net, X, new = network
    monitor = make_monitor(net).fit(X[:100])
    detector = ConformalDetector(monitor, group_by="prediction", false_alarm_rate=0.1).fit(X[100:])
    assert_allclose(detector.score_samples(new), monitor.score_samples(new), rtol=1e-12)
    assert 0.02 < (detector.predict(new) == -1).mean() < 0.2


# What is promised.


def two_errors(values):
    return 2 * np.std(values, ddof=1) / np.sqrt(len(values))


def rates_of(draw, rate_below, n_calibration, repeats, **params):
    """The rate of false alarms over calibration sets, each worked out exactly."""
    rng = np.random.default_rng(0)
    detector = ConformalDetector(Given().fit(None), **params)
    offsets = [detector.fit(column(draw(rng, n_calibration))).offset_ for _ in range(repeats)]
    return rate_below(np.array(offsets))


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("n", [100, 199, 750])
def test_marginal_rate_is_the_exact_one(n, rate):
    rates = rates_of(lambda rng, n: rng.normal(size=n), norm.cdf, n, 1000, false_alarm_rate=rate)
    expected = floor(Fraction(str(rate)) * (n + 1)) / (n + 1)
    assert abs(rates.mean() - expected) < two_errors(rates)
    assert expected <= rate


@pytest.mark.parametrize("n_values", [2, 10, 100])
def test_ties_make_the_rate_smaller_and_never_larger(n_values):
    rates = rates_of(
        lambda rng, n: rng.integers(0, n_values, size=n),
        lambda offsets: offsets / n_values,
        199,
        1000,
        false_alarm_rate=0.1,
    )
    # The 20th of 199 draws is at least v where fewer than 20 of them are below v.
    is_at_least = binom.cdf(19, 199, np.arange(1, n_values) / n_values)
    expected = is_at_least.sum() / n_values
    assert abs(rates.mean() - expected) <= two_errors(rates) + 1e-12
    assert expected <= 0.1


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("n", [100, 750])
def test_training_conditional_rate_holds_as_often_as_promised(n, confidence):
    params = {"guarantee": "training-conditional", "confidence": confidence}
    rates = rates_of(lambda rng, n: rng.normal(size=n), norm.cdf, n, 2000, **params)
    holds = rates <= 0.05
    k = max(k for k in range(1, n) if beta.cdf(0.05, k, n + 1 - k) >= confidence)
    assert abs(holds.mean() - beta.cdf(0.05, k, n + 1 - k)) < two_errors(holds)
    assert holds.mean() > confidence - two_errors(holds)
    marginal = rates_of(lambda rng, n: rng.normal(size=n), norm.cdf, n, 2000)
    assert (marginal <= 0.05).mean() < 0.7


SHARES = np.array([0.5, 0.25, 0.15, 0.07, 0.03])


def test_rate_of_each_class_is_the_exact_one_and_that_of_all_together_is_not():
    rng = np.random.default_rng(0)
    by_class, in_common = np.empty((2, 400, 5))
    for i in range(400):
        classes = rng.choice(5, p=SHARES, size=1000)
        A = activations(rng.normal(size=1000) - classes, classes)
        detector = ConformalDetector(Given().fit(None), group_by="prediction", false_alarm_rate=0.2)
        offsets = detector.fit(A).offsets_
        by_class[i] = norm.cdf([offsets[c] + c for c in range(5)])
        common = clone(detector).set_params(group_by=None, detector=Given().fit(None)).fit(A)
        in_common[i] = norm.cdf(common.offset_ + np.arange(5))
        sizes = np.bincount(classes, minlength=5)
        # The number of rows of a class varies: so does what a threshold can give.
        by_class[i] += 0.2 - np.floor(0.2 * (sizes + 1) + 1e-9) / (sizes + 1)
    for c in range(5):
        assert abs(by_class[:, c].mean() - 0.2) < two_errors(by_class[:, c])
    assert in_common[:, 0].mean() < 0.1
    assert in_common[:, 4].mean() > 0.8


@pytest.mark.parametrize("n_splits", [2, 5, 10])
def test_rate_over_folds_is_near_the_wanted_one(n_splits):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(100):
        X, new = rng.normal(size=(100, 2)), rng.normal(size=(400, 2))
        detector = ConformalDetector(NearMean(), cv=KFold(n_splits), false_alarm_rate=0.1).fit(X)
        rates.append((detector.predict(new) == -1).mean())
    assert abs(np.mean(rates) - floor(0.1 * 101) / 101) < two_errors(rates) + 0.01


def false_discovery_rates(fdr, method, n_outside, by_class=False):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        n = 500
        classes = rng.choice(2, p=[0.7, 0.3], size=n)
        detector = ConformalDetector(
            Given().fit(None), group_by="prediction" if by_class else None, false_alarm_rate=0.5
        ).fit(activations(rng.normal(size=n), classes))
        scores = np.r_[rng.normal(size=100 - n_outside), rng.normal(-4, 1, size=n_outside)]
        selected = detector.select(
            activations(scores, rng.choice(2, p=[0.7, 0.3], size=100)), fdr, method=method
        )
        assert selected.dtype == bool
        false = selected[: 100 - n_outside].sum()
        found.append((false / max(1, selected.sum()), selected[100 - n_outside :].mean()))
    return np.array(found).T


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("fdr", [0.1, 0.3])
def test_false_discovery_rate_is_below_its_level(fdr, by_class):
    rates, power = false_discovery_rates(fdr, "bh", 20, by_class)
    assert rates.mean() <= 0.8 * fdr + two_errors(rates)
    assert rates.mean() > 0.5 * fdr
    assert power.mean() > 0.7
    under_dependence, less_power = false_discovery_rates(fdr, "by", 20, by_class)
    assert under_dependence.mean() < rates.mean()
    assert less_power.mean() < power.mean()


def test_batches_without_outliers_raise_an_alarm_no_more_often_than_the_level():
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(1000):
        detector = calibrated(rng.normal(size=199))
        alarms.append(detector.select(column(rng.normal(size=20)), fdr=0.2).any())
    assert abs(np.mean(alarms) - 0.2) < two_errors(alarms) + 0.02


def test_selection_by_hand():
    detector = calibrated(np.arange(99.0))
    scores = column([-1, -1, 0.5, 3.5, 50, 98])
    assert_allclose(detector.p_values(scores), [0.01, 0.01, 0.02, 0.05, 0.52, 1.0])
    # Against 1/6, 2/6, ... of the level.
    assert_array_equal(detector.select(scores), [1, 1, 1, 1, 0, 0])  # .05 <= .1 * 4 / 6
    assert_array_equal(detector.select(scores, 0.05), [1, 1, 1, 0, 0, 0])  # .02 <= .05 * 3 / 6
    assert_array_equal(detector.select(scores, 0.035), [1, 1, 0, 0, 0, 0])  # .01 <= .035 * 2 / 6
    assert_array_equal(detector.select(scores, 0.02), [0, 0, 0, 0, 0, 0])
    # The level is divided by 1 + 1/2 + ... + 1/6 = 2.45.
    assert_array_equal(detector.select(scores, 0.1, method="by"), [1, 1, 1, 0, 0, 0])
    strict = clone(detector).set_params(
        guarantee="training-conditional", detector=Given().fit(None)
    )
    strict.fit(column(np.arange(99.0)))
    assert_array_equal(strict.select(scores), [1, 1, 1, 1, 0, 0])


def test_selection_that_cannot_find_anything_is_warned_of():
    with pytest.warns(UserWarning, match="nothing is rejected"):
        detector = calibrated(range(8))
    with pytest.warns(
        UserWarning, match=r"Nothing can be selected of 3 .* 'bh' can reach is 0.111"
    ):
        assert not detector.select(column([-9, -9, -9])).any()
    detector = calibrated(range(19))
    with pytest.warns(UserWarning, match=r"'by' can reach is 0.146"):
        detector.select(column([-9, -9, -9, -9, -9, -9, -9, -9, -9, -9]), method="by")
    for params in ({"fdr": 0.0}, {"fdr": 1.0}, {"method": "bonferroni"}):
        with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter of"):
            detector.select(column([0.0]), **params)


class Cut(Given):
    """Scores that are infinite beyond -1 and 1."""

    def score_samples(self, X):
        scores = super().score_samples(X)
        return np.where(np.abs(scores) > 1, np.inf * np.sign(scores), scores)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.95])
def test_scores_over_folds_may_be_infinite(rate):
    X = np.random.default_rng(0).normal(size=(200, 3))
    detector = ConformalDetector(Cut(), cv=4, false_alarm_rate=rate, random_state=0).fit(X)
    scores, own = detector.score_samples(X), Cut().score_samples(X)
    assert not np.isnan(scores).any()
    assert (np.diff(scores[np.argsort(own, kind="stable")][np.isfinite(np.sort(own))]) >= 0).all()
    assert_array_equal(np.isneginf(scores), np.isneginf(own))
    assert detector.score(np.vstack([X, X - 9]), np.repeat([1, -1], 200)) > 0.8


def test_nothing_is_selected_of_an_empty_batch():
    X = np.random.default_rng(0).normal(size=(50, 3))
    found = ConformalDetector(Given().fit(None)).fit(X).select(X[:0])
    assert found.shape == (0,)
    assert found.dtype == bool


def test_splits_may_be_masks_and_name_no_rows_from_the_end():
    rng = np.random.default_rng(0)
    X, mask = rng.normal(size=(200, 3)), np.arange(200) < 120
    by_mask = ConformalDetector(KNNDetector(normalize=False), cv=[(mask, ~mask)]).fit(X)
    np.testing.assert_array_equal(by_mask.calibration_rows_, np.arange(120, 200))
    by_number = ConformalDetector(
        KNNDetector(normalize=False), cv=[(np.arange(120), np.arange(120, 200))]
    ).fit(X)
    np.testing.assert_array_equal(by_mask.calibration_scores_, by_number.calibration_scores_)
    for held_out, message in (
        ([-1], "a list of 1 splits names the row -1, but rows are numbered from 0 to 199"),
        ([200], "names the row 200"),
        (mask[:50], "a mask with a truth value for each of 200 rows; got .* shape .50,."),
        ([0.5], "by their numbers"),
    ):
        cv = [(np.arange(100), np.array(held_out))]
        with pytest.raises(ValueError, match=message):
            ConformalDetector(KNNDetector(normalize=False), cv=cv).fit(X)
    with pytest.raises(ValueError, match="a list of 1 splits puts 120 rows into both parts"):
        ConformalDetector(KNNDetector(normalize=False), cv=[(mask, mask)]).fit(X)


def test_folds_of_classes_need_labels():
    X = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.raises(ValueError, match="splits by the classes of the rows: pass class labels"):
        ConformalDetector(KNNDetector(normalize=False), cv=StratifiedKFold(4)).fit(X)
    with pytest.raises(ValueError, match="splits by the classes of the rows: pass class labels"):
        KNNDetector(normalize=False, validation=StratifiedKFold(4)).fit(X)


def test_fitted_detectors_give_one_score_for_each_row():
    class ThreeScores(OutlierMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.is_fitted_ = True
            return self

        def score_samples(self, X):
            return np.zeros(3)

    detector = ThreeScores().fit(None)
    with pytest.raises(ValueError, match=r"ThreeScores.. gives 3 scores for 50 samples"):
        ConformalDetector(detector).fit(np.zeros((50, 2)))


def test_a_frozen_detector_that_was_never_fitted_is_not_to_be_frozen_again():
    with pytest.raises(NotFittedError, match="KNNDetector is not fitted yet") as error:
        ConformalDetector(FrozenEstimator(KNNDetector())).fit(np.zeros((50, 2)))
    assert "wrap it in" not in str(error.value)


def test_what_is_set_after_fit_waits_for_the_next():
    rng = np.random.default_rng(0)
    detector = KNNDetector(normalize=False).fit(rng.normal(size=(300, 2)))
    calibrated = ConformalDetector(detector).fit(rng.normal(size=(199, 2)))
    new = rng.normal(size=(1000, 2))
    p_values, rejected = calibrated.p_values(new), calibrated.predict(new) == -1
    np.testing.assert_array_equal(p_values <= 0.05, rejected)
    for params in ({"guarantee": "training-conditional"}, {"group_by": "prediction"}):
        calibrated.set_params(**params)
        np.testing.assert_array_equal(calibrated.p_values(new), p_values)
        np.testing.assert_array_equal(calibrated.predict(new) == -1, rejected)
