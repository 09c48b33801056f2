"""A fit that fails, and warnings that point at the user's line."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skood import HammingNAPDetector
from skood._fit_context import fit_context, unchanged_on_failure
from skood.detectors import BaseOneClassDetector, GaussianActivationDetector, KNNDetector
from skood.ensemble import LayerEnsembleDetector


class Failing(BaseEstimator):
    """Learns something, and may then be interrupted."""

    _parameter_constraints: dict = {}

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        self.first_ = self.second_ = X
        if X is None:
            del self.second_
            raise KeyboardInterrupt
        return self


def test_an_interrupted_fit_leaves_the_earlier_one():
    estimator = Failing()
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(None)
    assert not hasattr(estimator, "first_")
    estimator.fit(7)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(None)
    assert (estimator.first_, estimator.second_) == (7, 7)


def test_only_a_failure_puts_attributes_back():
    estimator = Failing().fit(1)
    with unchanged_on_failure(estimator):
        estimator.first_ = 2
    assert estimator.first_ == 2


def test_a_detector_whose_first_fit_failed_is_not_fitted():
    detector = HammingNAPDetector(group_by="correct")
    with pytest.raises(ValueError, match="needs predictions"):
        detector.fit(np.ones((5, 3)))
    with pytest.raises(NotFittedError):
        detector.score_samples(np.ones((5, 3)))


def test_a_merge_that_fails_leaves_what_was_learnt():
    rng = np.random.default_rng(0)
    detector = GaussianActivationDetector().fit(rng.normal(size=(40, 3)))
    before = dict(vars(detector))
    wide = GaussianActivationDetector().fit(rng.normal(size=(40, 4)))
    with pytest.raises(ValueError, match="layers"):
        detector.merge(wide)
    assert vars(detector) == before


@pytest.mark.parametrize(
    "fit",
    [
        KNNDetector().fit,
        KNNDetector().partial_fit,
        KNNDetector().fit_predict,
        make_pipeline(KNNDetector()).fit,
        LayerEnsembleDetector(KNNDetector()).fit,
    ],
    ids=lambda fit: fit.__qualname__,
)
def test_warnings_point_at_the_line_that_calls(fit):
    with pytest.warns(UserWarning, match="n_neighbors=50") as caught:
        fit(np.random.default_rng(0).normal(size=(9, 2)))
    assert caught[0].filename == __file__


class Scored(BaseOneClassDetector):
    """Scores samples by their first value, or as told."""

    replaced = None

    def _fit(self, X, y):
        pass

    def _score_samples(self, X):
        scores = np.array(X)[:, 0].astype(float)
        scores[3:5] = scores[3:5] if self.replaced is None else self.replaced
        return scores


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    X = np.random.default_rng(0).normal(size=(9, 2))
    detector = Scored().fit(X)
    earlier = detector.offset_
    detector.replaced = value
    message = r"score of Scored contains (NaN|infinity) in 2 of 9 rows, the first of them row 3"
    with pytest.raises(ValueError, match=message):
        detector.fit(X)
    with pytest.raises(ValueError, match=message):
        detector.predict(X)
    assert detector.offset_ == earlier
