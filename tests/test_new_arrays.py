"""New samples that come as arrays: as strictly validated as those of fit."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone

from skood import HammingNAPDetector
from skood.detectors import (
    ActivationNormDetector,
    EnergyDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxLogitDetector,
)

X = np.random.default_rng(0).normal(size=(60, 4))
DETECTORS = [
    ActivationNormDetector(),
    EnergyDetector(),
    HammingNAPDetector(),
    KNNDetector(),
    MahalanobisDetector(),
    MaxLogitDetector(),
]


@pytest.fixture(params=DETECTORS, ids=str)
def detector(request):
    return clone(request.param).fit(X)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_rows", [1, 60])
def test_values_that_are_not_finite_are_refused(detector, value, dtype, n_rows):
    broken = X[:n_rows].astype(dtype)
    broken[-1, 2] = value
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
        detector.score_samples(broken)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X[:, :3], "3 features"),
        (X[:0], "0 sample"),
        (X[0], "Reshape your data"),
        (X[:, :, np.newaxis], "dim 3"),
        (X.astype(complex), "Complex data"),
        (np.ma.masked_less(X, 0), "masked"),
    ],
)
def test_arrays_of_another_form_are_refused(detector, given, message):
    with pytest.raises(ValueError, match=message):
        detector.score_samples(given)


def test_values_whose_squares_overflow_are_refused():
    with pytest.raises(ValueError, match=r"squares leave the range"):
        MahalanobisDetector().fit(X).score_samples(1e200 * X)


def test_names_of_features_that_are_missing_are_told():
    detector = MaxLogitDetector().fit(pd.DataFrame(X, columns=list("abcd")))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        detector.score_samples(X)


def test_arrays_in_any_order_and_lists_have_the_same_scores(detector):
    expected = detector.score_samples(X)
    for given in (np.asfortranarray(X), X[::-1][::-1], X.tolist(), X.astype(object)):
        np.testing.assert_allclose(detector.score_samples(given), expected, rtol=1e-12)


def test_values_are_not_looked_at_where_they_are_said_to_be_finite():
    broken = X.copy()
    broken[3, 1] = -np.inf
    with sklearn.config_context(assume_finite=True):
        scores = MaxLogitDetector().fit(X).score_samples(broken)
    np.testing.assert_array_equal(scores, broken.max(axis=1))
