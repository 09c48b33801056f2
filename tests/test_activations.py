"""The container: what rows and layers it yields, and what survives pickle, hash and disk."""

import copy
import json
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing

from skood import Activations
from skood.activations import LinearHead, PackedBits

N_SAMPLES = 7
WIDTHS = {"conv": 12, "fc": 5, "bits": 70}


def arrays(n_samples=N_SAMPLES, seed=0):
    """Plain arrays of which `build` makes Activations."""
    rng = np.random.default_rng(seed)
    return {
        "conv": rng.normal(size=(n_samples, 3, 2, 2)).astype(np.float32),
        "fc": rng.normal(size=(n_samples, 5)),
        "bits": rng.random((n_samples, 70)) < 0.5,
        "logits": rng.normal(size=(n_samples, 4)),
    }


def build(parts, **kwargs):
    layers = {"conv": parts["conv"], "fc": parts["fc"], "bits": PackedBits.pack(parts["bits"])}
    head = LinearHead(np.ones((4, 5)), np.arange(4.0), "fc")
    return Activations(layers, logits=parts["logits"], head=head, **kwargs)


def values(A):
    """Everything that Activations hold, as plain arrays."""
    held = {name: np.asarray(layer) for name, layer in A.items()}
    return held | {"logits": A.logits, "predictions": A.predictions, "classes": A.classes}


def assert_same(A, B):
    assert A.layer_names == B.layer_names
    for (name, a), b in zip(values(A).items(), values(B).values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name, strict=True)


@pytest.fixture
def A():
    return build(arrays())


@pytest.fixture
def mapped(A, tmp_path):
    """The same activations, on disk."""
    A.save(tmp_path / "mapped")
    return Activations.load(tmp_path / "mapped", mmap_mode="r")


# Rows


@st.composite
def row_selections(draw, n):
    """Whatever NumPy takes as rows of an array of length n."""
    bound = st.none() | st.integers(-n - 2, n + 2)
    step = st.none() | st.integers(-3, 3).filter(bool)
    mask = st.lists(st.booleans(), min_size=n, max_size=n)
    number = st.integers(-n, n - 1) if n else st.nothing()
    numbers = st.lists(number, max_size=2 * n)
    return draw(
        st.builds(slice, bound, bound, step)
        | mask
        | mask.map(lambda m: np.array(m, dtype=bool))
        | mask.map(lambda m: pd.Series(m, index=range(100, 100 + n), dtype=bool))
        | numbers
        | numbers.map(lambda rows: np.array(rows, dtype=np.int32))
        | numbers.map(lambda rows: pd.Index(rows, dtype=np.int64))
    )


@given(n_samples=st.integers(0, 6), data=st.data())
def test_any_chain_of_row_selections_gives_what_numpy_gives(n_samples, data):
    plain = arrays(n_samples)
    A = build(plain)
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(row_selections(len(A)))
        A = A[rows]
        plain = {name: array[rows] for name, array in plain.items()}
    assert len(A) == len(plain["fc"])
    assert A.shape == (len(A), sum(WIDTHS.values()))
    np.testing.assert_array_equal(A["conv"], plain["conv"], strict=True)
    np.testing.assert_array_equal(A["bits"].unpack(), plain["bits"], strict=True)
    np.testing.assert_array_equal(A.logits, plain["logits"], strict=True)
    np.testing.assert_array_equal(A.predictions, plain["logits"].argmax(axis=1))
    flat = [plain[name].reshape(len(A), width) for name, width in WIDTHS.items()]
    np.testing.assert_array_equal(np.asarray(A), np.hstack(flat))


@pytest.mark.parametrize(
    "chain",
    [[slice(None)], [slice(1, 5)], [slice(None, None, -1)], [slice(1, None), slice(-2, None, -2)]],
    ids=str,
)
def test_a_chain_of_slices_copies_nothing(A, chain):
    view = A
    for rows in chain:
        view = view[rows]
    for got, held in [
        (view["fc"], A["fc"]),
        (view["bits"].words, A["bits"].words),
        (view.logits, A.logits),
    ]:
        assert np.shares_memory(got, held)


def test_selecting_rows_by_number_reads_nothing_until_a_layer_is_asked_for():
    class Guarded(np.ndarray):
        reads = 0

        def __getitem__(self, item):
            type(self).reads += 1
            return np.asarray(self)[item]

    view = Activations({"fc": np.ones((5, 2)).view(Guarded)})[[0, 3]][np.array([True, False])]
    assert view.shape == (1, 2)
    assert view.layer_shapes == {"fc": (2,)}
    assert Guarded.reads == 0
    assert view["fc"].shape == (1, 2)
    assert Guarded.reads == 1


def test_a_memory_mapped_array_stays_so_when_it_is_sliced(mapped):
    view = mapped[1:6][::-2]
    assert isinstance(view["conv"], np.memmap)
    assert isinstance(view["bits"].words, np.memmap)
    assert np.shares_memory(view["conv"], mapped["conv"])


def test_rows_may_come_with_an_ellipsis_as_scikit_learn_sends_them(A):
    assert_same(A[[4, 1], ...], A[[4, 1]])
    assert_same(_safe_indexing(A, np.array([4, 1])), A[[4, 1]])


@pytest.mark.parametrize(
    "item",
    [
        0,
        np.int64(0),
        True,
        None,
        ...,
        (0, 1),
        ("conv", "fc"),
        (slice(None), 0),
        [[0, 1]],
        [0.0, 1.0],
        ["fc", 0],
        np.array(["fc"]),
        [True] * (N_SAMPLES - 1),
        np.array([], dtype=bool),
        [N_SAMPLES],
        [-N_SAMPLES - 1],
    ],
    ids=repr,
)
def test_what_is_no_selection_of_rows_is_refused(A, item):
    with pytest.raises(IndexError):
        A[item]
    with pytest.raises(IndexError):
        A["bits"][item].unpack()


def test_a_single_sample_is_refused_with_the_way_to_write_it(A):
    with pytest.raises(IndexError, match=r"A\[\[i\]\].*got 3"):
        A[3]


def test_a_mask_of_another_length_is_refused_with_both_lengths(A):
    with pytest.raises(IndexError, match="2 entries for 7 samples"):
        A[[True, False]]


def test_iteration_is_refused(A):
    with pytest.raises(TypeError, match="not iterable"):
        list(A)
    with pytest.raises(TypeError, match="not iterable"):
        list(A["bits"])


def test_train_test_split_keeps_rows_and_labels_together(A):
    y = np.arange(len(A))
    A_train, A_test, y_train, y_test = train_test_split(A, y, random_state=0, stratify=y // 4)
    assert_same(A_train, A[y_train])
    assert_same(A_test, A[y_test])


# Layers


def test_layers_keep_their_order_shape_and_dtype(A):
    assert A.layer_names == ("conv", "fc", "bits")
    assert A.layer_shapes == {"conv": (3, 2, 2), "fc": (5,), "bits": (70,)}
    assert A.shape == (N_SAMPLES, sum(WIDTHS.values()))
    assert A["conv"].dtype == np.float32
    assert isinstance(A["bits"], PackedBits)
    assert [name for name, _ in A.items()] == list(A.layer_names)


def test_a_list_of_names_selects_layers_in_its_order_and_keeps_the_rest(A):
    chosen = A[2:4][["fc", "conv"]]
    assert chosen.layer_names == ("fc", "conv")
    assert "fc" in chosen
    assert "bits" not in chosen
    assert chosen.head is A.head
    np.testing.assert_array_equal(chosen["fc"], A["fc"][2:4])
    np.testing.assert_array_equal(chosen.logits, A.logits[2:4])


@pytest.mark.parametrize("name", ["relu", ["fc", "relu"]])
def test_an_unknown_layer_is_refused_with_the_names_of_the_known_ones(A, name):
    with pytest.raises(KeyError, match=r"'relu'.*'conv', 'fc', 'bits'"):
        A[name]


@pytest.mark.parametrize(
    ("layers", "kwargs", "error", "message"),
    [
        ({}, {}, ValueError, "at least one layer"),
        ({"a": [1.0, 2.0]}, {}, ValueError, r"'a'.*\(2,\)"),
        ({0: [[1.0]]}, {}, TypeError, "must be strings, got 0"),
        ({"a": [[1.0]], "b": [[1.0], [2.0]]}, {}, ValueError, r"'a': 1, 'b': 2"),
        ({"a": [[1.0]]}, {"logits": [[1, 2]] * 3}, ValueError, "'logits': 3"),
        ({"a": [[1.0]]}, {"logits": [1.0]}, ValueError, r"n_classes\), got \(1,\)"),
        ({"a": [[1.0]]}, {"logits": 1.0}, ValueError, r"n_classes\), got \(\)"),
        ({"a": [[1.0]]}, {"logits": np.empty((1, 0))}, ValueError, r"got \(1, 0\)"),
        ({"a": [[1.0]]}, {"predictions": [0, 1]}, ValueError, "'predictions': 2"),
        ({"a": [[1.0]]}, {"predictions": [[0]]}, ValueError, "1-D"),
        ({"a": [[1.0]]}, {"predictions": 0}, ValueError, "1-D"),
        ({"a": [[1.0]]}, {"logits": [[1, 2]], "classes": ["x"]}, ValueError, "2 classes"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(layers, kwargs, error, message):
    with pytest.raises(error, match=message):
        Activations(layers, **kwargs)


# Logits and predictions


def test_the_prediction_is_the_largest_logit_and_the_lower_class_on_ties():
    A = Activations({"a": np.ones((3, 1))}, logits=[[0, 2, 2], [1, 1, 1], [0, 0, 3]])
    np.testing.assert_array_equal(A.predictions, [1, 0, 2])
    np.testing.assert_array_equal(A.classes, [0, 1, 2])


def test_predictions_are_labels_where_classes_are_given():
    A = Activations({"a": np.ones((3, 1))}, logits=[[0, 2], [3, 1], [1, 1]], classes=["cat", "dog"])
    assert A.predictions.tolist() == ["dog", "cat", "cat"]
    assert A[[1]].predictions.tolist() == ["cat"]
    assert A[:0].predictions.tolist() == []


def test_explicit_predictions_win_over_logits():
    A = Activations({"a": np.ones((2, 1))}, logits=[[0, 1], [0, 1]], predictions=[0, 1])
    np.testing.assert_array_equal(A.predictions, [0, 1])
    np.testing.assert_array_equal(A[::-1].predictions, [1, 0])


def test_without_logits_there_are_no_predictions():
    A = Activations({"a": np.ones((2, 1))})
    assert A.logits is None
    assert A.predictions is None
    assert A.classes is None


def test_replacing_layers_keeps_the_rest(A):
    view = A[[5, 0]]
    replaced = view.replace({"new": np.zeros((2, 3))})
    assert replaced.layer_names == ("new",)
    assert replaced.head is A.head
    np.testing.assert_array_equal(replaced.logits, view.logits)
    np.testing.assert_array_equal(replaced.predictions, view.predictions)
    assert view.layer_names == A.layer_names


def test_assigned_logits_keep_the_predictions_of_the_network(A):
    assigned = A.assign(logits=-A.logits)
    np.testing.assert_array_equal(assigned.logits, -A.logits)
    np.testing.assert_array_equal(assigned.predictions, A.predictions)
    assert assigned.layer_names == A.layer_names


def test_assigned_layers_take_their_place_or_come_last(A):
    assigned = A.assign({"new": np.ones((N_SAMPLES, 2)), "fc": np.zeros((N_SAMPLES, 3))})
    assert assigned.layer_names == (*A.layer_names, "new")
    assert assigned["fc"].shape == (N_SAMPLES, 3)
    np.testing.assert_array_equal(assigned["conv"], A["conv"])


def test_a_head_is_exchanged_taken_away_or_kept(A):
    other = LinearHead(np.ones((4, 2)))
    assert A.assign(head=other).head is other
    assert A.assign(head=None).head is None
    assert A.assign().head is A.head


ROWS = [slice(None), slice(1, 6, 2), slice(None, None, -2), np.array([3, 0, 3]), slice(0)]


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize(
    "more", [slice(None), slice(None, None, -1), np.array([], dtype=int)], ids=str
)
def test_assigning_to_a_view_is_as_assigning_to_a_copy(A, rows, more, tmp_path):
    view = A[rows]
    copied = pickle.loads(pickle.dumps(view))
    new = {"new": np.ones((len(view), 2))}
    expected = copied.assign(new)[more]
    assigned = view.assign(new)[more].assign()
    assigned.save(tmp_path / "saved")
    for result in [assigned, pickle.loads(pickle.dumps(assigned))]:
        assert joblib.hash(result) == joblib.hash(expected)
        np.testing.assert_array_equal(result.predictions, expected.predictions)
    for name, array in Activations.load(tmp_path / "saved").items():
        np.testing.assert_array_equal(np.asarray(array), np.asarray(expected[name]))


def test_features_are_those_of_the_network_whatever_becomes_of_the_layer(A, tmp_path):
    assigned = A.assign({"fc": np.zeros((N_SAMPLES, 5))})[[4, 1]].assign({"fc": np.ones((2, 5))})
    assigned.assign(head=None).save(tmp_path / "saved")
    others = [Activations.load(tmp_path / "saved"), pickle.loads(pickle.dumps(assigned))]
    for result in [assigned, assigned.replace({"other": assigned["fc"]}), *others]:
        np.testing.assert_array_equal(result.features, A["fc"][[4, 1]])
    np.testing.assert_array_equal(
        Activations.concatenate([A[[4]], assigned[[1]]]).features, A["fc"][[4, 1]]
    )
    np.testing.assert_array_equal(assigned["fc"], np.ones((2, 5)))


def test_without_a_head_or_its_layer_there_are_no_features(A):
    np.testing.assert_array_equal(A[2:].features, A["fc"][2:])
    assert A[["conv"]].features is None
    assert Activations({"fc": A["fc"]}).features is None


def test_layers_that_are_kept_are_not_copied():
    layer = np.arange(12.0).reshape(4, 3)
    A = Activations({"a": layer, "b": layer + 1}, logits=layer)
    for view in [A, A[1:3]]:
        assigned = view.assign({"b": np.zeros((len(view), 1))}, logits=np.zeros((len(view), 3)))
        assert np.shares_memory(assigned["a"], layer)
    scattered = A[[2, 0]].assign(logits=np.zeros((2, 3)))
    assert scattered.columns[0].array.array is layer


def test_replacing_needs_the_same_number_of_samples(A):
    with pytest.raises(ValueError, match=r"'new': 2.*'logits': 7"):
        A.replace({"new": np.zeros((2, 3))})


# As an array


def test_one_plain_layer_is_seen_as_an_array_without_a_copy():
    layer = np.arange(12.0).reshape(3, 4)
    A = Activations({"a": layer})
    assert np.shares_memory(np.asarray(A), layer)
    assert np.shares_memory(np.array(A[1:], copy=False), layer)
    assert not np.shares_memory(np.array(A), layer)
    assert np.shares_memory(np.asarray(Activations({"a": layer.reshape(3, 2, 2)})), layer)


@pytest.mark.parametrize("case", ["several layers", "packed bits", "rows by number", "dtype"])
def test_an_array_without_a_copy_is_refused_where_it_takes_one(A, case):
    asked = {
        "several layers": (A, None),
        "packed bits": (A[["bits"]], None),
        "rows by number": (A[["fc"]][[0, 2]], None),
        "dtype": (A[["fc"]], np.float32),
    }
    activations, dtype = asked[case]
    with pytest.raises(ValueError, match="copy"):
        np.array(activations, dtype=dtype, copy=False)


@pytest.mark.parametrize("names", [["fc"], ["bits"], ["conv", "fc"], ["conv", "fc", "bits"]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, int])
def test_an_array_takes_the_dtype_asked_for(A, names, dtype):
    array = np.asarray(A[names], dtype=dtype)
    assert array.dtype == dtype
    parts = [np.asarray(A[name]).reshape(N_SAMPLES, -1).astype(dtype) for name in names]
    np.testing.assert_array_equal(array, np.hstack(parts))


@pytest.mark.parametrize("names", [["conv"], ["bits"], ["conv", "bits"]])
def test_an_empty_selection_is_an_array_of_full_width(A, names):
    assert np.asarray(A[names][:0]).shape == (0, A[names].shape[1])


# Pickle and hash


def test_a_pickled_view_holds_its_own_rows_only(mapped):
    big = build(arrays(2000))
    small = pickle.dumps(big[::400])
    assert len(small) < len(pickle.dumps(big)) / 100
    assert_same(pickle.loads(small), big[::400])
    assert_same(pickle.loads(pickle.dumps(mapped[2:])), mapped[2:])


def test_pickle_and_deepcopy_keep_layers_classes_and_head():
    A = build(arrays(), classes=list("wxyz"), predictions=list("zyxwzyx"))
    for twin in (pickle.loads(pickle.dumps(A)), copy.deepcopy(A[:])):
        assert_same(twin, A)
        assert twin.head.input_layer == "fc"
        np.testing.assert_array_equal(twin.head.weight, A.head.weight)


@pytest.mark.parametrize("explicit", [False, True], ids=["argmax", "explicit predictions"])
@pytest.mark.parametrize(
    "rows",
    [slice(1, 5), slice(None, None, 2), slice(5, None, -3), slice(3, 4), slice(0, 2, 2), slice(0)],
    ids=str,
)
def test_equal_content_has_an_equal_hash_however_it_is_held(rows, explicit, tmp_path):
    parts = arrays()
    predictions = np.arange(N_SAMPLES) % 4 if explicit else None
    A = build(parts, predictions=predictions)
    A.save(tmp_path / "saved")
    spaced = {name: np.repeat(array, 2, axis=0)[::2] for name, array in parts.items()}
    spaced["conv"] = np.asfortranarray(spaced["conv"])
    copied = {name: array[rows].copy() for name, array in parts.items()}
    twins = {
        "slice": A[rows],
        "numbers": A[np.arange(N_SAMPLES)[rows]],
        "memory map": Activations.load(tmp_path / "saved", mmap_mode="r")[rows],
        "other strides": build(spaced, predictions=predictions)[rows],
        "copy": build(copied, predictions=predictions[rows].copy() if explicit else None),
        "pickle": pickle.loads(pickle.dumps(A[rows])),
    }
    assert len({joblib.hash(twin) for twin in twins.values()}) == 1, twins.keys()


def test_the_order_of_the_heads_weights_in_memory_does_not_change_the_hash():
    weight = np.arange(20.0).reshape(4, 5)
    heads = [LinearHead(weight), LinearHead(np.asfortranarray(weight)), LinearHead(weight.tolist())]
    assert len({joblib.hash(Activations({"a": [[1.0]]}, head=head)) for head in heads}) == 1


def test_any_other_content_has_another_hash(A):
    parts = arrays()
    changed = {**parts, "fc": parts["fc"] + np.eye(N_SAMPLES, 5)}
    others = [
        A,
        A[::-1],
        A[:-1],
        A[["fc", "conv", "bits"]],
        A[["conv", "fc"]],
        A.replace({"conv1": A["conv"], "fc": A["fc"], "bits": A["bits"]}),
        A.replace({"conv": A["conv"], "fc": A["fc"], "bits": A["bits"].unpack()}),
        A.assign(logits=A.logits + 1),
        build(changed),
        build(parts, predictions=np.zeros(N_SAMPLES, dtype=int)),
        build(parts, classes=list("wxyz")),
        Activations(dict(A.items()), logits=A.logits),
    ]
    assert len({joblib.hash(other) for other in others}) == len(others)


def test_workers_get_the_same_content_memory_mapped():
    A = build(arrays())[1:]

    def look(view):
        return type(view["fc"]).__name__, joblib.hash(view)

    seen = joblib.Parallel(n_jobs=2, max_nbytes=1)(
        joblib.delayed(look)(view) for view in (A, A[::2])
    )
    assert seen == [("memmap", joblib.hash(A)), ("memmap", joblib.hash(A[::2]))]


# Concatenation


def test_parts_are_stacked_in_order(A):
    B = build(arrays(3, seed=1))
    stacked = Activations.concatenate([A, B, A[:0], A[[2]]])
    assert isinstance(stacked["bits"], PackedBits)
    assert stacked.head is A.head
    for name, expected in values(stacked).items():
        if name != "classes":
            parts = [values(part)[name] for part in (A, B, A[[2]])]
            np.testing.assert_array_equal(np.concatenate(parts), expected, strict=True)


def test_layers_are_matched_by_name(A):
    stacked = Activations.concatenate([A, A[["bits", "fc", "conv"]]])
    assert stacked.layer_names == A.layer_names
    np.testing.assert_array_equal(stacked["fc"][N_SAMPLES:], A["fc"])


@pytest.mark.parametrize("first", [0, 1])
def test_logits_and_predictions_are_kept_where_every_part_has_them(first):
    layer = {"a": np.ones((2, 3))}
    with_logits = Activations(layer, logits=np.eye(2), classes=["x", "y"])
    with_predictions = Activations(layer, predictions=["y", "y"])
    parts = [with_logits, with_predictions]
    stacked = Activations.concatenate(parts if first == 0 else parts[::-1])
    assert stacked.logits is None
    assert sorted(stacked.predictions) == ["x", "y", "y", "y"]
    bare = Activations.concatenate([Activations(layer), with_logits])
    assert bare.logits is None
    assert bare.predictions is None
    both = Activations.concatenate([with_logits, with_logits])
    assert both.classes.tolist() == ["x", "y"]
    assert both.predictions.tolist() == ["x", "y", "x", "y"]


def test_explicit_predictions_survive_concatenation_with_derived_ones(A):
    explicit = build(arrays(), predictions=np.full(N_SAMPLES, 3))
    stacked = Activations.concatenate([explicit, A])
    np.testing.assert_array_equal(stacked.predictions, [3] * N_SAMPLES + A.predictions.tolist())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda A: A[["fc"]], "same layers"),
        (lambda A: A.replace({**dict(A.items()), "fc": A["fc"][:, :4]}), "same layers"),
        (lambda A: A.replace({**dict(A.items()), "bits": A["bits"].unpack()}), "packed bits in"),
        (lambda A: A.assign(head=None)[["conv", "fc"]], "same layers"),
        (lambda A: build(arrays(), classes=list("wxyz")), "same classes"),
    ],
)
def test_parts_that_differ_are_not_concatenated(A, other, message):
    with pytest.raises(ValueError, match=message):
        Activations.concatenate([A, other(A)])


def test_nothing_is_not_concatenated():
    with pytest.raises(ValueError, match="no parts"):
        Activations.concatenate([])


# On disk


@pytest.mark.parametrize("mmap_mode", [None, "r", "c"])
def test_what_was_saved_is_loaded(tmp_path, mmap_mode):
    A = build(arrays(), classes=list("wxyz"), predictions=list("zyxwzyx"))
    A.save(tmp_path / "new" / "folder")
    loaded = Activations.load(str(tmp_path / "new" / "folder"), mmap_mode=mmap_mode)
    assert_same(loaded, A)
    assert isinstance(loaded["conv"], np.memmap) == (mmap_mode is not None)
    assert isinstance(loaded["bits"].words, np.memmap) == (mmap_mode is not None)
    assert loaded.head.input_layer == "fc"
    np.testing.assert_array_equal(loaded.head.weight, A.head.weight)
    np.testing.assert_array_equal(loaded.head.bias, A.head.bias)


def test_layers_alone_are_saved_and_loaded(tmp_path):
    A = Activations({"λ/ü:max": np.ones((2, 3), dtype=np.float16), "": np.zeros((2, 1))})
    A.save(tmp_path / "saved")
    loaded = Activations.load(tmp_path / "saved")
    assert_same(loaded, A)
    assert loaded.head is None


@pytest.mark.parametrize("rows", [slice(2, 5), slice(None, None, -2), [3, 3, 0], slice(0)], ids=str)
@pytest.mark.parametrize("rows_per_write", [2, 4096])
def test_a_view_is_saved_as_what_it_holds(A, tmp_path, monkeypatch, rows, rows_per_write):
    monkeypatch.setattr("skood._storage._ROWS_PER_WRITE", rows_per_write)
    A[rows].save(tmp_path / "view")
    for mmap_mode in (None, "r"):
        assert_same(Activations.load(tmp_path / "view", mmap_mode=mmap_mode), A[rows])


def test_numpy_and_json_alone_can_read_the_folder(A, tmp_path):
    A.save(tmp_path / "saved")
    manifest = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    layers = {
        layer["name"]: np.load(tmp_path / "saved" / layer["file"], allow_pickle=False)
        for layer in manifest["layers"]
    }
    assert manifest["n_samples"] == N_SAMPLES
    np.testing.assert_array_equal(layers["conv"], A["conv"])
    np.testing.assert_array_equal(layers["bits"], A["bits"].words)
    np.testing.assert_array_equal(np.load(tmp_path / "saved" / "logits.npy"), A.logits)


def test_what_needs_pickle_is_refused_and_leaves_nothing_behind(tmp_path):
    labels = np.array(["cat", None], dtype=object)
    A = Activations({"a": np.ones((2, 1))}, predictions=labels)
    with pytest.raises(TypeError, match="predictions of dtype object"):
        A.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_replaced_only_on_request(A, tmp_path):
    A.save(tmp_path / "saved")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        A[:2].save(tmp_path / "saved")
    assert_same(Activations.load(tmp_path / "saved"), A)
    A[["fc"]][:2].save(tmp_path / "saved", overwrite=True)
    assert_same(Activations.load(tmp_path / "saved"), A[["fc"]][:2])
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize(
    "manifest", [None, "{", "[]", "{}", '{"layers": [], "parts": []}', '{"name": "an extension"}']
)
def test_a_folder_of_something_else_is_never_replaced(A, tmp_path, manifest):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")
    if manifest is not None:
        (folder / "manifest.json").write_text(manifest)
    with pytest.raises(FileExistsError, match="something else"):
        A.save(folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "precious"


def test_a_saved_folder_with_more_files_and_a_file_are_never_replaced(A, tmp_path):
    A.save(tmp_path / "saved")
    (tmp_path / "saved" / "notes.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("saved", "file"):
        with pytest.raises(FileExistsError, match="something else"):
            A.save(tmp_path / name, overwrite=True)
    assert (tmp_path / "saved" / "notes.txt").read_text() == "precious"
    assert (tmp_path / "file").read_text() == "precious"


def test_an_interrupted_write_leaves_the_old_folder_intact(A, tmp_path):
    class Failing(np.ndarray):
        def __getitem__(self, rows):
            raise KeyboardInterrupt

    A.save(tmp_path / "saved")
    failing = A.replace({"fc": A["fc"], "late": np.ones((N_SAMPLES, 2)).view(Failing)})
    with pytest.raises(KeyboardInterrupt):
        failing[::-1].save(tmp_path / "saved", overwrite=True)
    assert_same(Activations.load(tmp_path / "saved"), A)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("rows", [slice(None, None, -1), [5, 2]], ids=str)
def test_the_folder_that_backs_a_view_can_be_replaced_by_it(mapped, tmp_path, rows):
    expected = pickle.loads(pickle.dumps(mapped[rows]))
    mapped[rows].save(tmp_path / "mapped", overwrite=True)
    assert_same(Activations.load(tmp_path / "mapped", mmap_mode="r"), expected)


def test_others_may_read_the_folder_that_the_umask_lets_them_read(A, tmp_path):
    (tmp_path / "made").mkdir()
    A.save(tmp_path / "saved")
    assert (tmp_path / "saved").stat().st_mode == (tmp_path / "made").stat().st_mode


@pytest.mark.parametrize(
    "change", [{"format": "other"}, {"version": 1000}], ids=["format", "version"]
)
def test_another_format_or_a_later_version_is_refused(A, tmp_path, change):
    A.save(tmp_path / "saved")
    manifest = tmp_path / "saved" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    with pytest.raises(ValueError, match=f"{next(iter(change.values()))}.*expected"):
        Activations.load(tmp_path / "saved")


def test_a_missing_folder_is_not_loaded(tmp_path):
    with pytest.raises(FileNotFoundError):
        Activations.load(tmp_path / "none")


@pytest.mark.parametrize("mmap_mode", ["r+", "w+", "x"])
def test_a_mode_that_could_change_the_files_is_refused(A, tmp_path, mmap_mode):
    A.save(tmp_path / "saved")
    with pytest.raises(ValueError, match="mmap_mode must be"):
        Activations.load(tmp_path / "saved", mmap_mode=mmap_mode)
    assert_same(Activations.load(tmp_path / "saved"), A)


def test_a_pickle_in_the_folder_is_not_run(A, tmp_path):
    A.save(tmp_path / "saved")
    np.save(tmp_path / "saved" / "logits.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        Activations.load(tmp_path / "saved")


# Packed bits


@given(
    n_samples=st.integers(0, 5),
    n_bits=st.integers(0, 200) | st.sampled_from([64, 128]),
    seed=st.integers(0, 99),
    order=st.sampled_from("CF"),
)
def test_packing_takes_one_bit_a_neuron_and_loses_nothing(n_samples, n_bits, seed, order):
    bits = np.random.default_rng(seed).random((n_samples, n_bits)) < 0.5
    bits = np.asarray(bits, order=order)
    packed = PackedBits.pack(bits)
    np.testing.assert_array_equal(packed.unpack(), bits, strict=True)
    np.testing.assert_array_equal(np.asarray(packed), bits, strict=True)
    assert packed.shape == (n_samples, n_bits)
    assert len(packed) == n_samples
    assert packed.nbytes == n_samples * 8 * -(-n_bits // 64)
    assert packed.words.dtype == np.uint64


@given(data=st.data())
def test_rows_of_packed_bits_are_those_of_the_bits(data):
    bits = np.random.default_rng(0).random((5, 70)) < 0.5
    rows = data.draw(row_selections(5))
    np.testing.assert_array_equal(PackedBits.pack(bits)[rows].unpack(), bits[rows], strict=True)


def test_packed_bits_turn_into_an_array_of_any_dtype():
    packed = PackedBits.pack([[True, False, True]])
    np.testing.assert_array_equal(np.asarray(packed, dtype=np.float32), [[1, 0, 1]])
    with pytest.raises(ValueError, match="without a copy"):
        np.array(packed, copy=False)


@pytest.mark.parametrize(
    "words",
    [
        np.zeros((2, 1), dtype=np.int64),
        np.zeros(2, dtype=np.uint64),
        np.zeros((2, 2), dtype=np.uint64),
    ],
)
def test_words_that_do_not_hold_the_bits_are_refused(words):
    with pytest.raises(ValueError, match=r"64 bits need words of shape \(n_samples, 1\)"):
        PackedBits(words, 64)


@pytest.mark.parametrize("bits", [[True, False], np.zeros((2, 2, 2))])
def test_only_a_matrix_is_packed(bits):
    with pytest.raises(ValueError, match="2-D"):
        PackedBits.pack(bits)


# Head


def test_a_head_computes_logits():
    head = LinearHead(np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.0]]), np.array([0.0, 1.0, 2.0]))
    assert head.shape == (3, 2)
    np.testing.assert_array_equal(head.logits([[1.0, 10.0]]), [[21.0, -9.0, 5.0]])


def test_a_head_without_bias_adds_nothing():
    head = LinearHead(np.eye(2, dtype=np.float32))
    assert head.bias.dtype == np.float32
    np.testing.assert_array_equal(head.logits([[1.0, 10.0]]), [[1.0, 10.0]])


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [(np.ones(3), None, "2-D, got 1"), (np.ones((3, 2)), np.ones(2), r"3 classes.*\(2,\)")],
)
def test_a_head_whose_parts_do_not_fit_is_refused(weight, bias, message):
    with pytest.raises(ValueError, match=message):
        LinearHead(weight, bias)


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.nan, ValueError, "{} contains NaN in 1 of 3 rows, the first of them row 1"),
        (np.inf, ValueError, "{} contains infinity in 1 of 3 rows"),
        ("one", TypeError, "{} must hold real numbers, but its dtype is"),
        (1j, TypeError, "{} must hold real numbers, but its dtype is complex"),
        (None, TypeError, "{} must hold real numbers, but its dtype is object"),
        (np.ma.masked, ValueError, "{} is a masked array with 1 masked value"),
    ],
)
def test_a_head_of_anything_but_finite_numbers_is_refused(part, value, error, message):
    parts = {"weight": np.ones((3, 2)).tolist(), "bias": np.ones(3).tolist()}
    if value is np.ma.masked:
        parts[part] = np.ma.array(parts[part])
        parts[part][(1, 0)[: parts[part].ndim]] = np.ma.masked
    elif part == "weight":
        parts[part][1][0] = value
    else:
        parts[part][1] = value
    with pytest.raises(error, match=message.format(part)):
        LinearHead(**parts)


def test_a_head_in_half_precision_computes_in_single_precision():
    head = LinearHead(np.full((1, 4), 300, dtype=np.float16))
    logits = head.logits(np.full((1, 4), 300, dtype=np.float16))
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, [[360_000]])


# Logits and labels that tell nothing


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_class_is_the_largest_of_logits_that_are_not_finite(value):
    logits = np.ones((5, 3))
    logits[[1, 4], 2] = value
    A = Activations({"fc": np.ones((5, 2))}, logits=logits)
    with pytest.raises(ValueError, match=r"logits contains .* in 2 of 5 rows.* row 1\. .*masked"):
        _ = A.predictions
    np.testing.assert_array_equal(A[[0, 2, 3]].predictions, [0, 0, 0])
    told = Activations({"fc": np.ones((5, 2))}, logits=logits, predictions=[0, 1, 2, 0, 1])
    np.testing.assert_array_equal(told.predictions, [0, 1, 2, 0, 1])


@pytest.mark.parametrize("logits", [[["9", "10"]], [[1j, 2j]], [[None, 1]]])
def test_no_class_is_predicted_by_logits_that_are_no_numbers(logits):
    with pytest.raises(ValueError, match="logits must be an array of numbers"):
        Activations({"fc": np.ones((1, 2))}, logits=logits)


@pytest.mark.parametrize("part", ["layers", "logits", "predictions", "features"])
def test_masked_parts_are_refused_and_those_that_hide_nothing_are_taken(part):
    parts = {"layers": np.arange(6.0).reshape(3, 2), "predictions": np.array([0, 1, 0])}
    values = parts.get(part, parts["layers"])

    def activations(array):
        return Activations(**{"layers": {"fc": parts["layers"]}, **wrapped(part, array)})

    with pytest.raises(ValueError, match="is a masked array with 1 masked value"):
        activations(np.ma.masked_equal(values, values.max() if values.ndim > 1 else 1))
    kept = activations(np.ma.array(values))
    found = kept["fc"] if part == "layers" else getattr(kept, part)
    assert type(found) is np.ndarray


def wrapped(part, array):
    return {"layers": {"fc": array}} if part == "layers" else {part: array}
