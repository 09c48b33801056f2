"""Detectors of other libraries are read with one sign."""

import numpy as np
import pytest
import sklearn
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from skood import Activations
from skood._foreign import accepted_rows, in_distribution_scores, is_of_pyod
from skood.detectors import KNNDetector
from skood.ensemble import LayerEnsembleDetector
from skood.inspection import OODRocCurveDisplay
from skood.metrics import make_ood_scorer, ood_roc_auc_score
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector
from skood.training import DecoyClassClassifier


class Base(BaseEstimator):
    """What PyOD's base class is, without PyOD."""


Base.__name__, Base.__module__ = "BaseDetector", "pyod.models.base"


class MeanDistance(Base):
    """Distance to the mean: large for outliers, whose verdict is 1."""

    def __init__(self, contamination=0.1):
        self.contamination = contamination

    def fit(self, X, y=None):
        X = np.asarray(X)
        self.mean_ = X.mean(axis=0)
        self.threshold_ = np.quantile(self.decision_function(X), 1 - self.contamination)
        return self

    def decision_function(self, X):
        return np.linalg.norm(np.asarray(X) - self.mean_, axis=1)

    def predict(self, X):
        return (self.decision_function(X) > self.threshold_).astype(int)


class Turned(MeanDistance):
    """Somebody's own adapter, which has turned the scores round."""

    def score_samples(self, X):
        return -self.decision_function(X)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(150, 4)), rng.normal(size=(40, 4)) + 4]
    return X, np.r_[np.arange(150) % 3, np.full(40, -1)]


def of_pyod(n_neighbors=5):
    return pytest.importorskip("pyod.models.knn").KNN(n_neighbors=n_neighbors)


MAKERS = {
    "stand-in": MeanDistance,
    "adapter": Turned,
    "pyod": of_pyod,
    "pipeline": lambda: make_pipeline(StandardScaler(), MeanDistance()),
    "pyod pipeline": lambda: make_pipeline(StandardScaler(), of_pyod()),
}
every_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every_kind
@pytest.mark.parametrize("combine", ["fisher", "mean", "vote", "weighted"])
def test_members_of_an_ensemble_are_turned_round(make, combine, data):
    X, y = data
    A = Activations({"one": X, "two": X[:, ::-1]})
    ensemble = LayerEnsembleDetector(make(), combine=combine).fit(A, y)
    assert ensemble.score(A, y) > 0.95
    assert (ensemble.predict(A[:150]) == 1).mean() > 0.9
    np.testing.assert_array_less(0.95, ensemble.aurocs_)


def test_members_of_both_signs_stand_side_by_side(data):
    X, y = data
    A = Activations({"one": X, "two": X[:, ::-1]})
    members = [
        make_pipeline(LayerSelector(layers=["one"]), MeanDistance()),
        make_pipeline(LayerSelector(layers=["two"]), IsolationForest(random_state=0)),
        make_pipeline(LayerSelector(layers=["one"]), KNNDetector(n_neighbors=5, normalize=False)),
    ]
    ensemble = LayerEnsembleDetector(members).fit(A, y)
    np.testing.assert_array_less(0.95, ensemble.aurocs_)


@every_kind
def test_scorers_turn_scores_and_verdicts_round(make, data):
    X, y = data
    detector = make().fit(X[y != -1])
    searched = GridSearchCV(make(), {}, cv=2, scoring=lambda *_: 0).fit(X[y != -1])
    for estimator in (detector, FrozenEstimator(detector), searched):
        assert make_ood_scorer()(estimator, X, y) > 0.95
        # A tenth of the in-distribution rows is flagged, as the detectors are set to.
        assert make_ood_scorer("balanced_accuracy")(estimator, X, y) == pytest.approx(
            0.95, abs=0.03
        )
        assert make_ood_scorer("f1")(estimator, X, y) == pytest.approx(80 / 95, abs=0.05)


def test_curves_are_of_the_right_sign(data):
    X, y = data
    detector = MeanDistance().fit(X[y != -1])
    display = OODRocCurveDisplay.from_estimator({"a": detector}, X, y, ax=Figure().subplots())
    assert display.roc_auc["a"] == ood_roc_auc_score(y, -detector.decision_function(X))


@pytest.mark.filterwarnings("ignore:y should not be presented:UserWarning")
@every_kind
def test_searches_over_them_choose_rightly(make, data):
    X, y = data
    scoring = {name: make_ood_scorer(name) for name in ("roc_auc", "f1", "matthews_corrcoef")}
    search = GridSearchCV(
        make(), {}, scoring=scoring, refit="f1", cv=OODKFold(3), error_score="raise"
    ).fit(X, y)
    assert search.cv_results_["mean_test_roc_auc"] > 0.95
    assert search.cv_results_["mean_test_f1"] > 0.7


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.7"),
    reason="scikit-learn's own scorer does not take a decision function for a detector's there",
)
def test_scikit_learns_own_scorer_beside_ours_does_not_share_the_wrong_sign(data):
    """Both ask for the decision function, which has a sign for each."""
    X, y = data
    kinds = np.where(y == -1, -1, 1)
    search = GridSearchCV(
        MeanDistance(),
        {},
        scoring={"theirs": "roc_auc", "ours": make_ood_scorer(), "more": "average_precision"},
        refit="ours",
        cv=OODKFold(3),
    ).fit(X, kinds)
    assert search.cv_results_["mean_test_theirs"] < 0.05
    assert search.cv_results_["mean_test_ours"] > 0.95


def test_only_detectors_of_pyod_are_turned(data):
    X, _ = data
    assert is_of_pyod(make_pipeline(StandardScaler(), MeanDistance()))
    for other in (IsolationForest(random_state=0), LocalOutlierFactor(novelty=True), KNNDetector()):
        assert not is_of_pyod(other)
        expected = other.fit(X).score_samples(X)
        np.testing.assert_array_equal(in_distribution_scores(other, X), expected)
        np.testing.assert_array_equal(accepted_rows(other, X), other.predict(X) == 1)


def test_what_gives_no_scores_or_verdicts_is_named(data):
    X, y = data
    with pytest.raises(TypeError, match="Expected a detector with one of the methods"):
        in_distribution_scores(StandardScaler().fit(X), X)
    with pytest.raises(ValueError, match=r"GaussianMixture.* predicts \[0, 2\]"):
        accepted_rows(GaussianMixture(3, random_state=0).fit(X), X)
    with pytest.raises(ValueError, match="has no threshold"):
        accepted_rows(StandardScaler().fit(X), X)
    with pytest.raises(
        ValueError, match=r"Expected verdicts.*, but LogisticRegression.* predicts \[0, 2"
    ):
        accepted_rows(LogisticRegression().fit(X, y), X)


def test_verdicts_of_classifiers_that_reject_are_asked_for(data):
    X, y = data
    classifier = DecoyClassClassifier(LogisticRegression(), outliers=None, random_state=0)
    classifier.fit(X, y)
    piped = make_pipeline(StandardScaler(), classifier).fit(X, y)
    np.testing.assert_array_equal(accepted_rows(classifier, X), ~classifier.is_ood(X))
    expected = ~piped[-1].is_ood(piped[:-1].transform(X))
    np.testing.assert_array_equal(accepted_rows(piped, X), expected)
    assert make_ood_scorer("balanced_accuracy")(piped, X, y) > 0.9
