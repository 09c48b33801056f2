"""Columns: what each of them is, and that it survives whatever is done to the container."""

import copy
import inspect
import pickle
import sys
from typing import get_args
from xml.etree import ElementTree

import joblib
import numpy as np
import pandas as pd
import pytest

from skood import Activations, PercentileBinarizer, PoolingReducer
from skood._column import PARTS, Role
from skood.activations import Column, LinearHead, PackedBits
from skood.preprocessing import LayerSelector

N_SAMPLES = 6
RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(N_SAMPLES, 4, 3))
MAPS = RNG.normal(size=(N_SAMPLES, 2, 5, 5))


def build(**parts):
    layers = {
        "conv": MAPS,
        "conv:max": Column(MAPS.max(axis=(2, 3)), layer="conv", pooling="max"),
        "block": Column(TOKENS, unit_axis=2),
        "slope": Column(MAPS, layer="conv", kind="gradient"),
        "drawn": Column(RNG.normal(size=(N_SAMPLES, 7, 2)), kind="pass"),
        "bits": Column(PackedBits.pack(TOKENS[:, 0] > 0), layer="relu"),
    }
    return Activations(
        layers, logits=RNG.normal(size=(N_SAMPLES, 2)), labels=list("abcabc"), **parts
    )


def said(A):
    return {
        (column.role, column.name): (column.shape[1:], *column.metadata().values())
        for column in A.columns
    }


SAID = {
    ("layer", "conv"): ((2, 5, 5), "conv", "value", None, 1),
    ("layer", "conv:max"): ((2,), "conv", "value", "max", 1),
    ("layer", "block"): ((4, 3), "block", "value", None, 2),
    ("layer", "slope"): ((2, 5, 5), "conv", "gradient", None, 1),
    ("layer", "drawn"): ((7, 2), "drawn", "pass", None, 1),
    ("layer", "bits"): ((3,), "relu", "value", None, 1),
    ("logits", "logits"): ((2,), None, "value", None, 1),
    ("label", "labels"): ((), None, "value", None, 1),
}


def test_every_part_is_an_argument_and_a_property_and_has_a_role_of_its_own():
    assert {part.role for part in PARTS.values()} == set(get_args(Role)) - {"layer"}
    assert len({part.role for part in PARTS.values()}) == len(PARTS)
    arguments = inspect.signature(Activations).parameters
    for name in PARTS:
        assert name in arguments
        assert isinstance(getattr(Activations, name), property)


def test_a_plain_array_is_the_layer_of_its_name():
    (column,) = Activations({"a:max": np.ones((2, 3))}).columns
    assert column.metadata() == {
        "layer": "a:max",
        "kind": "value",
        "pooling": None,
        "unit_axis": 1,
    }
    assert (column.name, column.role, column.dtype, column.nbytes) == ("a:max", "layer", "f8", 48)


SURVIVED = {
    "rows": lambda A, path: A[[3, 0]],
    "a slice": lambda A, path: A[::-2],
    "layers": lambda A, path: A[list(A.layer_names)],
    "pickle": lambda A, path: pickle.loads(pickle.dumps(A)),
    "copy": lambda A, path: copy.deepcopy(A[1:]),
    "assign": lambda A, path: A.assign(),
    "replace by arrays": lambda A, path: A.replace(dict(A.items())),
    "replace by columns": lambda A, path: A.replace(
        {column.name: column for column in A.columns if column.role == "layer"}
    ),
    "assign arrays": lambda A, path: A.assign({"block": A["block"] * 2, "slope": A["slope"]}),
    "concatenate": lambda A, path: Activations.concatenate([A, A[:2]]),
    "disk": lambda A, path: saved(A, path, None),
    "a map of the disk": lambda A, path: saved(A[::-1], path, "r"),
    "selection": lambda A, path: LayerSelector(layers="all").fit_transform(A),
}


def saved(A, path, mmap_mode):
    A.save(path / "saved")
    return Activations.load(path / "saved", mmap_mode=mmap_mode)


@pytest.mark.parametrize("change", SURVIVED.values(), ids=SURVIVED)
def test_what_columns_are_survives(change, tmp_path):
    assert said(build()) == SAID
    found = said(change(build(), tmp_path))
    found.pop(("prediction", "predictions"), None)  # which concatenating works out
    assert found == SAID


def test_columns_read_nothing_and_stay_lazy():
    class Guarded(np.ndarray):
        def __getitem__(self, item):
            raise AssertionError("read")

    A = Activations({"fc": np.ones((5, 2)).view(Guarded)})[[0, 3]][[1]]
    (column,) = A.columns
    assert column.shape == (1, 2)
    assert column.nbytes == 16
    assert "shape=(1, 2)" in repr(column)
    (column,) = Activations({"fc": np.arange(10).reshape(5, 2)})[[4, 0]].columns
    np.testing.assert_array_equal(np.asarray(column.array), [[8, 9], [0, 1]])


@pytest.mark.parametrize("rows", [slice(3), slice(None, None, -500), [7, 1]], ids=repr)
@pytest.mark.parametrize("number", range(3))
def test_a_pickled_column_of_some_rows_holds_these_rows_only(rows, number):
    values = np.arange(3000.0).reshape(1000, 3)
    layers = {"fc": values, "bits": PackedBits.pack(values % 2 > 0)}
    A = Activations(layers, labels=np.arange(1000))
    column = A[rows].columns[number]
    text = pickle.dumps(column)
    assert len(text) < len(pickle.dumps(A.columns[number])) / 4
    twin = pickle.loads(text)
    np.testing.assert_array_equal(twin.array, column.array)
    assert (twin.name, twin.shape, twin.dtype, twin.is_packed) == (
        *(column.name, column.shape, column.dtype, column.is_packed),
    )


def test_the_hash_goes_by_what_columns_are():
    values = np.ones((3, 2))
    several = [
        {"a": values},
        {"a": Column(values, layer="b")},
        {"a": Column(values, kind="gradient")},
        {"a": Column(values, pooling="max")},
    ]
    hashes = {joblib.hash(Activations(layers)) for layers in several}
    assert len(hashes) == len(several)
    assert joblib.hash(Activations({"a": Column(values, layer="a")})) in hashes


def test_an_array_with_fewer_axes_has_its_units_in_the_second():
    A = build().assign({"block": TOKENS.mean(axis=1)})
    assert said(A)["layer", "block"] == ((3,), "block", "value", None, 1)
    assert said(A.assign({"block": TOKENS}))["layer", "block"][-1] == 1


def test_a_column_takes_the_name_that_it_is_given():
    (column,) = build()[["slope"]].replace({"other": build().columns[3]}).columns[:1]
    assert (column.name, column.layer, column.kind) == ("other", "conv", "gradient")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kind": "values"}, ValueError, r"kind of a column must be among \('value', 'gradient'"),
        ({"role": "logit"}, ValueError, "role of a column must be among"),
        ({"unit_axis": 0}, ValueError, "unit_axis of a column must be an integer from 1, got 0"),
        ({"unit_axis": True}, ValueError, "unit_axis of a column"),
        ({"unit_axis": 1.0}, ValueError, "unit_axis of a column"),
        ({"unit_axis": "1"}, ValueError, "unit_axis of a column"),
        (
            {"unit_axis": 2},
            ValueError,
            r"unit_axis=2 of layer 'a' is no axis of .*\(3, 2\)",
        ),
        ({"layer": 3}, TypeError, "layer of a column must be a string or None, got 3"),
        ({"pooling": ["max"]}, TypeError, "pooling of a column must be a string or None"),
        ({"role": "logits"}, ValueError, "'a' is given as a column of the role 'logits'"),
    ],
    ids=str,
)
def test_columns_that_are_none_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        Activations({"a": Column(np.ones((3, 2)), **changes)})


def test_lists_become_arrays():
    column = Column([[1, 2], [3, 4], [5, 6]], kind="gradient")
    assert (column.shape, column.n_units, column.nbytes) == ((3, 2), 2, 48)
    assert column.dtype == np.asarray([1]).dtype
    np.testing.assert_array_equal(Activations({"a": column})["a"], [[1, 2], [3, 4], [5, 6]])
    for array in ([1, 2], [[1], [2, 3]], [["a"]]):
        with pytest.raises(ValueError, match="array of a column"):
            Column(array)


def test_an_integer_of_numpy_is_an_axis():
    (column,) = Activations({"a": Column(TOKENS, unit_axis=np.int64(2))}).columns
    assert type(column.unit_axis) is int


@pytest.mark.parametrize(
    "other", [{"kind": "gradient"}, {"layer": "b"}, {"pooling": "max"}], ids=str
)
def test_columns_of_one_name_that_are_something_else_are_not_concatenated(other):
    values = np.ones((2, 3))
    parts = [Activations({"a": values}), Activations({"a": Column(values, **other)})]
    with pytest.raises(ValueError, match="same column 'a', got"):
        Activations.concatenate(parts)


def test_a_layer_may_be_called_like_a_part():
    values = np.ones((2, 3))
    A = Activations({"logits": values, "labels": 2 * values}, logits=3 * values, labels=[0, 1])
    for B in (A, A[:], pickle.loads(pickle.dumps(A)), A.assign({"logits": values})):
        assert B.layer_names == ("logits", "labels")
        np.testing.assert_array_equal(B["logits"], values)
        np.testing.assert_array_equal(B.logits, 3 * values)
        np.testing.assert_array_equal(B.labels, [0, 1])


# Attributes


@pytest.mark.parametrize("name", ["layers", "foreign", "labels", "columns"])
def test_no_attribute_can_be_set(name):
    with pytest.raises(AttributeError):
        setattr(build(), name, 1)


def test_a_layer_as_an_attribute_is_refused_with_the_way_to_read_it():
    with pytest.raises(AttributeError, match=r"no attribute 'conv': the layer .* is A\['conv'\]"):
        _ = build().conv
    with pytest.raises(AttributeError, match=r"'layers': the names are A\.layer_names, and the"):
        _ = build().layers


def test_an_unknown_layer_is_refused_with_those_that_are_close():
    with pytest.raises(KeyError, match=r"Did you mean 'block'\?"):
        build()["blok"]
    with pytest.raises(KeyError, match=r"\['conv\.max', 'slope2'\].*mean .*conv:max.*slope"):
        build()[["conv.max", "bits", "slope2"]]
    with pytest.raises(KeyError) as caught:
        build()["something else"]
    assert "Did you mean" not in str(caught.value)


def test_a_notebook_completes_names():
    assert build()._ipython_key_completions_() == list(build().layer_names)


# Labels


def test_labels_go_by_rows(tmp_path):
    A = build()
    y = np.array(list("abcabc"))
    np.testing.assert_array_equal(A.labels, y, strict=True)
    for rows in (slice(1, None, 2), [4, 4, 0], y == "b", slice(0)):
        np.testing.assert_array_equal(A[rows].labels, y[rows])
        np.testing.assert_array_equal(A[rows][::-1].assign(head=None).labels, y[rows][::-1])
    A[[5, 1]].save(tmp_path / "saved")
    np.testing.assert_array_equal(Activations.load(tmp_path / "saved").labels, ["c", "b"])
    assert A[["bits"]].replace({"new": MAPS}).labels.tolist() == list("abcabc")


def test_labels_are_exchanged():
    A = build().assign(labels=np.arange(6))
    assert A[2:].labels.tolist() == [2, 3, 4, 5]
    assert A.assign({"new": MAPS}).labels.tolist() == list(range(6))


def test_labels_need_not_be_among_the_classes():
    assert build(classes=["x", "y"]).labels.tolist() == list("abcabc")
    assert build(classes=["x", "y"]).predictions.dtype.kind == "U"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "'labels': 2"),
        (np.ones((N_SAMPLES, 1)), r"labels must be 1-D, got shape \(6, 1\)"),
        (["a", 1, 2, 3, 4, 5], "labels must not mix text and others"),
        (np.ma.masked_equal(np.arange(6), 3), "labels is a masked array"),
    ],
)
def test_labels_that_are_none_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        Activations({"conv": MAPS}, labels=labels)
    with pytest.raises(ValueError, match=message):
        build().assign(labels=labels)


def test_labels_are_concatenated_where_every_part_has_them():
    A, B = build(), Activations({"a": np.ones((2, 1))}, labels=[3, 4])
    assert Activations.concatenate([A, A[:1]]).labels.tolist() == list("abcabca")
    assert Activations.concatenate([B, B]).labels.tolist() == [3, 4, 3, 4]
    assert Activations.concatenate([B, Activations({"a": np.ones((2, 1))})]).labels is None
    text = Activations({"a": np.ones((2, 1))}, labels=["x", "y"])
    with pytest.raises(ValueError, match="same kind of labels, got numbers and text"):
        Activations.concatenate([B, text])


def test_labels_count_and_change_the_hash():
    layers = {"a": np.ones((3, 2))}
    plain, labelled = Activations(layers), Activations(layers, labels=[1, 2, 3])
    assert labelled.__sizeof__() - plain.__sizeof__() == 24
    assert joblib.hash(labelled) != joblib.hash(plain)
    assert joblib.hash(labelled) != joblib.hash(labelled.assign(labels=[1, 2, 4]))


# Pooling


@pytest.mark.parametrize("pooling", ["max", "avg", "sum", "flatten"])
@pytest.mark.parametrize("output_size", [1, 2])
def test_tokens_are_pooled_by_the_axis_of_units(pooling, output_size):
    reducer = PoolingReducer(pooling=pooling, output_size=output_size)
    A = Activations({"block": Column(TOKENS, unit_axis=2)}, labels=np.arange(6))
    pooled = reducer.fit_transform(A)
    np.testing.assert_array_equal(pooled["block"], reducer.fit_transform(TOKENS.swapaxes(1, 2)))
    assert said(pooled)["layer", "block"][1:] == ("block", "value", pooling, 1)
    assert pooled.labels.tolist() == list(range(6))


def test_pooled_columns_say_how_and_of_what():
    pooled = PoolingReducer(pooling=["avg", "sum"]).fit_transform(
        build()[["conv", "slope", "bits"]]
    )
    assert {
        name: found[1:4] for (role, name), found in said(pooled).items() if role == "layer"
    } == {
        "conv:avg": ("conv", "value", "avg"),
        "conv:sum": ("conv", "value", "sum"),
        "slope:avg": ("conv", "gradient", "avg"),
        "slope:sum": ("conv", "gradient", "sum"),
        "bits": ("relu", "value", None),
    }


def test_what_is_pooled_already_keeps_its_pooling():
    A = build()[["conv:max"]]
    pooled = PoolingReducer(pooling="avg").fit_transform(A)
    assert said(pooled)["layer", "conv:max"][3] == "max"
    assert said(PercentileBinarizer().fit_transform(pooled))["layer", "conv:max"][3] == "max"


def test_a_pooling_that_would_replace_a_layer_is_refused():
    A = Activations({"a": MAPS, "a:max": MAPS})
    with pytest.raises(ValueError, match="Pooling 'a' would replace layer 'a:max'"):
        PoolingReducer(pooling=["max", "avg"]).fit_transform(A)


# Data frame


def test_a_frame_has_a_column_for_each_unit(tmp_path):
    A = build()[["bits", "conv", "block"]][[3, 1]]
    frame = A.to_frame()
    assert frame.shape == (2, 3 + 50 + 12 + 2)
    names = [f"bits[{i}]" for i in range(3)]
    names += [f"conv[{i}, {j}, {k}]" for i in range(2) for j in range(5) for k in range(5)]
    names += [f"block[{i}, {j}]" for i in range(4) for j in range(3)]
    assert frame.columns.tolist() == [*names, "prediction", "label"]
    assert frame["bits[2]"].dtype == bool
    assert frame["bits[2]"].tolist() == (TOKENS[[3, 1], 0, 2] > 0).tolist()
    np.testing.assert_array_equal(frame["conv[1, 0, 4]"], MAPS[[3, 1], 1, 0, 4])
    np.testing.assert_array_equal(frame["block[3, 1]"], TOKENS[[3, 1], 3, 1])
    np.testing.assert_array_equal(frame["prediction"], A.predictions)
    assert frame["label"].tolist() == ["a", "b"]
    assert frame.index.equals(pd.RangeIndex(2))
    assert not frame.columns.duplicated().any()


def test_a_frame_keeps_dtypes_and_has_what_there_is():
    A = Activations({"a": np.ones((2, 2), np.float32), "b": np.ones((2, 1), np.int8)})
    assert A.to_frame().dtypes.tolist() == [np.float32, np.float32, np.int8]
    assert A[:0].to_frame().shape == (0, 3)
    assert A.assign(labels=[7, 8]).to_frame()["label"].tolist() == [7, 8]


def test_a_frame_without_pandas_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"Activations\.to_frame needs pandas"):
        build().to_frame()


# In a notebook


def rows_of_table(A):
    """The cells of what a notebook shows, which is XML too."""
    table = ElementTree.fromstring(A._repr_html_()).find("table")
    return [[cell.text or "" for cell in row] for row in table.iter("tr")]


def test_a_notebook_shows_all_columns_and_reads_none():
    class Guarded(np.ndarray):
        def __getitem__(self, item):
            raise AssertionError("read")

    values = np.ones((400, 100), np.float32).view(Guarded)
    A = Activations(
        {"<b>&": Column(values, layer="relu", pooling="max"), "plain": values},
        logits=np.ones((400, 3)).view(Guarded),
        labels=np.zeros(400),
        head=LinearHead(np.ones((3, 100)), input_layer="plain"),
    )
    titles, *rows = rows_of_table(A[[0, 5, 7]])
    assert titles == ["", "shape of a sample", "dtype", "memory", "layer", "pooling"]
    assert rows == [
        ["<b>&", "(100,)", "float32", "1.2 KiB", "relu", "max"],
        ["plain", "(100,)", "float32", "1.2 KiB", "", ""],
        ["(logits)", "(3,)", "float64", "72 B", "", ""],
        ["(labels)", "()", "float64", "24 B", "", ""],
        ["head", "100 units of plain to 3 classes", "float64", "2.4 KiB", "", ""],
    ]
    assert "of 400 samples, 325.0 KiB" in A._repr_html_()


def test_a_notebook_shows_kinds_axes_and_bits_where_they_are_not_plain():
    html = build()._repr_html_()
    for text in ("gradient", "pass", "<td>2</td>", "bits", "axis of units"):
        assert text in html
    plain = Activations({"a": np.ones((2, 3))})._repr_html_()
    for title in ("kind", "axis of units", "pooling"):
        assert title not in plain
