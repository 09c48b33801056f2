"""Several detectors with a threshold each, any of which may raise the alarm."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood.detectors import EnergyDetector, KNNDetector, MaxLogitDetector, MaxSoftmaxDetector
from skood.ensemble import AnyAlarmDetector, AutoNAPDetector
from skood.metrics import ood_roc_auc_score
from skood.preprocessing import LayerSelector

RNG = np.random.default_rng(0)
LABEL = np.arange(300) % 3
HIDDEN = np.eye(3, 8)[LABEL] + 0.4 * RNG.normal(size=(300, 8))
A = Activations({"relu": HIDDEN}, logits=5 * HIDDEN[:, :3])
NEW = np.vstack([HIDDEN[:50] + 0.2 * RNG.normal(size=(50, 8)), 3 * RNG.normal(size=(50, 8))])
B = Activations({"relu": NEW}, logits=5 * NEW[:, :3])


def two(**params):
    members = [("far", KNNDetector(normalize=False)), ("unsure", MaxSoftmaxDetector())]
    return AnyAlarmDetector(members).set_params(**params)


def test_what_any_detector_rejects_is_rejected():
    detector = two().fit(A)
    alone = {name: clone(member).fit(A) for name, member in two().detectors}
    each, scores = detector.predict_each(B), detector.score_each(B)
    for name, member in alone.items():
        np.testing.assert_array_equal(each[name], member.predict(B))
        np.testing.assert_array_equal(scores[name], member.score_samples(B))
        assert detector.offsets_[name] == member.offset_
    expected = np.minimum(each["far"], each["unsure"])
    np.testing.assert_array_equal(detector.predict(B), expected)
    np.testing.assert_array_equal(detector.score_samples(B) < 0, expected == -1)
    assert (each["far"] != each["unsure"]).any()
    assert set(detector.named_estimators_) == {"far", "unsure"}


def test_scores_are_log_p_values_relative_to_the_threshold():
    values = np.arange(1.0, 100.0)
    detector = AnyAlarmDetector([("only", MaxLogitDetector(false_alarm_rate=0.05))])
    detector.fit(values[:, None])
    assert detector.offsets_ == {"only": pytest.approx(5.9)}
    # The p-value of 5 is .05 and that of 6 is .06, and the logarithm is linear between them.
    at_threshold = 0.1 * np.log(0.05) + 0.9 * np.log(0.06)
    # 10 % of the values are below 10.8, by 5.3 on average, and above 89.2.
    expected = {
        50.0: np.log(0.50),
        49.5: (np.log(0.49) + np.log(0.50)) / 2,
        -9.6: np.log(0.01) - 10.6 / 5.3,
        109.6: np.log(0.99) + 10.6 / 5.3,
    }
    scores = detector.score_samples(np.array(list(expected))[:, None])
    np.testing.assert_allclose(scores, np.array(list(expected.values())) - at_threshold)
    assert detector.score_samples([[detector.offsets_["only"]]]) == pytest.approx(0, abs=1e-12)


def test_last_bits_of_scores_decide_nothing():
    # Each value ten times, once as it is and nine times with other last bits.
    last_bits = 1 + 1e-15 * np.arange(-5, 5)
    values = np.outer(np.arange(1.0, 31.0), last_bits).reshape(-1, 1)
    detector = AnyAlarmDetector([("only", MaxLogitDetector())]).fit(values)
    scores = detector.score_samples(values).reshape(30, 10)
    assert np.ptp(scores, axis=1).max() < 1e-6
    assert (np.diff(scores.mean(axis=1)) > 1e-3).all()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_scores_rise_everywhere(scale):
    values = scale * (1000 + np.random.default_rng(0).normal(size=(5000, 1)))
    detector = AnyAlarmDetector([("only", MaxLogitDetector())]).fit(values)
    scores = detector.score_samples(np.sort(values, axis=0))
    assert (np.diff(scores) >= 0).all()
    assert len(np.unique(scores)) > 4900


def test_one_detector_keeps_its_order_and_verdicts_however_far_samples_are():
    far = np.vstack([NEW * scale for scale in (1, 10, 1e3, 1e6)])
    many = Activations({"relu": far}, logits=5 * far[:, :3])
    marks = np.tile(np.repeat([1, -1], 50), 4)
    for member in (KNNDetector(normalize=False), EnergyDetector()):
        alone, wrapped = clone(member).fit(A), AnyAlarmDetector([("it", member)]).fit(A)
        np.testing.assert_array_equal(
            np.argsort(wrapped.score_samples(many), kind="stable"),
            np.argsort(alone.score_samples(many), kind="stable"),
        )
        np.testing.assert_array_equal(wrapped.predict(many), alone.predict(many))
        expected = ood_roc_auc_score(marks, alone.score_samples(many))
        assert ood_roc_auc_score(marks, wrapped.score_samples(many)) == expected


def test_a_threshold_among_equal_scores_accepts_them():
    detector = AnyAlarmDetector([("only", MaxLogitDetector())]).fit(np.ones((50, 1)))
    np.testing.assert_array_equal(
        detector.predict([[1.0], [np.nextafter(1, 0)], [2.0]]), [1, -1, 1]
    )
    scores = detector.score_samples([[0.0], [1.0], [2.0]])
    assert scores[0] < scores[1] == 0 < scores[2]


def test_false_alarms_of_both_lie_between_the_largest_rate_and_the_sum():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4000, 8))
    many = Activations({"relu": values}, logits=values[:, :3])
    detector = two(far__false_alarm_rate=0.1, unsure__false_alarm_rate=0.05).fit(many)
    rejected = {name: (v == -1).mean() for name, v in detector.predict_each(many).items()}
    together = (detector.training_scores_ < 0).mean()
    assert rejected["unsure"] == pytest.approx(0.05, abs=0.002)
    assert 0.1 <= together <= 0.15
    same = AnyAlarmDetector([("a", MaxSoftmaxDetector()), ("b", MaxSoftmaxDetector())]).fit(many)
    assert (same.training_scores_ < 0).mean() == pytest.approx(0.05, abs=0.001)


def test_detectors_of_other_libraries_keep_their_verdicts():
    forest = IsolationForest(random_state=0)
    detector = AnyAlarmDetector([("forest", forest)]).fit(HIDDEN)
    alone = clone(forest).fit(HIDDEN)
    np.testing.assert_array_equal(detector.predict(NEW), alone.predict(NEW))
    # Held-out scores of the training samples, by a forest that has not seen them.
    assert (detector.training_scores_ < 0).mean() > (alone.predict(HIDDEN) == -1).mean()


def test_detectors_of_pyod_are_turned_the_right_way_round():
    pytest.importorskip("pyod")
    from pyod.models.hbos import HBOS

    detector = AnyAlarmDetector([("hbos", HBOS(contamination=0.05))]).fit(HIDDEN)
    alone = HBOS(contamination=0.05).fit(HIDDEN)
    decisions = alone.decision_function(NEW)
    np.testing.assert_array_equal(detector.predict(NEW) == -1, decisions > alone.threshold_)
    assert (np.argsort(detector.score_samples(NEW)) == np.argsort(-decisions)).mean() > 0.9


def test_rows_marked_ood_reach_those_alone_that_learn_from_them():
    y = np.r_[LABEL, np.full(100, -1)]
    many = Activations.concatenate([A, B])
    nap = make_pipeline(PercentileBinarizer(), HammingNAPDetector())
    detector = AnyAlarmDetector(
        [
            ("nap", nap),
            ("auto", make_pipeline(LayerSelector(), AutoNAPDetector(n_layers=1, random_state=0))),
        ]
    ).fit(many, y)
    without = AnyAlarmDetector([("nap", nap)]).fit(A, LABEL)
    np.testing.assert_array_equal(detector.score_each(B)["nap"], without.score_each(B)["nap"])
    auto = detector.named_estimators_["auto"][-1]
    expected = AutoNAPDetector(n_layers=1, random_state=0).fit(many, y)
    np.testing.assert_array_equal(auto.results_["accuracy"], expected.results_["accuracy"])


@pytest.mark.parametrize(
    ("detectors", "message"),
    [
        ([], "one or more pairs"),
        ([EnergyDetector()], "one or more pairs"),
        ([("a", EnergyDetector()), ("a", EnergyDetector())], "not unique"),
        ([("a__b", EnergyDetector())], "must not contain __"),
        ([("density", KernelDensity())], "'density', .* has no threshold"),
    ],
)
def test_what_is_no_list_of_detectors_is_refused(detectors, message):
    with pytest.raises(ValueError, match=message):
        AnyAlarmDetector(detectors).fit(HIDDEN)
