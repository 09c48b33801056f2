"""The report of a monitor: its numbers, and what it says in Markdown and in HTML."""

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skood import (
    ActivationExtractor,
    HammingNAPDetector,
    Monitor,
    PercentileBinarizer,
    make_monitor,
)
from skood.calibration import ConformalDetector, RiskControlledDetector
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import KNNDetector, MaxSoftmaxDetector
from skood.ensemble import AnyAlarmDetector, LayerEnsembleDetector
from skood.metrics import (
    area_under_risk_coverage_score,
    excess_area_under_risk_coverage_score,
)
from skood.monitoring import MonitorReport
from skood.monitoring._report_shares import percent

HOSTILE = 'a|b`c*d_<script>alert(1)</script>&"$\\frac\n# [x](y) \u202e'


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits_ood(return_X_y=True)
    X = X.reshape(len(X), -1)
    inside = np.random.default_rng(0).permutation(np.flatnonzero(y != -1))
    network = MLPClassifier((32, 16), random_state=0, max_iter=600)
    network.fit(X[inside[:600]], y[inside[:600]])
    return network, X, y, inside


def composed(network, detector=None, **params):
    extractor = ActivationExtractor(network, "penultimate")
    detector = KNNDetector() if detector is None else detector
    return Monitor([("extract", extractor), ("detect", detector)], **params)


def two_detectors():
    return AnyAlarmDetector([("far", KNNDetector()), ("unsure", MaxSoftmaxDetector())])


@pytest.fixture(scope="module")
def reported(digits):
    """A monitor, its report, the test rows and the sets that it was made of."""
    network, X, y, inside = digits
    monitor = composed(network).fit(X[inside[:600]])
    test = inside[600:]
    sets = {"others": X[y == -1], "noise": make_noise("uniform", (40, 64), random_state=0)}
    return monitor, monitor.report(X[test], sets, y_test=y[test]), X[test], y[test], sets


def exact_interval(k, n):
    low = beta.ppf(0.025, k, n - k + 1) if k else 0
    return low, beta.ppf(0.975, k + 1, n - k) if k < n else 1


def assert_share(entry, rejected):
    n, k = len(rejected), int(np.sum(rejected))
    assert (entry["n_rows"], entry["n_rejected"]) == (n, k)
    assert entry["rejected"] == pytest.approx(k / n)
    np.testing.assert_allclose((entry["low"], entry["high"]), exact_interval(k, n), rtol=1e-6)


def fpr95(inside, outside):
    """By trying the scores of all rows as thresholds."""
    thresholds = sorted([*inside, *outside])
    enough = [t for t in thresholds if np.mean(outside <= t) >= 0.95]
    return np.mean(inside <= min(enough))


# The numbers


def test_false_alarms_are_the_rejected_test_rows(reported):
    monitor, report, X, y, _ = reported
    rejected = monitor.predict(X) == -1
    assert_share(report.false_alarms, rejected)
    assert report.false_alarms["asked"] == 0.05
    for entries, classes in (
        (report.false_alarms_by_prediction, monitor.network.predict(X)),
        (report.false_alarms_by_label, y),
    ):
        assert [entry["class"] for entry in entries] == sorted(set(classes))
        for entry in entries:
            assert_share(entry, rejected[classes == entry["class"]])


def test_the_calibration_curve_takes_the_thresholds_of_other_rates(reported):
    monitor, report, X, _, _ = reported
    rates = [entry["asked"] for entry in report.calibration_curve]
    assert (rates[0], rates[-1]) == (0.005, 0.5)
    assert rates == sorted(rates)
    scores, known = monitor.score_samples(X), monitor["detect"].training_scores_
    for entry in report.calibration_curve:
        assert_share(entry, scores < np.percentile(known, 100 * entry["asked"]))
    own = next(entry for entry in report.calibration_curve if entry["asked"] == 0.05)
    assert own["rejected"] == report.false_alarms["rejected"]


def test_the_rate_of_the_monitor_is_on_the_curve(digits):
    network, X, _, inside = digits
    detector = KNNDetector(false_alarm_rate=0.07)
    report = composed(network, detector).fit(X[inside[:600]]).report(X[inside[600:]])
    assert 0.07 in [entry["asked"] for entry in report.calibration_curve]
    assert report.false_alarms["asked"] == 0.07


def test_sets_are_compared_with_the_test_rows(reported):
    monitor, report, X, _, sets = reported
    inside = monitor.decision_function(X)
    assert [entry["name"] for entry in report.out_sets] == list(sets)
    for entry, outside in zip(report.out_sets, sets.values(), strict=True):
        scores = monitor.decision_function(outside)
        assert_share(entry, monitor.predict(outside) == -1)
        labels = np.arange(len(inside) + len(scores)) < len(inside)
        assert entry["auroc"] == pytest.approx(roc_auc_score(labels, np.r_[inside, scores]))
        assert entry["fpr95"] == pytest.approx(fpr95(inside, scores))


def test_the_report_knows_the_monitor(reported):
    monitor, report, X, y, _ = reported
    assert report.network == "MLPClassifier"
    assert report.layers == ["hidden_1"]
    assert [entry["kind"] for entry in report.detectors] == ["KNNDetector"]
    assert report.data["n_fitted"] == 600
    assert report.data["n_tested"] == len(X)
    assert report.data["classes"] == list(range(8))
    assert report.data["accuracy"] == pytest.approx(np.mean(monitor.network.predict(X) == y))
    assert report.threshold["origin"] == "estimate"
    assert report.threshold["offsets"] == {"": monitor.offset_}
    assert report.threshold["n_rows"] == 600
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", report.date)
    assert report.versions["numpy"] == np.__version__


@pytest.mark.parametrize("target", ["misclassified", "both"])
def test_errors_of_the_network_are_no_false_alarms(digits, target):
    network, X, y, inside = digits
    monitor = composed(network, MaxSoftmaxDetector(), target=target).fit(X[inside[:600]])
    rows, others = inside[600:], np.flatnonzero(y == -1)
    report = monitor.report(X[rows], {"others": X[others]}, y_test=y[rows])
    is_correct = network.predict(X[rows]) == y[rows]
    assert 5 < np.sum(~is_correct) < len(rows) / 2
    scores, rejected = monitor.decision_function(X[rows]), monitor.predict(X[rows]) == -1
    assert_share(report.false_alarms, rejected[is_correct])
    assert_share(report.errors, rejected[~is_correct])
    assert report.errors["accuracy"] == np.mean(is_correct)
    assert report.errors["accuracy_of_accepted"] == np.mean(is_correct[~rejected])
    assert report.errors["coverage"] == np.mean(~rejected)
    assert report.errors["auroc"] == pytest.approx(roc_auc_score(is_correct, scores))
    area = area_under_risk_coverage_score(is_correct, scores)
    assert report.errors["area_under_risk_coverage"] == area
    excess = excess_area_under_risk_coverage_score(is_correct, scores)
    assert report.errors["excess_area_under_risk_coverage"] == excess
    curve = report.risk_coverage
    for coverage, risk in zip(curve["coverage"][::9], curve["risk"][::9], strict=True):
        accepted = scores >= np.sort(scores)[len(scores) - round(coverage * len(scores))]
        assert risk == pytest.approx(np.mean(~is_correct[accepted]))
    assert "](figures/risk_coverage.png)" in report.to_markdown()
    assert "## Errors of the network" in report.to_markdown()
    # Sets are told from what should pass alone.
    together = np.r_[scores[is_correct], monitor.decision_function(X[others])]
    auroc = roc_auc_score(np.arange(len(together)) < is_correct.sum(), together)
    assert report.out_sets[0]["auroc"] == pytest.approx(auroc)


@pytest.mark.parametrize("target", ["misclassified", "both"])
def test_without_labels_errors_are_said_to_be_unknown(digits, target):
    network, X, _, inside = digits
    monitor = composed(network, MaxSoftmaxDetector(), target=target).fit(X[inside[:600]])
    report = monitor.report(X[inside[600:]])
    assert report.errors is None
    assert_share(report.false_alarms, monitor.predict(X[inside[600:]]) == -1)
    assert "Not known: no labels were given" in report.to_markdown()
    assert any("counted as false alarms" in sentence for sentence in report.limits)
    assert in_short(report)[0].startswith("Alarms: ")
    for verdict in ("more than the", "fewer than the", "in agreement", "measured is"):
        assert verdict not in report.to_markdown()


def test_what_each_of_several_detectors_rejects(digits):
    network, X, y, inside = digits
    monitor = composed(network, two_detectors(), target="both").fit(X[inside[:600]])
    rows = inside[600:]
    report = monitor.report(X[rows], {"others": X[y == -1]}, y_test=y[rows])
    is_correct = network.predict(X[rows]) == y[rows]
    found = {(e["name"], e["detector"]): e for e in report.rejected_by_detector}
    for name, labels in monitor.predict_each(X[rows]).items():
        assert_share(found["test rows", name], labels[is_correct] == -1)
        assert_share(found["misclassified test rows", name], labels[~is_correct] == -1)
    for name, labels in monitor.predict_each(X[y == -1]).items():
        assert_share(found["others", name], labels == -1)
    assert report.threshold["offsets"] == monitor.offsets_
    assert report.false_alarms["asked"] == 0.1
    # Each of both has half of the rate of a point of the curve.
    scores = monitor.score_each(X[rows])
    members = monitor["detect"].named_estimators_
    for entry in report.calibration_curve:
        below = [
            scores[name] < np.percentile(member.training_scores_, 100 * entry["asked"] / 2)
            for name, member in members.items()
        ]
        assert_share(entry, np.any(below, axis=0)[is_correct])


def test_marked_rows_of_the_test_are_a_set_of_their_own(digits):
    network, X, y, inside = digits
    monitor = composed(network).fit(X[inside[:600]])
    rows = np.r_[inside[600:], np.flatnonzero(y == -1)[:50]]
    report = monitor.report(X[rows], {"noise": X[rows[:3]] * 9}, y_test=y[rows])
    assert report.false_alarms["n_rows"] == len(rows) - 50
    assert [entry["name"] for entry in report.out_sets] == ["test rows marked -1", "noise"]
    assert_share(report.out_sets[0], monitor.predict(X[rows[-50:]]) == -1)


def test_rows_that_are_held_out_set_a_threshold_that_is_no_estimate(digits):
    network, X, _, inside = digits
    detector = KNNDetector(validation=0.25)
    monitor = composed(network, detector).fit(X[inside[:600]])
    report = monitor.report(X[inside[600:]])
    assert report.threshold["origin"] == "held-out"
    assert (report.data["n_fitted"], report.threshold["n_rows"]) == (600, 150)
    scores, known = monitor.score_samples(X[inside[600:]]), np.sort(detector.training_scores_)
    for entry in report.calibration_curve:
        rank = int(np.floor(entry["asked"] * 151 + 1e-9))
        assert_share(entry, scores < known[rank - 1] if rank else np.zeros(len(scores), bool))
    own = next(entry for entry in report.calibration_curve if entry["asked"] == 0.05)
    assert own["rejected"] == report.false_alarms["rejected"]
    assert "set by 150 rows of fit that the detector has not learnt from" in report.to_markdown()
    assert not any("Nothing is promised" in sentence for sentence in report.limits)


@pytest.mark.parametrize("target", ["ood", "misclassified", "both"])
def test_rows_of_fit_are_no_calibration_whatever_the_target(digits, target):
    network, X, y, inside = digits
    monitor = make_monitor(network, target=target, validation=0.3)
    monitor.fit(X[inside[600:1000]], y[inside[600:1000]])
    report = monitor.report(X[inside[1000:]], y_test=y[inside[1000:]])
    assert (report.threshold["origin"], report.data["n_fitted"]) == ("held-out", 400)
    calibrated = monitor.calibration_
    each = calibrated if target == "both" else {"": calibrated}
    sizes = {name: detector.n_calibration_samples_ for name, detector in each.items()}
    assert report.threshold["n_rows_each"] == sizes
    assert report.threshold["n_rows"] == min(sizes.values())
    numbers = " and ".join(str(n) for n in sorted(set(sizes.values()), reverse=True))
    text = report.to_markdown()
    assert f"set by {numbers} rows of fit that the detector has not learnt from" in text
    assert "if the network has not learnt from them" in text
    # Rows of another source are more.
    monitor.calibrate(X[inside[1000:1200]], y[inside[1000:1200]])
    report = monitor.report(X[inside[1200:]], y_test=y[inside[1200:]])
    assert (report.threshold["origin"], report.data["n_fitted"]) == ("calibrated", 400)


def test_votes_by_rows_held_out_are_no_estimate(digits):
    network, X, _, inside = digits
    detector = LayerEnsembleDetector(KNNDetector(), combine="vote", validation=0.3)
    monitor = Monitor([("extract", ActivationExtractor(network)), ("detect", detector)])
    report = monitor.fit(X[inside[:600]]).report(X[inside[600:]])
    assert (report.threshold["origin"], report.threshold["n_rows"]) == ("held-out", 180)
    assert "an estimate" not in report.to_markdown()
    # The threshold is a number of votes, and no quantile of those of the rows.
    assert report.calibration_curve is None


CALIBRATIONS = {
    "marginal": {},
    "of this set": {"guarantee": "training-conditional", "confidence": 0.9},
    "by class": {"group_by": "prediction", "false_alarm_rate": 0.2},
}


@pytest.mark.parametrize("params", CALIBRATIONS.values(), ids=CALIBRATIONS)
@pytest.mark.parametrize("target", ["ood", "misclassified", "both"])
def test_a_calibrated_monitor(digits, target, params):
    network, X, y, inside = digits
    detector = two_detectors() if target == "both" else MaxSoftmaxDetector()
    monitor = composed(network, detector, target=target).fit(X[inside[:600]], y[inside[:600]])
    held_out, test = inside[600:1000], inside[1000:]
    monitor.calibrate(X[held_out], y[held_out], **params)
    report = monitor.report(X[test], {"others": X[y == -1]}, y_test=y[test])
    should_pass = np.ones(len(test), dtype=bool)
    if target != "ood":
        should_pass = network.predict(X[test]) == y[test]
    assert report.threshold["origin"] == "calibrated"
    assert (report.data["n_fitted"], report.threshold["guarantee"]) == (
        600,
        params.get("guarantee", "marginal"),
    )
    assert_share(report.false_alarms, monitor.predict(X[test])[should_pass] == -1)
    p_values = monitor.p_values(X[test])[should_pass]
    for entry in report.calibration_curve:
        assert_share(entry, p_values <= entry["asked"])
    n_detectors = 2 if target == "both" else 1
    assert report.false_alarms["asked"] == n_detectors * params.get("false_alarm_rate", 0.05)
    for entry in report.rejected_by_detector:
        if entry["name"] == "others":
            assert_share(entry, monitor.predict_each(X[y == -1])[entry["detector"]] == -1)
    assert len(report.rejected_by_detector) == (6 if target == "both" else 0)
    by_class = "group_by" in params
    score = monitor.score_samples if by_class else monitor.decision_function
    scores = np.r_[score(X[test])[should_pass], score(X[y == -1])]
    auroc = roc_auc_score(np.arange(len(scores)) < should_pass.sum(), scores)
    assert report.out_sets[0]["auroc"] == pytest.approx(auroc)
    text = report.to_markdown()
    assert "an estimate" not in text
    assert "calibrated on" in text


def test_a_calibration_is_no_longer_reported_after_another_fit(digits):
    network, X, _, inside = digits
    monitor = composed(network).fit(X[inside[:600]]).calibrate(X[inside[600:1000]])
    monitor.fit(X[inside[:300]])
    report = monitor.report(X[inside[1000:]])
    assert report.threshold["origin"] == "estimate"
    assert report.threshold["offsets"] == {"": monitor["detect"].offset_}


@pytest.mark.parametrize("params", CALIBRATIONS.values(), ids=CALIBRATIONS)
def test_rows_that_fit_or_calibrate_got_are_known_again(digits, params):
    network, X, _, inside = digits
    held_out = X[inside[600:1000]]
    monitor = composed(network).fit(X[inside[:600]]).calibrate(held_out, **params)
    with pytest.warns(UserWarning, match="100% of the rows of X_test .* calibrate got"):
        report = monitor.report(held_out)
    assert any("the threshold was calibrated on" in sentence for sentence in report.limits)
    with pytest.warns(UserWarning, match="of the rows of X_test .* fit got"):
        report = monitor.report(X[inside[400:600]])
    assert report.data["share_fitted"] > 0.9
    assert report.data["share_calibrating"] == 0
    assert any("the monitor was fitted on" in sentence for sentence in report.limits)
    data = monitor.report(X[inside[1000:]]).data
    assert data["share_fitted"] == data["share_calibrating"] == 0


def test_rows_that_calibrate_several_detectors_are_known_again(digits):
    network, X, y, inside = digits
    held_out = inside[600:1000]
    monitor = make_monitor(network, target="both").fit(X[inside[:600]], y[inside[:600]])
    monitor.calibrate(X[held_out], y[held_out])
    with pytest.warns(UserWarning, match="100% of the rows of X_test .* calibrate got"):
        report = monitor.report(X[held_out], y_test=y[held_out])
    assert report.data["share_calibrating"] == 1
    report = monitor.report(X[inside[1000:]], y_test=y[inside[1000:]])
    assert report.data["share_calibrating"] == 0
    # The detector of errors is calibrated by rows that are classified correctly.
    n_right = np.sum(network.predict(X[held_out]) == y[held_out])
    assert sorted(report.threshold["n_rows_each"].values()) == [n_right, 400]
    assert f"calibrated on 400 and {n_right} held-out rows" in report.to_markdown()
    assert "test rows classified correctly" in report.to_markdown()


@pytest.mark.parametrize("rate", [0.0004, 0.0125])
def test_rates_have_all_their_digits(digits, rate):
    network, X, _, inside = digits
    monitor = composed(network).fit(X[inside[:600]])
    monitor = monitor.calibrate(np.tile(X[inside[600:1000]], (10, 1)), false_alarm_rate=rate)
    report = monitor.report(X[inside[1000:]])
    assert f"the {100 * rate:g} % that were asked for" in report.to_markdown()


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0.0 %"),
        (1, "100.0 %"),
        (0.1234, "12.3 %"),
        (0.0004, "0.040 %"),
        (0.99996, "99.9960 %"),
        (1e-12, "1e-10 %"),
        (np.nan, "-"),
    ],
)
def test_shares_are_not_rounded_to_none_or_all(share, text):
    assert percent(share) == text


CONFORMAL = {
    "marginal": {},
    "of this set": {"guarantee": "training-conditional", "confidence": 0.9},
    "by class": {"group_by": "prediction", "false_alarm_rate": 0.1},
    "over folds": {"cv": 4},
}


def test_less_is_said_to_be_proven_of_folds(digits):
    network, X, _, inside = digits
    for cv, n_folds in ((4, 4), (0.4, 1)):
        detector = ConformalDetector(KNNDetector(), cv=cv, random_state=0)
        report = composed(network, detector).fit(X[inside[:600]]).report(X[inside[600:]])
        assert report.threshold["n_folds"] == n_folds
        assert ("holds on average" in report.to_markdown()) == (n_folds == 1)
        assert ("proven is about twice" in report.to_markdown()) == (n_folds == 4)


@pytest.mark.parametrize("params", CONFORMAL.values(), ids=CONFORMAL)
def test_a_conformal_threshold_says_that_fit_held_its_rows_out(digits, params):
    network, X, y, inside = digits
    detector = ConformalDetector(KNNDetector(), **{"cv": 0.4, "random_state": 0, **params})
    monitor = composed(network, detector).fit(X[inside[:600]])
    report = monitor.report(X[inside[600:]], {"others": X[y == -1]})
    n_rows = 600 if params == {"cv": 4} else 240
    assert report.data["n_fitted"] == 600
    assert report.threshold["origin"] == "held-out"
    assert report.threshold["n_rows"] == n_rows
    assert_share(report.false_alarms, monitor.predict(X[inside[600:]]) == -1)
    A = monitor[:-1].transform(X[inside[600:]])
    for entry in report.calibration_curve:
        assert_share(entry, detector.p_values(A) <= entry["asked"])
    scores = [monitor.score_samples(X[rows]) for rows in (inside[600:], y == -1)]
    labels = np.arange(sum(map(len, scores))) < len(scores[0])
    auroc = roc_auc_score(labels, np.concatenate(scores))
    assert report.out_sets[0]["auroc"] == pytest.approx(auroc)
    text = report.to_markdown()
    assert f"set by {n_rows} rows of fit" in text
    assert "if the network has not learnt from them" in text
    assert "exchangeable" in text
    if "group_by" in params:
        by_name = {str(label): offset for label, offset in detector.offsets_.items()}
        assert report.threshold["offsets"] == by_name
        assert report.limit is None
        assert "in each predicted class" in text
        assert "not for each class" not in text
    else:
        assert report.threshold["offsets"] == {"": detector.offset_}
    assert ("holds for 90 % of draws" in text) == ("guarantee" in params)
    assert ("rate that such a threshold has" in text) == (params in ({}, CONFORMAL["of this set"]))


def test_rows_that_are_too_few_to_reject_anything(digits):
    network, X, y, inside = digits
    monitor = composed(network, ConformalDetector(KNNDetector(), cv=0.01, random_state=0))
    with pytest.warns(UserWarning, match="cannot give a false alarm rate"):
        monitor.fit(X[inside[:600]])
    report = monitor.report(X[inside[600:]], {"others": X[y == -1]})
    assert report.false_alarms["rejected"] == report.out_sets[0]["rejected"] == 0
    # Scores tell the sets apart all the same.
    assert report.out_sets[0]["auroc"] > 0.8
    assert "-inf" in report.to_markdown()
    first = "Nothing can be rejected, whatever the inputs, since too few rows"
    assert report.limits[0].startswith(first)
    assert in_short(report)[0] == report.limits[0]
    assert "holds on average" not in report.to_markdown()
    assert "set by 6 rows of fit that the detector has not learnt from, which are too few" in (
        report.to_markdown()
    )


def test_classes_of_too_few_rows_are_named(digits):
    network, X, _, inside = digits
    held_out = inside[600:][network.predict(X[inside[600:]]) != 3]
    rows = np.r_[held_out, inside[600:][network.predict(X[inside[600:]]) == 3][:5]]
    with pytest.warns(UserWarning, match="1 of 8 predicted classes"):
        monitor = composed(network).fit(X[inside[:600]]).calibrate(X[rows], group_by="prediction")
    report = monitor.report(X[inside[:600]] + 0.01)
    named = "Of 1 of 8 predicted classes nothing can be rejected: 3, since too few rows"
    assert in_short(report)[0].startswith(named)
    assert report.limits[0] == in_short(report)[0]
    assert "in each predicted class, some of which are never rejected" in report.to_markdown()


@pytest.mark.parametrize("target", ["ood", "both"])
def test_classes_without_rows_are_named(digits, target):
    network, X, y, inside = digits
    held_out = inside[600:1000][network.predict(X[inside[600:1000]]) != 3]
    monitor = make_monitor(network, target=target).fit(X[inside[:600]])
    params = {"group_by": "prediction", "false_alarm_rate": 0.2}
    with pytest.warns(UserWarning, match="1 of 8 predicted classes"):
        monitor.calibrate(X[held_out], y[held_out], **params)
    with pytest.warns(UserWarning, match="without calibration rows") as caught:
        report = monitor.report(X[inside[1000:]], {"others": X[y == -1]}, y_test=y[inside[1000:]])
    # Of each set once.
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == len(set(texts)) == 2
    names = ["ood, 3", "misclassified, 3"] if target == "both" else ["3"]
    assert [name for name, offset in report.threshold["offsets"].items() if offset == -np.inf] == (
        names
    )
    first = f"Of {len(names)} of {8 * len(names)} predicted classes nothing can be rejected:"
    assert in_short(report)[0].startswith(f"{first} {', '.join(names)}, since")


def test_a_risk_that_cannot_be_certified_is_said_first(digits):
    network, X, y, inside = digits
    detector = RiskControlledDetector(MaxSoftmaxDetector(), alpha=0.0003, cv=0.4, random_state=0)
    monitor = composed(network, detector, target="misclassified")
    with pytest.warns(UserWarning, match="No threshold has an error rate"):
        monitor.fit(X[inside[:600]], y[inside[:600]])
    report = monitor.report(X[inside[600:]], y_test=y[inside[600:]])
    first = (
        "Everything is rejected, whatever the inputs: 240 held-out rows certify no threshold for"
    )
    assert in_short(report)[0].startswith(f"{first} at most 0.03 % of misclassified rows")
    assert report.limits[0] == in_short(report)[0]
    assert "so that at most" not in report.to_markdown()
    assert "no row is accepted" in report.to_markdown()
    assert report.data["n_fitted"] == 600


def test_a_threshold_of_risk_promises_other_things(digits):
    network, X, y, inside = digits
    detector = RiskControlledDetector(MaxSoftmaxDetector(), alpha=0.02, cv=0.5, random_state=0)
    monitor = composed(network, detector, target="misclassified")
    report = monitor.fit(X[inside[:900]], y[inside[:900]]).report(
        X[inside[900:]], {"others": X[y == -1]}, y_test=y[inside[900:]]
    )
    assert report.threshold["origin"] == "risk-controlled"
    assert report.threshold["n_rows"] == detector.n_calibration_samples_
    is_correct = network.predict(X[inside[900:]]) == y[inside[900:]]
    rejected = monitor.predict(X[inside[900:]]) == -1
    assert_share(report.errors, rejected[~is_correct])
    assert report.calibration_curve is None
    assert "at most 2.0 % of the rows accepted are misclassified" in report.to_markdown()
    assert "if the network has not learnt from them" in report.to_markdown()
    assert report.data["n_fitted"] == 900
    assert report.limits[0].startswith("Nothing is promised of the rate of false alarms. The bound")


def test_the_risk_that_is_promised_is_compared_with_the_one_measured(digits):
    network, X, y, inside = digits
    detector = RiskControlledDetector(MaxSoftmaxDetector(), alpha=0.05, cv=0.5, random_state=0)
    monitor = composed(network, detector).fit(X[inside[600:1000]], y[inside[600:1000]])
    rows = inside[1000:]
    report = monitor.report(X[rows], y_test=y[rows])
    accepted = monitor.predict(X[rows]) == 1
    is_correct = network.predict(X[rows]) == y[rows]
    n, k = accepted.sum(), np.sum(is_correct[accepted])
    expected = exact_interval(k, n)
    np.testing.assert_allclose(report.errors["accuracy_of_accepted_interval"], expected, rtol=1e-6)
    for name, part in (("accuracy", is_correct), ("coverage", accepted)):
        expected = exact_interval(part.sum(), len(part))
        np.testing.assert_allclose(report.errors[f"{name}_interval"], expected, rtol=1e-6)
    text = f"Errors among accepted rows: {100 * (n - k) / n:.1f} % of {n} (95 % interval"
    said = in_short(report)[-1]
    assert said.startswith(text)
    assert said.endswith("in agreement with the 5.0 % that they are to have at most.")
    assert "## Errors of the network" in report.to_markdown()
    wrong = monitor.report(X[rows], y_test=(y[rows] + (np.arange(len(rows)) % 4 == 0)) % 8)
    assert "more than the 5.0 % that they are to have at most" in in_short(wrong)[-1]


class Rounded(KNNDetector):
    """Scores that are infinite where they are far from the others."""

    def score_samples(self, X):
        scores = super().score_samples(X)
        middle = np.median(scores)
        return np.where(scores < middle, -np.inf, np.where(scores > 0.9 * middle, np.inf, scores))


def test_infinite_scores_are_ranked(digits):
    network, X, y, inside = digits
    detector = ConformalDetector(Rounded(), cv=0.4, random_state=0)
    monitor = composed(network, detector, target="misclassified").fit(X[inside[:600]])
    rows = inside[600:]
    report = monitor.report(X[rows], {"others": X[y == -1]}, y_test=y[rows])
    assert_share(report.out_sets[0], monitor.predict(X[y == -1]) == -1)
    is_correct = network.predict(X[rows]) == y[rows]
    inside_scores = monitor.score_samples(X[rows])
    outside = monitor.score_samples(X[y == -1])
    assert np.isinf(np.r_[inside_scores, outside]).any()
    capped = np.clip(np.r_[inside_scores[is_correct], outside], -1e9, 1e9)
    labels = np.arange(len(capped)) < is_correct.sum()
    assert report.out_sets[0]["auroc"] == pytest.approx(roc_auc_score(labels, capped))
    assert report.to_html()


def test_scores_that_are_no_numbers_are_refused(digits):
    network, X, _, inside = digits
    monitor = composed(network).fit(X[inside[:600]])
    monitor.score_samples = monitor.decision_function = lambda X: np.full(len(X), np.nan)
    with pytest.raises(ValueError, match="is NaN in 833 of 833 rows"):
        monitor.report(X[inside[600:]])


# What it is given


def test_activations_are_reported_without_the_network(reported):
    monitor, report, X, y, sets = reported
    extracted = {name: monitor[:-1].transform(rows) for name, rows in sets.items()}
    same = monitor.report(monitor[:-1].transform(X), extracted, y_test=y)
    assert same.false_alarms == report.false_alarms
    assert same.out_sets == report.out_sets


def test_labels_that_are_texts(digits):
    _, X, y, inside = digits
    names = np.array([f"<{'abcdefgh'[label]}|>" if label >= 0 else "-1" for label in y])
    train, test = inside[:600], inside[600:]
    network = MLPClassifier((16,), random_state=0, max_iter=900).fit(X[train], names[train])
    monitor = composed(network, MaxSoftmaxDetector(), target="misclassified").fit(X[train])
    rows = np.r_[test, np.flatnonzero(y == -1)]
    report = monitor.report(X[rows], y_test=names[rows])
    assert report.data["classes"] == sorted(set(names[train]))
    assert report.errors["accuracy"] == np.mean(network.predict(X[test]) == names[test])
    assert report.out_sets[0]["n_rows"] == np.sum(y == -1)
    assert "&lt;a&#124;&gt;" in report.to_markdown()


def test_one_row(digits):
    network, X, y, inside = digits
    for target in ("ood", "misclassified", "both"):
        monitor = composed(network, MaxSoftmaxDetector(), target=target).fit(X[inside[:600]])
        row = inside[600:601]
        report = monitor.report(X[row], {"one": X[y == -1][:1]}, y_test=y[row])
        assert report.data["n_tested"] == report.out_sets[0]["n_rows"] == 1
        assert "Report of a monitor" in report.to_html()


def test_a_test_without_rows_that_should_pass(digits):
    network, X, y, inside = digits
    monitor = composed(network, MaxSoftmaxDetector(), target="both").fit(X[inside[:600]])
    wrong = (network.predict(X[inside[600:]]) + 1) % 8
    report = monitor.report(X[inside[600:]], {"others": X[y == -1]}, y_test=wrong)
    assert report.false_alarms["n_rows"] == 0
    assert np.isnan(report.false_alarms["rejected"])
    assert np.isnan(report.out_sets[0]["auroc"])
    text = report.to_markdown()
    assert in_short(report)[0] == (
        "False alarms: not known, since the test has no rows that should pass."
    )
    assert "asked for | measured" not in text
    assert "by predicted class" not in text
    assert "in agreement" not in text
    assert "calibration_curve.png" not in text
    assert "scores.png" in text
    assert "nan" not in text


def test_a_network_without_errors(digits):
    network, X, _, inside = digits
    monitor = composed(network, MaxSoftmaxDetector(), target="misclassified").fit(X[inside[:600]])
    report = monitor.report(X[inside[600:]], y_test=network.predict(X[inside[600:]]))
    assert report.errors["n_rows"] == 0
    assert "Errors of the network: there are none; the accuracy is 100.0 %" in report.to_markdown()


def test_numbers_that_a_network_predicts_are_no_groups(digits):
    _, X, _, inside = digits
    network = MLPRegressor(hidden_layer_sizes=(16,), random_state=0, max_iter=2000).fit(
        X[inside], X[inside].mean(1)
    )
    monitor = make_monitor(network).fit(X[inside[:600]])
    rows = inside[600:]
    for values in (X[rows].mean(1), np.arange(len(rows))):
        report = monitor.report(X[rows], y_test=values)
        assert report.false_alarms_by_label is None
        assert report.false_alarms["n_rows"] == len(rows)
    report = monitor.report(X[rows], y_test=np.arange(len(rows)) % 3)
    assert [entry["class"] for entry in report.false_alarms_by_label] == [0, 1, 2]


def test_a_network_without_classes(digits):
    _, X, _, inside = digits
    network = MLPRegressor(hidden_layer_sizes=(16,), random_state=0, max_iter=2000).fit(
        X[inside], X[inside].mean(1)
    )
    monitor = make_monitor(network).fit(X[inside[:600]])
    report = monitor.report(X[inside[600:]], {"noise": make_noise("uniform", (9, 64))})
    assert report.false_alarms_by_prediction is None
    assert report.data["classes"] is None
    assert report.errors is None
    assert any("predicts no classes" in sentence for sentence in report.limits)
    assert tables(report.to_markdown())


def test_a_detector_that_keeps_no_scores_has_no_curve(digits):
    network, X, _, inside = digits
    detector = IsolationForest(contamination=0.1, random_state=0)
    monitor = composed(network, detector).fit(X[inside[:600]])
    report = monitor.report(X[inside[600:]])
    assert report.calibration_curve is None
    assert report.false_alarms["asked"] == 0.1
    assert_share(report.false_alarms, monitor.predict(X[inside[600:]]) == -1)
    assert "There is no calibration curve" in report.to_markdown()


def test_detectors_of_pyod_are_read_with_their_own_sign(digits):
    pyod = pytest.importorskip("pyod.models.hbos")
    network, X, y, inside = digits
    monitor = composed(network, pyod.HBOS(contamination=0.1)).fit(X[inside[:600]])
    report = monitor.report(X[inside[600:]], {"others": X[y == -1]})
    assert_share(report.false_alarms, monitor.predict(X[inside[600:]]) == 1)
    assert_share(report.out_sets[0], monitor.predict(X[y == -1]) == 1)
    scores = [monitor.decision_function(X[rows]) for rows in (inside[600:], y == -1)]
    labels = np.arange(sum(map(len, scores))) >= len(scores[0])
    auroc = roc_auc_score(labels, np.concatenate(scores))
    assert report.out_sets[0]["auroc"] == pytest.approx(auroc)
    assert report.threshold["offsets"] == {"": -monitor["detect"].threshold_}
    assert report.false_alarms["asked"] == 0.1


def test_a_threshold_that_was_given_is_no_quantile(digits):
    network, X, _, inside = digits
    steps = [("binary", PercentileBinarizer()), ("nap", HammingNAPDetector(tau=3))]
    monitor = composed(network, Pipeline(steps)).fit(X[inside[:600]])
    report = monitor.report(X[inside[600:]])
    assert report.threshold["origin"] == "own"
    assert report.false_alarms["asked"] is None
    assert report.calibration_curve is None
    assert_share(report.false_alarms, monitor.predict(X[inside[600:]]) == -1)
    assert "no rate was asked for" in report.to_markdown()


def test_steps_before_and_after_the_extractor(digits):
    network, X, y, inside = digits
    steps = [
        ("scale", FunctionTransformer(np.negative)),
        ("extract", ActivationExtractor(network)),
        ("binary", PercentileBinarizer()),
        ("detect", HammingNAPDetector()),
    ]
    monitor = Monitor(steps).fit(-X[inside[:600]])
    report = monitor.report(-X[inside[600:]], {"others": -X[y == -1]}, y_test=y[inside[600:]])
    assert_share(report.false_alarms, monitor.predict(-X[inside[600:]]) == -1)
    assert_share(report.out_sets[0], monitor.predict(-X[y == -1]) == -1)
    assert report.data["accuracy"] == np.mean(network.predict(X[inside[600:]]) == y[inside[600:]])
    assert [name for name, _ in monitor.steps] == [name for name, _ in steps]


def test_a_search_reports_its_best_detector(digits):
    network, X, y, inside = digits
    rows = np.r_[inside[:300], np.flatnonzero(y == -1)[:100]]
    monitor = make_monitor(network, search=True).fit(X[rows], y[rows])
    report = monitor.report(X[inside[600:]], {"others": X[y == -1][100:]})
    assert_share(report.false_alarms, monitor.predict(X[inside[600:]]) == -1)
    own = next(entry for entry in report.calibration_curve if entry["asked"] == 0.05)
    assert own["rejected"] == pytest.approx(report.false_alarms["rejected"], abs=0.01)


def test_a_torch_network_runs_once_over_each_set():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    X = torch.randn(300, 4)
    with torch.no_grad():
        labels = network(X + 0.1 * torch.randn(300, 4)).argmax(1)
    n_seen = []
    network[0].register_forward_hook(lambda module, inputs, output: n_seen.append(len(output)))
    monitor = composed(network, two_detectors(), target="both").fit(X[:200])
    n_seen.clear()
    loader = DataLoader(TensorDataset(X[200:], labels[200:]), batch_size=50)
    report = monitor.report(loader, {"far": 9 * X[:30], "farther": DataLoader(99 * X[:20])})
    # One or two samples show the shapes beforehand.
    assert 150 <= sum(n_seen) <= 156
    # The labels of the loader tell the errors.
    with torch.no_grad():
        is_correct = (network(X[200:]).argmax(1) == labels[200:]).numpy()
    assert report.errors["n_rows"] == np.sum(~is_correct) > 0
    assert report.data["accuracy"] == pytest.approx(is_correct.mean())


def test_targets_of_a_loader_that_are_no_classes_are_not_used():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    X = torch.randn(60, 4)
    monitor = composed(network).fit(torch.randn(60, 4))
    report = monitor.report(DataLoader(TensorDataset(X, torch.rand(60)), batch_size=20))
    assert report.data["accuracy"] is None
    assert "are no classes of the network" in report.data["why_no_accuracy"]


def test_labels_of_another_order_or_length_are_refused(reported):
    monitor, _, X, y, _ = reported
    with pytest.raises(ValueError, match=r"X_test has \d+ rows, but y_test has 3 labels"):
        monitor.report(X, y_test=y[:3])
    A = monitor[:-1].transform(X).assign(labels=y)
    with pytest.raises(ValueError, match="in another order"):
        monitor.report(A, y_test=np.roll(y, 1))
    with pytest.raises(ValueError, match=r"marks all .* rows"):
        monitor.report(X, y_test=np.full(len(X), -1))


@pytest.mark.parametrize("target", ["misclassified", "both"])
def test_labels_that_are_no_classes_are_refused_where_errors_are_looked_for(digits, target):
    network, X, y, inside = digits
    monitor = composed(network, MaxSoftmaxDetector(), target=target).fit(X[inside[:600]])
    with pytest.raises(ValueError, match=r"labels among the classes of the network.*got \[108\]"):
        monitor.report(X[inside[:5]], y_test=[108, *y[inside[1:5]]])


def test_labels_of_other_groups_are_counted_by(digits):
    network, X, _, inside = digits
    monitor = composed(network).fit(X[inside[:600]])
    rows = inside[600:]
    groups = np.where(X[rows].mean(axis=1) > 0.3, "dark", "light")
    report = monitor.report(X[rows], y_test=groups)
    assert [entry["class"] for entry in report.false_alarms_by_label] == ["dark", "light"]
    assert_share(report.false_alarms_by_label[0], monitor.predict(X[rows][groups == "dark"]) == -1)
    assert report.data["accuracy"] is None
    assert report.data["why_no_accuracy"] == "some labels are no classes of the network"


def test_a_single_label_tells_no_classes(digits):
    network, X, _, inside = digits
    report = composed(network).fit(X[inside[:600]]).report(X[inside[600:]], y_test=[1] * 833)
    assert report.false_alarms_by_label is None
    assert report.data["accuracy"] is None


@pytest.mark.parametrize("name", ["test rows", "misclassified test rows", "test rows marked -1"])
def test_sets_with_the_names_of_test_rows_are_refused(reported, name):
    monitor, _, X, _, _ = reported
    with pytest.raises(ValueError, match="by which a report calls rows of the test"):
        monitor.report(X, {name: X[:3]})


def test_what_calibrates_a_monitor_has_no_report(digits):
    network, X, y, inside = digits
    monitor = composed(network, MaxSoftmaxDetector()).fit(X[inside[:600]])
    controlled = RiskControlledDetector(monitor, alpha=0.1).fit(X[inside[600:]], y[inside[600:]])
    with pytest.raises(TypeError, match=r"of a Monitor, got RiskControlledDetector.*the last step"):
        MonitorReport.from_monitor(controlled, X[inside[:9]])


@pytest.mark.parametrize("names", [(7, "7"), (None, "None"), (1.5, "1.5")])
def test_sets_whose_names_are_one_text_are_refused(reported, names):
    monitor, _, X, _, _ = reported
    with pytest.raises(ValueError, match="which are the same text"):
        monitor.report(X, {names[0]: X[:3], names[1]: 9 * X[:4]})


@pytest.mark.parametrize("nothing", [None, [], np.empty((0, 64))])
def test_sets_without_rows_are_refused_by_name(reported, nothing):
    monitor, _, X, _, _ = reported
    with pytest.raises(ValueError, match=r"out_sets\['mine'\] is .*leave it out"):
        monitor.report(X, {"mine": nothing})


def test_a_set_that_cannot_be_read_is_named(reported):
    monitor, _, X, _, _ = reported
    with pytest.raises(ValueError, match="features") as caught:
        monitor.report(X, {"fine": X[:3], "narrow": X[:, :5]})
    assert any("out_sets['narrow']" in note for note in caught.value.__notes__)
    with pytest.raises(TypeError, match="mapping of names"):
        monitor.report(X, [X[:3]])


def test_no_sets_are_said_to_be_none(reported):
    monitor, _, X, _, _ = reported
    for sets in (None, {}):
        report = monitor.report(X, sets)
        assert report.out_sets == []
        assert "None was tested." in report.to_markdown()
        assert any("No set of out-of-distribution" in sentence for sentence in report.limits)


# What it says


def in_short(report):
    """The sentences at the beginning, of a report without marks of Markdown in them."""
    section = report.to_markdown().split("## The monitor")[0].split("## In short")[1]
    return [line.removeprefix("- ") for line in section.strip().splitlines()]


def tables(markdown):
    """Tables as lists of rows of cells; all rows of a table have equally many."""
    found = []
    for block in markdown.split("\n\n"):
        if block.startswith("|"):
            rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
            assert all(line.startswith("| ") for line in block.splitlines())
            assert len(set(map(len, rows))) == 1, block
            assert all(set(cell.strip()) <= set("-:") for cell in rows[1])
            found.append([[cell.strip() for cell in row] for row in rows])
    return found


class Checker(HTMLParser):
    """Elements that are closed in order, texts of cells, and addresses."""

    void = frozenset({"meta", "img", "br"})

    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.cells, self.sources, self.alts = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.void:
            self.open.append(tag)
        attrs = dict(attrs)
        self.sources += [attrs[name] for name in ("src", "href") if name in attrs]
        self.alts += [attrs["alt"]] if "alt" in attrs else []
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_both_formats_tell_the_same_numbers(reported):
    _, report, _, _, _ = reported
    rows = [row for table in tables(report.to_markdown()) for row in table]
    checker = Checker(report.to_html())
    for entry in report.out_sets:
        row = next(row for row in rows if row[0] == entry["name"])
        assert row[1:5] == [
            str(entry["n_rows"]),
            f"{entry['auroc']:.3f}",
            f"{entry['fpr95']:.3f}",
            f"{100 * entry['rejected']:.1f} %",
        ]
        at = checker.cells.index(entry["name"])
        shown = [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in checker.cells[at : at + 6]]
        assert shown == row
    for heading in ("In short", "Threshold", "False alarms", "What this monitor cannot do"):
        assert f"## {heading}\n" in report.to_markdown()
        assert f"<h2>{heading}</h2>" in report.to_html()


def test_an_estimate_is_never_called_a_guarantee(reported):
    _, report, _, _, _ = reported
    assert "an estimate from the rows of fit, which are no guarantee" in report.to_markdown()
    assert "Nothing is promised" in report.limits[0]


def test_html_needs_no_other_file_and_runs_nothing(reported):
    pytest.importorskip("matplotlib")
    _, report, _, _, _ = reported
    checker = Checker(report.to_html())
    assert len(checker.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in checker.sources)
    assert all(checker.alts)
    assert "script" not in checker.seen
    assert "url(" not in report.to_html()
    # In a notebook it is a part of a page.
    fragment = Checker(report._repr_html_())
    assert {"html", "body", "head"}.isdisjoint(fragment.seen)


def assert_shown_as_it_is(report, n_cells):
    """In both formats a hostile name is the text of so many cells, and nothing else."""
    checker = Checker(report.to_html())
    assert "script" not in checker.seen
    shown = HOSTILE.replace("\n", " ").replace("\u202e", "")
    assert sum(shown in cell + " " for cell in checker.cells) >= n_cells
    text = report.to_markdown(figures=None)
    cells = [cell for rows in tables(text) for row in rows for cell in row]
    assert sum(ESCAPED in cell for cell in cells) >= n_cells
    assert "<" not in text
    assert "\u202e" not in text
    without_escapes = re.sub(r"\\.", "", text)
    assert not re.search(r"[`*\[\]$\\]", without_escapes)


ESCAPED = (
    r"a&#124;b\`c\*d\_&lt;script&gt;alert(1)&lt;/script&gt;&amp;"
    r'"\$\\frac \# \[x\](y)'
)


def test_classes_and_sets_are_no_markup(digits):
    _, X, y, inside = digits
    names = np.array([HOSTILE, "plain"])[(y > 3).astype(int)]
    train, test = inside[:600], inside[600:]
    network = MLPClassifier((8,), random_state=0, max_iter=2000).fit(X[train], names[train])
    extractor = ActivationExtractor(network, "penultimate")
    monitor = Monitor([("extract", extractor), (HOSTILE.replace("_", ""), KNNDetector())])
    report = monitor.fit(X[train]).report(X[test], {HOSTILE: X[y == -1]}, y_test=names[test])
    assert sorted(entry["class"] for entry in report.false_alarms_by_label) == sorted(set(names))
    # Of both tables of classes, of the list of classes and of the sets.
    assert_shown_as_it_is(report, 4)


def test_layers_and_detectors_are_no_markup():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = {HOSTILE: torch.nn.Linear(4, 8), "relu": torch.nn.ReLU(), "out": torch.nn.Linear(8, 3)}
    network = torch.nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    X = torch.randn(200, 4)
    several = AnyAlarmDetector([("plain", KNNDetector()), (f"{HOSTILE} 2", MaxSoftmaxDetector())])
    extractor = ActivationExtractor(network, [HOSTILE, "relu"])
    monitor = Monitor([("extract", extractor), ("detect", several)], target="both").fit(X[:100])
    assert_shown_as_it_is(monitor.report(X[100:]), 4)


def test_a_folder_holds_both_formats_and_the_figures(reported, tmp_path):
    pytest.importorskip("matplotlib")
    _, report, _, _, _ = reported
    report.save(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert (folder / "report.html").read_text(encoding="utf-8") == report.to_html()
    text = (folder / "report.md").read_text(encoding="utf-8")
    links = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert sorted(links) == ["figures/calibration_curve.png", "figures/scores.png"]
    for link in links:
        assert (folder / link).read_bytes().startswith(b"\x89PNG")
    assert re.findall(r"!\[", report.to_markdown(figures=None)) == []
    assert "](there/scores.png)" in report.to_markdown(figures="there")


def test_without_matplotlib_the_report_says_that_it_has_no_figures(digits, tmp_path, monkeypatch):
    network, X, _, inside = digits
    report = composed(network).fit(X[inside[:600]]).report(X[inside[600:]])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    report.save(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "matplotlib is not installed" in text
    assert "extra 'plot'" in text
    assert "![" not in text
    assert "<img" not in report.to_html()


def test_figures_take_any_name_and_any_scores(digits):
    pytest.importorskip("matplotlib")
    network, X, y, inside = digits
    monitor = composed(network).fit(X[inside[:600]])
    names = (HOSTILE, "$\\frac", "\u6570\u5b57", "_hidden", "")
    sets = dict.fromkeys(names, X[y == -1][:3])
    report = monitor.report(X[inside[600:601]], sets)
    assert all(png.startswith(b"\x89PNG") for png in report._pngs.values())


def test_many_classes_are_cut_to_those_that_alarm_most(reported):
    _, report, _, _, _ = reported
    share = {"n_rows": 9, "n_rejected": 1, "rejected": 0.1, "high": 0.5}
    entries = [{"class": f"class {i}", **share, "low": i / 1000} for i in range(100)]
    many = replace(report, false_alarms_by_prediction=entries)
    text = many.to_markdown()
    assert "for the 30 of 100 with the highest lower ends" in text
    rows = [row for table in tables(text) for row in table if row[0].startswith("class ")]
    assert [row[0] for row in rows] == [f"class {i}" for i in range(99, 69, -1)]


def test_ensembles_of_many_members_are_cut_to_the_outer_ones(reported):
    _, report, _, _, _ = reported
    entry = {"kind": "Kind", "layers": [], "weight": None, "left_out": []}
    inner = [{"depth": 2, "detector": f"inner {i}", **entry} for i in range(60)]
    outer = [{"depth": 1, "detector": f"outer {i}", **entry} for i in range(3)]
    top = {"depth": 0, "detector": "detect", **entry}
    text = replace(report, detectors=[top, *outer, *inner]).to_markdown()
    assert "60 members of these ensembles are not shown." in text
    assert "outer 2" in text
    assert "inner" not in text


def test_it_is_short_as_text(reported):
    _, report, X, _, _ = reported
    assert len(repr(report)) < 160
    assert repr(report).startswith(f"MonitorReport(network='MLPClassifier', n_tested={len(X)}")
    assert isinstance(report, MonitorReport)


def test_tables_become_data_frames(reported):
    pandas = pytest.importorskip("pandas")
    _, report, _, _, sets = reported
    frame = pandas.DataFrame(report.out_sets).set_index("name")
    assert frame.loc["others", "n_rows"] == len(sets["others"])


def test_a_card_of_skops_has_the_sections(reported, tmp_path):
    pytest.importorskip("skops.card", reason="skops is not installed: pip install skops")
    monitor, report, _, _, _ = reported
    card = report.to_card(monitor)
    title = "Report of a monitor of MLPClassifier"
    report.save(tmp_path)
    card.save(tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"# {title}" in text
    assert tables(text) == tables(report.to_markdown())
    assert "figures/scores.png" in text
    assert card.select(f"{title}/Threshold").content in report.to_markdown()


def test_a_card_says_what_is_missing(reported, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops.card", None)
    with pytest.raises(ImportError, match=r"to_card needs skops.*extra 'card'"):
        reported[1].to_card()


def test_an_unfitted_monitor_reports_nothing(digits):
    network, X, _, _ = digits
    with pytest.raises(NotFittedError):
        composed(network).report(X)
