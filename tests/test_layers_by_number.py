"""Layers given by number: wherever a layer can be named, its position says the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from skood import ActivationExtractor, Activations, HammingNAPDetector, PercentileBinarizer
from skood._layer_names import find_layer, match_layers
from skood.ensemble import LayerEnsembleDetector
from skood.inspection import (
    ActivationMapDisplay,
    MeanActivationDisplay,
    NeuronMeasureDisplay,
    NeuronStatistics,
    PatternDisplay,
)
from skood.metrics import make_ood_scorer
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector, NeuronSelector

NAMES = ["conv", "relu", "2", "0"]


@pytest.fixture
def A():
    rng = np.random.default_rng(0)
    widths = dict(zip(NAMES, (3, 4, 5, 6), strict=True))
    return Activations({name: rng.normal(size=(8, width)) for name, width in widths.items()})


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (0, ["conv"]),
        ([0], ["conv"]),
        (-1, ["0"]),
        ([-1, 0], ["conv", "0"]),
        (np.int64(1), ["relu"]),
        (np.array([2, 1]), ["relu", "2"]),
        ((1, "conv"), ["conv", "relu"]),
        ([3, -1, "0"], ["0"]),
        (range(2), ["conv", "relu"]),
        (slice(1, 3), ["relu", "2"]),
        (slice(-2, None), ["2", "0"]),
        ([slice(None, None, 2), 3], ["conv", "2", "0"]),
        ("0", ["0"]),
        (["2"], ["2"]),
        (np.array(["0", "2"]), ["2", "0"]),
    ],
    ids=repr,
)
def test_numbers_are_positions_and_text_is_a_name(A, layers, expected):
    assert LayerSelector(layers=layers).fit(A).layers_ == expected
    assert LayerSelector(layers=layers).fit_transform(A).layer_names == tuple(expected)


@given(
    st.lists(st.sampled_from(["a", "b", "*", "1", "-1", "0"]), min_size=1, max_size=5, unique=True),
    st.lists(st.integers(-8, 8), min_size=1, max_size=4),
)
def test_numbers_select_what_a_list_gives(known, numbers):
    if all(-len(known) <= number < len(known) for number in numbers):
        chosen = {known[number] for number in numbers}
        assert match_layers(numbers, known) == [name for name in known if name in chosen]
        return
    with pytest.raises(ValueError, match="No layers match"):
        match_layers(numbers, known)


@pytest.mark.parametrize("layers", [4, [0, 4], -5, [slice(4, None)], slice(2, 1)], ids=repr)
def test_a_number_that_no_layer_has_is_refused_with_the_range(A, layers):
    with pytest.raises(ValueError, match=r"No layers match.*'conv'.*numbered from 0 to 3"):
        LayerSelector(layers=layers).fit(A)


@pytest.mark.parametrize(
    "layers",
    [True, [True, False, False, True], np.array([True]), [0.0], np.array([1.0]), [None], [[0]]],
    ids=repr,
)
def test_masks_and_fractions_are_no_numbers_of_layers(A, layers):
    with pytest.raises(ValueError, match="by name, glob pattern, number or slice"):
        LayerSelector(layers=layers).fit(A)


def test_later_the_layers_are_found_by_the_names_that_fit_saw(A):
    selector = LayerSelector(layers=[1]).fit(A)
    assert selector.transform(A[["0", "relu", "conv"]]).layer_names == ("relu",)


def test_an_array_is_layer_0():
    X = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(LayerSelector(layers=[0]).fit_transform(X), X)
    with pytest.raises(ValueError, match=r"No layers match \[1\]"):
        LayerSelector(layers=1).fit(X)


# In ensembles and searches


@pytest.fixture(scope="module")
def data():
    """Three layers, of which the last tells OOD samples best and the first not at all."""
    rng = np.random.default_rng(0)
    y = np.repeat([1, -1], [120, 60])
    layers = {
        name: rng.normal(size=(180, 30)) * np.where(y == 1, 1, spread)[:, np.newaxis]
        + np.linspace(0, 3, 30)
        for name, spread in (("0", 1), ("1", 3), ("9", 30))
    }
    return Activations(layers), y


def pipeline():
    return Pipeline(
        [
            ("select", LayerSelector()),
            ("binarize", PercentileBinarizer(percentile=50)),
            ("detect", HammingNAPDetector()),
        ]
    )


def test_an_ensemble_takes_numbers(data):
    A, y = data
    member = make_pipeline(PercentileBinarizer(percentile=50), HammingNAPDetector())
    by_number, by_name = (
        LayerEnsembleDetector(member, layers=layers).fit(A, y) for layers in ([-1, 0], ["0", "9"])
    )
    assert by_number.layers_ == ["0", "9"]
    np.testing.assert_array_equal(by_number.score_samples(A), by_name.score_samples(A))
    assert LayerEnsembleDetector(member, layers=slice(1, None)).fit(A).layers_ == ["1", "9"]


@pytest.mark.parametrize(
    "numbers", [[[0], [1], [2]], [0, 1, 2], np.arange(3), [slice(0, 1), [1], -1]], ids=repr
)
def test_a_search_over_numbers_is_one_over_names(data, numbers):
    A, y = data
    searches = [
        GridSearchCV(
            pipeline(), {"select__layers": layers}, scoring=make_ood_scorer(), cv=OODKFold(3)
        ).fit(A, y)
        for layers in (numbers, list(A.layer_names))
    ]
    scores, expected = (search.cv_results_["mean_test_score"] for search in searches)
    np.testing.assert_array_equal(scores, expected)
    assert scores.argmax() == 2
    ensembles = [LayerEnsembleDetector.from_search(search, 2).fit(A, y) for search in searches]
    np.testing.assert_array_equal(*(ensemble.score_samples(A) for ensemble in ensembles))
    with pytest.raises(ValueError, match="n_layers=4, but the search scored 3 layers"):
        LayerEnsembleDetector.from_search(searches[0], 4)


def test_a_search_tells_a_number_from_the_text_of_it(data):
    A, y = data
    grid = {"select__layers": [2, [2], "0", "1"]}
    search = GridSearchCV(pipeline(), grid, scoring=make_ood_scorer(), cv=OODKFold(3)).fit(A, y)
    members = LayerEnsembleDetector.from_search(search, 3).detector
    assert [member["select"].layers for member in members] == [2, "1", "0"]


# Extraction


@pytest.mark.parametrize("layers", [[0], [-1, "1"], [slice(2)]], ids=repr)
def test_layers_of_a_network_have_no_numbers(layers):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    X = np.zeros((4, 3), dtype=np.float32)
    extracted = ActivationExtractor(network).fit_transform(X)
    for given_to_fit in (X, extracted):
        with pytest.raises(ValueError, match=r"by name or glob pattern.*LayerSelector"):
            ActivationExtractor(network, layers).fit(given_to_fit)
    assert (
        LayerSelector(layers=[-1]).fit_transform(extracted).layer_names
        == extracted.layer_names[-1:]
    )


# One layer: displays and supports


def test_displays_take_numbers():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    rng = np.random.default_rng(0)
    A = Activations(
        {"1": rng.normal(size=(4, 2, 3, 3)), "0": rng.normal(size=(4, 5))}, predictions=[0, 1, 0, 1]
    )
    assert ActivationMapDisplay.from_activations(A, layer=0).layer == "1"
    groups = ["a", "a", "b", "b"]
    mean = MeanActivationDisplay.from_activations(A, groups, layer=-1)
    assert mean.layer == mean.ax_.get_title() == "0"
    np.testing.assert_allclose(mean.means["a"], A["0"][:2].mean(axis=0))
    assert MeanActivationDisplay.from_activations(A, groups, layer="0").layer == "0"
    assert list(PatternDisplay.from_activations(A, groups, layer=1).neurons) == ["0"]
    statistics = NeuronStatistics({"activation_count": {"1": [1, 2], "0": [5]}})
    drawn = NeuronMeasureDisplay.from_statistics(statistics, "activation_count", layers=[-1])
    assert list(drawn.height) == ["0"]
    drawn = NeuronMeasureDisplay.from_statistics(statistics, "activation_count", layers="0")
    assert list(drawn.height) == ["0"]
    drawn = NeuronMeasureDisplay.from_statistics(statistics, "activation_count", layers=slice(0, 1))
    assert list(drawn.height) == ["1"]
    for draw in (
        lambda: ActivationMapDisplay.from_activations(A, layer=2),
        lambda: MeanActivationDisplay.from_activations(A, groups, layer=-3),
        lambda: PatternDisplay.from_activations(A, groups, layer=2),
        lambda: NeuronMeasureDisplay.from_statistics(statistics, "activation_count", layers=[2]),
    ):
        with pytest.raises(KeyError, match=r"No layer.*numbered from 0"):
            draw()
    pyplot.close("all")


def test_importances_are_given_by_number_too(A):
    A = Activations(dict(A.items()), predictions=np.arange(8) % 2)
    importance = np.arange(8.0).reshape(2, 4)
    by_name, by_number = (
        NeuronSelector(importance={layer: importance}, threshold=0.7).fit(A)
        for layer in ("relu", 1)
    )
    assert list(by_number.support_) == ["relu"]
    np.testing.assert_array_equal(by_number.get_support(), by_name.get_support())
    np.testing.assert_array_equal(by_number.get_support(0), by_name.get_support("relu"))
    with pytest.raises(ValueError, match="gives a layer twice"):
        NeuronSelector(importance={1: importance, "relu": importance}).fit(A)
    with pytest.raises(ValueError, match=r"X has no layers \[7\]"):
        NeuronSelector(importance={7: importance}).fit(A)
    with pytest.raises(ValueError, match=r"layer must be one of \['relu'\], got 1"):
        by_number.get_support(1)


def test_a_name_comes_before_no_number():
    assert find_layer("0", ["1", "0"]) == "0"
    assert find_layer(0, ["1", "0"]) == "1"
    assert find_layer("relu*", ["relu1"]) is None
    assert find_layer(2, ["1", "0"]) is None
