"""The main job: extract once, then search on Activations."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from skood import ActivationExtractor, HammingNAPDetector, PercentileBinarizer, PoolingReducer
from skood.datasets import load_digits_ood
from skood.metrics import make_ood_scorer
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector

torch = pytest.importorskip("torch")
nn = torch.nn


class CountingNet(nn.Module):
    """A small trained classifier that counts how often it is run."""

    n_runs = 0

    def __init__(self, X, y):
        super().__init__()
        torch.manual_seed(0)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1, stride=2)
        self.hidden, self.head = nn.Linear(256, 32), nn.Linear(32, 8)
        optimizer = torch.optim.Adam(self.parameters(), 3e-3)
        for rows in torch.randperm(len(X)).repeat(8).split(64):
            loss = nn.functional.cross_entropy(self(X[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def forward(self, x):
        CountingNet.n_runs += 1
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.head(self.relu3(self.hidden(x.flatten(1))))


@pytest.fixture(scope="module")
def extracted():
    X, y = load_digits_ood(return_X_y=True)
    X, y = X[:900], y[:900]
    inside = y != -1
    network = CountingNet(torch.from_numpy(X[inside]), torch.from_numpy(y[inside]))
    extractor = ActivationExtractor(network, ["relu1", "relu2", "relu3"]).fit(X)
    return extractor, X, extractor.transform(X), y


def pipeline():
    return Pipeline(
        [
            ("select", LayerSelector()),
            ("pool", PoolingReducer()),
            ("binarize", PercentileBinarizer()),
            ("detect", HammingNAPDetector()),
        ]
    )


GRID = {
    "select__layers": ["relu1", "relu3", ["relu1", "relu2"]],
    "pool__pooling": ["max", "avg"],
    "binarize__percentile": [30, 70],
}


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_search_on_activations_runs_the_network_zero_times(extracted, n_jobs):
    _, _, A, y = extracted
    before = CountingNet.n_runs
    search = GridSearchCV(
        pipeline(), GRID, scoring=make_ood_scorer(), cv=OODKFold(3), n_jobs=n_jobs
    ).fit(A, y)
    assert CountingNet.n_runs == before
    assert search.best_score_ > 0.7


def test_every_score_of_a_search_is_that_of_a_fresh_pipeline(extracted):
    _, _, A, y = extracted
    cv = OODKFold(3)
    results = GridSearchCV(pipeline(), GRID, scoring=make_ood_scorer(), cv=cv).fit(A, y).cv_results_
    for params, found in zip(results["params"], results["mean_test_score"], strict=True):
        scores = []
        for train, test in cv.split(A, y):
            fitted = clone(pipeline()).set_params(**params).fit(A[train], y[train])
            scores.append(roc_auc_score(y[test] != -1, fitted.score_samples(A[test])))
        assert found == pytest.approx(np.mean(scores))
    assert len(np.unique(results["mean_test_score"])) > len(results["params"]) / 2


def test_one_pipeline_serves_raw_inputs_and_activations(extracted):
    extractor, X, A, y = extracted
    monitor = make_pipeline(extractor, *[step for _, step in pipeline().steps])
    monitor.set_params(layerselector__layers="relu2").fit(X, y)
    np.testing.assert_array_equal(monitor.score_samples(X), monitor.score_samples(A))
    on_activations = clone(monitor).fit(A, y)
    np.testing.assert_array_equal(on_activations.score_samples(X), monitor.score_samples(X))


def test_extractor_with_a_cache_runs_the_network_once_for_each_input(extracted, tmp_path):
    extractor, X, _, y = extracted
    cached = clone(extractor).set_params(memory=str(tmp_path), batch_size=1000)
    monitor = Pipeline([("extract", cached), *pipeline().steps])
    before = CountingNet.n_runs
    grid = {"binarize__percentile": [30, 70], "pool__pooling": ["max", "avg"]}
    GridSearchCV(monitor, grid, scoring=make_ood_scorer(), cv=OODKFold(2), refit=False).fit(X, y)
    n_settings, n_folds, trace = 4, 2, 1
    runs = CountingNet.n_runs - before
    assert runs == n_settings * n_folds * trace + 2 * n_folds
