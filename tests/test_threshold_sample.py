"""The bounded sample of rows that sets thresholds, against a brute-force choice of rows."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skood import Activations, _threshold_sample
from skood._threshold_sample import ThresholdSample, hash_rows, merged
from skood.activations import Column, LinearHead, PackedBits


def activations(values, **parts):
    values = np.asarray(values, dtype=float)
    return Activations({"a": values if values.ndim == 2 else values[:, np.newaxis]}, **parts)


def sample(values, max_rows=None, start=0):
    rows = start + np.arange(len(values))
    return ThresholdSample.of(activations(values), None, rows, max_rows)


def counted(found):
    """The values of the rows that count, and their numbers."""
    rows, held = found.counted()
    return found.X["a"][held, 0].tolist(), rows.tolist()


# All rows, while they fit


def test_all_rows_are_held_in_their_order_while_they_fit():
    first, second = sample([3, 1, 1]), sample([2, 3], start=3)
    both = first.merge(second)
    assert counted(both) == ([3, 1, 1, 2, 3], [0, 1, 2, 3, 4])
    assert both.keys is None
    assert (first.n_seen, second.n_seen, both.n_seen) == (3, 2, 5)
    assert counted(first) == ([3, 1, 1], [0, 1, 2])


def test_nothing_of_what_was_given_is_shared():
    values = np.ones((3, 2))
    bits = PackedBits.pack(np.ones((3, 2), dtype=bool))
    X = Activations({"a": values, "bits": bits}, labels=[7, 8, 9])
    found = ThresholdSample.of(X, None, np.arange(3))
    values[:] = 0
    bits.words[:] = 0
    assert found.X["a"].all()
    assert found.X["bits"].unpack().all()
    # Of columns that no detector reads nothing is kept.
    assert found.X.labels is None


def test_what_is_said_of_layers_changes_no_hash_and_adds_no_column():
    values = np.arange(12.0).reshape(6, 2)
    pooled = Column(values, layer="conv", pooling="avg")
    head = LinearHead(np.eye(2), input_layer="read")
    X = Activations({"conv": pooled, "read": values + 1}, logits=values, head=head)
    rows = np.arange(3)
    both = ThresholdSample.of(X[:3], None, rows).merge(ThresholdSample.of(X[3:], None, 3 + rows))
    np.testing.assert_array_equal(hash_rows(both.X, None), hash_rows(X, None))
    assert {column.name for column in both.X.columns} == {"conv", "read", "logits", "predictions"}
    assert both.X.columns[0].pooling == "avg"


def test_none_at_all_add_nothing():
    some, none = sample([1, 2]), sample([])
    for both in (some.merge(none), none.merge(some), merged([none, some, none])):
        assert counted(both) == ([1, 2], [0, 1])


def test_a_capacity_in_bytes_but_never_fewer_rows_than_a_thousand(monkeypatch):
    assert _threshold_sample.CAPACITY == 32 * 2**20
    assert _threshold_sample.MIN_ROWS == 1000
    monkeypatch.setattr(_threshold_sample, "MIN_ROWS", 3)
    monkeypatch.setattr(_threshold_sample, "CAPACITY", 5 * 8)
    assert len(sample(range(9)).X) == 5
    monkeypatch.setattr(_threshold_sample, "CAPACITY", 8)
    assert len(sample(range(9)).X) == 3


# Some of them, where they do not


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=5).map(sorted),
    st.randoms(use_true_random=False),
)
def test_the_rows_with_the_smallest_hashes_in_any_order_and_any_batches(values, cuts, random):
    n_held = 5
    order = list(range(len(values)))
    random.shuffle(order)
    parts = [
        ThresholdSample.of(activations(np.take(values, rows)), None, np.array(rows), n_held)
        for rows in np.split(np.array(order), [c for c in cuts if c <= len(values)])
    ]
    values_found, rows_found = counted(merged(parts))
    if len(values) <= n_held:
        assert sorted(values_found) == sorted(values)
        return
    times = Counter(values)
    hashes = hash_rows(activations(sorted(times)), None)
    smallest = [value for _, value in sorted(zip(hashes.tolist(), sorted(times), strict=True))]
    chosen = smallest[:n_held]
    is_all = len(times) <= n_held
    most = len(values) if is_all else int(np.ceil(len(values) / len(chosen)))
    expected = [value for value in chosen for _ in range(min(times[value], most))]
    if len(expected) > n_held:  # evenly fewer
        step = len(expected) / n_held
        expected = [expected[int((place + 0.5) * step)] for place in range(n_held)]
    assert Counter(values_found) == Counter(expected)
    assert rows_found == sorted(rows_found)
    assert [values[row] for row in rows_found] == values_found


def test_every_row_has_the_same_chance():
    rng = np.random.default_rng(0)
    values = rng.permutation(np.repeat(np.arange(2000), 2) + 0.5)
    values[1::2] += 10_000  # one half in steps of one, the other far away
    found = sample(values, max_rows=400)
    found_values, _ = counted(found)
    share = np.mean(np.array(found_values) > 10_000)
    assert len(found_values) == 400
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 200)


def test_one_row_that_is_repeated_without_end_does_not_decide_alone():
    rng = np.random.default_rng(0)
    repeated = np.concatenate([np.zeros(5000), rng.normal(size=1000)])
    for seed in range(20):  # zeros are among those that are held, or not
        values = repeated + seed
        found_values, _ = counted(sample(values, max_rows=100))
        assert np.mean(np.array(found_values) == seed) <= 0.6


def test_a_stream_of_few_different_rows_takes_no_more_memory_the_longer_it_is():
    values = np.tile([5.0, 3.0, 3.0, 3.0], 2500)
    found, held_by_rows = sample(values, max_rows=100), []
    for start in range(len(values), 20 * len(values), len(values)):
        found = found.merge(sample(values, max_rows=100, start=start))
        held_by_rows.append(len(found.rows))
    assert max(held_by_rows) <= 102
    assert found.counts.sum() == found.n_seen == 200_000
    values_found, rows = counted(found)
    assert Counter(values_found) == {5.0: 25, 3.0: 75}
    assert [values[row % len(values)] for row in rows] == values_found


def test_rows_that_repeat_all_count_where_their_numbers_fit(monkeypatch):
    monkeypatch.setattr(_threshold_sample, "MIN_ROWS", 3)
    monkeypatch.setattr(_threshold_sample, "CAPACITY", 7 * 32)
    wide = np.array([[1.0] * 64, [2.0] * 64])  # of which three rows may be held
    parts = [
        ThresholdSample.of(activations(wide[[0, 1, 0]]), None, start + np.arange(3))
        for start in (0, 3, 6)
    ]
    rows, held = merged(parts[:2]).counted()
    np.testing.assert_array_equal(rows, np.arange(6))
    assert np.bincount(held).tolist() in ([4, 2], [2, 4])
    rows, held = merged(parts).counted()
    assert len(rows) == 7
    assert sorted(np.bincount(held)) == [2, 5]


def test_what_a_row_holds_decides_and_nothing_else():
    values = np.random.default_rng(0).normal(size=(6, 4))
    logits = np.random.default_rng(1).normal(size=(6, 3))
    X = Activations({"a": values}, logits=logits)
    hashes = hash_rows(X, None)
    assert len(set(hashes.tolist())) == 6
    order = [3, 1, 5, 0]
    np.testing.assert_array_equal(hash_rows(X[order], None), hashes[order])
    # Stacked, labelled for people, or without a sign of zero, they are the same rows.
    stacked = Activations.concatenate([X[:2], X[2:]])
    np.testing.assert_array_equal(hash_rows(stacked, None), hashes)
    np.testing.assert_array_equal(hash_rows(X.assign(labels=np.arange(6)), None), hashes)
    zeros = activations([0.0, -0.0])
    assert len(set(hash_rows(zeros, None).tolist())) == 1
    # Other values, classes or labels make other rows.
    others = (
        hash_rows(Activations({"a": values + 1e-15}, logits=logits), None),
        hash_rows(Activations({"a": values}, logits=-logits), None),
        hash_rows(X, np.arange(6)),
        hash_rows(X, np.array(list("abcdef"))),
    )
    for other in others:
        assert not np.isin(other, hashes).any()


def test_small_integers_and_bits_do_not_collide():
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 5), axis=-1).reshape(-1, 5)
    assert len(np.unique(hash_rows(activations(grid), None))) == 5**5
    bits = ((np.arange(2**12)[:, None] >> np.arange(12)) & 1).astype(bool)
    packed = Activations({"a": PackedBits.pack(bits)})
    assert len(np.unique(hash_rows(packed, None))) == 2**12


def test_summaries_are_merged_two_and_two_in_order():
    class Text:
        def __init__(self, text):
            self.text, self.depth = text, 0

        def merge(self, other):
            both = Text(self.text + other.text)
            both.depth = 1 + max(self.depth, other.depth)
            return both

    for n in range(1, 20):
        letters = "abcdefghijklmnopqrst"[:n]
        whole = merged(map(Text, letters))
        assert whole.text == letters
        assert whole.depth <= np.ceil(np.log2(n)) + 1


@pytest.mark.parametrize("kind", ["texts", "numbers"])
def test_labels_go_with_their_rows(kind):
    label = np.arange(30) % 3
    y = np.array(["x", "y", "z"])[label] if kind == "texts" else label
    values = np.random.default_rng(0).normal(size=30)
    parts = [
        ThresholdSample.of(activations(values[rows]), y[rows], rows, 8)
        for rows in np.split(np.arange(30), [10, 20])
    ]
    found = merged(parts)
    rows, held = found.counted()
    assert len(rows) == 8
    np.testing.assert_array_equal(found.y[held], y[rows])
    np.testing.assert_array_equal(found.X["a"][held, 0], values[rows])
