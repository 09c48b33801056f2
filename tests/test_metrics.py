"""The metrics against golden values and brute force, and the scorers inside scikit-learn."""

import pickle
from fractions import Fraction
from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    get_scorer,
    matthews_corrcoef,
    roc_auc_score,
)
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skood.activations import Activations
from skood.detectors import KNNDetector
from skood.metrics import (
    area_under_risk_coverage_score,
    detection_accuracy_score,
    excess_area_under_risk_coverage_score,
    fpr_at_tpr_score,
    make_ood_scorer,
    ood_average_precision_score,
    ood_roc_auc_score,
    risk_coverage_curve,
)
from skood.model_selection import OODKFold

METRICS = {
    "auroc": (ood_roc_auc_score, {}),
    "ap_out": (ood_average_precision_score, {"positive": "ood"}),
    "ap_in": (ood_average_precision_score, {"positive": "id"}),
    "fpr95_ood_positive": (fpr_at_tpr_score, {"positive": "ood"}),
    "fpr95_id_positive": (fpr_at_tpr_score, {"positive": "id"}),
    "fpr80_ood_positive": (fpr_at_tpr_score, {"tpr": 0.8, "positive": "ood"}),
    "fpr80_id_positive": (fpr_at_tpr_score, {"tpr": 0.8, "positive": "id"}),
    "balanced_detection_accuracy": (detection_accuracy_score, {"balanced": True}),
    "pooled_detection_accuracy": (detection_accuracy_score, {"balanced": False}),
}
every_metric = pytest.mark.parametrize("column", METRICS)


def compute(column, y_true, y_score):
    function, kwargs = METRICS[column]
    return function(y_true, y_score, **kwargs)


@every_metric
def test_golden_values(golden, column):
    reference = golden("metrics")
    expected = reference["expected"][:, list(reference["column_names"]).index(column)]
    cases = [
        # The stored scores are large for OOD.
        (np.where(reference[f"is_ood_{i:02d}"], -1, 0), -reference[f"score_{i:02d}"])
        for i in range(len(expected))
    ]
    actual = [compute(column, y_true, y_score) for y_true, y_score in cases]
    assert len(actual) == 22
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


# Brute force


@st.composite
def labels_and_scores(draw):
    """At least one row of each kind; many ties, or values that are hard to subtract."""
    is_in = [True, False, *draw(st.lists(st.booleans(), max_size=10))]
    few = st.integers(0, 3).map(float)
    extreme = st.sampled_from([-1.7e308, 1.7e308, 5e-324, -5e-324, 0.0, -0.0, 1.0, 1 + 2**-52])
    value = draw(st.sampled_from([few, extreme, st.floats(allow_nan=False, allow_infinity=False)]))
    scores = draw(st.lists(value, min_size=len(is_in), max_size=len(is_in)))
    return np.where(is_in, 7, -1), np.array(scores)


def accepted_at_every_threshold(y_true, y_score):
    """(in-distribution, OOD) rows accepted by ``score >= t``, from accepting none to all."""
    thresholds = [np.inf, *sorted(set(y_score.tolist()), reverse=True)]
    return [
        (int(sum((y_score >= t) & (y_true != -1))), int(sum((y_score >= t) & (y_true == -1))))
        for t in thresholds
    ]


def found_at_every_threshold(y_true, y_score, positive):
    """(positives, negatives) found, from none to all."""
    accepted = accepted_at_every_threshold(y_true, y_score)
    if positive == "id":
        return accepted
    n_in, n_ood = accepted[-1]
    return [(n_ood - ood, n_in - inside) for inside, ood in reversed(accepted)]


@given(labels_and_scores())
def test_auroc_is_the_share_of_ordered_pairs(data):
    y_true, y_score = data
    pairs = [(a, b) for a in y_score[y_true != -1] for b in y_score[y_true == -1]]
    won = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)
    assert ood_roc_auc_score(y_true, y_score) == won / len(pairs)


@given(labels_and_scores(), st.sampled_from(["id", "ood"]))
def test_average_precision_sums_over_all_thresholds(data, positive):
    found = found_at_every_threshold(*data, positive)
    expected = sum(
        Fraction(now - before, found[-1][0]) * Fraction(now, now + false)
        for (before, _), (now, false) in pairwise(found)
    )
    actual = ood_average_precision_score(*data, positive=positive)
    assert actual == pytest.approx(float(expected), abs=1e-14)


@given(labels_and_scores(), st.sampled_from(["id", "ood"]), st.integers(1, 100))
def test_fpr_at_tpr_is_the_smallest_over_all_thresholds(data, positive, percent):
    found = found_at_every_threshold(*data, positive)
    n_positive, n_negative = found[-1]
    enough = [false for true, false in found if 100 * true >= percent * n_positive]
    actual = fpr_at_tpr_score(*data, tpr=percent / 100, positive=positive)
    assert actual == min(enough) / n_negative


@given(labels_and_scores(), st.booleans())
def test_detection_accuracy_is_the_largest_over_all_thresholds(data, balanced):
    accepted = accepted_at_every_threshold(*data)
    n_in, n_ood = accepted[-1]
    expected = max(
        (Fraction(inside, n_in) + Fraction(n_ood - ood, n_ood)) / 2
        if balanced
        else Fraction(inside + n_ood - ood, n_in + n_ood)
        for inside, ood in accepted
    )
    actual = detection_accuracy_score(*data, balanced=balanced)
    assert actual == pytest.approx(float(expected), abs=1e-15)


def test_ranking_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    y_true = rng.choice([-1, 0, 1, 2], size=500)
    y_score = rng.normal(size=500).round(1) + (y_true != -1)
    is_in = y_true != -1
    assert ood_roc_auc_score(y_true, y_score) == pytest.approx(roc_auc_score(is_in, y_score))
    for positive, labels, scores in [("id", is_in, y_score), ("ood", ~is_in, -y_score)]:
        assert ood_average_precision_score(y_true, y_score, positive=positive) == pytest.approx(
            average_precision_score(labels, scores)
        )


# The risk-coverage curve


def expected_area(is_correct, scores):
    """The mean over all orders of acceptance that the scores allow, of the mean risk."""
    n = len(scores)
    orders = [
        order
        for order in permutations(range(n))
        if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    areas = [
        sum(Fraction(sum(not is_correct[i] for i in order[:k]), k) for k in range(1, n + 1)) / n
        for order in orders
    ]
    return sum(areas) / len(areas)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 1.0, 2.0])), min_size=1, max_size=6))
def test_risk_coverage_is_the_mean_over_all_orders_of_equal_scores(rows):
    is_correct, scores = zip(*rows, strict=True)
    expected = float(expected_area(is_correct, scores))
    assert area_under_risk_coverage_score(is_correct, scores) == pytest.approx(expected, abs=1e-14)


@given(labels_and_scores())
def test_risk_coverage_without_ties_averages_the_risk_of_every_prefix(data):
    y_true, y_score = data
    scores, first = np.unique(y_score, return_index=True)
    is_correct = y_true[first] != -1
    risks = [np.mean(~is_correct[scores >= threshold]) for threshold in scores]
    assert area_under_risk_coverage_score(is_correct, scores) == pytest.approx(np.mean(risks))


def test_risk_coverage_by_hand():
    """Of wrong, right, right, wrong in this order: 1, 1/2, 1/3 and 1/2."""
    area = area_under_risk_coverage_score([False, True, True, False], [4, 3, 2, 1])
    assert area == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # The two in the middle tied, one of them wrong: 0, (1/2) / 2, 1 / 3 and 2 / 4.
    tied = area_under_risk_coverage_score([1, 0, 1, 0], np.uint8([4, 3, 3, 1]))
    assert tied == pytest.approx((0 + 1 / 4 + 1 / 3 + 1 / 2) / 4)


def test_risk_coverage_of_extremes():
    rng = np.random.default_rng(0)
    is_correct = rng.random(20_000) > 0.2
    constant = area_under_risk_coverage_score(is_correct, np.zeros(20_000))
    assert constant == pytest.approx(1 - is_correct.mean())
    # The formula of the docstring.
    best = area_under_risk_coverage_score(is_correct, is_correct + 0.1 * rng.random(20_000))
    share = 1 - is_correct.mean()
    assert best == pytest.approx(share + (1 - share) * np.log(1 - share), abs=1e-3)
    assert area_under_risk_coverage_score([True, True], [0.1, 0.1]) == 0
    assert area_under_risk_coverage_score([False], [0.1]) == 1
    assert type(area_under_risk_coverage_score(pd.Series([True, False]), [1, 0])) is float


@pytest.mark.parametrize(
    ("is_correct", "scores", "message"),
    [
        ([], [], "0 sample"),
        ([True], [np.nan], "scores contains NaN"),
        ([True, False], [1.0], r"each of the 1 scores, got an array of shape \(2,\)"),
        ([[True], [False]], [1.0, 2.0], r"of shape \(2, 1\)"),
        ([True, False], [[1.0, 2.0]], r"scores must be 1-D, got an array of shape \(1, 2\)"),
        ([3, 1, 0], [1.0, 2.0, 3.0], "got 3: pass y == predictions"),
        ([1, -1], [1.0, 2.0], "got -1: pass y == predictions"),
        (["0", "1"], [1.0, 2.0], "got '0': pass y == predictions"),
        ([1.0, np.nan], [1.0, 2.0], "got nan"),
        (pd.array([True, None], dtype="boolean"), [1.0, 2.0], "got <NA>"),
    ],
)
def test_risk_coverage_refuses(is_correct, scores, message):
    with pytest.raises(ValueError, match=message):
        area_under_risk_coverage_score(is_correct, scores)


def test_curve_by_hand():
    # One of the two inputs with the second score is wrong: they are accepted together.
    curve = risk_coverage_curve([1, 0, 1, 0, 1], [5, 4, 4, 3, 2])
    np.testing.assert_allclose(curve.coverage, [0.2, 0.6, 0.8, 1])
    np.testing.assert_allclose(curve.risk, [0, 1 / 3, 2 / 4, 2 / 5])
    np.testing.assert_array_equal(curve.thresholds, [5, 4, 3, 2])
    coverage, risk, thresholds = risk_coverage_curve([True], [0.5])
    assert (coverage, risk, thresholds) == ([1], [0], [0.5])


@pytest.mark.parametrize("n_values", [3, 10, None])
def test_points_of_the_curve_are_what_thresholds_accept(n_values):
    rng = np.random.default_rng(0)
    is_correct, scores = rng.random(60) < 0.7, rng.normal(size=60)
    if n_values is not None:
        scores = np.floor(scores * n_values / 3)
    coverage, risk, thresholds = risk_coverage_curve(is_correct, scores)
    assert len(thresholds) == len(set(scores.tolist()))
    for point, threshold in enumerate(thresholds):
        accepted = scores >= threshold
        assert coverage[point] == pytest.approx(accepted.mean())
        assert risk[point] == pytest.approx(np.mean(~is_correct[accepted]))
    order = rng.permutation(60)
    for one, other in zip(
        risk_coverage_curve(is_correct[order], scores[order]),
        (coverage, risk, thresholds),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_area_is_the_mean_risk_of_a_curve_without_ties():
    rng = np.random.default_rng(0)
    is_correct, scores = rng.random(200) < 0.8, rng.permutation(200)
    mean = risk_coverage_curve(is_correct, scores).risk.mean()
    assert area_under_risk_coverage_score(is_correct, scores) == pytest.approx(mean)


def test_excess_area_by_hand():
    # Risks 1, 1/2, 1/3 and 1/2, of which 0, 0, 1/3 and 1/2 are there for perfect scores too.
    excess = excess_area_under_risk_coverage_score([False, True, True, False], [4, 3, 2, 1])
    assert excess == pytest.approx((1 + 1 / 2) / 4)
    assert excess_area_under_risk_coverage_score([1, 1, 0, 0], [4, 3, 2, 1]) == 0
    assert excess_area_under_risk_coverage_score([1, 0, 1, 0], [2, 1, 2, 1]) == 0
    for nothing_to_rank in ([True] * 3, [False] * 3):
        assert excess_area_under_risk_coverage_score(nothing_to_rank, [1, 2, 3]) == 0


def test_excess_area_is_what_the_best_of_all_orders_would_save():
    rng = np.random.default_rng(0)
    is_correct, scores = rng.random(6) < 0.6, rng.normal(size=6)
    areas = [area_under_risk_coverage_score(is_correct, order) for order in permutations(range(6))]
    excess = excess_area_under_risk_coverage_score(is_correct, scores)
    assert excess == pytest.approx(area_under_risk_coverage_score(is_correct, scores) - min(areas))


@pytest.mark.parametrize(
    "metric", [risk_coverage_curve, excess_area_under_risk_coverage_score], ids=lambda m: m.__name__
)
def test_what_the_area_refuses_is_refused(metric):
    for is_correct, scores, message in (
        ([True, False], [1.0, np.nan], "NaN"),
        ([True, False], [1.0], "is_correct must be 1-D with one value for each of the 1"),
        ([0, 2], [1.0, 2.0], "pass y == predictions, not labels"),
        ([], [], "0 sample"),
    ):
        with pytest.raises(ValueError, match=message):
            metric(is_correct, scores)


def test_risk_coverage_as_a_scorer():
    """Logits 9, 8, 4, 3, of which 4 is wrong; the OOD rows have 7 and 1."""
    X, y = toy_activations()
    name = "neg_area_under_risk_coverage"
    among_errors = make_ood_scorer(name, target="misclassified")(MaxLogitDetector(), X, y)
    assert among_errors == pytest.approx(-(0 + 0 + 1 / 3 + 1 / 4) / 4)
    among_ood = make_ood_scorer(name)(MaxLogitDetector(), X, y)
    assert among_ood == pytest.approx(-(0 + 0 + 1 / 3 + 1 / 4 + 1 / 5 + 2 / 6) / 6)


# Single facts


@pytest.mark.parametrize(
    ("column", "best"),
    [(column, 0.0 if column.startswith("fpr") else 1.0) for column in METRICS],
)
def test_four_perfectly_separated_samples_are_perfect(column, best):
    assert compute(column, [0, 1, -1, -1], [0.9, 0.8, 0.7, 0.6]) == best


@every_metric
def test_adjacent_floats_are_told_apart(column):
    best = 0.0 if column.startswith("fpr") else 1.0
    assert compute(column, [0, -1], [np.nextafter(1.0, 2.0), 1.0]) == best
    assert compute(column, [0, -1], [5e-324, 0.0]) == best


@every_metric
def test_huge_scores_of_both_signs_are_ranked(column):
    best = 0.0 if column.startswith("fpr") else 1.0
    scores = 1.7e308 * np.array([1, 1, 1, 1, -1, -1, -1, -1])
    assert compute(column, [0, 1, 2, 3, -1, -1, -1, -1], scores) == best


@every_metric
def test_result_is_a_python_float(column):
    assert type(compute(column, [0, -1, 3], np.float32([2, 2, 5]))) is float


@every_metric
def test_labels_may_be_strings_beside_the_number_minus_one(column):
    y_true = np.array(["cat", "dog", -1, "cat", -1], dtype=object)
    y_score = pd.Series([3.0, 1.0, 2.0, 4.0, 0.0], index=list("vwxyz"))
    assert compute(column, pd.Series(y_true), y_score) == compute(
        column, [0, 1, -1, 0, -1], y_score.tolist()
    )


def test_default_positive_is_ood():
    y_true, y_score = [0, 1, 2, 3, -1, -1], [0.9, 0.8, 0.7, 0.2, 0.5, 0.1]
    for function in (ood_average_precision_score, fpr_at_tpr_score):
        default, ood, inside = (
            function(y_true, y_score, **kwargs)
            for kwargs in ({}, {"positive": "ood"}, {"positive": "id"})
        )
        assert default == ood != inside


def test_reachable_tpr_is_not_missed_by_rounding():
    """7 of 100 reach .07, though .07 * 100 is above 7 in floating point."""
    y_true = np.r_[np.zeros(100), -1]
    y_score = np.r_[np.arange(100.0), 92.5]
    assert fpr_at_tpr_score(y_true, y_score, tpr=0.07, positive="id") == 0.0


@every_metric
@pytest.mark.parametrize(
    ("y_true", "y_score", "message"),
    [
        ([0, 1], [1.0, 2.0], "2 in-distribution and 0 OOD rows"),
        ([-1, -1, -1], [1.0, 2.0, 0.0], "0 in-distribution and 3 OOD rows"),
        (["a", "b"], [1.0, 2.0], "2 in-distribution and 0 OOD rows"),
        ([0, -1], [1.0, np.nan], "y_score contains NaN"),
        ([0, -1], [1.0, np.inf], "y_score contains infinity"),
        ([0.0, np.nan], [1.0, 2.0], "contains NaN"),
        ([0, -1, -1], [1.0, 2.0], r"2 scores, got an array of shape \(3,\)"),
        ([0, -1], [[1.0], [2.0]], r"y_score must be 1-D, got an array of shape \(2, 1\)"),
        ([[0], [-1]], [1.0, 2.0], r"y_true must be 1-D .* shape \(2, 1\)"),
        (None, [1.0, 2.0], r"y_true must be 1-D .* shape \(\)"),
        ([], [], "0 sample"),
    ],
)
def test_unusable_input_is_refused(column, y_true, y_score, message):
    with pytest.raises(ValueError, match=message):
        compute(column, y_true, y_score)


@pytest.mark.parametrize(
    ("function", "kwargs"),
    [
        (fpr_at_tpr_score, {"tpr": 0}),
        (fpr_at_tpr_score, {"tpr": 95}),
        (fpr_at_tpr_score, {"positive": 1}),
        (ood_average_precision_score, {"positive": "in"}),
        (detection_accuracy_score, {"balanced": "yes"}),
        (make_ood_scorer, {"target": "outlier"}),
    ],
)
def test_unknown_options_are_refused(function, kwargs):
    arguments = () if function is make_ood_scorer else ([0, -1], [1.0, 0.0])
    with pytest.raises(ValueError, match=f"The '{next(iter(kwargs))}' parameter"):
        function(*arguments, **kwargs)


# Scorers


@pytest.fixture(scope="module")
def blob():
    """Standard normal rows of three classes, then OOD rows around them."""
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(60, 2)), rng.normal(scale=3, size=(20, 2))]
    return X, np.r_[np.arange(60) % 3, np.full(20, -1)]


SCORERS = {
    "roc_auc": ("auroc", 1),
    "average_precision_ood": ("ap_out", 1),
    "average_precision_id": ("ap_in", 1),
    "neg_fpr_at_95_tpr_ood": ("fpr95_ood_positive", -1),
    "neg_fpr_at_95_tpr_id": ("fpr95_id_positive", -1),
    "detection_accuracy": ("balanced_detection_accuracy", 1),
}


@pytest.mark.parametrize("name", SCORERS)
def test_scorer_is_the_metric_of_the_decision_function(name, blob):
    X, y = blob
    detector = LocalOutlierFactor(novelty=True).fit(X[y != -1])
    column, sign = SCORERS[name]
    expected = sign * compute(column, y, detector.decision_function(X))
    assert make_ood_scorer(name)(detector, X, y) == expected


def test_score_samples_serves_without_decision_function(blob):
    X, y = blob
    density = GaussianMixture(random_state=0).fit(X[y != -1])
    expected = ood_roc_auc_score(y, density.score_samples(X))
    assert make_ood_scorer()(density, X, y) == expected


def share_of_ood_in_lowest_half(y_true, y_score):
    return float(np.mean(y_score[y_true == -1] < np.median(y_score)))


@pytest.mark.parametrize(("target", "expected"), [("ood", 0.5), ("misclassified", 1.0)])
def test_metric_may_be_a_callable(target, expected):
    X, y = toy_activations()
    scorer = make_ood_scorer(share_of_ood_in_lowest_half, target=target)
    assert scorer(MaxLogitDetector(), X, y) == expected
    assert "share_of_ood_in_lowest_half" in repr(scorer)


def test_unknown_metric_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match="average_precision_ood"):
        make_ood_scorer("average_precision")


def test_scorers_work_in_a_search(blob):
    search = GridSearchCV(
        IsolationForest(random_state=0),
        {"n_estimators": [1, 20]},
        scoring={name: make_ood_scorer(name) for name in SCORERS},
        refit="roc_auc",
        cv=OODKFold(2, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(*blob)
    assert search.best_params_ == {"n_estimators": 20}
    for name, (_, sign) in SCORERS.items():
        assert (sign * search.cv_results_[f"mean_test_{name}"] >= 0).all()


class CountingDetector(OutlierMixin, BaseEstimator):
    """Scores by the distance to the mean; every call is written down."""

    calls = []

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        return self

    def decision_function(self, X):
        self.calls.append(len(X))
        return -np.linalg.norm(X - self.mean_, axis=1)


def test_several_metrics_score_a_test_part_once(blob):
    CountingDetector.calls.clear()
    scoring = {name: make_ood_scorer(name) for name in SCORERS}
    cross_validate(CountingDetector(), *blob, scoring=scoring, cv=OODKFold(4), error_score="raise")
    assert CountingDetector.calls == [20, 20, 20, 20]


@pytest.mark.parametrize("target", ["ood", "misclassified"])
@pytest.mark.parametrize("name", SCORERS)
def test_scorers_survive_pickling_and_cloning(name, target):
    scorer = make_ood_scorer(name, target=target)
    copies = [
        pickle.loads(pickle.dumps(scorer)),
        clone(GridSearchCV(IsolationForest(), {}, scoring=scorer)).scoring,
    ]
    X, y = toy_activations()
    for copy in copies:
        assert repr(copy) == repr(scorer)
        assert copy(MaxLogitDetector(), X, y) == scorer(MaxLogitDetector(), X, y)


def test_repr_says_what_is_scored():
    assert repr(make_ood_scorer("neg_fpr_at_95_tpr_id")) == (
        "make_ood_scorer('neg_fpr_at_95_tpr_id')"
    )
    assert repr(make_ood_scorer(target="misclassified")) == (
        "make_ood_scorer('roc_auc', target='misclassified')"
    )


# Verdicts

VERDICTS = {
    "balanced_accuracy": balanced_accuracy_score,
    "f1": f1_score,
    "matthews_corrcoef": matthews_corrcoef,
}


class FixedVerdicts(OutlierMixin, BaseEstimator):
    """Gives the verdicts that are its input."""

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return np.asarray(X)[:, 0].astype(int)


def test_metrics_of_verdicts_take_alarms_for_positive():
    """Of 5 OOD rows 3 are flagged, of 10 in-distribution rows 1."""
    y = np.r_[np.arange(10), np.full(5, -1)]
    verdicts = np.r_[-1, np.ones(9), -1, -1, -1, 1, 1][:, np.newaxis]
    found = {name: make_ood_scorer(name)(FixedVerdicts(), verdicts, y) for name in VERDICTS}
    tp, fp, fn, tn = 3, 1, 2, 9
    assert found["balanced_accuracy"] == pytest.approx((0.9 + 0.6) / 2)
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    assert found["matthews_corrcoef"] == pytest.approx((tp * tn - fp * fn) / np.sqrt(product))


@pytest.mark.parametrize("verdict", [1, -1])
def test_one_verdict_for_all_rows_is_worth_nothing(verdict):
    y = np.r_[np.zeros(6), np.full(3, -1)]
    scores = [
        make_ood_scorer(name)(FixedVerdicts(), np.full((9, 1), verdict), y) for name in VERDICTS
    ]
    assert scores == pytest.approx([0.5, 0 if verdict == 1 else 0.5, 0])


def test_metrics_of_verdicts_choose_the_threshold(blob):
    grid = {"false_alarm_rate": [0.01, 0.1, 0.5]}
    search = GridSearchCV(
        KNNDetector(n_neighbors=5, normalize=False),
        grid,
        scoring={name: make_ood_scorer(name) for name in ("roc_auc", *VERDICTS)},
        refit="balanced_accuracy",
        cv=OODKFold(4),
        error_score="raise",
    ).fit(*blob)
    by_rank = search.cv_results_["mean_test_roc_auc"]
    assert np.ptp(by_rank) == 0
    for name in VERDICTS:
        by_verdict = search.cv_results_[f"mean_test_{name}"]
        expected = [
            np.mean([score_of_fold(name, share, train, test, blob) for train, test in folds(blob)])
            for share in grid["false_alarm_rate"]
        ]
        np.testing.assert_allclose(by_verdict, expected)
        assert np.ptp(by_verdict) > 0.05


def folds(blob):
    return OODKFold(4).split(*blob)


def score_of_fold(name, share, train, test, blob):
    X, y = blob
    verdicts = (
        KNNDetector(n_neighbors=5, normalize=False, false_alarm_rate=share)
        .fit(X[train])
        .predict(X[test])
    )
    return VERDICTS[name](y[test] == -1, verdicts == -1)


@pytest.mark.parametrize("target", ["ood", "misclassified"])
def test_metrics_of_verdicts_want_both_kinds(target):
    X, y = toy_activations()
    with pytest.raises(ValueError, match="both"):
        make_ood_scorer("f1", target=target)(MaxLogitVerdicts(), X[:3], y[:3])


def test_verdicts_on_misclassified_rows():
    """Logits of at least 5 are accepted: one right row is flagged, as is the wrong one."""
    X, y = toy_activations()
    scorer = make_ood_scorer("balanced_accuracy", target="misclassified")
    assert scorer(MaxLogitVerdicts(), X, y) == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize("metric", [roc_auc_score, *VERDICTS.values()])
def test_scikit_learns_own_functions_are_refused(metric):
    with pytest.raises(ValueError, match=r"takes -1 for a class.*'f1', 'matthews_corrcoef'"):
        make_ood_scorer(metric)


def test_scikit_learns_own_names_score_classes():
    """What the guide warns of, and where ours lead: the detector is perfect."""
    X = np.r_[np.zeros((8, 1)), np.ones((2, 1))]
    y = np.r_[np.arange(8) % 2, -1, -1]
    detector = IsolationForest(random_state=0, contamination=0.2).fit(X)
    assert get_scorer("balanced_accuracy")(detector, X, y) == pytest.approx(2 / 3)
    assert make_ood_scorer("balanced_accuracy")(detector, X, y) == 1
    with pytest.raises(ValueError, match="multi_class must be in"):
        get_scorer("roc_auc")(detector, X, y)
    assert make_ood_scorer("roc_auc")(detector, X, y) == 1


# Target "misclassified"


class MaxLogitVerdicts(OutlierMixin, BaseEstimator):
    """Accepts logits of at least 5."""

    def predict(self, X):
        return np.where(X.logits.max(axis=1) >= 5, 1, -1)


class MaxLogitDensity(BaseEstimator):
    """Scores by the largest logit; has no threshold and so no decision function."""

    def score_samples(self, X):
        return X.logits.max(axis=1)


class MaxLogitDetector(OutlierMixin, BaseEstimator):
    """Scores by the largest logit, learning nothing."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def decision_function(self, X):
        return X.logits.max(axis=1)


class ToyExtractor(TransformerMixin, BaseEstimator):
    """Takes its input for the logits of a network; every call is written down."""

    calls = []

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        if isinstance(X, Activations):
            return X
        self.calls.append(len(X))
        return Activations({"logits": X}, logits=X)


def toy_activations():
    """Four in-distribution rows, of which only the last is wrong, then two OOD rows."""
    logits = np.array([[9.0, 0], [0, 8], [3, 0], [0, 4], [7, 0], [1, 0]])
    return Activations({"logits": logits}, logits=logits), np.array([0, 1, 0, 0, -1, -1])


def test_misclassified_scores_wrong_against_right_rows_only():
    X, y = toy_activations()
    # The wrong row scores 4, the right ones 9, 8 and 3: two of three pairs are in order.
    scorer = make_ood_scorer(target="misclassified")
    assert scorer(MaxLogitDetector(), X, y) == pytest.approx(2 / 3)
    assert scorer(MaxLogitDensity(), X, y) == pytest.approx(2 / 3)


def test_misclassified_negates_false_positive_rates():
    X, y = toy_activations()
    scorer = make_ood_scorer("neg_fpr_at_95_tpr_ood", target="misclassified")
    assert scorer(MaxLogitDetector(), X, y) == pytest.approx(-1 / 3)


def test_misclassified_compares_predictions_in_the_label_space():
    X, y = toy_activations()
    named = Activations({"logits": X.logits}, logits=X.logits, classes=["ant", "bee"])
    y_named = np.array(["ant", "bee", "ant", "ant", -1, -1], dtype=object)
    scorer = make_ood_scorer(target="misclassified")
    assert scorer(MaxLogitDetector(), named, y_named) == scorer(MaxLogitDetector(), X, y)


@pytest.mark.parametrize(
    "steps",
    [
        (ToyExtractor(), MaxLogitDetector()),
        ("passthrough", ToyExtractor(), FunctionTransformer(), MaxLogitDetector()),
        (make_pipeline(FunctionTransformer(), ToyExtractor()), MaxLogitDetector()),
    ],
)
def test_misclassified_runs_the_extractor_once_on_raw_inputs(steps):
    X, y = toy_activations()
    pipeline = make_pipeline(*steps).fit(X.logits)
    scorer = make_ood_scorer(target="misclassified")
    ToyExtractor.calls.clear()
    assert scorer(pipeline, X.logits, y) == pytest.approx(2 / 3)
    assert ToyExtractor.calls == [6]
    assert scorer(pipeline, X, y) == pytest.approx(2 / 3)
    assert ToyExtractor.calls == [6]


def test_misclassified_uses_the_predictions_before_later_steps():
    """A step that changes the logits does not change what the network predicted."""

    def flip(X):
        return Activations({"logits": X.logits}, logits=X.logits[:, ::-1])

    X, y = toy_activations()
    pipeline = make_pipeline(ToyExtractor(), FunctionTransformer(flip), MaxLogitDetector())
    pipeline.fit(X.logits)
    assert make_ood_scorer(target="misclassified")(pipeline, X.logits, y) == pytest.approx(2 / 3)


def test_misclassified_scores_a_fitted_search():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=200)
    logits = rng.normal(size=(200, 3)) + 2 * np.eye(3)[y]
    y[150:] = -1
    scorer = make_ood_scorer(target="misclassified")
    pipeline = make_pipeline(ToyExtractor(), MaxLogitDetector())
    search = GridSearchCV(pipeline, {}, scoring=scorer, cv=OODKFold(2), error_score="raise")
    search.fit(logits, y)
    assert 0.5 < search.best_score_ < 1
    assert scorer(search, logits, y) == scorer(pipeline.fit(logits), logits, y)


@pytest.mark.parametrize("with_scaler", [False, True])
def test_misclassified_needs_predictions(blob, with_scaler):
    detector = LocalOutlierFactor(novelty=True)
    detector = make_pipeline(StandardScaler(), detector) if with_scaler else detector
    with pytest.raises(ValueError, match=r"needs the network's predictions: .* got ndarray"):
        make_ood_scorer(target="misclassified")(detector.fit(blob[0]), *blob)
    unpredicted = Activations({"fc": blob[0]})
    with pytest.raises(ValueError, match=r"predictions: .* got Activations\(n_samples=80"):
        make_ood_scorer(target="misclassified")(detector, unpredicted, blob[1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 0, 1, -1, -1], "got 4 right and 0 wrong"),
        ([5, 5, 5, 5, -1, -1], "got 0 right and 4 wrong .* those of X.predictions"),
        ([0, 1], "X has 6 samples, but y has 2"),
    ],
)
def test_misclassified_needs_right_and_wrong_rows(y, message):
    X, _ = toy_activations()
    with pytest.raises(ValueError, match=message):
        make_ood_scorer(target="misclassified")(MaxLogitDetector(), X, y)


def test_scores_under_a_mask_are_not_read():
    masked = np.ma.array([3.0, -99.0, 1.0, 0.0], mask=[0, 1, 0, 0])
    with pytest.raises(ValueError, match="y_score is a masked array with 1 masked value"):
        ood_roc_auc_score([0, 0, -1, -1], masked)
