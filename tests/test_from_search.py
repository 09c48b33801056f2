"""Ensembles of the layers that a search found best."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood.ensemble import LayerEnsembleDetector
from skood.metrics import make_ood_scorer
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector


@pytest.fixture(scope="module")
def data():
    """Layers that tell the OOD samples apart well, a little, and not at all."""
    rng = np.random.default_rng(0)
    y = np.r_[np.arange(150) % 3, np.full(60, -1)]
    signal = rng.normal(size=(3, 40))[y]
    signal[150:] = rng.normal(size=(60, 40))
    noise = {"good": 0.8, "weak": 2.0, "useless": 1e6}
    layers = {name: signal + scale * rng.normal(size=(210, 40)) for name, scale in noise.items()}
    return Activations(layers, predictions=np.arange(210) % 3), y


def layer_search(data, grid, search_class=GridSearchCV, **params):
    """A search over the layers, by two scores that order them in opposite ways."""
    A, y = data
    pipeline = Pipeline(
        [
            ("select", LayerSelector()),
            ("binarize", PercentileBinarizer()),
            ("detect", HammingNAPDetector()),
        ]
    )
    params = {"scoring": {"best": make_ood_scorer(), "worst": least_auroc}} | params
    return search_class(pipeline, grid, cv=OODKFold(3), **params).fit(A, y)


def least_auroc(detector, X, y):
    return -make_ood_scorer()(detector, X, y)


def layers_of(ensemble):
    return [pipeline["select"].layers for pipeline in ensemble.detector]


BY_LAYER = {"select__layers": [["useless"], ["weak"], ["good"]]}


@pytest.mark.parametrize("refit", [False, lambda results: 0], ids=["no refit", "callable"])
def test_from_search_ranks_by_the_metric_asked_for(data, refit):
    search = layer_search(data, BY_LAYER, refit=refit)
    with pytest.raises(ValueError, match=r"\['best', 'worst'\]: metric, or refit of the search"):
        LayerEnsembleDetector.from_search(search, 2)
    with pytest.raises(ValueError, match="must name the one to rank layers by, got 'auc'"):
        LayerEnsembleDetector.from_search(search, 2, metric="auc")
    best, worst = (
        layers_of(LayerEnsembleDetector.from_search(search, 3, metric=metric))
        for metric in ("best", "worst")
    )
    assert best == worst[::-1] == [["good"], ["weak"], ["useless"]]


def test_from_search_takes_the_metric_that_refit_names(data):
    search = layer_search(data, BY_LAYER, refit="worst")
    assert layers_of(LayerEnsembleDetector.from_search(search, 1)) == [["useless"]]
    assert layers_of(LayerEnsembleDetector.from_search(search, 1, metric="best")) == [["good"]]


def test_from_search_knows_the_same_layers_by_any_spelling(data):
    """One layer is written in three ways, so that only two layers were searched."""
    grid = {"select__layers": ["good", ["good"], ("good",), ["weak", "good"], ["good", "weak"]]}
    search = layer_search(data, grid, scoring=make_ood_scorer())
    found = layers_of(LayerEnsembleDetector.from_search(search, 2))
    assert sorted(len(np.atleast_1d(layers)) for layers in found) == [1, 2]
    with pytest.raises(ValueError, match="n_layers=3, but the search scored 2 layers"):
        LayerEnsembleDetector.from_search(search, 3)


def test_from_search_reads_grids_of_several_parts(data):
    """One part leaves the layers as they are in the pipeline."""
    grid = [{"detect__false_alarm_rate": [0.1]}, {"select__layers": ["good", "weak"]}]
    search = layer_search(data, grid, scoring=make_ood_scorer())
    found = layers_of(LayerEnsembleDetector.from_search(search, 3))
    assert {"good", "weak", "all"} == set(found)


def test_from_search_reads_other_names_that_end_alike(data):
    """A number of layers is no layer."""
    A, y = data
    member = make_pipeline(PercentileBinarizer(), HammingNAPDetector())
    ensemble = LayerEnsembleDetector(member, n_layers=1)
    search = GridSearchCV(
        ensemble,
        {"layers": [["good"], ["weak"]], "n_layers": [1]},
        cv=OODKFold(3, ood_in_train=True),
    ).fit(A, y)
    assert LayerEnsembleDetector.from_search(search, 1).detector[0].layers == ["good"]


def test_from_search_after_successive_halving_prefers_what_came_furthest(data):
    """Scores of an early round, on few rows, may be higher by chance."""
    params = {"scoring": make_ood_scorer(), "min_resources": 90, "return_train_score": False}
    search = layer_search(data, BY_LAYER, HalvingGridSearchCV, random_state=0, **params)
    results = search.cv_results_
    results["mean_test_score"] = np.where(results["iter"] == 0, 0.99, 0.9)
    results["mean_test_score"][[0, 1, 2]] = [0.97, 0.98, 0.99]
    survivor = results["params"][-1]["select__layers"]
    found = layers_of(LayerEnsembleDetector.from_search(search, 3))
    assert found[0] == survivor
    rest = [layers for layers in (["good"], ["weak"], ["useless"]) if layers != survivor]
    assert found[1:] == rest


def test_from_search_builds_members_that_share_nothing_with_the_search(data):
    detector = HammingNAPDetector()
    grid = BY_LAYER | {"detect": [detector]}
    search = layer_search(data, grid, scoring=make_ood_scorer())
    assert LayerEnsembleDetector.from_search(search, 1).detector[0]["detect"] is not detector


def test_from_search_leaves_out_settings_without_a_score(data):
    """The names of scikit-learn's scorers give NaN for detectors."""
    A, y = data
    numbers = np.where(y == -1, -1, np.arange(len(y)) % 3)
    with pytest.warns(UserWarning, match="non-finite|Scoring failed"):
        search = layer_search((A, numbers), BY_LAYER, scoring="roc_auc")
    with pytest.raises(ValueError, match=r"scored 0 layers.*make_ood_scorer"):
        LayerEnsembleDetector.from_search(search, 1)


@pytest.mark.parametrize("n_layers", [0, -1])
def test_from_search_wants_a_layer(data, n_layers):
    search = layer_search(data, BY_LAYER, refit="best")
    with pytest.raises(ValueError, match=f"n_layers={n_layers}, but the search scored 3"):
        LayerEnsembleDetector.from_search(search, n_layers)


def test_from_search_wants_a_search_that_ran(data):
    search = layer_search(data, BY_LAYER, refit="best")
    with pytest.raises(NotFittedError):
        LayerEnsembleDetector.from_search(clone(search), 1)
