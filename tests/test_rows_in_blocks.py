"""What is read a block of rows at a time: errors name the row of all, and none is read whole."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone

from skood import Activations
from skood._rows import LazyArray
from skood.detectors import (
    EnergyDetector,
    GaussianActivationDetector,
    KNNDetector,
    MahalanobisDetector,
)
from skood.preprocessing import PercentileBinarizer

FEW = {"working_memory": 8 * 12 * 20 / 2**20}
"""Twenty rows of twelve values at a time."""


def layers(**changed):
    rows = np.random.default_rng(0).normal(size=(50, 12))
    for at, value in changed.get("values", {}).items():
        rows[at] = value
    return rows


@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize(
    "estimator", [KNNDetector(n_neighbors=2), GaussianActivationDetector(), PercentileBinarizer()]
)
def test_values_that_are_not_finite_are_named_by_their_row_of_all(estimator, in_blocks):
    X = Activations({"a": layers(values={(23, 4): np.nan, (41, 0): np.inf, (41, 3): np.inf})})
    message = "layer 'a' contains NaN and infinity in 2 of 50 rows, the first of them row 23"
    with config_context(**(FEW if in_blocks else {})), pytest.raises(ValueError, match=message):
        estimator.fit(X)
    fitted = estimator.fit(X[:20])
    use = getattr(fitted, "score_samples", None) or fitted.transform
    with config_context(**(FEW if in_blocks else {})), pytest.raises(ValueError, match=message):
        use(X)


@pytest.mark.parametrize("in_blocks", [False, True])
def test_sizes_are_those_of_all_blocks(in_blocks):
    tiny = 1e-200 * layers()
    with config_context(**(FEW if in_blocks else {})):
        with pytest.raises(ValueError, match=r"size of up to \d\.\de-200"):
            KNNDetector(n_neighbors=2).fit(Activations({"a": tiny}))
        # One row of a usual size is enough.
        tiny[33, 3] = 1.0
        KNNDetector(n_neighbors=2, normalize=False).fit(Activations({"a": tiny}))
        tiny[45, 0] = 1e200
        with pytest.raises(ValueError, match=r"size of up to 1\.0e\+200"):
            KNNDetector(n_neighbors=2).fit(Activations({"a": tiny}))


def test_scores_that_are_not_finite_are_named_by_their_row_of_all():
    class Broken(EnergyDetector):
        def _score_samples(self, X):
            scores = super()._score_samples(X)
            return np.where(np.asarray(X)[:, 0] == 77, np.nan, scores)

    rows = layers()
    A = Activations({"a": rows}, logits=rows[:, :3])
    broken = rows[:, :3].copy()
    broken[[31, 44], 0] = 77
    detector = Broken().fit(A)
    message = "score of Broken contains NaN in 2 of 50 rows, the first of them row 31"
    with config_context(**FEW), pytest.raises(ValueError, match=message):
        detector.score_samples(A.assign(logits=broken))
    with config_context(**FEW), pytest.raises(ValueError, match=message):
        Broken().fit(A.assign(logits=broken))


def test_blocks_are_as_long_as_memory_allows(monkeypatch):
    A = Activations({"a": layers()}, logits=layers()[:, :4])
    detector = GaussianActivationDetector().fit(A)
    expected, lengths = detector.score_samples(A), []
    score = detector._score_samples

    def spy(X):
        lengths.append(len(X))
        return score(X)

    monkeypatch.setattr(detector, "_score_samples", spy)
    detector.score_samples(A)
    with config_context(working_memory=16 * 8 * 20 / 2**20):
        np.testing.assert_array_equal(detector.score_samples(A), expected)
    assert lengths == [50, 20, 20, 10]
    assert [len(batch) for batch in A.batches(30)] == [30, 20]
    np.testing.assert_array_equal(np.vstack([b["a"] for b in A.batches(7)]), A["a"])
    assert list(A[:0].batches()) == []
    for wrong, error in ((0, ValueError), (2.5, TypeError)):
        with pytest.raises(error):
            A.batches(wrong)


class Counted(LazyArray):
    """Rows of an array, of which it is counted how many are read, and how many at a time."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.n_read, self.most = 0, 0

    def read(self, rows):
        self.n_read += len(rows)
        self.most = max(self.most, len(rows))
        return self.values[np.asarray(rows, dtype=np.intp)]


@pytest.mark.parametrize(
    "detector", [GaussianActivationDetector(), MahalanobisDetector(), KNNDetector(n_neighbors=2)]
)
def test_rows_on_disk_are_read_once_to_check_once_to_learn_and_once_to_score(detector):
    rows, label = layers(), np.arange(50) % 3
    on_disk = Counted(rows)
    A = Activations({"a": on_disk}, predictions=label)
    expected = clone(detector).fit(Activations({"a": rows}, predictions=label), label)
    with config_context(working_memory=14 * 8 * 20 / 2**20):
        found = clone(detector).fit(A, label)
        assert (on_disk.n_read, on_disk.most) == (3 * 50, 21)
        scores = found.score_samples(A)
        assert (on_disk.n_read, on_disk.most) == (5 * 50, 21)
    np.testing.assert_allclose(scores, expected.score_samples(A), rtol=1e-9)
    assert found.offset_ == pytest.approx(expected.offset_, rel=1e-9)
