"""Row numbers that follow each other take no memory of their own."""

import numpy as np
import pytest

from skood import Activations
from skood._row_runs import RowRuns
from skood.detectors import EnergyDetector, KNNDetector


def numbers_of(runs):
    return runs.at(np.arange(len(runs)))


@pytest.mark.parametrize(
    ("rows", "n_runs"),
    [
        ([], 0),
        ([0], 1),
        ([5, 6, 7], 1),
        ([0, 1, 3, 4, 9], 3),
        ([4, 3, 2, 3], 3),
        ([-1, 0, 1], 1),
        ([2, 2, 2], 3),
    ],
)
def test_the_numbers_are_those_that_were_given(rows, n_runs):
    runs = RowRuns.of(rows)
    assert len(runs.starts) == len(runs.ends) == n_runs
    np.testing.assert_array_equal(numbers_of(runs), np.array(rows, dtype=np.intp))
    places = np.arange(len(rows))[::-1].reshape(-1, 1)
    np.testing.assert_array_equal(runs.at(places), np.array(rows, dtype=np.intp)[places])
    np.testing.assert_array_equal(numbers_of(RowRuns.first(len(rows))), np.arange(len(rows)))


@pytest.mark.parametrize("rows", [[], [0, 1, 2], [0, 2, 3], [1, 2]])
@pytest.mark.parametrize("later", [[], [0, 1], [1, 2, 5]])
@pytest.mark.parametrize("start", [3, 4])
def test_numbers_follow_others(rows, later, start):
    runs = RowRuns.of(rows).followed_by(RowRuns.of(later), start)
    expected = np.array([*rows, *(start + row for row in later)], dtype=np.intp)
    np.testing.assert_array_equal(numbers_of(runs), expected)
    assert len(runs.starts) == len(RowRuns.of(expected).starts)


def batches(n_batches):
    rng = np.random.default_rng(0)
    for _ in range(n_batches):
        yield Activations({"fc": rng.normal(size=(50, 4))}, logits=rng.normal(size=(50, 3)))


def test_a_stream_of_which_all_is_learnt_keeps_one_run(monkeypatch):
    monkeypatch.setattr("skood._threshold_sample.CAPACITY", 0)
    monkeypatch.setattr("skood._threshold_sample.MIN_ROWS", 60)
    for detector in (EnergyDetector(), KNNDetector(max_samples=20, n_neighbors=10)):
        for batch in batches(6):
            detector.partial_fit(batch)
        np.testing.assert_array_equal(detector.learnt_rows_, np.arange(300))
        held = [value for value in vars(detector).values() if isinstance(value, np.ndarray)]
        assert max(map(len, held)) <= 60
        assert len(detector._learnt_runs.starts) == 1
    marks = np.where(np.arange(50) < 10, -1, 1)
    detector = EnergyDetector()
    for batch in batches(3):
        detector.partial_fit(batch, marks)
    expected = np.flatnonzero(np.tile(marks, 3) == 1)
    np.testing.assert_array_equal(detector.learnt_rows_, expected)
    assert not hasattr(EnergyDetector(), "learnt_rows_")
