"""Selection, pooling and binarisation of layers, and the validation that all estimators share."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from hypothesis.extra.numpy import arrays as np_arrays
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skood import Activations, PercentileBinarizer, PoolingReducer
from skood._classes import check_class_labels
from skood._layer_names import match_layers
from skood._marks import in_distribution_mask, in_distribution_rows, take_rows
from skood.activations import Column, PackedBits
from skood.detectors import MCDropoutDetector
from skood.preprocessing import LayerSelector

PERCENTILES = (0, 10, 12.5, 25, 30, 50, 57, 70, 75, 90, 100)


@pytest.fixture
def A():
    rng = np.random.default_rng(0)
    layers = {
        "conv1": rng.normal(size=(4, 3, 5, 4)),
        "conv2": rng.normal(size=(4, 6, 2, 2)),
        "fc": rng.normal(size=(4, 8)),
    }
    return Activations(layers, logits=rng.normal(size=(4, 3)))


# Pooling


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_global_pooling_is_that_of_the_reference(golden, pooling):
    cases = golden("edge_cases")
    pooled = PoolingReducer(pooling=pooling).fit_transform(cases["maps"])
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, cases[f"maps_{pooling}"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("output_size", [1, 2, 3, 4])
@pytest.mark.parametrize("space", [(7,), (5, 4), (3, 8), (5, 3, 4), (1, 1)], ids=str)
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_pooling_to_cells_is_adaptive_pooling(pooling, space, output_size):
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(0).normal(size=(3, 2, *space)).astype(np.float32)
    adaptive = getattr(torch.nn.functional, f"adaptive_{pooling}_pool{len(space)}d")
    expected = adaptive(torch.as_tensor(maps), (output_size,) * len(space)).reshape(3, -1)
    reducer = PoolingReducer(pooling=pooling, output_size=output_size)
    np.testing.assert_allclose(reducer.fit_transform(maps), expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("output_size", [1, 2])
def test_sums_are_means_times_positions(output_size):
    maps = np.random.default_rng(0).normal(size=(3, 2, 4, 6)).astype(np.float32)
    summed, averaged = (
        PoolingReducer(pooling=pooling, output_size=output_size).fit_transform(maps)
        for pooling in ("sum", "avg")
    )
    assert summed.dtype == np.float32
    np.testing.assert_allclose(summed, averaged * (24 / output_size**2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("output_size", [1, 3])
@pytest.mark.parametrize(
    "pooling", ["max", "avg", "sum", "flatten", ("max", "avg", "sum", "flatten")], ids=str
)
def test_arrays_and_tensors_are_pooled_alike(A, pooling, output_size):
    torch = pytest.importorskip("torch")
    reducer = PoolingReducer(pooling=pooling, output_size=output_size)
    from_arrays = reducer.pool_layers(dict(A.items()))
    from_tensors = reducer.pool_layers({name: torch.as_tensor(a) for name, a in A.items()})
    assert list(from_arrays) == list(from_tensors)
    for name, array in from_arrays.items():
        assert isinstance(array, np.ndarray)
        assert isinstance(from_tensors[name], torch.Tensor)
        np.testing.assert_allclose(array, from_tensors[name].numpy(), rtol=1e-12)


def test_flatten_keeps_every_value_in_order(A):
    pooled = PoolingReducer(pooling="flatten").fit_transform(A)
    np.testing.assert_array_equal(pooled["conv1"], A["conv1"].reshape(4, -1))


def test_several_poolings_yield_a_layer_each(A):
    pooled = PoolingReducer(pooling=("avg", "max")).fit_transform(A)
    assert pooled.layer_names == ("conv1:avg", "conv1:max", "conv2:avg", "conv2:max", "fc")
    np.testing.assert_allclose(pooled["conv1:avg"], A["conv1"].mean(axis=(2, 3)))
    np.testing.assert_array_equal(pooled["conv2:max"], A["conv2"].max(axis=(2, 3)))
    np.testing.assert_array_equal(pooled["fc"], A["fc"])
    np.testing.assert_array_equal(pooled.logits, A.logits)


@pytest.mark.parametrize("pooling", ["max", ["max"], ("max",)], ids=str)
def test_one_pooling_keeps_the_names(A, pooling):
    assert PoolingReducer(pooling=pooling).fit_transform(A).layer_names == A.layer_names


@pytest.mark.parametrize("layer", [np.ones((2, 5)), PackedBits.pack(np.ones((2, 5)))], ids=type)
def test_layers_without_space_pass_unchanged(layer):
    pooled = PoolingReducer(pooling=["max", "avg"], output_size=2).fit_transform(
        Activations({"a": layer})
    )
    assert pooled["a"] is layer


@pytest.mark.parametrize("pooling", ["avg", ["max", "avg"]], ids=str)
@pytest.mark.parametrize("unit_axis", [1, 2])
def test_stochastic_passes_have_no_maps_and_pass_unchanged(A, pooling, unit_axis):
    passes = Column(
        np.random.default_rng(0).random((len(A), 7, 3)), kind="pass", unit_axis=unit_axis
    )
    with_passes = A.assign({"passes": passes})
    reducer = PoolingReducer(pooling=pooling)
    pooled = reducer.fit_transform(with_passes)
    assert pooled["passes"] is passes.array
    (found,) = [column for column in pooled.columns if column.name == "passes"]
    assert found.metadata() == {**passes.metadata(), "layer": "passes"}
    others = reducer.fit_transform(A)
    assert [n for n in pooled.layer_names if n != "passes"] == list(others.layer_names)
    detector = MCDropoutDetector(statistic="variance")
    expected = clone(detector).fit(with_passes).training_scores_
    np.testing.assert_array_equal(detector.fit(pooled).training_scores_, expected)


@pytest.mark.parametrize(
    "pooling", ["median", None, 3, [], ["max", "median"], ["max", "max"], [["max"]]], ids=repr
)
def test_unknown_or_repeated_poolings_are_refused(A, pooling):
    with pytest.raises(ValueError, match="pooling"):
        PoolingReducer(pooling=pooling).fit(A)


@pytest.mark.parametrize("output_size", [0, 1.5])
def test_a_number_of_cells_that_is_no_count_is_refused(A, output_size):
    with pytest.raises(ValueError, match="output_size"):
        PoolingReducer(output_size=output_size).fit(A)


def test_an_array_is_pooled_in_one_way_only():
    with pytest.raises(ValueError, match=r"Several poolings.*needs Activations"):
        PoolingReducer(pooling=["max", "avg"]).fit(np.ones((2, 3, 4, 4)))


# Selection


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", ["conv1", "conv2", "fc"]),
        ("fc", ["fc"]),
        ("conv*", ["conv1", "conv2"]),
        (["fc", "conv1"], ["conv1", "fc"]),
        (np.array(["*2", "f?"]), ["conv2", "fc"]),
        (["conv[12]", "conv1"], ["conv1", "conv2"]),
    ],
    ids=str,
)
def test_names_and_patterns_select_layers_in_forward_order(A, layers, expected):
    selector = LayerSelector(layers=layers).fit(A)
    assert selector.layers_ == expected
    selected = selector.transform(A[1:])
    assert list(selected.layer_names) == expected
    for name in expected:
        assert np.shares_memory(selected[name], A[name])


@pytest.mark.parametrize("layers", ["relu", ["fc", "relu"], "FC", []], ids=repr)
def test_what_selects_nothing_is_refused_with_the_known_names(A, layers):
    with pytest.raises(ValueError, match=r"No layers match.*'conv1', 'conv2', 'fc'"):
        LayerSelector(layers=layers).fit(A)


def test_a_known_name_is_taken_literally_and_patterns_heed_case():
    assert match_layers(["block[1]"], ["block1", "block[1]"]) == ["block[1]"]
    assert match_layers(["block[1]"], ["block1", "block2"]) == ["block1"]
    assert match_layers("all", ["all", "other"]) == ["all"]


def test_selection_reads_no_layer(A):
    broken = A.replace({**dict(A.items()), "conv1": np.full((4, 2), np.nan)})
    selected = LayerSelector(layers="fc").fit(broken).transform(broken)
    np.testing.assert_array_equal(selected["fc"], A["fc"])


def test_the_selected_layers_must_still_be_there(A):
    selector = LayerSelector(layers=["conv1", "fc"]).fit(A)
    with pytest.raises(ValueError, match=r"no layers \['conv1'\].*\['fc'\]"):
        selector.transform(A[["fc"]])


def test_an_array_is_one_layer_named_x():
    X = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(LayerSelector(layers="X").fit_transform(X), X)
    with pytest.raises(ValueError, match=r"No layers match \['fc'\]; known are \['X'\]"):
        LayerSelector(layers="fc").fit(X)


# Binarisation


def above_own_percentile(values, percentile):
    """The definition, in exact arithmetic: interpolated percentile of a row, both strict."""
    ordered = sorted(map(Fraction, values.tolist()))
    position = Fraction(percentile) * (len(ordered) - 1) / 100
    below, above = ordered[floor(position)], ordered[ceil(position)]
    quantile = below + (position - floor(position)) * (above - below)
    return [value > quantile and value > 0 for value in values.tolist()]


tied = st.integers(-2, 3).map(lambda i: i / 2)
finite = st.floats(-1e6, 1e6, width=32)
matrices = st.sampled_from([tied, finite]).flatmap(
    lambda elements: np_arrays(
        np.float32, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=elements
    )
)


@given(X=matrices, percentile=st.sampled_from(PERCENTILES))
def test_the_quantile_rule_is_its_definition(X, percentile):
    bits = PercentileBinarizer(percentile=percentile).fit_transform(X)
    assert bits.dtype == bool
    np.testing.assert_array_equal(bits, [above_own_percentile(row, percentile) for row in X])


@given(X=matrices, percentile=st.sampled_from(PERCENTILES))
def test_the_quantile_rule_is_numpys_quantile(X, percentile):
    X = X.astype(np.float64)
    # Where the quantile is a value inside the row, rounding of its position decides in NumPy.
    assume(percentile in (0, 100) or percentile * (X.shape[1] - 1) % 100 != 0)
    quantiles = np.quantile(X, percentile / 100, axis=1, keepdims=True)
    bits = PercentileBinarizer(percentile=percentile).fit_transform(X)
    np.testing.assert_array_equal(bits, (quantiles < X) & (X > 0))


@pytest.mark.parametrize("name", ["nap11", "nap21"])
def test_the_quantile_rule_gives_the_bits_of_the_reference(golden, name):
    cases = golden("edge_cases")
    for number, p in enumerate(cases["nap_p_grid"]):
        bits = PercentileBinarizer(percentile=100 * p).fit_transform(cases[f"{name}_query"])
        same = cases[f"{name}_same_in_float64"][number]
        assert same.any()
        np.testing.assert_array_equal(bits[same], cases[f"{name}_query_bits"][number][same])


def smallest_become_zero(values, percentile):
    bits = [True] * len(values)
    by_value_then_position = sorted(range(len(values)), key=lambda i: (values[i], i))
    for i in by_value_then_position[: floor(Fraction(percentile) * len(values) / 100)]:
        bits[i] = False
    return bits


@given(X=matrices, percentile=st.sampled_from(PERCENTILES))
def test_the_rank_rule_zeroes_an_exact_number_the_earlier_neurons_on_ties(X, percentile):
    bits = PercentileBinarizer(percentile=percentile, rule="rank").fit_transform(X)
    expected = [smallest_become_zero(row.tolist(), percentile) for row in X]
    np.testing.assert_array_equal(bits, expected)


@pytest.mark.parametrize("rule", ["rank", "quantile"])
@pytest.mark.parametrize("split", ["train", "eval"])
def test_layer_activation_patterns_are_those_of_the_reference(golden, split, rule):
    activations, patterns = golden("neuron_statistics"), golden("knn_groups")
    kind, cut = ("pre", -np.inf) if rule == "rank" else ("relu", 0)
    for number, width in enumerate(patterns["layer_widths"], start=1):
        values = np.maximum(activations[f"pre{number}_{split}"], cut)
        expected = np.unpackbits(patterns[f"{kind}_bits{number}_{split}"], axis=1, count=width)
        bits = PercentileBinarizer(percentile=50, rule=rule).fit_transform(values)
        np.testing.assert_array_equal(bits, expected)


@given(X=matrices, percentile=st.sampled_from(PERCENTILES))
def test_the_zero_rule_ignores_the_percentile(X, percentile):
    bits = PercentileBinarizer(percentile=percentile, rule="zero").fit_transform(X)
    np.testing.assert_array_equal(bits, X > 0)


@pytest.mark.parametrize("rule", ["quantile", "rank", "zero"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64])
def test_bits_do_not_depend_on_the_dtype_or_on_other_rows(rule, dtype):
    X = np.random.default_rng(0).integers(0, 2, size=(6, 9)).astype(dtype)
    binarizer = PercentileBinarizer(percentile=30, rule=rule).fit(X)
    expected = binarizer.transform(X.astype(np.float64))
    np.testing.assert_array_equal(binarizer.transform(X), expected)
    np.testing.assert_array_equal(binarizer.transform(X[[4]]), expected[[4]])


def test_layers_become_packed_bits_and_packed_bits_stay(A):
    A = A[["fc"]].replace({"fc": A["fc"], "bits": PackedBits.pack(A["fc"] > 1)})
    binary = PercentileBinarizer(percentile=25).fit_transform(A)
    assert binary.layer_names == A.layer_names
    assert binary["bits"] is A["bits"]
    np.testing.assert_array_equal(
        binary["fc"].unpack(), [above_own_percentile(row, 25) for row in A["fc"]]
    )
    np.testing.assert_array_equal(binary.predictions, A.predictions)


@pytest.mark.parametrize("params", [{"percentile": -1}, {"percentile": 101}, {"rule": "top"}])
def test_parameters_out_of_range_are_refused(A, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        PercentileBinarizer(**params).fit(A)


def test_unpooled_maps_are_refused_with_the_way_out(A):
    with pytest.raises(ValueError, match=r"'conv1' has shape \(4, 3, 5, 4\).*PoolingReducer"):
        PercentileBinarizer().fit(A)


def test_the_steps_work_in_a_pipeline(A):
    pipeline = make_pipeline(
        LayerSelector(layers="conv*"), PoolingReducer(pooling="avg"), PercentileBinarizer()
    )
    binary = pipeline.fit(A).transform(A[2:])
    assert binary.layer_shapes == {"conv1": (3,), "conv2": (6,)}
    expected = PercentileBinarizer().fit_transform(A["conv2"][2:].mean(axis=(2, 3)))
    np.testing.assert_array_equal(binary["conv2"].unpack(), expected)


# The validation that all estimators share; the binarizer stands for them


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda A: A[["fc", "conv"]], "was fitted on"),
        (lambda A: A[["conv"]], "was fitted on"),
        (lambda A: A.replace({"conv": A["conv"], "fc": A["fc"][:, :2]}), "was fitted on"),
        (lambda A: A[:0], "0 samples"),
        (lambda A: A.replace({"conv": A["conv"], "fc": A["fc"] * np.nan}), "layer 'fc'.*NaN"),
        (lambda A: np.asarray(A), r"fitted on Activations with the layers \['conv', 'fc'\]"),
    ],
    ids=["order", "missing", "width", "empty", "nan", "array"],
)
def test_other_activations_than_those_of_fit_are_refused(change, message):
    A = Activations({"conv": np.ones((3, 4)), "fc": np.ones((3, 5))})
    binarizer = PercentileBinarizer().fit(A)
    with pytest.raises(ValueError, match=message):
        binarizer.transform(change(A))


def test_activations_are_refused_where_an_array_was_fitted():
    binarizer = PercentileBinarizer().fit(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"array of 4 features.*layers \['a'\]"):
        binarizer.transform(Activations({"a": np.ones((3, 4))}))


@pytest.mark.parametrize("estimator", [PercentileBinarizer(), LayerSelector()], ids=str)
def test_refitting_forgets_the_other_kind_of_input(estimator):
    frame = pd.DataFrame({"u": [0.0, 1.0], "v": [2.0, 3.0]})
    A = Activations({"a": np.ones((2, 3))})
    assert list(estimator.fit(frame).feature_names_in_) == ["u", "v"]
    estimator.fit(A)
    assert not hasattr(estimator, "feature_names_in_")
    assert estimator.layer_shapes_ == {"a": (3,)}
    assert estimator.n_features_in_ == 3
    estimator.fit(frame)
    assert not hasattr(estimator, "layer_shapes_")
    assert estimator.n_features_in_ == 2


def test_set_output_gives_frames_for_frames_and_activations_for_activations(A):
    frame = pd.DataFrame({"u": [0.0, 1.0], "v": [2.0, 3.0]})
    binarizer = PercentileBinarizer(rule="zero").set_output(transform="pandas")
    binary = binarizer.fit_transform(frame)
    assert isinstance(binary, pd.DataFrame)
    assert list(binary.columns) == ["u", "v"]
    assert isinstance(binarizer.fit_transform(A[["fc"]]), Activations)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0, -1, 2, -1], [True, False, True, False]),
        ([0.0, -1.0, 2.0, 3.0], [True, False, True, True]),
        (["a", "b", "-1", "a"], [True, True, False, True]),
        (np.array(["a", -1, "b", -1], dtype=object), [True, False, True, False]),
        (np.array([1, 255, 0, 3], dtype=np.uint8), [True, True, True, True]),
        (pd.Series([0, -1, 2, -1], index=list("wxyz")), [True, False, True, False]),
        ([True, False, True, False], [True, True, True, True]),
    ],
)
def test_minus_one_marks_a_row_as_out_of_distribution(y, expected):
    mask = in_distribution_mask(y, 4)
    np.testing.assert_array_equal(mask, expected, strict=True)
    np.testing.assert_array_equal(in_distribution_rows(y, 4), np.flatnonzero(expected))


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"X has 3 samples, but y has 4\."):
        in_distribution_mask([0, 1, 2, -1], 3)


def test_labels_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="y contains NaN"):
        in_distribution_mask([0.0, np.nan], 2)


def test_without_labels_every_row_is_in_distribution():
    np.testing.assert_array_equal(in_distribution_rows(None, 3), [0, 1, 2])


def test_only_out_of_distribution_rows_are_nothing_to_fit():
    with pytest.raises(ValueError, match="All 2 samples are marked"):
        in_distribution_rows([-1, -1], 2)


def test_rows_of_samples_and_labels_are_taken_together(A):
    chosen, y = take_rows(A, pd.Series(list("abcd"), index=[9, 8, 7, 6]), np.array([0, 3]))
    np.testing.assert_array_equal(chosen["fc"], A["fc"][[0, 3]])
    assert y.tolist() == ["a", "d"]
    whole, none = take_rows(A, None, np.arange(4))
    assert whole is A
    assert none is None


@pytest.mark.parametrize(
    ("classes", "y"),
    [(None, [0, 1, 2, 3]), (["a", "b", "c"], list("abcd")), (None, ["0"] * 4), (None, [0.5] * 4)],
    ids=str,
)
def test_labels_the_network_does_not_know_are_refused(A, classes, y):
    A = Activations({"fc": A["fc"]}, logits=A.logits, classes=classes)
    with pytest.raises(ValueError, match="among the classes of the network"):
        check_class_labels(A, np.array(y), "This")


def test_labels_the_network_knows_are_accepted(A):
    check_class_labels(A, np.array([0.0, 1.0, 2.0, 2.0]), "This")
    named = Activations({"fc": A["fc"]}, logits=A.logits, classes=["a", "b", "c"])
    check_class_labels(named, np.array(list("abca"), dtype=object), "This")


# Half precision and large values


def test_sums_of_half_precision_do_not_overflow():
    torch = pytest.importorskip("torch")
    maps = np.full((2, 3, 40, 40), 60_000, dtype=np.float16)
    expected = 1600 * float(np.float16(60_000))
    for pooled in (
        PoolingReducer(pooling="sum").fit_transform(maps),
        PoolingReducer(pooling="sum").pool_layers({"conv": torch.from_numpy(maps)})["conv"].numpy(),
    ):
        assert pooled.dtype == np.float32
        np.testing.assert_allclose(pooled, expected, rtol=1e-6)
    cells = PoolingReducer(pooling="sum", output_size=2).fit_transform(maps)
    np.testing.assert_allclose(cells, expected / 4, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "value"), [("f2", 6e4), ("f4", 3e38), ("f8", 1e308)])
def test_means_of_large_values_are_their_means(dtype, value):
    maps = np.full((2, 3, 40, 40), value, dtype=dtype)
    pooled = PoolingReducer(pooling="avg").fit_transform(maps)
    assert pooled.dtype == maps.dtype
    np.testing.assert_allclose(pooled.astype(float), maps[:, :, 0, 0].astype(float), rtol=1e-3)


@pytest.mark.parametrize(("dtype", "value"), [("f4", 3e38), ("f8", 1e308)])
def test_a_sum_that_overflows_is_refused(dtype, value):
    maps = np.ones((4, 3, 5, 5), dtype=dtype)
    maps[2] = value
    with pytest.raises(ValueError, match=r"pooled layer 'X' contains infinity in 1 of 4 .* row 2"):
        PoolingReducer(pooling="sum").fit_transform(maps)
