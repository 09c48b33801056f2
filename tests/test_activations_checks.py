"""What the container refuses: parts that are no arrays of numbers, or that do not fit together."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from skood import Activations
from skood.activations import LinearHead, PackedBits

LAYERS = {"conv": np.ones((4, 2, 3, 3)), "fc": np.arange(12.0).reshape(4, 3)}
HEAD = LinearHead([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.5, -0.5], "fc")
LOGITS = HEAD.logits(LAYERS["fc"])


def build(**parts):
    return Activations(LAYERS, **{"logits": LOGITS, "head": HEAD, **parts})


# Arrays of numbers

ODD_ARRAYS = {
    "masked": (np.ma.array(np.ones((4, 3)), mask=np.eye(4, 3)), "masked array"),
    "objects": (np.ones((4, 3), dtype=object), "dtype object"),
    "objects in a table": (pd.DataFrame({"a": [1, "b", 3, 4]}), "DataFrame of dtype object"),
    "text": ([["a"], ["b"], ["c"], ["d"]], "list of dtype <U1"),
    "dates": (np.zeros((4, 3), dtype="M8[s]"), "dtype datetime64"),
    "durations": (np.zeros((4, 3), dtype="m8[s]"), "dtype timedelta64"),
    "complex": (np.ones((4, 3)) + 1j, "dtype complex128"),
    "records": (np.zeros((4, 3), dtype=[("a", "f8")]), "array of numbers"),
    "sparse": (scipy.sparse.csr_array(np.ones((4, 3))), "csr_array of dtype object"),
    "ragged": ([[1.0, 2.0], [3.0], [4.0], [5.0]], "is not an array: .*inhomogeneous"),
    "1-D": (np.ones(4), r"shape \(n_samples, .*got \(4,\)"),
    "0-D": (3.0, r"shape \(n_samples, .*got \(\)"),
    "nothing": (None, "got None"),
}


@pytest.mark.parametrize("part", ["layer", "logits", "features"])
@pytest.mark.parametrize("kind", ODD_ARRAYS)
def test_what_is_no_array_of_numbers_is_refused_by_its_name(kind, part):
    array, message = ODD_ARRAYS[kind]
    if part == "layer":
        with pytest.raises(ValueError, match=f"layer 'odd'.*{message}"):
            Activations({"odd": array})
        with pytest.raises(ValueError, match=f"layer 'odd'.*{message}"):
            build().assign({"odd": array})
        with pytest.raises(ValueError, match=f"layer 'odd'.*{message}"):
            build().replace({"odd": array})
    elif array is not None:
        with pytest.raises(ValueError, match=f"{part}.*{message}"):
            Activations(LAYERS, **{part: array})


@pytest.mark.parametrize("shape", [(4, 0), (4, 2, 0, 3), (0, 0)])
def test_a_layer_without_units_is_refused(shape):
    with pytest.raises(ValueError, match="'none' has no units"):
        Activations({"fc": np.ones((shape[0], 2)), "none": np.ones(shape)})


def test_packed_bits_without_units_are_refused_as_a_layer():
    with pytest.raises(ValueError, match="'none' has no units"):
        Activations({"none": PackedBits.pack(np.ones((3, 0)))})


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "longdouble", "i1", "u8", "?", ">f4"])
def test_numbers_of_any_size_keep_their_dtype(dtype):
    layer = np.ones((3, 2), dtype=dtype)
    assert Activations({"fc": layer})["fc"].dtype == layer.dtype


@pytest.mark.parametrize(
    "layers", [np.ones((4, 3)), [("fc", np.ones((4, 3)))], None, "fc", build()]
)
def test_layers_that_are_no_dict_are_refused(layers):
    with pytest.raises(TypeError, match="layers must be a dict"):
        Activations(layers)


# Classes and predictions


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["a", "a"], r"different from one another.*'a', 'a'"),
        ([1, 1.0], "different from one another"),
        ([0, False], "different from one another"),
        ([0.0, np.nan], "None or NaN"),
        (np.array(["a", None], dtype=object), "None or NaN"),
        (np.array(["a", np.nan], dtype=object), "None or NaN"),
        (["a", 1], r"mix text and others, got \['int'\]"),
        (np.ma.array([0, 1], mask=[0, 1]), "classes is a masked array"),
        ([["a", "b"]], r"1-D, got shape \(1, 2\)"),
        ("ab", r"1-D, got shape \(\)"),
        (["a", "b", "c"], "2 classes"),
    ],
    ids=repr,
)
def test_classes_that_cannot_be_told_apart_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        build(classes=classes)
    with pytest.raises(ValueError, match=message):
        Activations(LAYERS, head=HEAD, classes=classes)


@pytest.mark.parametrize(
    ("classes", "predictions", "unknown"),
    [
        (None, [0, 1, 2, 1], [2]),
        (None, [0, 1, -1, 1], [-1]),
        (None, [0, 1, 0.5, 1], [0.5]),
        (None, [0, 1, np.nan, 1], [np.nan]),
        (None, ["0", "1", "0", "1"], ["0", "1"]),
        ([3, 7], [3, 7, 0, 1], [0, 1]),
        (["a", "b"], ["a", "b", "c", "a"], ["c"]),
        (["1", "2"], [1, 2, 1, 2], [1, 2]),
        (["a", "b"], np.array(["a", None, "b", 3], dtype=object), [None, 3]),
        (["a", "b"], np.array([2, "x", None, 1.5], dtype=object), [None, 1.5, 2, "x"]),
    ],
)
def test_predictions_outside_of_the_classes_are_refused(classes, predictions, unknown):
    with pytest.raises(ValueError, match="predictions must be among the classes") as caught:
        build(classes=classes, predictions=predictions)
    for label in unknown:
        assert repr(label) in str(caught.value).partition("got")[2]


@pytest.mark.parametrize(
    ("classes", "predictions"),
    [
        (None, [0, 1, 1, 0]),
        (None, np.array([0, 1, 1, 0], dtype=np.uint8)),
        (None, [0.0, 1.0, 1.0, 0.0]),
        ([-1, 1], [1, -1, 1, 1]),
        ([False, True], [True, True, False, False]),
        (["a", "b"], pd.Series(["b", "a", "a", "a"])),
        (["a", "b"], np.array(["b", "a", "a", "a"], dtype=object)),
        ([0.5, 1.5], [1.5, 0.5, 0.5, 0.5]),
    ],
)
def test_predictions_among_the_classes_are_taken(classes, predictions, tmp_path):
    A = build(classes=classes, predictions=predictions)
    A.save(tmp_path / "saved")
    assert Activations.load(tmp_path / "saved").predictions.tolist() == list(predictions)


def test_predictions_without_classes_may_be_anything():
    labels = np.array(["cat", None, 3, np.nan], dtype=object)
    assert Activations(LAYERS, predictions=labels).predictions.tolist() == labels.tolist()
    masked = np.ma.array([0, 1, 0, 1], mask=[0, 0, 1, 0])
    with pytest.raises(ValueError, match="predictions is a masked array"):
        Activations(LAYERS, predictions=masked)
    with pytest.raises(ValueError, match=r"predictions must not mix text.*\['int'\]"):
        Activations(LAYERS, predictions=["cat", "dog", -1, "cat"])


@pytest.mark.parametrize("shape", [(4, 2), (4, 5), (4,), (4, 4, 1)])
def test_new_logits_must_have_as_many_classes_as_the_present_ones(shape):
    for A in (Activations(LAYERS, logits=np.eye(4)), Activations(LAYERS, logits=np.eye(4))[:2]):
        with pytest.raises(ValueError, match=r"new logits must have 4 classes.*got shape \(4, *"):
            A.assign(logits=np.ones(shape))


# The head


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"head": LinearHead(np.ones((2, 4)), input_layer="fc")}, "4 units, but layer 'fc'"),
        ({"head": LinearHead(np.ones((2, 3)), input_layer="conv")}, "3 units, but layer 'conv'"),
        ({"features": np.ones((4, 5))}, r"3 units, but features of shape \(5,\)"),
        (
            {"head": LinearHead(np.ones((3, 3)), input_layer="fc")},
            "logits of 3 classes, as the head has, but got 2",
        ),
        ({"head": LinearHead(np.ones((3, 3)))}, "logits of 3 classes, as the head has, but got 2"),
        (
            {"logits": None, "classes": ["a", "b", "c"]},
            "logits of 2 classes, as the head has, but got 3",
        ),
    ],
)
def test_a_head_that_does_not_fit_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        build(**parts)


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        None,
        LinearHead(np.ones((2, 3))),
        LinearHead(np.ones((2, 9)), input_layer="of a layer that is not here"),
        LinearHead(np.ones((2, 18)), input_layer="conv"),
    ],
)
def test_a_head_that_may_fit_is_taken(head):
    assert build(head=head).head is head
    assert build().assign(head=head).head is head


@pytest.mark.parametrize("head", ["fc", np.eye(2, 3), (np.eye(2, 3), np.ones(2)), np.array("keep")])
def test_a_head_that_is_none_is_refused(head):
    with pytest.raises(TypeError, match="head must be a LinearHead"):
        build(head=head)
    with pytest.raises(TypeError, match="head must be a LinearHead"):
        build().assign(head=head)


@pytest.mark.parametrize(
    "name",
    [
        "head",
        "layer_names",
        "logits",
        "predictions",
        "classes",
        "features",
        "shape",
        "layer_shapes",
    ],
)
def test_no_part_can_be_overwritten(name):
    A = build()
    with pytest.raises(AttributeError):
        setattr(A, name, None)
    assert getattr(A, name) is not None


@pytest.mark.parametrize("change", ["assign", "replace"])
def test_a_narrower_layer_leaves_what_the_head_reads_in_the_network(change):
    A = build()[[3, 1]]
    narrow = getattr(A, change)({"fc": A["fc"][:, :2]})
    assert narrow.layer_shapes["fc"] == (2,)
    for twin in (narrow, narrow[:], pickle.loads(pickle.dumps(narrow)), copy.deepcopy(narrow)):
        np.testing.assert_array_equal(twin.features, A["fc"])
        np.testing.assert_allclose(twin.head.logits(twin.features), A.logits)


@pytest.mark.parametrize("n_rows", [0, 1, 3, 5])
@pytest.mark.parametrize("change", ["assign", "replace"])
def test_layers_of_another_number_of_rows_are_refused(n_rows, change):
    for A in (build(), build()[::-1], build()[[0, 1, 2, 3]]):
        with pytest.raises(ValueError, match=f"same number of samples.*'fc': {n_rows}"):
            getattr(A, change)({"fc": np.ones((n_rows, 3))})


# Concatenation


def other_head(weight=HEAD.weight, bias=HEAD.bias, input_layer="fc"):
    return build(head=LinearHead(weight, bias, input_layer))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (other_head(weight=2 * HEAD.weight), "same head"),
        (other_head(bias=HEAD.bias + 1e-9), "same head"),
        (other_head(input_layer=None), "same head"),
        (build(classes=[0, 2]), "same classes"),
        (build(classes=["0", "1"]), "same classes"),
        (Activations(LAYERS, predictions=list("aabb")), "same kind of predictions, got num"),
        (Activations(LAYERS, predictions=[0, 1, 1, 0], head=HEAD), None),
        (Activations(LAYERS, features=np.ones((4, 3))), "carry the features"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_parts_that_disagree_are_not_concatenated(other, message, turned):
    parts = [build(), other]
    if message is None:
        assert Activations.concatenate(parts).predictions.tolist()[4:] == [0, 1, 1, 0]
        return
    if "carry" in message:
        parts[0] = Activations(LAYERS)
    with pytest.raises(ValueError, match=message.replace("got num", "") if turned else message):
        Activations.concatenate(parts[::-1] if turned else parts)


def test_a_part_that_is_no_container_is_refused():
    with pytest.raises(TypeError, match=r"must be Activations, got <class 'numpy\.ndarray'>"):
        Activations.concatenate([build(), np.ones((4, 3))])


def test_equal_heads_need_not_be_the_same_object():
    stacked = Activations.concatenate(
        part for part in [build(), other_head(weight=HEAD.weight.copy())]
    )
    np.testing.assert_array_equal(stacked.head.weight, HEAD.weight)
    np.testing.assert_array_equal(stacked.logits, np.vstack([LOGITS, LOGITS]))


def test_the_head_is_kept_where_every_part_has_it():
    for parts in ([build(), build(head=None)], [build(head=None), build()]):
        assert Activations.concatenate(parts).head is None


def test_packed_layers_of_different_widths_are_not_concatenated():
    parts = [Activations({"a": PackedBits.pack(np.ones((2, n)))}) for n in (60, 61)]
    with pytest.raises(ValueError, match=r"same layers, got .*60.*61"):
        Activations.concatenate(parts)


# Rows and layers


def test_a_masked_array_does_not_select_rows():
    with pytest.raises(ValueError, match="rows is a masked array"):
        build()[np.ma.array([0, 1, 2], mask=[0, 1, 0])]


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
def test_row_numbers_beyond_all_rows_do_not_count_from_the_end(number):
    with pytest.raises(IndexError):
        build()[np.array([number], dtype=np.uint64)]
    with pytest.raises(IndexError):
        PackedBits.pack(np.ones((3, 2)))[np.array([number], dtype=np.uint64)]


def test_a_layer_cannot_be_asked_for_twice():
    with pytest.raises(KeyError, match="selected twice"):
        build()[["fc", "fc"]]


# Packed bits


@given(n_bits=st.integers(1, 200), data=st.data())
def test_any_bit_beyond_the_last_is_refused(n_bits, data):
    n_words = -(-n_bits // 64)
    octets = np.zeros((3, 8 * n_words), dtype=np.uint8)
    bit = data.draw(st.integers(0, 64 * n_words - 1))
    octets[data.draw(st.integers(0, 2)), bit // 8] = 128 >> bit % 8
    words = octets.view(np.uint64)
    if bit >= n_bits:
        with pytest.raises(ValueError, match=f"padding.*beyond their {n_bits} bits"):
            PackedBits(words, n_bits)
    else:
        unpacked = PackedBits(words, n_bits).unpack()
        assert unpacked.sum() == 1
        np.testing.assert_array_equal(PackedBits.pack(unpacked).words, words)


def test_padding_is_read_in_memory_maps_too_but_not_again_for_each_slice(tmp_path):
    words = np.lib.format.open_memmap(tmp_path / "w.npy", "w+", np.uint64, (100, 2))
    clean = PackedBits(words, 70)
    words[99, 1] = 1 << 63
    assert len(clean[90:]) == 10
    with pytest.raises(ValueError, match="padding"):
        PackedBits(words, 70)
    assert PackedBits(words, 128).unpack().sum() == 1


@pytest.mark.parametrize("n_bits", [True, np.True_, 64.0, np.float64(64), "64", None, [64]])
def test_a_number_of_bits_that_is_no_integer_is_refused(n_bits):
    with pytest.raises(TypeError, match="n_bits must be an integer"):
        PackedBits(np.zeros((2, 1), dtype=np.uint64), n_bits)


@pytest.mark.parametrize(
    ("words", "n_bits", "message"),
    [
        (np.zeros((2, 0), dtype=np.uint64), -1, "n_bits must be at least 0"),
        (np.zeros((2, 0), dtype=np.uint64), -64, "n_bits must be at least 0"),
        (np.zeros((2, 1), dtype=np.uint64), 0, r"shape \(n_samples, 0\)"),
        (np.zeros((2, 1), dtype=np.uint64), 65, r"shape \(n_samples, 2\)"),
        (np.zeros((2, 1), dtype=np.uint64), 10**30, "need words"),
        (np.zeros((2, 1), dtype=">u8"), 64, "dtype >u8"),
        (np.zeros((2, 1)), 64, "dtype <f8"),
        ([[0], [1]], 64, "dtype <i8"),
        (np.ma.masked_equal(np.zeros((2, 1), dtype=np.uint64), 0), 64, "words is a masked array"),
    ],
    ids=repr,
)
def test_words_that_cannot_hold_so_many_bits_are_refused(words, n_bits, message):
    with pytest.raises(ValueError, match=message):
        PackedBits(words, n_bits)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (np.ma.array([[True, False]], mask=[[1, 0]]), "bits is a masked array"),
        ([["True", "False"]], "dtype <U5"),
        ([[1.0, np.nan]], "without NaN"),
        (np.array([[None, True]]), "dtype object"),
    ],
)
def test_what_is_no_matrix_of_bits_is_not_packed(bits, message):
    with pytest.raises(ValueError, match=message):
        PackedBits.pack(bits)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_head_without_classes_or_units_is_refused(shape):
    with pytest.raises(ValueError, match="weight has no classes or no units"):
        LinearHead(np.ones(shape))


def test_predictions_of_classes_that_other_parts_lack_are_not_concatenated():
    known = Activations({"a": np.ones((4, 2))}, logits=np.eye(4)[:, :3])
    other = Activations({"a": np.ones((2, 2))}, predictions=[7, 1])
    with pytest.raises(ValueError, match=r"classes \[0, 1, 2\], but others carry .* \[7\]"):
        Activations.concatenate([known, other])
