"""Sums by class, from batches in any order."""

import numpy as np
import pytest
from scipy.special import logsumexp

from skood.detectors._class_sums import ClassSums
from skood.detectors._kl_matching import _LogSums

NAMES = np.array(["ant", "bee", "cat", "dog"])


def sums_of(kind, rows, labels):
    return kind.of(rows, *np.unique(labels, return_inverse=True))


@pytest.fixture(params=[ClassSums, _LogSums], ids=["sums", "logarithms"])
def kind(request):
    return request.param


@pytest.fixture(params=[np.arange(4), NAMES], ids=["numbers", "texts"])
def samples(request):
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)), request.param[rng.integers(0, 4, size=40)]


def brute_force(kind, rows):
    return rows.sum(axis=0) if kind is ClassSums else logsumexp(rows, axis=0)


def test_samples_are_counted_and_summed_by_class(kind, samples):
    rows, labels = samples
    summary = sums_of(kind, rows, labels)
    assert summary.labels.tolist() == sorted(set(labels.tolist()))
    for label, count, total in zip(summary.labels, summary.counts, summary.sums, strict=True):
        assert count == np.count_nonzero(labels == label)
        np.testing.assert_allclose(total, brute_force(kind, rows[labels == label]), rtol=1e-12)


def test_samples_without_a_class_do_not_count(samples):
    rows, labels = samples
    known, codes = np.unique(labels, return_inverse=True)
    codes[::2] = -1
    summary = ClassSums.of(rows, known, codes)
    expected = sums_of(ClassSums, rows[1::2], labels[1::2])
    np.testing.assert_array_equal(summary.counts, expected.counts)
    np.testing.assert_allclose(summary.sums, expected.sums, rtol=1e-12)


@pytest.mark.parametrize("ends", [[20], [1, 2, 3], [0, 0, 39], [13, 26]], ids=str)
@pytest.mark.parametrize("step", [1, -1])
def test_batches_are_one_in_any_order(kind, samples, ends, step):
    rows, labels = samples
    order = np.argsort(labels, kind="stable")  # so that batches lack classes
    parts = [sums_of(kind, rows[part], labels[part]) for part in np.split(order, ends)][::step]
    before = [part.sums.copy() for part in parts]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    expected = sums_of(kind, rows, labels)
    assert type(merged) is kind
    assert merged.labels.tolist() == expected.labels.tolist()
    np.testing.assert_array_equal(merged.counts, expected.counts)
    np.testing.assert_allclose(merged.sums, expected.sums, rtol=1e-12)
    for part, sums in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part.sums, sums)


def test_sums_of_texts_and_of_numbers_are_not_merged(kind, samples):
    rows, labels = samples
    other = sums_of(kind, rows, np.where(labels == labels[0], 1.5, 2.5))
    with pytest.raises(ValueError, match="of one kind"):
        sums_of(kind, rows, NAMES[np.arange(40) % 4]).merge(other)
