"""Every method can be searched, and no statistic of one setting survives into the next."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor
from skood.datasets import load_digits_ood
from skood.detectors import (
    EnergyDetector,
    GENDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxSoftmaxDetector,
    NACDetector,
    NNGuideDetector,
    OpenMaxDetector,
    ViMDetector,
)
from skood.extraction import ODIN
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector
from skood.shaping import ASH, DICE, SCALE, VRA, LINe, ReAct

SEARCHES = {
    "react-dice": (
        make_pipeline(ReAct(), DICE(), EnergyDetector()),
        {"react__percentile": [50, 90, 99], "dice__sparsity": [30, 90]},
    ),
    "line": (
        make_pipeline(LINe(), EnergyDetector()),
        {
            "line__clip": [0.5, 1.0, None],
            "line__activation_percentile": [None, 50],
            "line__weight_percentile": [None, 50],
        },
    ),
    "ash": (
        make_pipeline(ASH(), EnergyDetector()),
        {"ash__variant": ["p", "b", "s"], "ash__percentile": [30, 80]},
    ),
    "scale": (make_pipeline(SCALE(), EnergyDetector()), {"scale__percentile": [30, 60, 90]}),
    "vra": (
        make_pipeline(VRA(), EnergyDetector()),
        {"vra__low_percentile": [50, 70], "vra__high_percentile": [90, 99]},
    ),
    "knn": (
        make_pipeline(LayerSelector(layers=["hidden_1"]), KNNDetector()),
        {"knndetector__n_neighbors": [1, 5, 50], "knndetector__normalize": [True, False]},
    ),
    "mahalanobis": (
        make_pipeline(MahalanobisDetector()),
        {
            "mahalanobisdetector__relative": [True, False],
            "mahalanobisdetector__covariance": [None, LedoitWolf()],
        },
    ),
    "vim": (make_pipeline(ViMDetector()), {"vimdetector__n_components": [2, 8, 20]}),
    "nnguide": (make_pipeline(NNGuideDetector()), {"nnguidedetector__n_neighbors": [1, 10, 100]}),
    "nac": (make_pipeline(NACDetector()), {"nacdetector__n_bins": [10, 30, 90]}),
    "gen": (make_pipeline(GENDetector()), {"gendetector__gamma": [0.01, 0.1, 0.5]}),
    "openmax": (make_pipeline(OpenMaxDetector()), {"openmaxdetector__tail_size": [5, 20, 60]}),
}
every_search = pytest.mark.parametrize(("pipeline", "grid"), SEARCHES.values(), ids=SEARCHES)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits_ood(return_X_y=True)
    return X[:900].reshape(900, -1), y[:900]


@pytest.fixture(scope="module")
def network(digits):
    X, y = digits
    inside = y != -1
    network = MLPClassifier((48, 32), random_state=0, max_iter=500, early_stopping=True)
    return network.fit(X[inside], y[inside])


@pytest.fixture(scope="module")
def data(digits, network):
    X, y = digits
    return ActivationExtractor(network).fit_transform(X), y


@every_search
def test_a_search_finds_for_each_setting_what_a_fresh_pipeline_scores(pipeline, grid, data):
    A, y = data
    cv = OODKFold(2)
    results = GridSearchCV(pipeline, grid, cv=cv, error_score="raise").fit(A, y).cv_results_
    for params, found in zip(results["params"], results["mean_test_score"], strict=True):
        scores = []
        for train, test in cv.split(A, y):
            fresh = clone(pipeline).set_params(**params).fit(A[train], y[train])
            scores.append(roc_auc_score(y[test] != -1, fresh.score_samples(A[test])))
        assert found == pytest.approx(np.mean(scores), rel=1e-12)


@every_search
def test_settings_change_scores_and_leave_nothing_behind(pipeline, grid, data):
    A, y = data
    used = clone(pipeline)
    scores = []
    for params in ParameterGrid(grid):
        fresh = clone(pipeline).set_params(**params).fit(A, y)
        scores.append(used.set_params(**params).fit(A, y).score_samples(A))
        np.testing.assert_array_equal(scores[-1], fresh.score_samples(A))
    assert len(np.unique(scores, axis=0)) == len(scores)


@every_search
def test_a_method_that_is_fitted_anew_forgets_the_first_data(pipeline, grid, data):
    A, y = data
    used = clone(pipeline).fit(A[:450], y[:450]).fit(A[450:], y[450:])
    fresh = clone(pipeline).fit(A[450:], y[450:])
    np.testing.assert_array_equal(used.score_samples(A), fresh.score_samples(A))


def test_the_size_of_a_perturbation_can_be_searched(digits, network):
    X, y = digits
    pipeline = make_pipeline(
        ActivationExtractor(network, perturbation=ODIN()), MaxSoftmaxDetector(temperature=1000)
    )
    name = "activationextractor__perturbation__epsilon"
    search = GridSearchCV(pipeline, {name: [0.0, 0.01, 0.1]}, cv=OODKFold(2)).fit(X, y)
    assert len(np.unique(search.cv_results_["mean_test_score"])) == 3
    fresh = clone(pipeline).set_params(**search.best_params_).fit(X, y)
    np.testing.assert_array_equal(search.score_samples(X), fresh.score_samples(X))
