"""Ensembles of layers."""

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood.activations import Column
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.ensemble._calibrations import RankCalibration
from skood.metrics import make_ood_scorer
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector


@pytest.fixture(scope="module")
def data():
    """Layers that tell the OOD samples apart well, a little, and not at all."""
    rng = np.random.default_rng(0)
    label = np.arange(300) % 3
    layers = {}
    for name, noise in {"good": 0.8, "weak": 2.0, "useless": 1e6}.items():
        inside = rng.normal(size=(3, 40))[label] + noise * rng.normal(size=(300, 40))
        outside = np.sqrt(1 + noise**2) * rng.normal(size=(60, 40))
        layers[name] = np.vstack([inside, outside])
    predictions = np.r_[label, rng.integers(0, 3, 60)]
    return Activations(layers, predictions=predictions), np.r_[label, np.full(60, -1)]


def member():
    return make_pipeline(PercentileBinarizer(percentile=50), HammingNAPDetector())


@pytest.mark.parametrize("kind", ["gradient", "pass"])
def test_all_layers_are_those_that_hold_activations(data, kind):
    A, y = data
    extra = Column(A["weak"] ** 2, layer="good", kind=kind)
    more = A.assign({"extra": extra})
    expected = LayerEnsembleDetector(member()).fit(A, y)
    found = LayerEnsembleDetector(member()).fit(more, y)
    assert found.layers_ == ["good", "weak", "useless"]
    np.testing.assert_array_equal(found.score_samples(more), expected.score_samples(A))
    for layers in (["good", "extra"], [0, -1], ["good", "e*"]):
        named = LayerEnsembleDetector(member(), layers=layers).fit(more, y)
        assert named.layers_ == ["good", "extra"]
    with pytest.raises(ValueError, match=r"\['extra'\], none of which holds activations"):
        LayerEnsembleDetector(member()).fit(more[["extra"]], y)


def test_fisher_sums_the_logarithms_of_conformal_p_values(data):
    A, y = data
    ensemble = LayerEnsembleDetector(member()).fit(A, y)
    expected = 0
    for name in A.layer_names:
        detector = member().fit(A[[name]], y)
        calibration = detector[-1].training_scores_
        for_each = detector.score_samples(A[[name]])
        p = [(1 + (calibration <= s).sum()) / (1 + len(calibration)) for s in for_each]
        expected = expected + np.log(p)
    np.testing.assert_allclose(ensemble.score_samples(A), expected)


def test_mean_standardises_by_left_out_scores(data):
    A, y = data
    ensemble = LayerEnsembleDetector(member(), combine="mean").fit(A, y)
    columns = []
    for name in A.layer_names:
        detector = member().fit(A[[name]], y)
        left_out = detector[-1].training_scores_
        columns.append((detector.score_samples(A[[name]]) - left_out.mean()) / left_out.std())
    np.testing.assert_allclose(ensemble.score_samples(A), np.mean(columns, axis=0))


def test_vote_is_the_share_of_members_that_accept_and_half_is_enough(data):
    A, y = data
    names = ["good", "weak", "useless"]
    ensemble = LayerEnsembleDetector(member(), layers=names, combine="vote").fit(A, y)
    detectors = [member().fit(A[[name]], y) for name in names]
    # All members accept at one p-value, the largest one that rejects 5 % of the training samples.
    left_out = np.array([detector[-1].training_scores_ for detector in detectors])
    p = rankdata(left_out, method="max", axis=1) / 300
    level = np.percentile(np.sort(p, axis=0)[1], 5)
    scores = np.array([d.score_samples(A[[n]]) for d, n in zip(detectors, names, strict=True)])
    new_p = (1 + (left_out[:, None, :] <= scores[:, :, None]).sum(axis=2)) / 301
    accepted = (new_p >= level).mean(axis=0)
    np.testing.assert_allclose(ensemble.score_samples(A), accepted)
    np.testing.assert_array_equal(ensemble.predict(A) == 1, accepted >= 0.5)
    assert 0.03 < (np.mean(p >= level, axis=0) < 0.5).mean() <= 0.05  # as patterns tie


def test_weighted_trusts_the_members_that_know(data):
    A, y = data
    seen, unseen = slice(0, None, 2), slice(1, None, 2)
    weighted, mean = (
        LayerEnsembleDetector(member(), combine=combine).fit(A[seen], y[seen])
        for combine in ("weighted", "mean")
    )
    assert weighted.weights_[2] < 0.5 * weighted.weights_[0]
    assert weighted.score(A[unseen], y[unseen]) > mean.score(A[unseen], y[unseen])


def test_members_weigh_alike_where_none_is_better_than_chance(data):
    A, _ = data
    looks_inside = Activations({"a": A["good"][[*range(300), *[0] * 20]]})
    y = np.r_[np.zeros(300), np.full(20, -1)]
    ensemble = LayerEnsembleDetector(member(), combine="weighted").fit(looks_inside, y)
    assert ensemble.aurocs_ < 0.5
    assert ensemble.weights_ == 1
    assert np.isfinite(ensemble.score_samples(looks_inside)).all()


def test_n_layers_keeps_the_members_of_the_best_auroc(data):
    A, y = data
    ensemble = LayerEnsembleDetector(member(), n_layers=1).fit(A, y)
    assert ensemble.layers_ == ["good"]
    every = LayerEnsembleDetector(member(), n_layers=3).fit(A, y)
    for name, auroc in zip(every.layers_, every.aurocs_, strict=True):
        detector = member().fit(A[[name]], y)
        scores = np.r_[detector[-1].training_scores_, detector.score_samples(A[[name]][300:])]
        assert auroc == pytest.approx(roc_auc_score(y != -1, scores))


def test_members_may_be_any_outlier_detector_and_are_calibrated_held_out(data):
    A, y = data
    ensemble = LayerEnsembleDetector(IsolationForest(random_state=0), layers="good").fit(A, y)
    plain = IsolationForest(random_state=0).fit(A["good"][:300])
    calibration = ensemble.calibration_scores_[:, 0]
    assert not np.allclose(calibration, plain.score_samples(A["good"][:300]))
    p = (1 + (calibration[:, None] <= plain.score_samples(A["good"])).sum(axis=0)) / 301
    found = np.exp(ensemble.score_samples(A))
    np.testing.assert_allclose(found, p, atol=1.01 / 301)
    assert np.isclose(found, p).mean() > 0.99  # but for a score that another is near in float32


def test_members_that_score_only_some_training_rows_are_cross_validated(data):
    A, y = data
    ensemble = LayerEnsembleDetector(AutoNAPDetector(random_state=0), layers="good").fit(A, y)
    assert ensemble.calibration_scores_.shape == (300, 1)


def test_p_values_are_ranks_among_calibration_scores():
    scores = np.random.default_rng(0).integers(0, 5, (30, 2)).astype(float)
    ranks = rankdata(scores, method="max", axis=0)
    np.testing.assert_allclose(RankCalibration(scores).p_values(scores), (1 + ranks) / 31)
    np.testing.assert_allclose(RankCalibration(scores).p_values(scores, left_out=True), ranks / 30)
    np.testing.assert_allclose(RankCalibration(scores).p_values(scores[:1] - 9), [[1 / 31, 1 / 31]])


@pytest.mark.parametrize("combine", ["fisher", "mean", "vote"])
def test_threshold_holds_on_unseen_samples(combine):
    rng = np.random.default_rng(0)
    A = Activations({name: rng.normal(size=(1200, 30)) for name in ("a", "b", "c")})
    ensemble = LayerEnsembleDetector(member(), combine=combine, false_alarm_rate=0.1).fit(A[:600])
    assert 0.04 < (ensemble.predict(A[600:]) == -1).mean() < 0.16


def test_threads_change_nothing(data):
    A, y = data
    one, two = (
        LayerEnsembleDetector(member(), n_jobs=n_jobs).fit(A, y).score_samples(A)
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_glob_patterns_choose_layers_and_unknown_ones_are_refused(data):
    A, y = data
    assert LayerEnsembleDetector(member(), layers="*e*").fit(A, y).layers_ == ["weak", "useless"]
    with pytest.raises(ValueError, match=r"No layers match \['conv'\]; known are \['good'"):
        LayerEnsembleDetector(member(), layers=["good", "conv"]).fit(A, y)


@pytest.mark.parametrize("params", [{"n_layers": 2}, {"combine": "weighted"}])
def test_what_judges_members_needs_ood_samples(data, params):
    A, y = data
    with pytest.raises(ValueError, match="needs out-of-distribution samples"):
        LayerEnsembleDetector(member(), **params).fit(A[:300], y[:300])


@pytest.fixture(scope="module")
def search(data):
    A, y = data
    pipeline = Pipeline(
        [
            ("select", LayerSelector()),
            ("binarize", PercentileBinarizer()),
            ("detect", HammingNAPDetector()),
        ]
    )
    grid = {"select__layers": list(A.layer_names), "binarize__percentile": [20, 50, 80]}
    return GridSearchCV(pipeline, grid, scoring=make_ood_scorer(), cv=OODKFold(3)).fit(A, y)


def test_from_search_takes_the_best_setting_of_the_best_layers(search, data):
    A, y = data
    ensemble = LayerEnsembleDetector.from_search(search, 2, combine="mean")
    assert [m["select"].layers for m in ensemble.detector] == ["good", "weak"]
    results = search.cv_results_
    for pipeline in ensemble.detector:
        of_layer = results["param_select__layers"] == pipeline["select"].layers
        best = np.where(of_layer, results["mean_test_score"], -1).argmax()
        percentile = results["param_binarize__percentile"][best]
        assert pipeline["binarize"].percentile == percentile
    assert ensemble.fit(A, y).score(A, y) > 0.9
    assert ensemble.layers_ == ["member 0", "member 1"]


def test_from_search_says_what_it_needs(search):
    with pytest.raises(ValueError, match="n_layers=4, but the search scored 3 layers"):
        LayerEnsembleDetector.from_search(search, 4)
    other = GridSearchCV(search.estimator, {"binarize__percentile": [50]})
    other.cv_results_, other.multimetric_ = {"params": [{"binarize__percentile": 50}]}, False
    with pytest.raises(ValueError, match="ends in 'layers'"):
        LayerEnsembleDetector.from_search(other, 1)
