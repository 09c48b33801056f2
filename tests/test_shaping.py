"""The transformers that shape features, and how they are composed and searched."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import EnergyDetector
from skood.model_selection import OODKFold
from skood.shaping import ASH, DICE, SCALE, VRA, LINe, ReAct

SHAPERS = [
    ReAct(),
    ASH(variant="p"),
    ASH(variant="b"),
    ASH(variant="s"),
    SCALE(),
    VRA(),
    DICE(),
    DICE(sparsity=50, mean_features=np.arange(12.0)),
    LINe(),
    LINe(activation_percentile=None, weight_percentile=50, clip=None),
]

every_shaper = pytest.mark.parametrize("shaper", SHAPERS, ids=lambda shaper: repr(shaper)[:30])


def close(found, expected):
    """Compare float32 results as the reference asks."""
    assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.fixture
def data():
    """Activations of 3 classes with a head, 20 samples of each and 20 of no class."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, -1], 20)
    head = LinearHead(rng.normal(size=(3, 12)), rng.normal(size=3), "fc")
    features = np.maximum(rng.normal(size=(80, 12)) + 0.3 * head.weight[y] + 0.5, 0)
    layers = {"conv": rng.normal(size=(80, 2, 3, 3)), "fc": features.astype(np.float32)}
    head = LinearHead(head.weight.astype(np.float32), head.bias.astype(np.float32), "fc")
    return Activations(layers, logits=head.logits(layers["fc"]), head=head), y


# References


@pytest.fixture
def reference(golden, penultimate):
    """Training and evaluation samples of a network, the former with labels."""
    return penultimate("train"), golden("inputs")["y_train"], penultimate("eval")


@pytest.fixture
def small_reference(golden):
    """Features of small integers, many equal."""
    arrays = golden("edge_cases")
    head = LinearHead(arrays["feat_W"], arrays["feat_b"], "fc")
    train, query = (
        Activations({"fc": arrays[f"feat_{split}"]}, head=head) for split in ("train", "query")
    )
    return train, arrays["feat_y"], query, arrays


@pytest.mark.parametrize("number", range(3))
def test_react_is_that_of_the_reference(number, reference, golden):
    train, y, test = reference
    expected = golden("react")
    pipeline = make_pipeline(ReAct(percentile=expected["percentiles"][number]), EnergyDetector())
    pipeline.fit(train, y)
    assert_allclose(pipeline[0].threshold_, expected["threshold"][number, 1], rtol=1e-6)
    close(pipeline[0].transform(test).logits, expected["logits_train_threshold"][number])
    close(pipeline.score_samples(test), -expected["score"][number, 1])


def test_react_with_a_threshold_of_its_own_is_that_of_the_reference(reference, golden):
    train, y, test = reference
    expected = golden("react")
    for threshold, score in zip(expected["threshold"][:, 0], expected["score"][:, 0], strict=True):
        pipeline = make_pipeline(ReAct(threshold=threshold), EnergyDetector()).fit(train, y)
        close(pipeline.score_samples(test), -score)


@pytest.mark.parametrize("number", range(3))
def test_vra_is_that_of_the_reference(number, reference, golden):
    train, y, test = reference
    expected = golden("vra")
    low, high = expected["settings"][number]
    vra = VRA(low_percentile=low, high_percentile=high)
    pipeline = make_pipeline(vra, EnergyDetector()).fit(train, y)
    assert_allclose(pipeline[0].thresholds_, expected["threshold_official"][number], rtol=1e-6)
    close(pipeline[0].transform(test).logits, expected["logits_official"][number])
    close(pipeline.score_samples(test), -expected["score_official"][number])


def by_name(name):
    """ASH or SCALE from a name such as ash_s_85."""
    *_, percentile = name.split("_")
    percentile = int(percentile)
    return (
        SCALE(percentile=percentile)
        if name.startswith("scale")
        else ASH(variant=name[4], percentile=percentile)
    )


@pytest.mark.parametrize("number", range(12))
def test_ash_and_scale_are_those_of_the_reference(number, reference, golden):
    train, y, test = reference
    expected = golden("ash_scale")
    # With equal values to choose among, the choice of the reference is arbitrary.
    rows = ~expected["ash_b_tie"][number]
    pipeline = make_pipeline(by_name(str(expected["names"][number])), EnergyDetector())
    pipeline.fit(train, y)
    logits = pipeline[0].transform(test).logits
    assert_allclose(logits[rows], expected["logits"][number][rows], rtol=1e-5, atol=1e-4)
    close(pipeline.score_samples(test)[rows], expected["score"][number][rows])


@pytest.mark.parametrize(("number", "name"), [(0, "ash_b_65"), (1, "ash_s_85"), (2, "scale_85")])
def test_shaped_features_are_those_of_the_reference(number, name, reference, golden):
    _, _, test = reference
    expected = golden("ash_scale")
    tied = expected["ash_b_tie"][list(expected["names"]).index(name)]
    wanted = expected["shaped_first_rows"][number]
    rows = np.flatnonzero(~tied[: len(wanted)])
    shaped = by_name(name).fit_transform(test[rows])["fc"]
    close(shaped, wanted[rows])


@pytest.mark.parametrize("name", ["ash_p_65", "ash_s_65", "scale_65"])
def test_small_integers_are_shaped_as_in_the_reference(name, small_reference):
    _, _, query, arrays = small_reference
    shaped = by_name(name).fit_transform(query)["fc"]
    assert np.isfinite(shaped).all()
    assert not shaped[arrays["feat_shape_nonfinite_rows"]].any()
    free = [] if name == "scale_65" else arrays["feat_shape_tie_rows"]
    rows = np.setdiff1d(np.arange(len(query)), [*free, *arrays["feat_shape_nonfinite_rows"]])
    assert_allclose(shaped[rows], arrays[f"feat_{name}"][rows], rtol=1e-5, atol=1e-5)
    # Which of equal units are kept does not matter for what is kept.
    expected = np.delete(arrays[f"feat_{name}"], arrays["feat_shape_nonfinite_rows"], axis=0)
    found = np.delete(shaped, arrays["feat_shape_nonfinite_rows"], axis=0)
    assert_allclose(np.sort(found), np.sort(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ash_p_65", "ash_b_65", "ash_s_65", "scale_65"])
def test_feature_maps_are_shaped_over_channels_and_space_together(name, golden):
    arrays = golden("edge_cases")
    maps = arrays["maps_positive"].reshape(5, -1)
    expected = arrays[f"maps_{name}"].reshape(5, -1)
    shaped = by_name(name).fit_transform(maps)
    free = [] if name == "scale_65" else arrays["maps_tie_rows"]
    rows = np.setdiff1d(np.arange(5), free)
    assert_allclose(shaped[rows], expected[rows], rtol=1e-5, atol=1e-5)
    assert_allclose(np.sort(shaped), np.sort(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", range(6))
def test_dice_is_that_of_the_reference_also_behind_react(number, reference, golden):
    train, y, test = reference
    expected = golden("dice")
    sparsity, clip = expected["settings"][number]
    pipeline = make_pipeline(ReAct(threshold=clip), DICE(sparsity=sparsity), EnergyDetector())
    pipeline.fit(train, y)
    assert_allclose(pipeline[1].mean_features_, expected["mean_feature"], rtol=1e-6)
    mask = pipeline[1].weight_mask_ & (train.head.weight != 0)
    assert_array_equal(mask, expected["weight_mask"][number])
    close(pipeline[:2].transform(test).logits, expected["logits"][number])
    close(pipeline.score_samples(test), expected["score"][number])


@pytest.mark.parametrize("sparsity", [50, 75])
def test_dice_of_small_integers_is_that_of_the_reference(sparsity, small_reference):
    train, y, query, arrays = small_reference
    logits = DICE(sparsity=sparsity).fit(train, y).transform(query).logits
    assert_allclose(logits, arrays[f"feat_dice_{sparsity}"], rtol=1e-5, atol=1e-5)


# Definitions


def rows_of(dtype, largest):
    """Arrays of one to three rows and one to nine units."""
    elements = st.floats(-largest, largest, width=np.dtype(dtype).itemsize * 8)
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 9))
    return shapes.flatmap(lambda shape: np_arrays(dtype, shape, elements=elements))


any_rows = rows_of(np.float64, np.finfo(np.float64).max) | rows_of(
    np.float32, float(np.finfo(np.float32).max)
)
rows_with_ties = np_arrays(np.float64, (3, 7), elements=st.integers(-2, 3))
percentiles = st.sampled_from([0, 10, 50, 65, 90, 100])


@given(rows=any_rows, percentile=percentiles)
def test_ash_and_scale_of_any_row_are_finite(rows, percentile):
    for shaper in (
        ASH(variant="p", percentile=percentile),
        ASH(variant="b", percentile=percentile),
        ASH(),
        SCALE(percentile=percentile),
    ):
        shaped = shaper.fit_transform(rows)
        assert np.isfinite(shaped).all()
        assert shaped.dtype == rows.dtype


@given(rows=rows_with_ties, percentile=percentiles)
def test_ash_keeps_the_largest_and_of_equal_ones_those_of_earlier_units(rows, percentile):
    n_kept = 7 - round(7 * percentile / 100)
    for row, pruned in zip(
        rows, ASH(variant="p", percentile=percentile).fit_transform(rows), strict=True
    ):
        kept = np.argsort(-row, kind="stable")[:n_kept]
        expected = np.zeros(7)
        expected[kept] = row[kept]
        assert_array_equal(pruned, expected)


@given(rows=rows_with_ties, percentile=percentiles)
def test_ash_and_scale_multiply_or_replace_what_is_kept(rows, percentile):
    kept = ASH(variant="p", percentile=percentile).fit_transform(rows + 10.0) > 0
    before, after = rows.sum(axis=1), np.where(kept, rows, 0).sum(axis=1)
    share = before / max(kept[0].sum(), 1)
    ratio = np.divide(before, after, out=np.zeros(3), where=after > 0)
    factor = np.exp(ratio)[:, np.newaxis]
    binary = ASH(variant="b", percentile=percentile).fit_transform(rows)
    assert_allclose(binary, np.where(kept, share[:, np.newaxis], 0))
    assert_allclose(
        ASH(variant="s", percentile=percentile).fit_transform(rows),
        np.where(kept, rows * factor, 0),
    )
    assert_allclose(SCALE(percentile=percentile).fit_transform(rows), rows * factor)


def test_half_a_unit_is_rounded_to_the_even_number():
    row = np.arange(1.0, 6.0)[np.newaxis]
    for percentile, n_kept in ((10, 5), (30, 3), (50, 3), (70, 1)):
        assert (
            np.count_nonzero(ASH(variant="p", percentile=percentile).fit_transform(row)) == n_kept
        )


# Sums and differences of larger numbers leave the range of their precision.
@given(rows=rows_of(np.float64, 2.0**1000) | rows_of(np.float32, 2.0**120), percentile=percentiles)
def test_scale_keeps_the_order_within_a_sample(rows, percentile):
    for row, shaped in zip(rows, SCALE(percentile=percentile).fit_transform(rows), strict=True):
        ordered = shaped[np.argsort(row)]
        assert (ordered[1:] >= ordered[:-1]).all()


def test_an_exponent_beyond_the_range_of_the_dtype_is_bounded():
    row = np.full((1, 200), 1.0, dtype=np.float32)
    shaped = ASH(percentile=99.5).fit_transform(row)
    assert 1e20 < shaped.max() < np.finfo(np.float32).max / 1e6


@pytest.mark.filterwarnings("ignore:ReAct clips features at")
@given(rows=any_rows, percentile=percentiles)
def test_react_clips_at_the_percentile_of_all_values_and_twice_is_once(rows, percentile):
    react = ReAct(percentile=percentile)
    with np.errstate(over="ignore"):
        clipped = react.fit_transform(rows)
    assert_array_equal(react.transform(clipped), clipped)
    assert_array_equal(clipped, np.minimum(rows, react.threshold_))
    assert np.mean(rows <= react.threshold_) >= percentile / 100 - 1 / rows.size


def test_an_explicit_threshold_overrides_the_percentile():
    assert_array_equal(
        ReAct(percentile=0, threshold=2).fit_transform([[1.0, 5.0], [3.0, 0.0]]), [[1, 2], [2, 0]]
    )


@pytest.mark.filterwarnings("ignore:VRA clips features at")
@given(rows=rows_with_ties)
def test_vra_removes_what_is_below_and_clips_what_is_above(rows):
    vra = VRA(low_percentile=30, high_percentile=80).fit(rows)
    low, high = np.percentile(rows, [30, 80])
    expected = [[min(0 if value < low else value, high) for value in row] for row in rows]
    assert_allclose(vra.transform(rows), expected)


def test_vra_refuses_a_low_percentile_above_the_high_one():
    with pytest.raises(ValueError, match="low_percentile=80, high_percentile=70"):
        VRA(low_percentile=80, high_percentile=70).fit([[1.0, 2.0]])


@pytest.mark.filterwarnings("ignore:DICE keeps no weight")
@given(
    features=np_arrays(np.float64, (4, 5), elements=st.integers(-1, 3)),
    weight=np_arrays(np.float64, (3, 5), elements=st.integers(-2, 2)),
    sparsity=st.sampled_from([0, 25, 50, 75, 100]),
)
def test_dice_is_its_definition_also_with_ties(features, weight, sparsity):
    contribution = features.sum(axis=0) / 4 * weight
    kept = contribution > np.percentile(contribution, sparsity)
    bias = np.array([1.0, 0.0, -1.0])
    A = Activations({"fc": features}, head=LinearHead(weight, bias, "fc"))
    shaped = DICE(sparsity=sparsity).fit_transform(A)
    assert_array_equal(shaped["fc"], features)
    for row, logits in zip(features, shaped.logits, strict=True):
        expected = [
            sum(row[d] * weight[k, d] for d in range(5) if kept[k, d]) + bias[k] for k in range(3)
        ]
        assert_allclose(logits, expected)


def test_dice_takes_the_means_of_other_samples(data):
    A, y = data
    means = A[y != -1].features.mean(axis=0, dtype=np.float64)
    expected = DICE(sparsity=60).fit(A, y).transform(A).logits
    found = DICE(sparsity=60, mean_features=means.tolist()).fit(A[:3]).transform(A).logits
    assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"shape \(12,\).*\(2,\)"):
        DICE(mean_features=[1.0, 2.0]).fit(A)


# What holds for every one of them


@every_shaper
def test_network_output_and_other_layers_stay(shaper, data):
    A, y = data
    shaped = clone(shaper).fit(A, y).transform(A)
    assert shaped.layer_names == A.layer_names
    assert shaped["conv"] is A["conv"]
    assert not np.array_equal(shaped.logits, A.logits)
    assert_array_equal(shaped.predictions, A.predictions)
    assert_array_equal(shaped.features, A["fc"])


@every_shaper
def test_logits_are_those_of_the_head_that_is_handed_on(shaper, data):
    A, y = data
    shaped = clone(shaper).fit_transform(A, y)
    if isinstance(shaper, LINe):
        assert shaped.head is None
    else:
        assert_array_equal(shaped.logits, shaped.head.logits(shaped["fc"]))


@every_shaper
def test_float32_stays_float32_and_nothing_is_overwritten(shaper, data):
    A, y = data
    before = A["fc"].copy(), A.logits.copy(), A.head.weight.copy()
    shaped = clone(shaper).fit_transform(A, y)
    assert shaped["fc"].dtype == shaped.logits.dtype == np.float32
    for array, copy in zip((A["fc"], A.logits, A.head.weight), before, strict=True):
        assert_array_equal(array, copy)


@every_shaper
def test_rows_marked_ood_and_the_order_of_samples_do_not_matter(shaper, data):
    A, y = data
    inside = np.random.default_rng(1).permutation(60)
    expected = clone(shaper).fit(A, y).transform(A)
    found = clone(shaper).fit(A[inside], y[inside]).transform(A)
    assert_allclose(found["fc"], expected["fc"], rtol=1e-6)
    assert_allclose(found.logits, expected.logits, rtol=1e-5)


class Unreadable(np.ndarray):
    """An array that must not be read."""

    def _refuse(self, *args, **kwargs):
        raise AssertionError("This layer was read.")

    __getitem__ = __array_ufunc__ = __array_function__ = _refuse


@every_shaper
def test_other_layers_are_not_read(shaper, data):
    A, y = data
    layers = {"conv": A["conv"].view(Unreadable), "fc": A["fc"]}
    lazy = Activations(layers, logits=A.logits, head=A.head)
    rows = np.arange(0, 80, 3)
    shaped = clone(shaper).fit(lazy[rows], y[rows]).transform(lazy[::2])
    expected = clone(shaper).fit(A[rows], y[rows]).transform(A[::2])
    assert_array_equal(shaped.logits, expected.logits)
    with pytest.raises(AssertionError, match="was read"):
        shaped["conv"]


@every_shaper
def test_memory_mapped_features_are_shaped_alike(shaper, data, tmp_path):
    A, y = data
    A.save(tmp_path / "A")
    mapped = Activations.load(tmp_path / "A", mmap_mode="r")
    expected = clone(shaper).fit_transform(A, y)
    shaped = clone(shaper).fit_transform(mapped, y)
    assert_array_equal(shaped["fc"], expected["fc"])
    assert np.shares_memory(shaped["conv"], mapped["conv"])


@every_shaper
def test_predictions_are_kept_without_logits_or_the_layer_of_the_head(shaper, data):
    A, y = data
    bare = Activations({"fc": A["fc"]}, head=LinearHead(A.head.weight, A.head.bias))
    shaped = clone(shaper).fit_transform(bare, y)
    assert_array_equal(shaped.predictions, A.predictions)
    assert_array_equal(shaped.features, A["fc"])


@every_shaper
def test_a_head_is_needed(shaper, data):
    A, y = data
    with pytest.raises(ValueError, match=f"{type(shaper).__name__} needs the head"):
        clone(shaper).fit(A.assign(head=None), y)


@every_shaper
def test_whole_numbers_are_shaped_as_floats_are(shaper):
    X = np.random.default_rng(0).integers(0, 9, size=(10, 12))
    y = np.arange(10)
    found = clone(shaper).fit_transform(X, y)
    assert found.dtype == np.float64
    assert_array_equal(found, clone(shaper).fit_transform(X.astype(float), y))


# Composition and search


def test_react_and_dice_give_the_same_in_either_order(data):
    A, y = data
    one = make_pipeline(ReAct(percentile=80), DICE(sparsity=60)).fit(A, y).transform(A)
    other = make_pipeline(DICE(sparsity=60), ReAct(percentile=80)).fit(A, y).transform(A)
    assert_array_equal(one.logits, other.logits)
    assert_array_equal(one["fc"], other["fc"])
    assert_array_equal(one.head.weight, other.head.weight)


def test_means_of_dice_are_those_of_the_network_behind_any_shaping(data):
    A, y = data
    expected = DICE().fit(A, y).mean_features_
    for first in (
        ReAct(percentile=50),
        ASH(variant="s", percentile=50),
        VRA(low_percentile=50, high_percentile=60),
    ):
        assert_array_equal(make_pipeline(first, DICE()).fit(A, y)[1].mean_features_, expected)


def test_shapers_follow_one_another_and_predictions_stay(data):
    A, y = data
    chain = make_pipeline(
        VRA(low_percentile=20, high_percentile=99),
        SCALE(percentile=70),
        ReAct(percentile=95),
        DICE(sparsity=30),
        LINe(),
        EnergyDetector(),
    )
    chain.fit(A, y)
    assert np.isfinite(chain.score_samples(A)).all()
    shaped = chain[:-1].transform(A)
    assert_array_equal(shaped.predictions, A.predictions)
    assert_array_equal(shaped.features, A["fc"])


def test_nothing_that_needs_a_head_follows_line(data):
    A, y = data
    with pytest.raises(ValueError, match="ReAct needs the head"):
        make_pipeline(LINe(), ReAct()).fit(A, y)


CHANGES = [
    (ReAct(percentile=50), {"percentile": 95}),
    (ReAct(percentile=50), {"threshold": 1.0}),
    (ASH(variant="s", percentile=50), {"percentile": 75}),
    (ASH(variant="s", percentile=50), {"variant": "b"}),
    (SCALE(percentile=50), {"percentile": 75}),
    (VRA(low_percentile=10, high_percentile=90), {"low_percentile": 50}),
    (VRA(low_percentile=10, high_percentile=90), {"high_percentile": 70}),
    (DICE(sparsity=20), {"sparsity": 70}),
    (DICE(sparsity=70), {"mean_features": np.arange(12.0)}),
    (LINe(activation_percentile=10, weight_percentile=50, clip=1.0), {"clip": 0.5}),
    (LINe(activation_percentile=10, weight_percentile=50, clip=1.0), {"activation_percentile": 60}),
    (LINe(activation_percentile=10, weight_percentile=50, clip=1.0), {"weight_percentile": 90}),
]


@pytest.mark.parametrize(("shaper", "change"), CHANGES, ids=lambda value: repr(value)[:30])
def test_no_statistic_is_stale(shaper, change, data):
    A, y = data
    bystander = make_pipeline(clone(shaper), EnergyDetector()).fit(A, y)
    before = bystander.score_samples(A)
    reused = make_pipeline(clone(shaper), EnergyDetector()).fit(A, y)
    reused[0].set_params(**change)
    for rows in (np.arange(0, 60, 2), np.arange(80)):
        reused.fit(A[rows], y[rows])
        fresh = make_pipeline(clone(shaper).set_params(**change), EnergyDetector())
        fresh.fit(A[rows], y[rows])
        assert_array_equal(reused.score_samples(A), fresh.score_samples(A))
        assert not np.array_equal(reused.score_samples(A), before)
    assert_array_equal(bystander.score_samples(A), before)


@pytest.mark.filterwarnings("ignore:ReAct clips features at")
@pytest.mark.parametrize(
    ("pipeline", "grid"),
    [
        (make_pipeline(ReAct(), EnergyDetector()), {"react__percentile": [30, 60, 90]}),
        (make_pipeline(DICE(), EnergyDetector()), {"dice__sparsity": [10, 50, 90]}),
        (make_pipeline(LINe(), EnergyDetector()), {"line__clip": [0.3, 1.0, None]}),
        (make_pipeline(ASH(), EnergyDetector()), {"ash__percentile": [30, 60, 90]}),
    ],
    ids=["react", "dice", "line", "ash"],
)
def test_a_search_sees_each_setting(pipeline, grid, data):
    A, y = data
    search = GridSearchCV(pipeline, grid, cv=OODKFold(2), error_score="raise").fit(A, y)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) == len(scores)
    splits = list(OODKFold(2).split(A, y))
    for params, found in zip(search.cv_results_["params"], scores, strict=True):
        expected = [
            clone(pipeline).set_params(**params).fit(A[train], y[train]).score(A[test], y[test])
            for train, test in splits
        ]
        assert found == pytest.approx(np.mean(expected))


def test_the_energy_of_shaped_logits_is_the_score(data):
    A, y = data
    pipeline = make_pipeline(ReAct(), DICE(), EnergyDetector()).fit(A, y)
    logits = pipeline[:2].transform(A).logits
    assert_allclose(pipeline.score_samples(A), logsumexp(logits, axis=1), rtol=1e-6)


# Half precision, bits and features that tell nothing


@pytest.mark.parametrize("shaper", SHAPERS, ids=lambda shaper: repr(shaper)[:30])
def test_half_precision_is_shaped_as_single_precision_is(shaper, data):
    A, y = data
    half = (1e4 * A["fc"]).astype(np.float16)
    head = LinearHead(A.head.weight.astype(np.float16), A.head.bias.astype(np.float16), "fc")
    single = LinearHead(head.weight.astype(np.float32), head.bias.astype(np.float32), "fc")
    found = clone(shaper).fit_transform(Activations({"fc": half}, head=head), y)
    expected = clone(shaper).fit_transform(
        Activations({"fc": half.astype(np.float32)}, head=single), y
    )
    assert found["fc"].dtype == np.float32
    assert_allclose(found["fc"], expected["fc"], rtol=1e-6)
    assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shaper", [ASH(variant="s", percentile=50), SCALE(percentile=50)])
@pytest.mark.parametrize(("dtype", "factor"), [("f2", 1e4), ("f4", 1e37), ("f8", 1e300)])
def test_large_features_are_scaled_by_the_factor_of_small_ones(shaper, dtype, factor):
    rows = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
    expected = shaper.fit_transform(rows)
    found = shaper.fit_transform((factor * rows).astype(dtype))
    assert_allclose(found / found.dtype.type(factor), expected, rtol=1e-3)


@pytest.mark.parametrize("shaper", SHAPERS, ids=lambda shaper: repr(shaper)[:30])
@pytest.mark.filterwarnings("ignore:(ReAct|VRA) clips")
def test_bits_are_shaped_as_numbers(shaper, data):
    A, y = data
    bits = A["fc"] > 0.5
    found = clone(shaper).fit_transform(Activations({"fc": bits}, head=A.head), y)
    numbers = Activations({"fc": bits.astype(float)}, head=A.head)
    expected = clone(shaper).fit_transform(numbers, y)
    assert_array_equal(found["fc"], expected["fc"])
    assert_array_equal(found.logits, expected.logits)


def test_logits_beyond_single_precision_are_computed_in_double_precision():
    head = LinearHead(np.full((1, 4), 10, dtype=np.float32), input_layer="fc")
    A = Activations({"fc": np.full((1, 4), 3e38, dtype=np.float32)}, head=head)
    assert_allclose(ASH(variant="p", percentile=0).fit_transform(A).logits, [[1.2e40]], rtol=1e-6)


def test_logits_beyond_double_precision_are_refused():
    head = LinearHead(np.full((1, 4), 10.0), input_layer="fc")
    A = Activations({"fc": np.full((1, 4), 1e308)}, logits=[[1.0]], head=head)
    with pytest.raises(ValueError, match="logits of shaped features contains infinity in 1 of 1"):
        ASH(variant="p", percentile=0).fit_transform(A)


@pytest.mark.parametrize(
    "shaper", [ReAct(percentile=60), VRA(low_percentile=30, high_percentile=60)]
)
def test_a_clip_that_leaves_nothing_is_told(shaper, data):
    A, _ = data
    sparse = A["fc"].copy()
    sparse[:, :9] = 0
    with pytest.warns(UserWarning, match=r"clips features at 0, which no training feature is belo"):
        shaped = shaper.fit_transform(Activations({"fc": sparse}, head=A.head))
    assert not shaped["fc"].any()


def test_a_head_without_weights_is_told(data):
    A, _ = data
    with pytest.warns(UserWarning, match=r"DICE keeps no weight: .* the biases as logits"):
        shaped = DICE().fit_transform(Activations({"fc": np.zeros((9, 12))}, head=A.head))
    assert_array_equal(shaped.logits, np.tile(A.head.bias, (9, 1)))


@every_shaper
def test_logits_of_a_head_are_made_whatever_memory_holds(shaper, data, hold_at_most):
    A, _ = data
    without = Activations({"fc": A["fc"]}, head=A.head)
    fitted = clone(shaper).fit(without)
    expected = fitted.transform(without)
    hold_at_most(200)
    shaped = fitted.transform(without)
    assert_allclose(shaped.logits, expected.logits, rtol=1e-6)
    assert_array_equal(shaped.predictions, A.predictions)


def test_many_samples_are_shaped_as_each_alone():
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(3, 300)), rng.normal(size=3), "fc")
    A = Activations({"fc": rng.normal(size=(3000, 300))}, head=head)  # several blocks of rows
    for shaper in (ReAct(), VRA(), ASH(), SCALE()):
        shaped = shaper.fit(A).transform(A)
        alone = [shaper.transform(A[row : row + 1]) for row in (0, 1500, 2999)]
        assert_allclose(shaped["fc"][[0, 1500, 2999]], np.concatenate([a["fc"] for a in alone]))
        assert_allclose(shaped.logits[[0, 1500, 2999]], np.concatenate([a.logits for a in alone]))
        assert_allclose(shaped.logits, shaped["fc"] @ head.weight.T + head.bias)


def test_logits_that_leave_single_precision_in_one_row_are_numbers_in_all():
    features = np.ones((3000, 300), dtype=np.float32)
    features[-1] = 1e37
    head = LinearHead(np.full((2, 300), [[1.0], [2.0]], dtype=np.float32), input_layer="fc")
    logits = np.zeros((3000, 2), dtype=np.float32)
    A = Activations({"fc": features}, logits=logits, head=head)
    shaped = ReAct(threshold=1e38).fit(A).transform(A)
    assert_allclose(shaped.logits, features.astype(float) @ head.weight.T)


def test_predictions_stay_those_of_the_network_behind_shaping(data):
    A, _ = data
    shaped = ReAct(threshold=0.1).fit(A).transform(A)
    assert (shaped.logits.argmax(axis=1) != A.predictions).any()
    for copied in (shaped, shaped[::-1][::-1], pickle.loads(pickle.dumps(shaped))):
        assert_array_equal(copied.predictions, A.predictions)
        assert_array_equal(copied[3:7].predictions, A.predictions[3:7])
    assert_array_equal(
        Activations.concatenate([shaped, shaped[:5]]).predictions[-5:], A.predictions[:5]
    )
