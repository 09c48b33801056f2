"""Columns whose rows are on disk: what is asked of them is what arrays in memory answer."""

import pickle
from itertools import pairwise

import joblib
import numpy as np
import pytest
import sklearn
from numpy.testing import assert_array_equal

from skood import Activations
from skood import _spill as spill
from skood._rows import LazyArray, Stacked, is_on_disk, take
from skood.activations import Column, LinearHead, PackedBits

N = 23
ROWS = [
    slice(None),
    slice(3, 15),
    slice(20, 2, -3),
    slice(5, 5),
    [0, 22, 7, 7, -1],
    np.arange(N) % 3 == 1,
    np.zeros(N, dtype=bool),
]


@pytest.fixture(scope="module")
def in_memory():
    rng = np.random.default_rng(0)
    fc = rng.normal(size=(N, 4)).astype(np.float32)
    head = LinearHead(rng.normal(size=(3, 4)).astype(np.float32), input_layer="fc")
    return Activations(
        {
            "conv": rng.normal(size=(N, 2, 3, 3)),
            "half": rng.normal(size=(N, 5)).astype(np.float16),
            "bits": PackedBits.pack(rng.random((N, 70)) < 0.5),
            "tokens": Column(rng.normal(size=(N, 6, 2)), unit_axis=2, layer="block"),
            "fc": fc,
        },
        logits=head.logits(fc),
        head=head,
        classes=["a", "bb", "ccc"],
        labels=[f"label {number % 7}" * (number % 3) for number in range(N)],
        mask=rng.random((N, 6)) < 0.9,
    )


def spilled(A, cuts=(0, 4, 5, 14, N)):
    """The same, with all columns in temporary files."""
    writer = spill.Spill()
    columns = [(f"{column.role}/{column.name}", column) for column in A.columns]
    for start, stop in pairwise(cuts):
        rows = {name: take(c.array, range(start, stop)) for name, c in columns}
        writer.write({name: getattr(array, "words", array) for name, array in rows.items()}, {})
    blocks = writer.close()
    arrays = {name: blocks.column(name) for name, _ in columns}
    layers, parts = {}, {}
    for name, column in columns:
        if column.is_packed:
            layers[column.name] = column.with_array(PackedBits._of(arrays[name], column.n_units))
        elif column.role == "layer":
            layers[column.name] = column.with_array(arrays[name])
        else:
            parts[column.name] = arrays[name]
    return Activations(layers, **parts, head=A.head, classes=A.classes)


@pytest.fixture(scope="module")
def lazy(in_memory):
    return spilled(in_memory)


def assert_same(A, B):
    assert A.layer_names == B.layer_names
    assert len(A) == len(B)
    for name in A.layer_names:
        assert type(A[name]) in (np.ndarray, PackedBits)
        assert A[name].dtype == B[name].dtype
        assert_array_equal(np.asarray(A[name]), np.asarray(B[name]))
    for part in ("logits", "predictions", "features", "labels", "mask"):
        assert_array_equal(getattr(A, part), getattr(B, part))
        assert type(getattr(A, part)) is type(getattr(B, part))
    layers = [[c.metadata() for c in each.columns if c.role == "layer"] for each in (A, B)]
    assert layers[0] == layers[1]


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_any_rows_are_read(lazy, in_memory, rows):
    assert_same(lazy[rows], in_memory[rows])
    assert_same(lazy[::-2][1:][[3, 0]], in_memory[::-2][1:][[3, 0]])


def test_views_of_views_read_nothing(lazy, in_memory, monkeypatch):
    def refuse(*args):
        raise AssertionError("read")

    with monkeypatch.context() as patch:
        patch.setattr(type(lazy.columns[0].array), "read", refuse)
        view = lazy[[5, 3, 9]][["fc", "conv"]][::-1]
        both = Activations.concatenate([view, lazy[["fc", "conv"]]])
        parts = list(both.batches(7))
        assert repr(both)
        assert both.shape == (N + 3, 22)
    assert_same(view, in_memory[[9, 3, 5]][["fc", "conv"]])
    assert_same(parts[0], in_memory[["fc", "conv"]][[9, 3, 5, 0, 1, 2, 3]])


def test_batches_follow_working_memory(lazy, in_memory):
    row_bytes = 8 * sum(column.n_units for column in in_memory.columns)
    with sklearn.config_context(working_memory=6.5 * row_bytes / 2**20):
        batches = list(lazy.batches())
    assert [len(batch) for batch in batches] == [6, 6, 6, 5]
    assert_same(Activations.concatenate(batches), in_memory)


def test_concatenated_parts_stay_on_disk(lazy, in_memory, tmp_path):
    in_memory.save(tmp_path / "saved")
    mapped = Activations.load(tmp_path / "saved", mmap_mode="r")
    parts = [lazy[[4, 2]], in_memory[:3], mapped[5:9], lazy]
    both = Activations.concatenate(parts)
    assert all(is_on_disk(column.array) for column in both.columns if column.role == "layer")
    rows = [4, 2, 0, 1, 2, 5, 6, 7, 8, *range(N)]
    assert_same(both, in_memory[rows])
    assert_same(both[::-4], in_memory[rows[::-4]])
    assert_same(Activations.concatenate([both, both]), in_memory[rows + rows])


def test_parts_in_memory_are_copied(in_memory):
    both = Activations.concatenate([in_memory[:3], in_memory])
    assert not any(is_on_disk(column.array) for column in both.columns)
    assert not np.may_share_memory(both["fc"], in_memory["fc"])


def test_shorter_masks_end_in_padding(lazy, in_memory):
    short = in_memory.assign(mask=np.ones((N, 2)))
    expected = np.concatenate([in_memory.mask, np.pad(short.mask, [(0, 0), (0, 4)])])
    for first, second in ((lazy, short), (spilled(in_memory), spilled(short))):
        assert_array_equal(Activations.concatenate([first, second]).mask, expected)


def test_parts_of_other_types_are_promoted():
    parts = [np.ones((2, 3), np.float32), np.full((1, 3), 2.0), np.full((2, 3), 3, np.int8)]
    stacked = Stacked(parts)
    assert stacked.dtype == np.float64
    assert stacked.shape == (5, 3)
    assert_array_equal(stacked[[4, 0, 2]], [[3] * 3, [1] * 3, [2] * 3])
    assert_array_equal(np.asarray(stacked), np.concatenate(parts))
    with pytest.raises(ValueError, match="need a copy"):
        np.asarray(stacked, copy=False)


def test_matrix_frame_and_file_are_those_of_memory(lazy, in_memory, tmp_path):
    names = ["conv", "half", "bits", "fc"]
    assert_array_equal(np.asarray(lazy[names]), np.asarray(in_memory[names]))
    assert lazy[3:6].to_frame().equals(in_memory[3:6].to_frame())
    lazy[::-2].save(tmp_path / "saved")
    assert_same(Activations.load(tmp_path / "saved"), in_memory[::-2])


def test_assigned_and_replaced_layers_leave_others_on_disk(lazy, in_memory):
    changed = lazy.assign({"fc": -in_memory["fc"]}, logits=-in_memory.logits)
    assert_same(changed, in_memory.assign({"fc": -in_memory["fc"]}, logits=-in_memory.logits))
    assert is_on_disk(changed.columns[0].array)
    replaced = lazy[2:].replace({"new": np.ones((N - 2, 2))})
    assert_same(replaced, in_memory[2:].replace({"new": np.ones((N - 2, 2))}))


def test_pickles_of_temporary_files_hold_the_values(in_memory):
    A = spilled(in_memory)
    whole, some = pickle.dumps(A), pickle.dumps(A[[3, 1]])
    del A
    assert_same(pickle.loads(whole), in_memory)
    assert_same(pickle.loads(some), in_memory[[3, 1]])
    assert len(some) < len(whole)


def test_other_processes_read_the_same_files(lazy, in_memory):
    both = Activations.concatenate([lazy, lazy[::-1]])
    tasks = [joblib.delayed(_what_arrives)(A) for A in (lazy, lazy[5:9], both)]
    for (kinds, rows), expected in zip(
        joblib.Parallel(n_jobs=2)(tasks),
        (in_memory, in_memory[5:9], in_memory[[*range(N), *range(N)[::-1]]]),
        strict=True,
    ):
        assert kinds == {True}
        assert_same(rows, expected)


def _what_arrives(A):
    kinds = {is_on_disk(column.array) for column in A.columns}
    return kinds, pickle.loads(pickle.dumps(A))


def test_files_are_deleted_with_what_reads_them(in_memory):
    A = spilled(in_memory)
    folder = A[["fc"]].columns[0].array.blocks.folder
    view = A[["fc"]][3:]
    del A
    assert folder.is_dir()
    assert_array_equal(view["fc"], in_memory["fc"][3:])
    del view
    assert not folder.exists()
    assert not folder.with_name(f"{folder.name}.lock").exists()


def test_predictions_of_logits_that_are_not_finite_are_refused(in_memory):
    A = spilled(in_memory.assign({}, logits=in_memory.logits))
    assert isinstance(A._held_part("logits"), LazyArray)
    logits = np.zeros((N, 3))
    logits[[17, 20], 1] = [np.nan, np.inf]
    broken = spilled(Activations({"fc": in_memory["fc"], "logits": logits}))
    wrong = Activations({"fc": in_memory["fc"]}, logits=broken.columns[1].array)
    with pytest.raises(ValueError, match=r"NaN and infinity in 2 of 23 rows, the first .* row 17"):
        wrong.predictions  # noqa: B018
