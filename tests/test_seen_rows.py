"""Rows are known again: all while they are few, and of many a part, which stands for all."""

import numpy as np
import pytest

from skood import Activations, _seen_rows
from skood._seen_rows import SeenRows
from skood._threshold_sample import merged

KEPT = 500


@pytest.fixture
def few_are_kept(monkeypatch):
    monkeypatch.setattr(_seen_rows, "MAX_ROWS", KEPT)


def rows(n_samples, seed):
    return np.random.default_rng(seed).normal(size=(n_samples, 8)) + 3


@pytest.mark.usefixtures("few_are_kept")
def test_the_rows_that_are_kept_are_bounded_and_the_same_in_any_order_and_batches():
    X = rows(6000, 0)
    seen = SeenRows.of(X)
    assert seen.numbers.shape == (KEPT, 4)
    assert seen.n_seen == 6000
    shuffled = np.random.default_rng(1).permutation(6000)
    for parts in np.split(X, 6), np.split(X[shuffled], [10, 11, 4000]):
        other = merged([SeenRows.of(part) for part in parts])
        assert other.n_seen == 6000
        np.testing.assert_allclose(
            np.sort(other.numbers, axis=0), np.sort(seen.numbers, axis=0), rtol=1e-9
        )


@pytest.mark.usefixtures("few_are_kept")
@pytest.mark.parametrize("rounding", [0, 1e-6])
def test_the_share_of_known_rows_is_told_by_those_that_are_kept(rounding):
    X = rows(5000, 0)
    seen = SeenRows.of(X)
    again = X[:3000] * (1 + rounding * np.random.default_rng(1).normal(size=(3000, 8)))
    for n_known, n_new in ((3000, 0), (1500, 1500), (600, 2400)):
        A = np.vstack([again[:n_known], rows(n_new, 2)])
        share = n_known / len(A)
        # About 300 rows have hashes as small as those that are kept.
        error = 4 * np.sqrt(share * (1 - share) / 300) + 0.03
        assert seen.share_among(A) == pytest.approx(share, abs=error)
        assert seen.n_among(A) == pytest.approx(300 * share, rel=0.3)


@pytest.mark.usefixtures("few_are_kept")
def test_a_few_rows_that_are_known_show_no_larger_share_of_all():
    X = rows(5000, 0)
    seen = SeenRows.of(X)
    assert seen.share_among(np.vstack([X[:60], rows(2940, 1)])) == 0
    kept = X[[i for i in range(200) if seen.n_among(X[i : i + 1])]]
    assert 5 < len(kept) < 50
    assert seen.share_among(kept[:1]) == 0  # one of one
    assert seen.share_among(kept[:5]) == 1
    assert SeenRows.of(X[:KEPT]).share_among(X[:1]) == 1  # where all are kept, it is no part


@pytest.mark.usefixtures("few_are_kept")
def test_the_same_rows_are_known_in_any_order_and_with_rounding():
    X = rows(3000, 0)
    seen = SeenRows.of(X)
    rng = np.random.default_rng(1)
    assert seen.are_same(rng.permutation(X) * (1 + 1e-6 * rng.normal(size=X.shape)))
    assert not seen.are_same(X[:2999])
    assert not seen.are_same(rows(3000, 2))
    assert not seen.are_same(np.vstack([X[:2400], rows(600, 2)]))
    alike = np.repeat(X[:300], 10, axis=0)  # of which nothing tells them apart
    assert not SeenRows.of(alike).are_same(alike)


@pytest.mark.usefixtures("few_are_kept")
def test_more_rows_than_are_kept_are_looked_for_among_few():
    X = rows(3000, 0)
    assert SeenRows.of(X[:400]).share_among(X) == pytest.approx(400 / 3000, abs=0.06)
    assert SeenRows.of(X[:400]).share_among(rows(3000, 1)) == 0


def test_rows_that_cannot_be_told_apart_are_not_known():
    X = rows(20, 0)
    assert SeenRows.of(X[:, :3]) is None
    assert SeenRows.of(X[:0]) is None
    X[7, 2] = np.inf
    assert SeenRows.of(X) is None
    assert SeenRows.of(rows(20, 0)).share_among(X) == 0
    A = Activations({"wide": rows(20, 0), "narrow": rows(20, 1)[:, :2]})
    np.testing.assert_array_equal(SeenRows.of(A).numbers, SeenRows.of(rows(20, 0)).numbers)
