"""The test of detectors on triples: its protocol, its inputs, its messages."""

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import FitFailedWarning
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import Activations, make_monitor
from skood.detectors import (
    HammingNAPDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxSoftmaxDetector,
)
from skood.ensemble import (
    AdaptiveEnsembleDetector,
    AnyAlarmDetector,
    AutoNAPDetector,
    LayerEnsembleDetector,
)
from skood.metrics import (
    area_under_risk_coverage_score,
    fpr_at_tpr_score,
    make_ood_scorer,
    ood_average_precision_score,
    ood_roc_auc_score,
)
from skood.model_selection import DetectorSearchCV, OODKFold, OODShuffleSplit, od_test, summarize
from skood.model_selection._od_test_fits import learns_from_ood
from skood.preprocessing import PercentileBinarizer
from skood.training import DecoyClassClassifier

KEYS = ["source", "detector", "target", "validation", "test"]
METRICS = ["accuracy", "auroc", "aupr_in", "aupr_out", "fpr95_in", "fpr95_out"]
SIZES, TIMES = ["n_in", "n_out"], ["fit_time", "score_time"]


def activations(seed, n_samples, shift=0.0):
    rng = np.random.default_rng(seed)
    classes = np.arange(n_samples) % 3
    hidden = rng.normal(size=(n_samples, 6)) + 2 * np.eye(3)[classes] @ np.ones((3, 6)) + shift
    logits = 2 * np.eye(3)[classes] + rng.normal(size=(n_samples, 3))
    late = rng.normal(size=(n_samples, 4)) + logits[:, :1] - shift
    return Activations({"early": hidden, "late": late}, logits=logits)


@pytest.fixture(scope="module")
def pair():
    return activations(0, 120), activations(1, 60)


@pytest.fixture(scope="module")
def labels():
    return np.arange(120) % 3, np.arange(60) % 3


@pytest.fixture(scope="module")
def out_sets():
    # As many as in-distribution test samples, so that all samples are compared.
    return {"near": activations(2, 60, 1.0), "far": activations(3, 60, 4.0), "odd": noise(60)}


def noise(n_samples):
    rng = np.random.default_rng(9)
    layers = {"early": rng.uniform(-5, 5, (n_samples, 6)), "late": rng.normal(size=(n_samples, 4))}
    return Activations(layers, logits=rng.normal(size=(n_samples, 3)))


def measured(scores_in, scores_out, accepted_in, accepted_out):
    marks = np.r_[np.ones(len(scores_in)), -np.ones(len(scores_out))]
    scores = np.r_[scores_in, scores_out]
    return {
        "accuracy": (accepted_in.mean() + 1 - accepted_out.mean()) / 2,
        "auroc": ood_roc_auc_score(marks, scores),
        "aupr_in": ood_average_precision_score(marks, scores, positive="id"),
        "aupr_out": ood_average_precision_score(marks, scores, positive="ood"),
        "fpr95_in": fpr_at_tpr_score(marks, scores, positive="id"),
        "fpr95_out": fpr_at_tpr_score(marks, scores, positive="ood"),
    }


def by_hand(detector, pair, labels, validation_sets, test_set):
    """What a cell has to be, with a detector that is given marked rows, if any."""
    train, test = pair
    if validation_sets:
        X = Activations.concatenate([train, *validation_sets])
        marks = np.full(len(X) - len(train), -1)
        detector = clone(detector).fit(X, np.r_[labels[0], marks])
    else:
        detector = clone(detector).fit(train, labels[0])
    return measured(
        detector.score_samples(test),
        detector.score_samples(test_set),
        detector.predict(test) == 1,
        detector.predict(test_set) == 1,
    )


DETECTORS = {
    "learns": MahalanobisDetector(),
    "learns not": HammingNAPDetector(),
    "foreign": IsolationForest(n_estimators=10, random_state=0),
}


def binarized(detector):
    return make_pipeline(PercentileBinarizer(), detector)


DETECTORS["learns not"] = binarized(HammingNAPDetector())


def values_of(table, *columns):
    columns = [*KEYS, *METRICS, *SIZES, *columns]
    return table[[column for column in columns if column in table]]


def assert_same(one, two):
    pd.testing.assert_frame_equal(values_of(one, "aurc"), values_of(two, "aurc"), rtol=1e-12)


def test_each_triple_is_what_an_own_loop_gives(pair, labels, out_sets):
    table = od_test(DETECTORS, pair, out_sets, y=labels)
    expected = []
    for name, detector in DETECTORS.items():
        for validation in out_sets:
            for test in out_sets:
                if test != validation:
                    marked = [out_sets[validation]] if name == "learns" else []
                    cell = by_hand(detector, pair, labels, marked, out_sets[test])
                    keys = ["in-distribution", name, "ood", validation, test]
                    sizes = {"n_in": 60, "n_out": 60}
                    expected.append(dict(zip(KEYS, keys, strict=True)) | cell | sizes)
    assert list(table.columns) == [*KEYS, *METRICS, *SIZES, *TIMES]
    assert_same(table, pd.DataFrame(expected))
    assert (table[TIMES] > 0).all(axis=None)
    assert table.loc[table["detector"] == "learns", "auroc"].nunique() > 3


def test_all_other_sets_validate_together(pair, labels, out_sets):
    table = od_test(DETECTORS, pair, out_sets, y=labels, validation="others")
    assert table["test"].tolist() == list(out_sets) * 3
    assert set(table["validation"]) == {"others"}
    for row in table.to_dict("records"):
        others = [X for name, X in out_sets.items() if name != row["test"]]
        marked = others if row["detector"] == "learns" else []
        detector = DETECTORS[row["detector"]]
        cell = by_hand(detector, pair, labels, marked, out_sets[row["test"]])
        assert {name: row[name] for name in cell} == pytest.approx(cell)


def test_without_validation_sets_no_row_is_marked(pair, labels, out_sets):
    table = od_test(DETECTORS, pair, out_sets, y=labels, validation=None)
    assert table["test"].tolist() == list(out_sets) * 3
    assert set(table["validation"]) == {"none"}
    for row in table.to_dict("records"):
        cell = by_hand(DETECTORS[row["detector"]], pair, labels, [], out_sets[row["test"]])
        assert {name: row[name] for name in cell} == pytest.approx(cell)


def test_a_single_set_is_enough_without_validation(pair, out_sets):
    table = od_test(KNNDetector(), pair, {"far": out_sets["far"]}, validation=None)
    assert table[KEYS].values.tolist() == [["in-distribution", "KNNDetector", "ood", "none", "far"]]


@pytest.mark.parametrize("target", ["misclassified", "both"])
def test_errors_of_the_network_are_told_from_all_other_test_samples(pair, labels, out_sets, target):
    table = od_test(DETECTORS, pair, out_sets, y=labels, target=target)
    errors = table[table["target"] == "misclassified"].reset_index(drop=True)
    assert errors[KEYS].values.tolist() == [
        ["in-distribution", name, "misclassified", "none", "errors"] for name in DETECTORS
    ]
    is_correct = pair[1].predictions == labels[1]
    assert 5 < is_correct.sum() < 55
    for row in errors.to_dict("records"):
        detector = clone(DETECTORS[row["detector"]]).fit(pair[0], labels[0])
        scores, accepted = detector.score_samples(pair[1]), detector.predict(pair[1]) == 1
        expected = measured(
            scores[is_correct], scores[~is_correct], accepted[is_correct], accepted[~is_correct]
        )
        expected["aurc"] = area_under_risk_coverage_score(is_correct, scores)
        assert {name: row[name] for name in expected} == pytest.approx(expected)
        assert (row["n_in"], row["n_out"]) == (is_correct.sum(), (~is_correct).sum())
    if target == "both":
        ood = table[table["target"] == "ood"].reset_index(drop=True)
        assert_same(ood.drop(columns="aurc"), od_test(DETECTORS, pair, out_sets, y=labels))
        assert ood["aurc"].isna().all()
        assert list(table.columns) == [*KEYS, *METRICS, "aurc", *SIZES, *TIMES]


class Recorder(OutlierMixin, BaseEstimator):
    """Detector that notes what it is given, in a list that its copies share."""

    def __init__(self, calls=None, learns=False):
        self.calls = calls
        self.learns = learns

    @property
    def _learns_from_ood(self):
        return self.learns

    def fit(self, X, y=None):
        self.calls.append(("fit", len(X), None if y is None else np.asarray(y).tolist()))
        return self

    def score_samples(self, X):
        values = np.asarray(X)[:, 0]
        self.calls.append(("score", values.tolist()))
        return -np.abs(values)

    def predict(self, X):
        return np.where(np.abs(np.asarray(X)[:, 0]) < 2, 1, -1)


class Calls(list):
    """A list that stays itself when it is copied, as by ``clone``."""

    def __deepcopy__(self, memo):
        return self


def test_a_detector_that_learns_nothing_from_marked_rows_is_fitted_once(pair, labels, out_sets):
    calls = Calls()
    table = od_test(Recorder(calls), pair, out_sets, y=labels, target="both")
    assert len(table) == 7
    fits = [call for call in calls if call[0] == "fit"]
    assert fits == [("fit", 120, labels[0].tolist())]
    scored = [len(call[1]) for call in calls if call[0] == "score"]
    assert scored == [60, 60, 60, 60]


def test_a_detector_that_learns_from_marked_rows_is_given_those_of_one_set(pair, labels, out_sets):
    calls = Calls()
    od_test(Recorder(calls, learns=True), pair, out_sets, y=labels)
    fits = [call for call in calls if call[0] == "fit"]
    assert fits == [("fit", 180, [*labels[0].tolist(), *[-1] * 60])] * 3


def test_rows_are_marked_beside_labels_of_every_kind(pair, out_sets):
    for inside in (np.array(["a", "b", "c"]), np.uint8([0, 1, 2]), np.array([0.0, 1.0, 2.0])):
        calls = Calls()
        y = np.tile(inside, 40), np.tile(inside, 20)
        od_test(Recorder(calls, learns=True), pair, out_sets, y=y)
        assert calls[0][2] == [*y[0].tolist(), *[-1] * 60]
    calls = Calls()
    od_test(Recorder(calls, learns=True), pair, out_sets)
    assert calls[0][2] == [1] * 120 + [-1] * 60


@given(st.integers(2, 40), st.integers(1, 60), st.integers(0, 99))
def test_equal_numbers_are_compared(n_inside, n_outside, seed):
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(10, 1)), rng.normal(size=(n_inside, 1))
    sets = {"a": rng.normal(size=(n_outside, 1)) + 1, "b": rng.normal(size=(3, 1)) - 9}
    calls, again = Calls(), Calls()
    table = od_test(
        {"one": Recorder(calls), "two": Recorder(again)}, (train, test), sets, validation=None
    )
    n_each = min(n_inside, n_outside)
    assert (table.loc[table["test"] == "a", SIZES] == n_each).all(axis=None)
    inside, outside, _ = [call[1] for call in calls if call[0] == "score"]
    assert calls == again
    assert len(inside) == min(n_inside, max(n_outside, 3))
    assert not Counter(inside) - Counter(test[:, 0].tolist())
    # Some of the rows, each once, and always the same.
    assert len(outside) == n_each
    assert not Counter(outside) - Counter(sets["a"][:, 0].tolist())
    if n_each == n_inside:
        scores = -np.abs(np.r_[inside, outside])
        marks = np.r_[np.ones(n_each), -np.ones(n_each)]
        assert table["auroc"][0] == pytest.approx(ood_roc_auc_score(marks, scores))


def test_a_source_is_split_in_halves_with_all_classes(labels):
    A = activations(0, 90)
    y = np.repeat([0, 1, 2], 30)
    calls = Calls()
    sets = {"far": activations(3, 200, 4.0)}
    table = od_test(Recorder(calls), A, sets, y=y, validation=None)
    assert Counter(calls[0][2]) == {0: 15, 1: 15, 2: 15}
    assert table[SIZES].values.tolist() == [[45, 45]]
    # Both halves together are the source.
    tested = calls[1][1]
    assert len(set(tested)) == 45
    assert set(tested) < set(np.asarray(A)[:, 0].tolist())


def test_classes_that_are_predicted_are_split_alike():
    A = activations(0, 91)
    calls = Calls()
    od_test(Recorder(calls), A, {"far": noise(99)}, validation=None)
    by_value = dict(zip(np.asarray(A)[:, 0].tolist(), A.predictions.tolist(), strict=True))
    tested = Counter(by_value[value] for value in calls[1][1])
    whole = Counter(A.predictions.tolist())
    assert all(abs(tested[c] - whole[c] / 2) <= 1 for c in whole)


def test_sources_share_sets_but_for_the_one_of_their_name(pair, out_sets):
    other = activations(7, 80, 1.0), activations(8, 60, 1.0)
    sets = out_sets | {"shifted": activations(4, 60, 1.0)}
    table = od_test(KNNDetector(), {"plain": pair, "shifted": other}, sets)
    assert Counter(table["source"]) == {"plain": 12, "shifted": 6}
    assert "shifted" not in set(
        table.loc[table["source"] == "shifted", ["validation", "test"]].stack()
    )
    alone = od_test(KNNDetector(), {"shifted": other}, out_sets)
    pd.testing.assert_frame_equal(
        values_of(table[table["source"] == "shifted"]).reset_index(drop=True), values_of(alone)
    )


def test_each_source_may_have_sets_and_labels_of_its_own(pair, labels, out_sets):
    whole = activations(7, 90, 1.0)
    table = od_test(
        {"maximum": MaxSoftmaxDetector()},
        {"a": pair, "b": whole},
        {"a": out_sets, "b": {"x": out_sets["far"], "y": out_sets["odd"]}},
        y={"a": labels, "b": np.arange(90) % 3},
        target="both",
    )
    found = table.groupby(["source", "target"])["test"].unique().map(list).to_dict()
    assert found == {
        ("a", "ood"): ["far", "odd", "near"],
        ("a", "misclassified"): ["errors"],
        ("b", "ood"): ["y", "x"],
        ("b", "misclassified"): ["errors"],
    }


def test_a_pair_may_be_a_list(pair, labels, out_sets):
    listed = od_test(KNNDetector(), list(pair), out_sets, y=list(labels))
    assert_same(listed, od_test(KNNDetector(), pair, out_sets, y=labels))
    rows = np.asarray(pair[0]).tolist()
    sets = {name: np.asarray(A).tolist() for name, A in out_sets.items()}
    table = od_test(KNNDetector(), rows, sets)
    assert (table[SIZES] == 60).all(axis=None)


def test_the_table_can_be_summarized(pair, labels, out_sets):
    table = od_test(DETECTORS, pair, out_sets, y=labels, target="both")
    means = summarize(table).set_index(["detector", "target"])
    assert means.loc[("foreign", "ood"), "n"] == 3
    own = table[(table["detector"] == "foreign") & (table["target"] == "ood")]
    per_set = own.groupby("test")["auroc"].first()
    assert means.loc[("foreign", "ood"), "auroc"] == pytest.approx(per_set.mean())


# Which detectors learn from marked rows.


@pytest.mark.parametrize(
    ("detector", "learns"),
    [
        (KNNDetector(), False),
        (MahalanobisDetector(), True),
        (AutoNAPDetector(), True),
        (LayerEnsembleDetector(KNNDetector()), False),
        (LayerEnsembleDetector(KNNDetector(), n_layers=1), True),
        (LayerEnsembleDetector(KNNDetector(), combine="weighted"), True),
        (AnyAlarmDetector([("a", KNNDetector()), ("b", MaxSoftmaxDetector())]), False),
        (AnyAlarmDetector([("a", KNNDetector()), ("b", MahalanobisDetector())]), True),
        (binarized(HammingNAPDetector()), False),
        (binarized(MahalanobisDetector()), True),
        (GridSearchCV(KNNDetector(), {"n_neighbors": [1]}), True),
        (make_pipeline(StandardScaler(), GridSearchCV(KNNDetector(), {"n_neighbors": [1]})), True),
        (DetectorSearchCV([("a", KNNDetector())]), True),
        (AnyAlarmDetector([("a", DetectorSearchCV([("b", KNNDetector())]))]), True),
        (AdaptiveEnsembleDetector(), False),
        (FrozenEstimator(MahalanobisDetector()), False),
        (IsolationForest(), False),
        (DecoyClassClassifier(MLPClassifier()), True),
    ],
    ids=str,
)
def test_what_learns_from_marked_rows(detector, learns):
    assert learns_from_ood(detector) is learns


def test_the_default_monitor_learns_from_none():
    monitor = make_monitor(MLPClassifier((4,), max_iter=1))
    assert not learns_from_ood(monitor)


def test_steps_before_a_detector_see_no_marked_rows(pair, labels, out_sets):
    train, test = (np.asarray(A) for A in pair)
    sets = {name: np.asarray(A) for name, A in out_sets.items()}
    calls = Calls()
    pipeline = make_pipeline(StandardScaler(), Recorder(calls, learns=True))
    od_test(pipeline, (train, test), sets, y=labels)
    scaler = StandardScaler().fit(train)
    expected = scaler.transform(test)[:, 0].tolist()
    assert next(call[1] for call in calls if call[0] == "score") == pytest.approx(expected)


def test_a_search_chooses_by_marked_rows_and_learns_from_others_alone(pair, labels, out_sets):
    grid = {"localoutlierfactor__n_neighbors": [2, 10, 40]}
    pipeline = make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True))
    cv = OODShuffleSplit(2, test_size=0.5, random_state=0)
    search = GridSearchCV(pipeline, grid, cv=cv, scoring=make_ood_scorer())
    table = od_test({"search": search}, pair, out_sets, y=labels)
    X = Activations.concatenate([pair[0], out_sets["near"]])
    chosen = clone(search).set_params(refit=False).fit(X, np.r_[labels[0], np.full(60, -1)])
    best = clone(pipeline).set_params(**chosen.best_params_)
    expected = by_hand(best, pair, labels, [], out_sets["far"])
    row = table[(table["validation"] == "near") & (table["test"] == "far")].iloc[0]
    assert {name: row[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("refit", [True, False, "roc_auc"])
def test_searches_of_every_kind_end_in_the_same_fit(pair, labels, out_sets, refit):
    scoring = {"roc_auc": make_ood_scorer()} if refit == "roc_auc" else make_ood_scorer()
    search = GridSearchCV(
        MahalanobisDetector(), {"normalize": [True, False]}, cv=OODKFold(3), scoring=scoring,
        refit=refit,
    )  # fmt: skip
    table = od_test({"search": search}, pair, out_sets, y=labels)
    X = Activations.concatenate([pair[0], out_sets["near"]])
    y = np.r_[labels[0], np.full(60, -1)]
    fitted = clone(search).set_params(refit="roc_auc" if refit == "roc_auc" else True).fit(X, y)
    row = table[(table["validation"] == "near") & (table["test"] == "far")].iloc[0]
    expected = fitted.best_estimator_.score_samples(pair[1]), fitted.best_estimator_
    scores_out = expected[1].score_samples(out_sets["far"])
    marks = np.r_[np.ones(60), -np.ones(60)]
    auroc = ood_roc_auc_score(marks, np.r_[expected[0], scores_out])
    assert row["auroc"] == pytest.approx(auroc)


def test_a_search_by_errors_needs_no_marked_rows(pair, labels):
    scorer = make_ood_scorer(target="misclassified")
    search = GridSearchCV(KNNDetector(), {"n_neighbors": [1, 9]}, cv=3, scoring=scorer)
    table = od_test({"search": search}, pair, None, y=labels, target="misclassified")
    best = clone(search).fit(pair[0], labels[0]).best_estimator_
    is_correct = pair[1].predictions == labels[1]
    expected = area_under_risk_coverage_score(is_correct, best.score_samples(pair[1]))
    assert table["aurc"].tolist() == pytest.approx([expected])


def searches():
    two = [("few", KNNDetector(n_neighbors=1)), ("many", KNNDetector(n_neighbors=9))]
    return {
        "search": GridSearchCV(KNNDetector(), {"n_neighbors": [1, 3]}, cv=OODKFold(2)),
        "own": DetectorSearchCV(two),
        "any": AnyAlarmDetector([("own", DetectorSearchCV(two)), ("KNN", KNNDetector())]),
        "weighted": LayerEnsembleDetector(KNNDetector(), combine="weighted"),
    }


@pytest.mark.parametrize("name", searches())
def test_a_search_by_marked_rows_tells_no_errors_and_that_is_said(pair, labels, out_sets, name):
    detectors = {name: searches()[name], "KNN": KNNDetector()}
    with pytest.warns(UserWarning, match=rf"The detectors \['{name}'\] choose or weigh") as said:
        table = od_test(detectors, pair, out_sets, y=labels, target="both")
    assert len(said) == 1
    is_lost = (table["detector"] == name) & (table["target"] == "misclassified")
    assert table["auroc"].isna().tolist() == is_lost.tolist()
    with pytest.raises(ValueError, match=rf"\['{name}'\] choose or weigh by rows marked -1"):
        od_test({name: detectors[name]}, pair, None, y=labels, target="misclassified")


def test_a_frozen_search_chooses_no_more(pair, labels, out_sets):
    X = Activations.concatenate([pair[0], out_sets["near"]])
    search = searches()["search"].fit(X, np.r_[labels[0], np.full(60, -1)])
    frozen = FrozenEstimator(search)
    table = od_test(frozen, pair, out_sets, y=labels, target="both", validation=None)
    assert table["auroc"].notna().all()


# Detectors of other libraries.


class Base(BaseEstimator):
    """What PyOD's base class is, without PyOD."""


Base.__name__, Base.__module__ = "BaseDetector", "pyod.models.base"


class Distance(Base):
    """Large for outliers, whose verdict is 1; refuses labels, where 1 would mean outliers."""

    def fit(self, X, y=None):
        assert y is None
        self.mean_ = np.asarray(X).mean(axis=0)
        self.threshold_ = np.quantile(self.decision_function(X), 0.9)
        return self

    def decision_function(self, X):
        return np.linalg.norm(np.asarray(X) - self.mean_, axis=1)

    def predict(self, X):
        return (self.decision_function(X) > self.threshold_).astype(int)


def test_detectors_of_pyod_are_turned_round(pair, labels, out_sets):
    detectors = {"alone": Distance(), "pipeline": make_pipeline(StandardScaler(), Distance())}
    table = od_test(detectors, pair, out_sets, y=labels)
    far = table[(table["detector"] == "alone") & (table["test"] == "far")].iloc[0]
    fitted = Distance().fit(pair[0])
    expected = measured(
        -fitted.decision_function(pair[1]),
        -fitted.decision_function(out_sets["far"]),
        fitted.predict(pair[1]) == 0,
        fitted.predict(out_sets["far"]) == 0,
    )
    assert {name: far[name] for name in expected} == pytest.approx(expected)
    assert (table.loc[table["test"] == "far", "auroc"] > 0.9).all()


def test_detectors_of_pyod_itself(pair, labels, out_sets):
    knn = pytest.importorskip("pyod.models.knn")
    table = od_test({"KNN": knn.KNN()}, pair, out_sets, y=labels)
    assert (table.loc[table["test"] == "far", ["auroc", "accuracy"]] > 0.8).all(axis=None)


def test_pyod_in_a_search_chooses_by_marks_without_a_word():
    knn = pytest.importorskip("pyod.models.knn").KNN
    rng = np.random.default_rng(0)
    X, sets = rng.normal(size=(80, 3)), {"a": 4 + rng.random((40, 3)), "b": rng.random((40, 3))}
    grid = {"n_neighbors": [3, 5]}
    search = GridSearchCV(knn(), grid, cv=OODKFold(2), scoring=make_ood_scorer())
    table = od_test(search, (X[:40], X[40:]), sets)
    assert table.set_index("test").loc["a", "auroc"] > 0.95


def test_a_detector_without_threshold_has_no_accuracy(pair, out_sets):
    detectors = {"mixture": GaussianMixture(2, random_state=0), "KNN": KNNDetector()}
    with pytest.warns(UserWarning, match=r"\['mixture'\] on source .*accuracy is NaN"):
        table = od_test(detectors, pair, out_sets)
    mixture = table["detector"] == "mixture"
    assert table.loc[mixture, "accuracy"].isna().all()
    assert table.drop(columns="accuracy").notna().all(axis=None)
    assert table.loc[~mixture, "accuracy"].notna().all()
    # Nobody asked for the accuracy: nothing to warn of.
    od_test(detectors, pair, out_sets, metrics=["auroc"])


def test_a_frozen_detector_stays_what_it_is(pair, out_sets):
    fitted = KNNDetector().fit(pair[0])
    calls_nothing_else = activations(5, 50), pair[1]
    table = od_test({"frozen": FrozenEstimator(fitted)}, calls_nothing_else, out_sets)
    expected = by_hand(KNNDetector(), pair, (None, None), [], out_sets["far"])
    assert table.loc[table["test"] == "far", "auroc"].tolist() == [expected["auroc"]] * 2


class OnlyX(Recorder):
    """Its ``fit`` takes no labels."""

    def fit(self, X):
        return self


def test_fit_need_not_take_labels(pair, labels, out_sets):
    assert len(od_test(OnlyX(Calls()), pair, out_sets, y=labels)) == 6


@pytest.mark.parametrize("kind", ["array", "frame", "memory map"])
def test_plain_inputs_of_every_kind(pair, out_sets, kind, tmp_path):
    def convert(A):
        X = np.asarray(A)
        if kind == "frame":
            return pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
        if kind == "memory map":
            file = tmp_path / f"{id(A)}.npy"
            np.save(file, X)
            return np.load(file, mmap_mode="r")
        return X

    # The whole set, and one that is larger than the test part.
    source = convert(Activations.concatenate([*pair]))
    sets = {name: convert(Activations.concatenate([A, A])) for name, A in out_sets.items()}
    table = od_test([IsolationForest(n_estimators=5, random_state=0)], source, sets)
    assert set(table["detector"]) == {"IsolationForest"}
    assert (table[SIZES] == 90).all(axis=None)


# Failures.


class Fails(KNNDetector):
    """Fails on a set of the size it is told, in the method it is told."""

    def __init__(self, method="fit", size=120, fails_with=ValueError):
        super().__init__()
        self.method = method
        self.size = size
        self.fails_with = fails_with

    def fit(self, X, y=None):
        if self.method == "fit" and len(X) == self.size:
            raise self.fails_with("it does not like this")
        return super().fit(X, y)

    def score_samples(self, X):
        if self.method == "score" and len(X) == self.size:
            raise self.fails_with("it does not like this")
        return super().score_samples(X)


@pytest.mark.parametrize("error", [ValueError, MemoryError, AttributeError])
def test_a_detector_that_fails_takes_no_other_along(pair, out_sets, error, tmp_path):
    sound = od_test(KNNDetector(), pair, out_sets)
    detectors = {"bad": Fails(fails_with=error), "KNNDetector": KNNDetector()}
    message = f"'bad' failed in 3 of 3 cells.*'bad' on source.*{error.__name__}: it does not like"
    with pytest.warns(FitFailedWarning, match=message):
        table = od_test(detectors, pair, out_sets, results=tmp_path)
    assert table.loc[:5, METRICS].isna().all(axis=None)
    assert_same(table[6:].reset_index(drop=True), sound)
    # What failed is tried again.
    again = od_test({"bad": Fails(size=0), "KNNDetector": KNNDetector()}, pair, out_sets,
                    results=tmp_path)  # fmt: skip
    assert again.loc[:5, METRICS].values.tolist() == sound[METRICS].values.tolist()


def test_failing_on_one_set_loses_no_other(pair, out_sets):
    sets = out_sets | {"small": activations(5, 33, 2.0)}
    with pytest.warns(FitFailedWarning, match="'Fails' failed in 1 of 4 cells"):
        table = od_test(Fails("score", 33), pair, sets)
    assert table["auroc"].isna().tolist() == (table["test"] == "small").tolist()


def test_where_all_fails_the_reason_is_raised(pair, out_sets):
    with pytest.raises(ValueError, match=r"All 3 cells failed.*it does not like this"):
        od_test(Fails(), pair, out_sets)


def test_a_network_without_errors_has_no_table_of_them(pair, labels):
    right = pair[1].predictions
    detectors = [KNNDetector(), MaxSoftmaxDetector()]
    message = r"\['KNNDetector', 'MaxSoftmaxDetector'\] on source .*: 60 of 60 test samples are"
    with pytest.warns(UserWarning, match=message):
        table = od_test(detectors, pair, None, y=(labels[0], right), target="misclassified")
    assert table[[*METRICS, "aurc"]].isna().all(axis=None)
    assert table[SIZES].values.tolist() == [[60, 0]] * 2


def test_values_that_are_not_finite_are_a_failure(pair, out_sets):
    layers = {"early": np.full((60, 6), np.nan), "late": np.ones((60, 4))}
    sets = out_sets | {"bad": Activations(layers, logits=np.ones((60, 3)))}
    with pytest.warns(FitFailedWarning, match="1 of 4 cells.*NaN"):
        table = od_test(KNNDetector(), pair, sets)
    assert table["auroc"].isna().sum() == 3


# Messages.


def other_layers(A):
    return A.replace({"early": A["early"], "last": A["late"]})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"out_sets": lambda s: {"far": s["far"]}}, ValueError, "needs at least 2 .*'far'"),
        ({"out_sets": lambda s: {}}, ValueError, "needs at least 2"),
        ({"out_sets": lambda s: list(s.values())}, TypeError, "must map names to sets, got list"),
        ({"out_sets": lambda s: s | {3: s["far"]}}, TypeError, r"must be strings, got \[3\]"),
        ({"out_sets": lambda s: s | {"none": s["far"][:0]}}, ValueError, "set 'none' is empty"),
        ({"out_sets": lambda s: s | {"nil": None}}, ValueError, "set 'nil' is empty"),
        (
            {"out_sets": lambda s: s | {"other": other_layers(s["far"])}},
            ValueError,
            "set 'other' has other layers .*'late' is not there .*'last' is",
        ),
        (
            {"out_sets": lambda s: s | {"raw": np.ones((9, 10))}},
            ValueError,
            "set 'raw' is ndarray of 9 samples, but source 'in-distribution' holds Activations",
        ),
        ({"target": "misclassified"}, ValueError, "need y, which is None for the test part"),
        ({"target": "both", "y": (np.zeros(120), None)}, ValueError, "need y, which is None"),
        ({"y": (np.zeros(120), np.zeros(9))}, ValueError, "60 samples, but 9 labels"),
        ({"y": np.zeros(180)}, ValueError, r"y of source .* must be a pair \(train, test\)"),
        ({"y": (np.r_[-1, np.zeros(119)], None)}, ValueError, "1 rows marked -1 in y"),
        ({"metrics": ["auroc", "f1"]}, ValueError, r"Unknown metrics \['f1'\]: choose among"),
        ({"metrics": "aurc"}, ValueError, "leaves no metric for target='ood'"),
        ({"metrics": []}, ValueError, "leaves no metric"),
        ({"detectors": []}, ValueError, "detectors is empty"),
        (
            {"detectors": [KNNDetector(), KNNDetector(n_neighbors=9)]},
            ValueError,
            r"have the names \['KNNDetector'\]: pass a dict",
        ),
        (
            {"detectors": [("a", KNNDetector()), ("a", MaxSoftmaxDetector())]},
            ValueError,
            r"have the names \['a'\]",
        ),
        ({"detectors": {1: KNNDetector()}}, TypeError, r"must be strings, got \[1\]"),
        ({"detectors": KNNDetector}, TypeError, r"is a class: pass an instance, KNNDetector\(\)"),
        ({"detectors": StandardScaler()}, TypeError, "neither score_samples nor decision_func"),
        ({"detectors": LocalOutlierFactor()}, TypeError, "novelty=True"),
        (
            {
                "detectors": {
                    "grid": GridSearchCV(KNNDetector(), {"n_neighbors": [1]}),
                    "KNN": KNNDetector(),
                    "own": AnyAlarmDetector([("a", DetectorSearchCV([("b", KNNDetector())]))]),
                    "weighted": LayerEnsembleDetector(KNNDetector(), combine="weighted"),
                },
                "validation": None,
            },
            ValueError,
            r"\['grid', 'own', 'weighted'\] choose their settings by rows marked -1",
        ),
        ({"target": "errors"}, ValueError, "'target' parameter"),
        ({"validation": "all"}, ValueError, "'validation' parameter"),
    ],
)
def test_what_cannot_be_tested_is_refused(pair, out_sets, change, error, message):
    arguments = {"detectors": [KNNDetector()], "in_distribution": pair} | change
    arguments["out_sets"] = change.get("out_sets", dict)(out_sets)
    with pytest.raises(error, match=message):
        od_test(**arguments)


@pytest.mark.parametrize(
    ("in_distribution", "y", "message"),
    [
        (lambda p: (*p, p[0]), None, r"must be a pair \(train, test\), got 3 parts"),
        (lambda p: p[0][:1], None, "cannot be split in two: it is Activations of 1 samples"),
        (lambda p: (p[0], p[1][:0]), None, "test part of source 'in-distribution' is empty"),
        (lambda p: (p[0], other_layers(p[1])), None, "test part of source .* has other layers"),
        (lambda p: {}, None, "in_distribution is empty"),
        (lambda p: {"a": p}, (None, None), r"labels of each of the sources \['a'\], got tuple"),
        (lambda p: {"a": p}, {"b": None}, r"each of the sources \['a'\], got those of \['b'\]"),
    ],
)
def test_sources_that_are_none_are_refused(pair, out_sets, in_distribution, y, message):
    with pytest.raises(ValueError, match=message):
        od_test(KNNDetector(), in_distribution(pair), out_sets, y=y)


def test_a_source_without_sets_of_its_own_is_refused(pair, out_sets):
    with pytest.raises(ValueError, match=r"none for the sources \['b'\]"):
        od_test(KNNDetector(), {"a": pair, "b": pair}, {"a": out_sets})


def test_the_only_other_set_may_be_the_source_itself(pair, out_sets):
    sets = {"far": out_sets["far"], "plain": out_sets["near"]}
    with pytest.raises(ValueError, match=r"source 'plain' has \['far'\]"):
        od_test(KNNDetector(), {"plain": pair}, sets)


def test_errors_need_predictions(pair, labels):
    bare = tuple(Activations({"early": A["early"]}) for A in pair)
    with pytest.raises(ValueError, match=r"not known for the detectors \['KNNDetector'\]"):
        od_test(KNNDetector(), bare, None, y=labels, target="misclassified")


def test_labels_of_another_kind_than_predictions_are_no_errors(pair):
    y = np.repeat("a", 120), np.repeat("a", 60)
    with pytest.raises(ValueError, match="y holds text and the predictions are numbers"):
        od_test(MaxSoftmaxDetector(), pair, None, y=y, target="misclassified")


def test_without_pandas_it_says_how_to_get_it(pair, out_sets, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=re.escape("pip install pandas")):
        od_test(KNNDetector(), pair, out_sets)
