"""LINe against references and a brute force, and within bounds of memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import EnergyDetector
from skood.shaping import LINe, ReAct, _percentile

# References


@pytest.mark.parametrize("number", range(6))
def test_line_is_that_of_the_reference(number, golden):
    arrays, expected = golden("inputs"), golden("line")
    head = LinearHead(arrays["W"], arrays["b"], "fc")
    train = Activations({"fc": arrays["features_train"]}, head=head)
    test = Activations({"fc": arrays["features_eval"]}, head=head)
    activation, weight, clip = expected["settings"][number]
    line = LINe(activation_percentile=activation, weight_percentile=weight, clip=clip)
    pipeline = make_pipeline(line, EnergyDetector())
    line = pipeline.fit(train, arrays["y_train"])[0]

    assert_allclose(line.contributions_, expected["contribution"], rtol=1e-5, atol=1e-6)
    assert_array_equal(line.unit_masks_, expected["unit_mask"][number])
    kept = [np.count_nonzero(line.weight_mask(c) & (head.weight != 0)) for c in range(10)]
    assert kept == expected["n_weights_kept"][number].tolist()
    logits = line.transform(test).logits
    assert_allclose(logits, expected["logits"][number], rtol=1e-5, atol=1e-4)
    score = pipeline.score_samples(test)
    assert_allclose(score, expected["score"][number], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("activation", "weight"), [(50, 50), (25, 75), (10, 90)])
def test_small_integers_with_ties_are_shaped_as_in_the_reference(activation, weight, golden):
    arrays = golden("edge_cases")
    head = LinearHead(arrays["feat_W"], arrays["feat_b"], "fc")
    train = Activations({"fc": arrays["feat_train"]}, head=head)
    query = Activations({"fc": arrays["feat_query"]}, head=head)
    line = LINe(activation_percentile=activation, weight_percentile=weight, clip=None).fit(
        train, arrays["feat_y"]
    )
    assert_allclose(line.contributions_, arrays["feat_contribution"], rtol=1e-9, atol=1e-12)
    expected = arrays[f"feat_line_{activation}_{weight}"]
    assert_allclose(line.transform(query).logits, expected, rtol=1e-5, atol=1e-5)


# Definitions


def masks_by_definition(features, y, weight, activation_percentile, weight_percentile):
    """For each class, the units and the weights that are kept."""
    masks = []
    for label in range(len(weight)):
        of_class = features[y == label]
        means = of_class.mean(axis=0) if len(of_class) else np.zeros(features.shape[1])
        contribution = weight[label] * means
        products = np.abs(contribution) * weight
        masks.append(
            (
                contribution > np.percentile(contribution, activation_percentile),
                products > np.percentile(products, weight_percentile),
            )
        )
    return masks


whole_numbers = st.integers(-2, 3)


@given(
    features=np_arrays(np.float64, (8, 5), elements=whole_numbers),
    y=st.permutations([0, 0, 0, 0, 1, 1, 3, -1]),
    weight=np_arrays(np.float64, (4, 5), elements=whole_numbers),
    activation=st.sampled_from([0, 25, 50, 75]),
    weights=st.sampled_from([0, 50, 75, 100]),
    clip=st.sampled_from([1.5, None]),
)
def test_line_is_its_definition_also_with_ties_and_a_class_without_samples(
    features, y, weight, activation, weights, clip
):
    y = np.array(y)
    bias = np.array([1.0, 0.0, -1.0, 0.5])
    A = Activations({"fc": features}, head=LinearHead(weight, bias, "fc"))
    line = LINe(activation_percentile=activation, weight_percentile=weights, clip=clip).fit(A, y)
    shaped = line.transform(A)
    masks = masks_by_definition(features, y, weight, activation, weights)
    for row, found, logits in zip(features, shaped["fc"], shaped.logits, strict=True):
        clipped = row if clip is None else np.minimum(row, clip)
        label = int(np.argmax(weight @ clipped + bias))
        units, kept = masks[label]
        assert_array_equal(line.weight_mask(label), kept)
        assert_array_equal(line.unit_masks_[label], units)
        assert_array_equal(found, clipped * units)
        assert_allclose(logits, (weight * kept) @ (clipped * units) + bias)


@pytest.fixture
def data():
    """Activations of 3 classes with a head, and true classes that differ from the predictions."""
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(3, 12)), rng.normal(size=3), "fc")
    A = Activations({"fc": np.maximum(rng.normal(size=(60, 12)), 0)}, head=head)
    return A.assign(logits=head.logits(A["fc"])), np.repeat([0, 1, 2], 20)


def test_each_step_can_be_left_out(data):
    A, y = data
    clipped = ReAct(threshold=1.0).fit_transform(A)
    found = (
        LINe(activation_percentile=None, weight_percentile=None, clip=1.0).fit(A, y).transform(A)
    )
    assert_array_equal(found["fc"], clipped["fc"])
    assert_allclose(found.logits, clipped.logits)
    assert_allclose(
        LINe(activation_percentile=None, weight_percentile=None, clip=None)
        .fit(A, y)
        .transform(A)
        .logits,
        A.logits,
    )

    whole, every_unit = (
        LINe(activation_percentile=50, weight_percentile=60).fit(A, y),
        LINe(activation_percentile=None, weight_percentile=60).fit(A, y),
    )
    every_weight = LINe(activation_percentile=50, weight_percentile=None).fit(A, y)
    assert every_unit.unit_masks_.all()
    assert every_weight.weight_mask(0).all()
    assert_array_equal(every_unit.weight_mask(0), whole.weight_mask(0))
    assert_array_equal(every_weight.unit_masks_, whole.unit_masks_)


def test_classes_are_named_by_the_labels_of_the_network(data):
    A, y = data
    expected = LINe(activation_percentile=50, weight_percentile=50).fit(A, y)
    names = np.array(["dog", "cat", "eel"])
    named = Activations({"fc": A["fc"]}, logits=A.logits, head=A.head, classes=names)
    line = LINe(activation_percentile=50, weight_percentile=50).fit(named, names[y])
    assert_array_equal(line.contributions_, expected.contributions_)
    assert_array_equal(line.weight_mask("eel"), expected.weight_mask(2))
    assert_array_equal(line.transform(named).predictions, names[A.predictions])
    with pytest.raises(ValueError, match="'cow'"):
        line.weight_mask("cow")
    with pytest.raises(ValueError, match=r"classes of the network.*\[0, 1, 2\]"):
        LINe().fit(named, y)


def test_predicted_classes_take_the_place_of_missing_labels(data):
    A, y = data
    assert not np.array_equal(A.predictions, y)
    found = LINe().fit(A).contributions_
    assert_array_equal(found, LINe().fit(A, A.predictions).contributions_)
    assert not np.array_equal(found, LINe().fit(A, y).contributions_)


def test_group_by_chooses_the_class_under_which_a_training_sample_counts(data):
    A, y = data
    correct = A.predictions == y
    for group_by, rows, classes in (
        ("label", slice(None), y),
        ("prediction", slice(None), A.predictions),
        ("correct", correct, y[correct]),
    ):
        features = A["fc"][rows]
        means = np.stack([features[classes == c].mean(axis=0) for c in range(3)])
        line = LINe(group_by=group_by).fit(A, y)
        assert_allclose(line.contributions_, (A.head.weight * means).T)
    assert_array_equal(
        LINe(group_by="prediction").fit(A).contributions_, LINe().fit(A).contributions_
    )


def test_correct_predictions_need_labels_and_there_must_be_some(data):
    A, y = data
    with pytest.raises(ValueError, match="LINe needs the class labels y, got None"):
        LINe(group_by="correct").fit(A)
    with pytest.raises(ValueError, match="none of the 60 predictions equals its label"):
        LINe(group_by="correct").fit(A, (A.predictions + 1) % 3)
    with pytest.raises(ValueError, match="'group_by' parameter"):
        LINe(group_by="store").fit(A, y)


@pytest.mark.filterwarnings("ignore:ReAct clips features at")
def test_contributions_are_those_of_unclipped_features_also_behind_react(data):
    A, y = data
    behind = make_pipeline(ReAct(percentile=50), LINe()).fit(A, y)[1]
    expected = LINe(clip=None).fit(A, y)
    assert_array_equal(behind.contributions_, expected.contributions_)
    means = np.stack([A["fc"][y == c].mean(axis=0) for c in range(3)])
    assert_allclose(expected.contributions_, (A.head.weight * means).T)


def test_samples_of_a_class_without_training_samples_get_the_biases(data):
    A, _ = data
    seen = np.flatnonzero(A.predictions != 2)
    shaped = LINe(clip=None).fit(A[seen], A.predictions[seen]).transform(A)
    unseen = A.predictions == 2
    assert not shaped["fc"][unseen].any()
    assert_array_equal(shaped.logits[unseen], np.tile(A.head.bias, (unseen.sum(), 1)))


def test_one_class_is_not_enough():
    A = Activations({"fc": np.ones((3, 2))}, head=LinearHead(np.ones((1, 2)), input_layer="fc"))
    with pytest.raises(ValueError, match="at least 2 classes"):
        LINe().fit(A)


# Percentiles of many products


brackets = pytest.mark.parametrize(
    "bracket", [None, (1e9, 1e9), (-1e9, -1e9), (0.1, 0.2)], ids=["found", "high", "low", "narrow"]
)


@brackets
@pytest.mark.parametrize("percentile", [0, 10, 37.5, 90, 100])
def test_percentiles_of_products_are_exact_whatever_the_sample(
    bracket, percentile, monkeypatch, hold_at_most
):
    monkeypatch.setattr(_percentile, "_N_SAMPLED", 2000)
    hold_at_most(500)
    if bracket is not None:
        monkeypatch.setattr(_percentile, "_bracket", lambda *_: bracket)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(30, 100)).astype(np.float32)
    weight[:, 7:9] = 0
    scales = np.abs(rng.normal(size=(6, 100)).astype(np.float32))
    scales[1] = 0
    scales[2, :90] = 0
    scales[3] = 1
    scales[4, 0] = 1e6
    found = _percentile.percentiles_of_products(weight, scales, percentile)
    expected = [np.percentile(scale * weight, percentile, method="lower") for scale in scales]
    assert_array_equal(found, expected)


@brackets
@pytest.mark.parametrize("percentile", [0, 10, 37.5, 90, 99.99, 100])
@pytest.mark.parametrize("n_samples", [41, 42])
def test_an_interpolated_percentile_is_that_of_numpy_whatever_the_sample(
    bracket, percentile, n_samples, monkeypatch, hold_at_most
):
    monkeypatch.setattr(_percentile, "_N_SAMPLED", 2000)
    hold_at_most(500)
    if bracket is not None:
        monkeypatch.setattr(_percentile, "_bracket", lambda *_: bracket)
    drawn = np.random.default_rng(0).normal(size=(n_samples, 101)).astype(np.float32)
    for values in (drawn, drawn.T, np.maximum(drawn, 0), np.float64(drawn), drawn[:20]):
        found = _percentile.interpolated_percentile(values, percentile)
        assert found == np.percentile(values, np.float64(percentile))


# Bounds


@pytest.fixture(scope="module")
def large():
    """Activations of 300 classes and 2,048 units."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(300, 2048)).astype(np.float32)
    head = LinearHead(weight, np.zeros(300, dtype=np.float32), "fc")
    return Activations({"fc": rng.gamma(1, size=(400, 2048)).astype(np.float32)}, head=head)


def peak_of(call):
    """What a call returns, and the most memory that it held, in bytes."""
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_a_small_multiple_of_the_head(large):
    # Masks of all weights for all classes would be 75 times the head, 250 times for 1,000 classes.
    bound = 15 * large.head.weight.nbytes
    line, in_fit = peak_of(
        lambda: LINe(activation_percentile=10, weight_percentile=10).fit(
            large, np.arange(400) % 300
        )
    )
    few = large[:20]
    _, in_transform = peak_of(lambda: line.transform(few))
    assert in_fit < bound
    assert in_transform < bound
