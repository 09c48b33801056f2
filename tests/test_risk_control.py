"""Thresholds that bound the error rate among accepted samples."""

import re
import warnings

import numpy as np
import pytest
from scipy.stats import beta, binom
from sklearn.base import BaseEstimator, clone, is_outlier_detector
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    GroupShuffleSplit,
    KFold,
    PredefinedSplit,
    ShuffleSplit,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, Activations, make_monitor
from skood.calibration import RiskControlledDetector
from skood.calibration._risk_tests import RankedErrors
from skood.datasets import load_digits_ood
from skood.detectors import KNNDetector, MaxSoftmaxDetector
from skood.metrics import make_ood_scorer, risk_coverage_curve
from skood.model_selection import OODKFold

NONE_CERTIFIED = "No threshold has an error rate of at most alpha"


class FirstUnit(BaseEstimator):
    """A detector whose scores are the first column of a layer."""

    def fit(self, X, y=None):
        self.rows_ = len(X)
        return self

    def __sklearn_is_fitted__(self):
        return True

    def score_samples(self, X):
        return np.asarray(X)[:, 0]


def activations(scores, predictions=None):
    """Samples with these scores, of predicted classes 0 unless others are given."""
    scores = np.asarray(scores, dtype=np.float64)
    predictions = np.zeros(len(scores), dtype=int) if predictions is None else predictions
    logits = np.eye(2)[predictions]
    return Activations({"scores": scores[:, np.newaxis]}, logits=logits)


def fitted(scores, is_wrong, **params):
    """The detector, calibrated by scores and by which of the predictions are wrong."""
    y = np.asarray(is_wrong).astype(int)
    return RiskControlledDetector(FirstUnit(), **params).fit(activations(scores), y)


def rejecting_all(scores, is_wrong, **params):
    """The same where no threshold is certified, and the warning."""
    with pytest.warns(UserWarning, match=NONE_CERTIFIED) as caught:
        detector = fitted(scores, is_wrong, **params)
    return detector, str(caught[0].message)


# The threshold, by hand and by brute force


def test_without_errors_all_are_accepted_from_59_rows_on():
    scores = np.random.default_rng(0).normal(size=59)
    detector = fitted(scores, np.zeros(59))
    assert scores.min() - 1e-4 < detector.offset_ < scores.min()
    assert detector.coverage_ == 1
    assert detector.risk_ == 0
    assert detector.risk_bound_ == pytest.approx(1 - 0.05 ** (1 / 59))
    assert detector.n_calibration_samples_ == 59
    np.testing.assert_array_equal(detector.calibration_rows_, np.arange(59))
    np.testing.assert_array_equal(detector.predict(activations(scores)), 1)


def test_errors_below_all_others_are_rejected_and_no_more():
    """At the sizes of the sequence: 49 of 50 errors are one size too far for a risk of 0."""
    scores = np.arange(1000.0)
    detector = fitted(scores, scores < 100, alpha=0.01)
    # 900 rows are right. Of 900 + k rows, k are wrong: 3 is the most with a p-value below 0.05.
    assert binom.cdf(3, 903, 0.01) < 0.05 < binom.cdf(4, 904, 0.01)
    accepted = round(detector.coverage_ * 1000)
    # Between the sizes that are tested lie 5 rows at most.
    assert 898 <= accepted <= 903
    # The threshold is above the highest rejected score, by no more than rounding.
    assert 999.0 - accepted < detector.offset_ < 999.01 - accepted


def plan_by_hand(n, alpha, level):
    """Sizes of the tested sets and the levels that begin there, as the notes of the class say."""

    def smallest(errors, at):
        return next(k for k in range(errors + 1, 10**6) if binom.cdf(errors, k, alpha) <= at)

    early = smallest(2, level / 2)
    if early < n // 2:
        starts = {early: level / 2, n // 2: level / 2}
    else:
        sizes = [smallest(errors, level) for errors in range(3)]
        begin = max([k for k in sizes if k <= 0.6 * n], default=sizes[0])
        starts = {begin: level} if begin <= n else {}
    if not starts:
        return {}
    begin = min(starts)
    sizes = {int(k) for k in np.linspace(begin, n, min(200, n - begin + 1))} | set(starts)
    return {k: starts.get(k, 0.0) for k in sorted(sizes)}


def accepted_by_brute_force(scores, is_wrong, alpha, confidence):
    """Mask of the rows that are accepted, by the fallback procedure, one threshold at a time."""
    n = len(scores)
    by_threshold = {}
    for k, own in plan_by_hand(n, alpha, 1 - confidence).items():
        threshold = np.sort(scores)[n - k]
        by_threshold[threshold] = by_threshold.get(threshold, 0.0) + own
    best, level = np.zeros(n, dtype=bool), 0.0
    for threshold in sorted(by_threshold, reverse=True):
        accepted = scores >= threshold
        level += by_threshold[threshold]
        if binom.cdf(is_wrong[accepted].sum(), accepted.sum(), alpha) <= level:
            best = accepted
        else:
            level = 0.0
    return best


@pytest.mark.parametrize("n_values", [None, 3, 12])
@pytest.mark.parametrize("n", [1, 7, 40, 150, 700])
@pytest.mark.parametrize(("alpha", "confidence"), [(0.1, 0.9), (0.3, 0.99), (0.02, 0.5)])
def test_threshold_by_brute_force(n, n_values, alpha, confidence):
    rng = np.random.default_rng(n)
    for error in (0.0, 0.03, 0.3):
        scores = rng.random(n)
        is_wrong = rng.random(n) < 3 * error * np.exp(-3 * scores)
        if n_values is not None:
            scores = np.floor(scores * n_values)
        expected = accepted_by_brute_force(scores, is_wrong, alpha, confidence)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", NONE_CERTIFIED)
            detector = fitted(scores, is_wrong, alpha=alpha, confidence=confidence)
        accepted = detector.predict(activations(scores)) == 1
        np.testing.assert_array_equal(accepted, expected)
        assert detector.coverage_ == expected.mean()
        if not expected.any():
            assert detector.offset_ == np.inf
            continue
        n_accepted, n_wrong = expected.sum(), is_wrong[expected].sum()
        assert detector.risk_ == n_wrong / n_accepted
        bound = beta.ppf(confidence, n_wrong + 1, n_accepted - n_wrong)
        assert detector.risk_bound_ == pytest.approx(bound, rel=1e-12)
        assert detector.risk_ < detector.risk_bound_ <= alpha


def test_the_threshold_is_a_point_of_the_risk_coverage_curve():
    rng = np.random.default_rng(0)
    scores = np.round(rng.random(500), 2)
    is_wrong = rng.random(500) < 0.3 * np.exp(-5 * scores)
    detector = fitted(scores, is_wrong, alpha=0.1)
    coverage, risk, _ = risk_coverage_curve(~is_wrong, scores)
    (point,) = np.flatnonzero(coverage == detector.coverage_)
    assert risk[point] == pytest.approx(detector.risk_)


def test_more_confidence_and_less_risk_cost_coverage():
    rng = np.random.default_rng(0)
    scores = rng.random(2000)
    is_wrong = rng.random(2000) < np.exp(-6 * scores)
    by_confidence = [fitted(scores, is_wrong, confidence=c).coverage_ for c in (0.5, 0.9, 0.999)]
    assert by_confidence == sorted(by_confidence, reverse=True)
    by_alpha = [fitted(scores, is_wrong, alpha=a).coverage_ for a in (0.02, 0.05, 0.1, 0.3)]
    assert by_alpha == sorted(by_alpha)
    assert len({*by_confidence}) == 3
    assert len({*by_alpha}) == 4


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    scores, is_wrong = np.round(rng.random(800), 2), rng.random(800) < 0.05
    order = rng.permutation(800)
    one = fitted(scores, is_wrong, alpha=0.1)
    other = fitted(scores[order], is_wrong[order], alpha=0.1)
    for name in ("offset_", "coverage_", "risk_", "risk_bound_"):
        assert getattr(one, name) == getattr(other, name)


# What is promised


def continuous(rng, n):
    """Scores u with an error rate of exp(-9 u), whose risk above t is known."""
    u = rng.random(n)
    return u, rng.random(n) < 0.9 * np.exp(-8 * u)


def risk_of_continuous(threshold):
    t = min(max(threshold, 0.0), 1 - 1e-12)
    return 0.9 * (np.exp(-8 * t) - np.exp(-8)) / 8 / (1 - t)


def rising_and_falling(rng, n):
    u = rng.random(n)
    return u, rng.random(n) < 0.05 + 0.045 * np.sin(40 * u)


def risk_of_rising_and_falling(threshold):
    t = min(max(threshold, 0.0), 1 - 1e-12)
    return 0.05 + 0.045 * (np.cos(40 * t) - np.cos(40)) / 40 / (1 - t)


SHARES, RATES = np.array([0.2, 0.3, 0.1, 0.2, 0.2]), np.array([0.0, 0.03, 0.09, 0.13, 0.4])
HIGHEST_FIRST = -np.arange(5.0)


def discrete(rng, n):
    group = rng.choice(5, n, p=SHARES)
    return HIGHEST_FIRST[group], rng.random(n) < RATES[group]


def risk_of_discrete(threshold):
    accepted = threshold <= HIGHEST_FIRST
    return SHARES[accepted] @ RATES[accepted] / SHARES[accepted].sum()


def nearly_constant(rng, n):
    return rng.integers(0, 2, n).astype(float), rng.random(n) < 0.0501


@pytest.mark.parametrize("n", [80, 400, 2000])
@pytest.mark.parametrize(
    ("draw", "true_risk"),
    [
        (continuous, risk_of_continuous),
        (rising_and_falling, risk_of_rising_and_falling),
        (discrete, risk_of_discrete),
        (nearly_constant, lambda threshold: 0.0501),
    ],
    ids=["continuous", "rising and falling", "discrete", "nearly constant"],
)
def test_risk_is_below_alpha_with_the_confidence(draw, true_risk, n):
    rng = np.random.default_rng(n)
    n_draws, level = 1000, 0.1
    n_above = 0
    for _ in range(n_draws):
        found = RankedErrors(*draw(rng, n)).largest_certified(0.05, 1 - level)
        n_above += found is not None and true_risk(found.offset) > 0.05
    assert n_above / n_draws <= level + 2 * np.sqrt(level * (1 - level) / n_draws)


def test_coverage_comes_near_the_largest_that_there_is():
    rng = np.random.default_rng(0)
    coverage = [fitted(*continuous(rng, 5000), alpha=0.05).coverage_ for _ in range(20)]
    best = next(1 - t for t in np.linspace(0, 1, 10_001) if risk_of_continuous(t) <= 0.05)
    assert best - 0.04 < np.mean(coverage) < best


# Where nothing can be certified


def test_too_few_rows_reject_all_and_say_how_many_are_needed():
    detector, message = rejecting_all(np.arange(58.0), np.zeros(58))
    assert "alpha=0.05 needs at least 59 rows" in message
    assert detector.offset_ == np.inf
    assert detector.coverage_ == 0
    assert np.isnan(detector.risk_)
    assert detector.risk_bound_ == 1
    A = activations([-1e300, 0.0, 1e300])
    np.testing.assert_array_equal(detector.predict(A), -1)
    np.testing.assert_array_equal(detector.decision_function(A), -np.inf)
    np.testing.assert_array_equal(detector.score_samples(A), [-1e300, 0, 1e300])


def smallest_alpha(message):
    return float(re.search(r"smallest alpha that they can certify is ([\d.e-]+\d)", message)[1])


@pytest.mark.parametrize("n", [1, 30, 300])
def test_the_smallest_alpha_of_the_warning_is_one(n):
    rng = np.random.default_rng(0)
    scores, is_wrong = rng.random(n), np.arange(n) % 7 == 3
    _, message = rejecting_all(scores, is_wrong, alpha=0.01)
    alpha = smallest_alpha(message)
    assert fitted(scores, is_wrong, alpha=alpha).coverage_ > 0
    rejecting_all(scores, is_wrong, alpha=alpha * 0.985)


def test_one_row():
    detector, message = rejecting_all([3.0], [False])
    assert smallest_alpha(message) == 0.95
    assert detector.coverage_ == 0
    assert fitted([3.0], [False], alpha=0.96).coverage_ == 1
    _, message = rejecting_all([3.0], [True], alpha=0.96)
    assert "They can certify no alpha." in message


def test_all_wrong():
    _, message = rejecting_all(np.arange(500.0), np.ones(500), alpha=0.9)
    assert "of which 500 are misclassified" in message
    assert "They can certify no alpha." in message


def test_rejecting_all_can_still_be_scored():
    """Infinite decisions say nothing of the order: metrics take the scores."""
    detector, _ = rejecting_all(np.arange(50.0), np.zeros(50))
    A = activations(np.arange(6.0))
    y = np.array([-1, -1, 0, 1, 0, 0])
    assert make_ood_scorer()(detector, A, y) == 1
    assert make_ood_scorer("f1")(detector, A, y) == pytest.approx(0.5)
    assert make_ood_scorer(target="misclassified")(detector, A, y) == pytest.approx(2 / 3)


# What is refused


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.1, 0.0, 1.0, None, "x", True])
@pytest.mark.parametrize("name", ["alpha", "confidence"])
def test_levels_that_are_none_are_refused(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        fitted(np.arange(100.0), np.zeros(100), **{name: value})


@pytest.mark.parametrize("cv", [0.0, 1.0, 5, "share", None])
def test_other_cv_are_refused(cv):
    with pytest.raises(ValueError, match="The 'cv' parameter"):
        fitted(np.arange(100.0), np.zeros(100), cv=cv)


def test_folds_are_refused_with_words():
    with pytest.raises(ValueError, match="makes 3 splits, but there is no guarantee"):
        fitted(np.arange(100.0), np.zeros(100), cv=KFold(3))


def test_nan_scores_are_refused_with_their_rows():
    scores = np.arange(100.0)
    detector = fitted(scores, np.zeros(100))

    class Undefined(FirstUnit):
        def score_samples(self, X):
            return np.where(np.asarray(X)[:, 0] == 7, np.nan, 1.0)

    y = np.r_[np.zeros(3), -1, np.zeros(96)]  # a row before it is not of those that calibrate
    with pytest.raises(ValueError, match=r"Undefined is NaN in 1 of 99 rows, .* row 7"):
        RiskControlledDetector(Undefined()).fit(activations(scores), y)
    detector.estimator_ = Undefined()
    for method in ("score_samples", "decision_function", "predict"):
        with pytest.raises(ValueError, match="Undefined is NaN in 1 of 100 rows"):
            getattr(detector, method)(activations(scores))


def test_infinite_scores_are_above_or_below_all():
    class Infinite(FirstUnit):
        def score_samples(self, X):
            score = np.asarray(X)[:, 0]
            return np.where(score < 1, -np.inf, np.where(score > 97, np.inf, score))

    scores = np.arange(99.0)
    detector = RiskControlledDetector(Infinite(), alpha=0.04).fit(
        activations(scores), (scores < 1).astype(int)
    )
    new = activations([0.0, 50.0, 98.0])
    np.testing.assert_array_equal(detector.predict(new), [-1, 1, 1])
    all_right = RiskControlledDetector(Infinite()).fit(activations(scores), np.zeros(99))
    np.testing.assert_array_equal(all_right.predict(new), 1)


def test_labels_and_predictions_that_are_missing_or_do_not_fit_are_refused():
    A, y = activations(np.arange(100.0)), np.zeros(100, dtype=int)
    detector = RiskControlledDetector(FirstUnit())
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        detector.fit(A)
    with pytest.raises(ValueError, match=r"among the classes of the network, \[0, 1\].*got \[7\]"):
        detector.fit(A, y + 7)
    with pytest.raises(ValueError, match="100 samples, but y has 99"):
        detector.fit(A, y[1:])
    with pytest.raises(ValueError, match="none is left"):
        detector.fit(A, y - 1)
    with pytest.raises(ValueError, match="needs predictions of the network, but X carries none"):
        detector.fit(Activations({"scores": np.ones((100, 1))}), y)
    with pytest.raises(ValueError, match="needs the classes that the network predicts, but ndarra"):
        detector.fit(np.ones((100, 1)), y)
    texts = Activations({"scores": np.ones((9, 1))}, predictions=np.array(["a"] * 9))
    with pytest.raises(ValueError, match="must be of one kind"):
        detector.fit(texts, y[:9])
    with pytest.raises(NotFittedError, match="not fitted yet"):
        RiskControlledDetector(FirstUnit()).predict(A)


def test_a_failed_fit_changes_nothing():
    A = activations(np.arange(100.0))
    detector = RiskControlledDetector(FirstUnit())
    before = dict(vars(detector))
    with pytest.raises(ValueError, match="requires y"):
        detector.fit(A)
    assert vars(detector) == before
    detector.fit(A, np.zeros(100))
    before = dict(vars(detector))
    with pytest.raises(ValueError, match=r"got \[7"):
        detector.fit(A, np.full(100, 7))
    assert vars(detector) == before


# Which rows calibrate


def test_rows_marked_ood_are_left_out():
    rng = np.random.default_rng(0)
    scores, is_wrong = continuous(rng, 600)
    y = is_wrong.astype(int)
    y[::3] = -1
    detector = RiskControlledDetector(FirstUnit(), alpha=0.1).fit(activations(scores), y)
    inside = y != -1
    expected = fitted(scores[inside], is_wrong[inside], alpha=0.1)
    assert detector.offset_ == expected.offset_
    assert detector.n_calibration_samples_ == 400
    np.testing.assert_array_equal(detector.calibration_rows_, np.flatnonzero(inside))


def test_labels_that_came_with_the_inputs_are_taken():
    A = activations(np.arange(100.0)).assign(labels=np.zeros(100, dtype=int))
    assert RiskControlledDetector(FirstUnit()).fit(A).coverage_ == 1
    assert RiskControlledDetector(FirstUnit(), cv=0.7).fit(A).n_calibration_samples_ == 70


def test_a_share_calibrates_a_clone_that_learnt_from_the_rest():
    A, y = activations(np.arange(200.0)), np.zeros(200, dtype=int)
    given = FirstUnit()
    detector = RiskControlledDetector(given, cv=0.4, random_state=0).fit(A, y)
    assert detector.n_calibration_samples_ == 80
    assert detector.estimator_ is not given
    assert detector.estimator_.rows_ == 120
    again = RiskControlledDetector(given, cv=0.4, random_state=0).fit(A, y)
    np.testing.assert_array_equal(again.calibration_rows_, detector.calibration_rows_)
    other = RiskControlledDetector(given, cv=0.4, random_state=1).fit(A, y)
    assert not np.array_equal(other.calibration_rows_, detector.calibration_rows_)


def test_a_splitter_of_one_split_calibrates_by_its_test_part():
    A, y = activations(np.arange(200.0)), np.zeros(200, dtype=int)
    parts = np.where(np.arange(200) < 90, 0, -1)
    for cv in (PredefinedSplit(parts), [(np.arange(90, 200), np.arange(90))]):
        detector = RiskControlledDetector(FirstUnit(), cv=cv).fit(A, y)
        np.testing.assert_array_equal(detector.calibration_rows_, np.arange(90))
        assert detector.estimator_.rows_ == 110
    groups = np.repeat(np.arange(20), 10)
    split = GroupShuffleSplit(1, test_size=0.5, random_state=0)
    detector = RiskControlledDetector(FirstUnit(), cv=split).fit(A, y, groups=groups)
    learnt = np.setdiff1d(np.arange(200), detector.calibration_rows_)
    assert not set(groups[learnt]) & set(groups[detector.calibration_rows_])
    once = ShuffleSplit(1, test_size=70, random_state=0)
    assert RiskControlledDetector(FirstUnit(), cv=once).fit(A, y).n_calibration_samples_ == 70


def test_the_share_is_a_plain_sample_and_not_one_of_each_class():
    """Strata would not be independent draws: class counts of a share vary by chance."""
    predictions = np.repeat([0, 1], 100)
    A = activations(np.arange(200.0), predictions)
    counts = {
        np.count_nonzero(
            RiskControlledDetector(FirstUnit(), cv=0.5, random_state=seed)
            .fit(A, predictions)
            .calibration_rows_
            < 100
        )
        for seed in range(5)
    }
    assert len(counts) > 1


# With detectors, pipelines and searches


@pytest.fixture(scope="module")
def digits():
    """A network that errs on some digits, its calibration rows, test rows, and its monitor."""
    X, y = load_digits_ood(return_X_y=True)
    X = X.reshape(len(X), -1)
    X, y = X[y != -1], y[y != -1]
    rng = np.random.default_rng(0)
    X = X + 0.3 * rng.normal(size=X.shape)
    rows = rng.permutation(len(X))
    learnt, calibrating, test = rows[:300], rows[300:900], rows[900:]
    net = MLPClassifier((64,), random_state=0, max_iter=500).fit(X[learnt], y[learnt])
    pipeline = make_pipeline(ActivationExtractor(net), MaxSoftmaxDetector()).fit(X[learnt])
    return (X[calibrating], y[calibrating]), (X[test], y[test]), net, pipeline


def test_a_pipeline_on_raw_inputs_finds_the_predictions_of_its_network(digits):
    (X, y), (X_test, y_test), net, pipeline = digits
    detector = RiskControlledDetector(pipeline, alpha=0.1).fit(X, y)
    assert detector.estimator_ is pipeline
    accepted = detector.predict(X) == 1
    assert detector.coverage_ == accepted.mean()
    assert 0.3 < detector.coverage_ < 1
    assert detector.risk_ == np.mean(net.predict(X[accepted]) != y[accepted])
    kept = detector.predict(X_test) == 1
    assert np.mean(net.predict(X_test[kept]) != y_test[kept]) < 0.1
    assert np.mean(net.predict(X_test) != y_test) > 0.1
    np.testing.assert_array_equal(detector.score_samples(X), pipeline.score_samples(X))
    assert is_outlier_detector(detector)


def test_activations_calibrate_as_raw_inputs_do(digits):
    (X, y), _, _, pipeline = digits
    A = pipeline[:-1].transform(X)
    one = RiskControlledDetector(pipeline, alpha=0.1).fit(X, y)
    other = RiskControlledDetector(pipeline[-1], alpha=0.1).fit(A, y)
    assert one.offset_ == other.offset_
    assert one.risk_ == other.risk_
    assert one.score(X, y) == other.score(A, y) > 0.8
    wrong = A.predictions != y
    scorer = make_ood_scorer(target="misclassified")
    assert one.score(X, y) == pytest.approx(scorer(pipeline, X, y))
    with pytest.warns(UndefinedMetricWarning, match="0 misclassified rows: the score is NaN"):
        assert np.isnan(other.score(A[~wrong], y[~wrong]))


def test_the_network_runs_once(digits, monkeypatch):
    (X, y), _, _, pipeline = digits
    runs = []
    transform = ActivationExtractor.transform

    def counted(self, X):
        runs.append(len(X))
        return transform(self, X)

    monkeypatch.setattr(ActivationExtractor, "transform", counted)
    detector = RiskControlledDetector(pipeline, alpha=0.1).fit(X, y)
    assert runs == [len(X)]
    detector.predict(X[:10])
    assert runs == [len(X), 10]


def test_a_monitor_is_calibrated_in_either_way(digits):
    (X, y), _, net, _ = digits
    monitor = make_monitor(net, target="misclassified")
    with pytest.raises(NotFittedError, match=r"cv='prefit'.*FrozenEstimator"):
        RiskControlledDetector(monitor).fit(X, y)
    detector = RiskControlledDetector(monitor, alpha=0.15, cv=0.5, random_state=0).fit(X, y)
    assert detector.n_calibration_samples_ == 300
    assert detector.coverage_ > 0.3
    np.testing.assert_array_equal(
        detector.predict(X), np.where(detector.decision_function(X) >= 0, 1, -1)
    )


def test_a_torch_network_is_watched():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    X = torch.randn(400, 2)
    with torch.no_grad():
        logits = net(X)
    rng = np.random.default_rng(0)
    margin = logits.sort(dim=1).values.diff(dim=1)[:, -1].numpy()
    y = logits.argmax(dim=1).numpy()
    is_wrong = rng.random(400) < np.exp(-12 * margin) / 2
    y = np.where(is_wrong, (y + 1) % 3, y)
    pipeline = make_pipeline(ActivationExtractor(net), MaxSoftmaxDetector()).fit(X[:100])
    detector = RiskControlledDetector(pipeline, alpha=0.15).fit(X[100:], y[100:])
    accepted = detector.predict(X[100:]) == 1
    assert detector.risk_ == np.mean(is_wrong[100:][accepted])
    assert 0 < detector.coverage_ <= 1


def test_detectors_of_other_libraries_read_the_layers():
    rng = np.random.default_rng(0)
    layer = rng.normal(size=(600, 4))
    far = np.linalg.norm(layer, axis=1) > 3
    A = Activations({"relu": layer}, logits=np.eye(2)[np.zeros(600, dtype=int)])
    detector = RiskControlledDetector(
        IsolationForest(random_state=0), alpha=0.1, cv=0.5, random_state=0
    ).fit(A, far.astype(int))
    assert detector.coverage_ > 0
    np.testing.assert_array_equal(
        detector.score_samples(A), detector.estimator_.score_samples(layer)
    )


def test_searches_inside_and_outside(digits):
    (X, y), _, _, pipeline = digits
    A = pipeline[:-1].transform(X)
    marked = np.where(np.arange(len(A)) % 5 == 0, -1, y)
    inner = GridSearchCV(
        KNNDetector(), {"n_neighbors": [1, 20]}, cv=OODKFold(3), error_score="raise"
    )
    detector = RiskControlledDetector(inner, alpha=0.5, cv=0.5, random_state=0).fit(A, marked)
    assert detector.estimator_.best_params_["n_neighbors"] in (1, 20)
    assert detector.n_calibration_samples_ == np.count_nonzero(marked != -1) // 2
    outer = GridSearchCV(
        RiskControlledDetector(FrozenEstimator(pipeline[-1])),
        {"alpha": [0.15, 0.2]},
        cv=3,
        error_score="raise",
    ).fit(A, y)
    assert outer.best_score_ > 0.8
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        clone(RiskControlledDetector(pipeline[-1])).fit(A, y)


def test_infinite_scores_alone_are_accepted_where_they_are_right():
    detector = fitted(np.full(100, np.inf), np.zeros(100))
    assert (detector.coverage_, detector.risk_) == (1, 0)
    np.testing.assert_array_equal(detector.predict(activations([np.inf, 3.0])), [1, -1])


def test_the_smallest_levels_need_more_rows_than_there_are():
    _, message = rejecting_all(np.arange(50.0), np.zeros(50), alpha=1e-300)
    assert "needs at least" in message


def test_words_where_a_smaller_alpha_happens_to_be_certified():
    """Which thresholds are tested follows from alpha, and chance may favour those of another."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        margin = rng.exponential(1, 100)
        is_wrong = rng.random(100) < 0.5 * np.exp(-margin)
        ranked = RankedErrors(margin, is_wrong)
        smallest = ranked.smallest_alpha(0.95)
        if smallest and ranked.largest_certified(0.118, 0.95) is None and float(smallest) < 0.118:
            break
    _, message = rejecting_all(margin, is_wrong, alpha=0.118)
    assert f"they can certify alpha={float(smallest):.9g}; to choose" in message
    assert "The smallest alpha" not in message
