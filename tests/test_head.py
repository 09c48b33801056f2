"""The head of the network and what it reads: what every detector and shaper on both asks for."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from skood import Activations
from skood._head import float64_logits, head_features, validate_head_input
from skood.activations import LinearHead, PackedBits


class Reader(BaseEstimator):
    """Any estimator that asks for the head."""


WEIGHT = np.array([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]])
BIAS = np.array([0.5, 0.0])


@pytest.fixture
def A():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 3)).astype(np.float32)
    head = LinearHead(WEIGHT, BIAS, "fc")
    layers = {"conv": rng.normal(size=(6, 2, 4, 4)), "fc": features}
    return Activations(layers, logits=head.logits(features), head=head)


@pytest.fixture
def reader(A):
    reader = Reader()
    validate_head_input(reader, A, reset=True)
    return reader


def test_the_layer_of_the_head_and_float64_logits_come_back(A):
    reader = Reader()
    checked = validate_head_input(reader, A.assign(logits=A.logits.astype(np.float32)), reset=True)
    assert checked.layer_names == ("fc",)
    assert checked.logits.dtype == np.float64
    np.testing.assert_allclose(checked.logits, A.logits, rtol=1e-6)
    np.testing.assert_array_equal(head_features(checked), A["fc"])
    assert checked.head is reader.head_ is A.head
    assert (reader.n_features_in_, reader.layer_shapes_) == (3, {"fc": (3,)})


def test_predictions_stay_those_of_the_network(A, reader):
    shaped = A.assign(logits=-A.logits)
    checked = validate_head_input(reader, shaped, reset=False)
    np.testing.assert_array_equal(checked.predictions, A.predictions)
    np.testing.assert_array_equal(checked.logits, -A.logits)


def test_logits_that_are_missing_are_computed(A, reader):
    bare = Activations({"fc": A["fc"]}, head=A.head)
    expected = A["fc"] @ WEIGHT.T + BIAS
    for reset in (True, False):
        checked = validate_head_input(reader, bare, reset=reset)
        np.testing.assert_allclose(checked.logits, expected, rtol=1e-6)


def test_an_array_is_what_an_identity_head_reads():
    reader = Reader()
    X = np.array([[1, 2, 3], [3, 2, 1]])
    checked = validate_head_input(reader, X, reset=True)
    np.testing.assert_array_equal(reader.head_.weight, np.eye(3))
    assert not reader.head_.bias.any()
    np.testing.assert_array_equal(checked.logits, X)
    np.testing.assert_array_equal(head_features(checked), X)
    assert checked.logits.dtype == np.float64
    assert not hasattr(reader, "layer_shapes_")
    again = validate_head_input(reader, X[:1], reset=False)
    np.testing.assert_array_equal(again.logits, X[:1])


def test_a_single_layer_is_what_a_head_without_a_layer_reads(A):
    reader = Reader()
    alone = Activations({"last": A["fc"]}, head=LinearHead(WEIGHT, BIAS))
    validate_head_input(reader, alone, reset=True)
    assert reader.head_.input_layer == "last"


def test_later_activations_need_no_head(A, reader):
    bare = Activations({"fc": A["fc"]}, logits=A.logits)
    checked = validate_head_input(reader, bare, reset=False)
    assert checked.head is reader.head_


def test_the_head_of_fit_is_used_later_on(A, reader):
    other = Activations({"fc": A["fc"]}, head=LinearHead(-WEIGHT, BIAS, "fc"))
    checked = validate_head_input(reader, other, reset=False)
    np.testing.assert_allclose(checked.logits, A.logits, rtol=1e-6)


def test_other_layers_are_not_read(A, reader):
    class Unreadable(np.ndarray):
        def __getitem__(self, item):
            raise AssertionError("a layer was read")

    broken = A.assign({"conv": np.full((6, 2, 4, 4), np.nan).view(Unreadable)})
    for reset in (True, False):
        checked = validate_head_input(reader, broken[::-1], reset=reset)
        np.testing.assert_array_equal(head_features(checked), A["fc"][::-1])


def test_rows_that_are_not_asked_for_are_not_read(A):
    class Counted(np.ndarray):
        rows_read = 0

        def __getitem__(self, item):
            values = super().__getitem__(item)
            Counted.rows_read = max(Counted.rows_read, len(values))
            return values

    counted = A.assign({"fc": np.asarray(A["fc"]).view(Counted)})
    validate_head_input(Reader(), counted[[1, 4]], reset=True)
    assert Counted.rows_read == 2


def test_bits_may_be_what_the_head_reads(A):
    bits = A["fc"] > 0
    packed = Activations({"fc": PackedBits.pack(bits)}, head=A.head)
    checked = validate_head_input(Reader(), packed, reset=True)
    np.testing.assert_array_equal(head_features(checked), bits)
    np.testing.assert_allclose(checked.logits, bits @ WEIGHT.T + BIAS)


def test_a_refit_on_the_other_kind_of_input_forgets_the_first(A, reader):
    validate_head_input(reader, np.eye(4), reset=True)
    assert reader.head_.shape == (4, 4)
    assert not hasattr(reader, "layer_shapes_")
    validate_head_input(reader, A, reset=True)
    assert reader.head_ is A.head
    assert reader.layer_shapes_ == {"fc": (3,)}


# Errors


def test_activations_without_a_head_are_refused(A):
    with pytest.raises(ValueError, match=r"Reader needs the head of the network.*carries none"):
        validate_head_input(Reader(), A.assign(head=None), reset=True)


def test_a_head_that_may_read_any_of_several_layers_is_refused(A):
    unclear = A.assign(head=LinearHead(WEIGHT, BIAS))
    with pytest.raises(ValueError, match=r"which of the layers \['conv', 'fc'\].*input_layer"):
        validate_head_input(Reader(), unclear, reset=True)


def test_activations_without_the_layer_of_the_head_are_refused(A, reader):
    for reset in (True, False):
        with pytest.raises(ValueError, match=r"reads, 'fc', but X has the layers \['conv'\]"):
            validate_head_input(reader, A[["conv"]], reset=reset)


def test_a_layer_of_another_width_than_the_head_reads_is_refused(A, reader):
    narrow = A.assign({"fc": A["fc"][:, :2]})
    with pytest.raises(ValueError, match=r"reads 3 units, but the layer 'fc' has shape \(2,\)"):
        validate_head_input(Reader(), narrow, reset=True)
    with pytest.raises(ValueError, match=r"\(2,\).*fitted on.*\(3,\)"):
        validate_head_input(reader, narrow, reset=False)


def test_maps_are_not_what_a_head_reads(A):
    maps = A.assign(head=LinearHead(np.ones((2, 32)), input_layer="conv"))
    with pytest.raises(ValueError, match=r"reads 32 units.*'conv' has shape \(2, 4, 4\)"):
        validate_head_input(Reader(), maps, reset=True)


def test_logits_of_another_number_of_classes_are_refused(A, reader):
    wrong = Activations({"fc": A["fc"]}, logits=np.ones((6, 5)))
    with pytest.raises(ValueError, match=r"logits of 2 classes, as the head has, but got 5"):
        validate_head_input(reader, wrong, reset=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(A, reader, value):
    logits, features = A.logits.copy(), A["fc"].copy()
    logits[2, 0] = features[2, 0] = value
    with pytest.raises(ValueError, match=r"layer 'logits' contains (NaN|infinity)"):
        validate_head_input(reader, A.assign(logits=logits), reset=False)
    with pytest.raises(ValueError, match=r"layer 'fc' contains (NaN|infinity)"):
        validate_head_input(reader, A.assign({"fc": features}), reset=False)


def test_a_head_of_too_few_classes_is_refused(A):
    one = Activations({"fc": A["fc"]}, head=LinearHead(WEIGHT[:1], BIAS[:1], "fc"))
    with pytest.raises(ValueError, match=r"needs at least 2 classes, but the head has 1"):
        validate_head_input(Reader(), one, reset=True, ensure_min_classes=2)
    with pytest.raises(ValueError, match=r"1 feature\(s\)"):
        validate_head_input(Reader(), np.ones((3, 1)), reset=True, ensure_min_classes=2)


def test_the_kind_of_input_has_to_be_that_of_fit(A, reader):
    with pytest.raises(ValueError, match=r"Activations with the layers \['fc'\], but got ndarray"):
        validate_head_input(reader, A.logits, reset=False)
    on_array = Reader()
    validate_head_input(on_array, A.logits, reset=True)
    with pytest.raises(ValueError, match="fitted on an array of 2 features, but got Activations"):
        validate_head_input(on_array, A, reset=False)


def test_no_samples_are_refused(A, reader):
    with pytest.raises(ValueError, match="0 samples"):
        validate_head_input(Reader(), A[:0], reset=True)
    with pytest.raises(ValueError, match="0 samples"):
        validate_head_input(reader, A[:0], reset=False)


def test_logits_can_be_checked_alone(A):
    assert float64_logits(Reader(), A.assign(logits=np.ones((6, 2), int)), A.head).dtype == float
    with pytest.raises(ValueError, match="Reader expects logits of 2 classes"):
        float64_logits(Reader(), Activations({"fc": A["fc"]}, logits=np.ones((6, 1))), A.head)
