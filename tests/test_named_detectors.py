"""Detectors in lists of estimators are reached by their names, as the steps of a pipeline are."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import Activations, make_monitor
from skood.activations import LinearHead
from skood.detectors import EnergyDetector, KNNDetector, MahalanobisDetector
from skood.ensemble import AdaptiveEnsembleDetector, AnyAlarmDetector
from skood.model_selection import DetectorSearchCV, OODKFold
from skood.preprocessing import LayerSelector

RNG = np.random.default_rng(0)
LABEL = np.arange(120) % 3
HIDDEN = np.vstack([np.eye(3, 6)[LABEL] + 0.2 * RNG.normal(size=(120, 6)), RNG.random((30, 6))])
HEAD = LinearHead(4 * np.eye(3, 6), input_layer="relu")
A = Activations({"relu": HIDDEN}, logits=HIDDEN @ HEAD.weight.T, head=HEAD)
Y = np.r_[LABEL, np.full(30, -1)]


def members():
    near = make_pipeline(LayerSelector(layers=-1), KNNDetector(n_neighbors=4))
    return [("near", near), ("energy", EnergyDetector())]


def adaptive():
    near, energy = members()
    empty = {name: [] for name in AdaptiveEnsembleDetector._lists_of_detectors}
    return AdaptiveEnsembleDetector(
        **{**empty, "layer_detectors": [near], "head_detectors": [energy]}
    )


def search():
    return DetectorSearchCV(members())


def any_alarm():
    return AnyAlarmDetector(members())


def list_of(estimator):
    """Name of the parameter that holds the detector "near"."""
    return "detectors" if hasattr(estimator, "detectors") else "layer_detectors"


every_estimator = pytest.mark.parametrize("make", [adaptive, search, any_alarm])


@every_estimator
def test_parameters_of_detectors_are_read_by_their_names(make):
    estimator = make()
    params = estimator.get_params()
    assert params["near__knndetector__n_neighbors"] == 4
    assert params["energy__temperature"] == 1
    assert isinstance(params["energy"], EnergyDetector)
    own = estimator.get_params(deep=False)
    assert not {"near", "energy", "energy__temperature"} & own.keys()
    assert own.keys() < params.keys()


@every_estimator
def test_parameters_of_detectors_are_set_and_detectors_exchanged(make):
    estimator, other = make(), MahalanobisDetector()
    assert estimator.set_params(near__knndetector__n_neighbors=2, energy=other) is estimator
    params = estimator.get_params()
    assert params["near"][-1].n_neighbors == 2
    assert params["energy"] is other
    # Of detectors that are exchanged, the new ones are set.
    estimator.set_params(energy=MahalanobisDetector(), energy__shrinkage=0.25)
    assert estimator.get_params()["energy__shrinkage"] == 0.25
    assert other.shrinkage != 0.25


@every_estimator
def test_a_list_that_is_replaced_comes_before_what_is_set_in_it(make):
    estimator = make()
    far = [("far", KNNDetector(n_neighbors=1))]
    estimator.set_params(**{"far__n_neighbors": 3, list_of(estimator): far})
    assert estimator.get_params()["far__n_neighbors"] == 3
    assert "near" not in estimator.get_params()


@every_estimator
def test_clones_have_the_parameters_and_share_no_detector(make):
    estimator = make().set_params(energy__temperature=3.0)
    copy = clone(estimator)
    assert copy.get_params()["energy__temperature"] == 3
    copy.set_params(energy__temperature=5.0)
    assert estimator.get_params()["energy__temperature"] == 3


@every_estimator
def test_what_is_set_is_what_is_fitted(make):
    by_name = make().set_params(near__knndetector__n_neighbors=1, energy__temperature=3.0)
    lists = {
        name: [
            (
                key,
                EnergyDetector(temperature=3.0)
                if key == "energy"
                else make_pipeline(LayerSelector(layers=-1), KNNDetector(n_neighbors=1)),
            )
            for key, _ in pairs
        ]
        for name, pairs in make().get_params(deep=False).items()
        if isinstance(pairs, list)
    }
    by_hand = type(by_name)(**lists)
    scores = [estimator.fit(A, Y).score_samples(A) for estimator in (by_name, by_hand, make())]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()


@every_estimator
def test_a_grid_may_hold_parameters_and_whole_detectors(make):
    grid = {"near__knndetector__n_neighbors": [1, 4], "energy": [EnergyDetector(temperature=2.0)]}
    cv = OODKFold(2, ood_in_train=True)
    found = GridSearchCV(make(), grid, cv=cv, error_score="raise").fit(A, Y)
    assert found.best_estimator_.get_params()["energy__temperature"] == 2


@every_estimator
def test_an_unknown_name_is_refused_with_those_there_are(make):
    estimator = make()
    before = estimator.get_params()
    message = "Invalid parameter 'nearest' for estimator .*'near'.*'energy'"
    for params in ({"nearest": KNNDetector()}, {"nearest__n_neighbors": 1}):
        with pytest.raises(ValueError, match=message) as error:
            estimator.set_params(**params, energy__temperature=9.0)
        assert "fit makes" not in str(error.value)
    assert estimator.get_params().keys() == before.keys()
    assert estimator.get_params()["energy__temperature"] == 1
    with pytest.raises(ValueError, match="Invalid parameter 'shrinkage' for estimator EnergyDet"):
        estimator.set_params(energy__shrinkage=0.1)


@pytest.mark.parametrize("target", ["ood", "misclassified"])
def test_defaults_have_no_names_to_be_reached_by(target):
    estimator = AdaptiveEnsembleDetector(target=target, head_detectors=members())
    message = (
        "Invalid parameter 'distances' .*'target'.* detectors {'head_detectors': .'near', 'energy'"
        ".}. None, for layer_detectors, .*feature_detectors.*, stands for .* that only fit makes"
    )
    with pytest.raises(ValueError, match=message):
        estimator.set_params(distances__shrinkage=0.2)
    named = [("distances", MahalanobisDetector(normalize=True))]
    estimator.set_params(layer_detectors=named, distances__shrinkage=0.2)
    assert estimator.layer_detectors[0][1].shrinkage == 0.2


@pytest.mark.parametrize("make", [search, any_alarm, adaptive])
@pytest.mark.parametrize(("name", "message"), [("target__x", "not contain __"), (None, "conflict")])
def test_names_that_would_hide_a_parameter_are_refused(make, name, message):
    estimator = make()
    parameter = list_of(estimator)
    name = parameter if name is None else name
    setattr(estimator, parameter, [(name, KNNDetector())])
    with pytest.raises(ValueError, match=message):
        estimator.fit(A, Y)


@pytest.mark.parametrize("value", [[KNNDetector()], [("a", 1, 2)], KNNDetector(), 3, "knn"])
@every_estimator
def test_values_that_are_no_lists_of_pairs_are_refused_by_fit_alone(make, value):
    estimator = make()
    parameter = list_of(estimator)
    estimator.set_params(**{parameter: value})
    assert estimator.get_params()[parameter] is value
    with pytest.raises(ValueError, match="detectors"):
        estimator.fit(A, Y)
    estimator.set_params(**{parameter: getattr(make(), parameter)}).fit(A, Y)


# Rates of a monitor


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4)) + 3 * np.eye(3, 4)[np.arange(300) % 3]
    net = MLPClassifier((16,), random_state=0, max_iter=1000).fit(X, np.arange(300) % 3)
    return net, np.vstack([X, 6 * rng.normal(size=(60, 4))]), np.r_[np.arange(300) % 3, [-1] * 60]


def rejected(verdicts):
    return np.mean(verdicts[:300] == -1)


@pytest.mark.parametrize("search", [False, True])
def test_the_rate_of_a_monitor_is_set_afterwards_too(network, search):
    net, X, y = network
    given = make_monitor(net, false_alarm_rate=0.1, search=search).fit(X, y)
    later = make_monitor(net, search=search).set_params(detect__false_alarm_rate=0.1).fit(X, y)
    assert later.offset_ == given.offset_
    np.testing.assert_array_equal(later.predict(X), given.predict(X))
    assert np.mean(detector_scores(later) < later.offset_) == pytest.approx(0.1, abs=0.005)
    both = make_monitor(net, target="both", search=search)
    both.set_params(detect__ood__false_alarm_rate=0.1).fit(X, y)
    assert both.offsets_["ood"] == given.offset_


def detector_scores(monitor):
    """Scores of the training rows that set the threshold."""
    detector = monitor["detect"]
    return getattr(detector, "best_estimator_", detector).training_scores_
