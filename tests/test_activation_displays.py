"""Displays of maps and patterns: what is drawn equals the data, and what is refused."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer, PoolingReducer
from skood.activations import PackedBits
from skood.detectors import KNNDetector
from skood.inspection import ActivationMapDisplay, PatternDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

rng = np.random.default_rng(0)
MAPS = rng.normal(size=(5, 6, 3, 4)).astype(np.float32)
FEATURES = rng.normal(size=(5, 7))
BLUE, VERMILION = (matplotlib.colors.to_rgb(color) for color in ("#0072b2", "#d55e00"))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def X():
    layers = {"conv": MAPS, "relu": np.maximum(MAPS, 0), "fc": FEATURES}
    return Activations(layers, predictions=[0, 1, 0, 1, 0])


def titles(display):
    return [ax.get_title() for ax in display.axes_]


def drawn(display):
    return [np.asarray(image.get_array()) for image in display.images_]


def in_a_grid():
    return plt.subplots(1, 2)[1][1]


# Activation maps


def test_the_most_active_channels_are_drawn_in_order(X):
    display = ActivationMapDisplay.from_activations(X, layer="conv", sample=2, n_maps=4)
    means = [channel.mean() for channel in MAPS[2]]
    expected = sorted(range(6), key=lambda channel: -means[channel])[:4]
    assert display.channels.tolist() == expected
    assert titles(display) == [f"channel {channel}" for channel in expected]
    assert_allclose(drawn(display), MAPS[2, expected])


def test_of_equally_active_channels_the_earlier_comes_first():
    X = Activations({"conv": np.ones((1, 3, 2, 2))})
    display = ActivationMapDisplay.from_activations(X, layer="conv")
    assert display.channels.tolist() == [0, 1, 2]


def test_channels_can_be_named(X):
    display = ActivationMapDisplay.from_activations(X, layer="conv", channels=[5, 0, 5], n_maps=1)
    assert titles(display) == ["channel 5", "channel 0", "channel 5"]
    assert_allclose(drawn(display), MAPS[0, [5, 0, 5]])


def test_all_channels_are_drawn_where_there_are_fewer_than_asked_for(X):
    display = ActivationMapDisplay.from_activations(X, layer="conv", n_maps=100)
    assert sorted(display.channels) == list(range(6))


def test_maps_share_a_scale_from_0_that_the_colour_bar_tells(X):
    display = ActivationMapDisplay.from_activations(X, layer="relu")
    largest = np.maximum(MAPS[0], 0).max()
    for image in display.images_:
        assert image.get_clim() == (0, pytest.approx(largest))
    assert (display.colorbar_.vmin, display.colorbar_.vmax) == display.images_[0].get_clim()
    assert display.colorbar_.ax.get_ylabel() == "activation of relu"


def test_negative_values_have_a_scale_with_0_in_the_middle(X):
    display = ActivationMapDisplay.from_activations(X, layer="conv")
    limit = np.abs(MAPS[0]).max()
    assert display.images_[3].get_clim() == pytest.approx((-limit, limit))
    middle = display.images_[3].cmap(display.images_[3].norm(0.0))
    assert middle[:3] == pytest.approx((1, 1, 1), abs=0.05)


def test_each_map_can_have_its_own_scale_which_its_title_tells(X):
    display = ActivationMapDisplay.from_activations(X, layer="relu", share_scale=False, n_maps=2)
    for channel, image, title in zip(
        display.channels, display.images_, titles(display), strict=True
    ):
        largest = MAPS[0, channel].max()
        assert image.get_clim() == (0, pytest.approx(largest))
        assert title == f"channel {channel}\n0 to {largest:.2g}"
    assert display.colorbar_ is None
    assert display.axes_[0].get_ylabel() == "relu"


def test_a_scale_that_is_given_holds_for_all_maps(X):
    display = ActivationMapDisplay.from_activations(X, layer="conv", vmin=-9, vmax=7, cmap="gray")
    assert {image.get_clim() for image in display.images_} == {(-9, 7)}
    assert display.images_[0].cmap.name == "gray"


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_maps_without_a_finite_value_other_than_0_are_drawn(value):
    X = Activations({"conv": np.full((1, 2, 2, 2), value)})
    display = ActivationMapDisplay.from_activations(X, layer="conv")
    display.figure_.canvas.draw()
    assert display.images_[0].get_clim() == (0, 1)


def test_boolean_maps_are_drawn():
    X = Activations({"conv": MAPS > 0})
    display = ActivationMapDisplay.from_activations(X, layer="conv", channels=[1])
    assert_array_equal(drawn(display)[0], MAPS[0, 1] > 0)


@pytest.mark.parametrize("shape", [(8, 9), (1, 8, 9)])
def test_a_grey_image_comes_first(X, shape):
    image = rng.uniform(size=shape)
    display = ActivationMapDisplay.from_activations(X, layer="conv", n_maps=3, image=image)
    assert len(display.axes_) == len(display.images_) == 4
    assert display.axes_[0].get_title() == "input"
    assert_array_equal(drawn(display)[0], image.reshape(8, 9))
    assert display.images_[0].cmap.name == "gray"
    assert display.images_[0].get_clim() != display.images_[1].get_clim()


def test_a_coloured_image_may_have_its_channels_first_or_last(X):
    image = rng.uniform(size=(3, 8, 9))
    for given_image in (image, np.moveaxis(image, 0, -1)):
        display = ActivationMapDisplay.from_activations(X, layer="conv", image=given_image)
        assert_array_equal(drawn(display)[0], np.moveaxis(image, 0, -1))


def test_a_plain_colour_outside_the_range_is_drawn_without_a_warning(X):
    image = np.full((3, 5, 5), -2.0)
    display = ActivationMapDisplay.from_activations(X, layer="conv", image=image)
    assert np.isfinite(display.images_[0].get_array()).all()


def test_standardised_colours_are_brought_back_between_0_and_1(X):
    image = rng.normal(size=(3, 8, 9))
    display = ActivationMapDisplay.from_activations(X, layer="conv", image=image)
    shown = drawn(display)[0]
    assert (shown.min(), shown.max()) == (0, 1)
    assert np.corrcoef(shown.ravel(), np.moveaxis(image, 0, -1).ravel())[0, 1] > 0.999


def test_one_axes_is_divided_and_what_is_beside_it_stays_empty(X):
    figure, (left, right) = plt.subplots(1, 2)
    place = right.get_position()
    display = ActivationMapDisplay.from_activations(X, layer="relu", image=np.eye(4), ax=right)
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert not left.has_data()
    assert len(display.axes_) == 7
    for ax in [*display.axes_, display.colorbar_.ax]:
        assert place.x0 - 1e-9 <= ax.get_position().x0 < ax.get_position().x1 <= place.x1 + 1e-9


def test_an_axes_for_each_image_can_be_given(X):
    figure, axes = plt.subplots(2, 2)
    display = ActivationMapDisplay.from_activations(
        X, layer="conv", n_maps=3, image=np.eye(4), ax=axes
    )
    assert display.axes_.tolist() == axes.ravel().tolist()
    assert plt.get_fignums() == [figure.number]


def test_another_number_of_axes_is_refused(X):
    axes = plt.subplots(1, 2)[1]
    with pytest.raises(ValueError, match="There are 3 images, but ax holds 2 axes"):
        ActivationMapDisplay.from_activations(X, layer="conv", n_maps=3, ax=axes)


def test_an_axes_outside_a_grid_is_refused(X):
    ax = plt.figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="cannot be divided"):
        ActivationMapDisplay.from_activations(X, layer="conv", ax=ax)


@pytest.mark.parametrize("n_maps", [1, 2, 5, 9])
@pytest.mark.parametrize("image", [None, np.eye(4)], ids=["alone", "with input"])
def test_images_do_not_overlap(n_maps, image):
    X = Activations({"conv": np.ones((1, n_maps, 2, 2))})
    display = ActivationMapDisplay.from_activations(X, layer="conv", n_maps=n_maps, image=image)
    display.figure_.draw_without_rendering()
    boxes = [ax.get_window_extent().padded(-1) for ax in display.axes_]
    assert not any(box.count_overlaps(boxes) > 1 for box in boxes)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": "conv9"}, KeyError, r"conv9.*the layers are \['conv', 'relu', 'fc'\]"),
        ({"layer": "fc"}, ValueError, r"'fc' has samples of shape \(7,\).*\['conv', 'relu'\]"),
        ({"sample": 5}, ValueError, "sample == 5, must be <= 4"),
        ({"sample": -1}, ValueError, "sample == -1, must be >= 0"),
        ({"sample": 1.0}, TypeError, "sample must be an instance of int"),
        ({"n_maps": 0}, ValueError, "n_maps == 0, must be >= 1"),
        ({"channels": [0, 6]}, ValueError, r"from 0 to 5 in this layer, got \[0, 6\]"),
        ({"channels": [-1]}, ValueError, r"from 0 to 5 in this layer, got \[-1\]"),
        ({"channels": []}, ValueError, r"must be a list of channel numbers, got \[\]"),
        ({"channels": [0.5]}, ValueError, r"must be a list of channel numbers, got \[0.5\]"),
        ({"image": np.ones((2, 5, 5))}, ValueError, r"image must have shape.*got \(2, 5, 5\)"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) and "image" not in value else "",
)
def test_maps_that_cannot_be_drawn_are_refused(X, arguments, error, message):
    with pytest.raises(error, match=message):
        ActivationMapDisplay.from_activations(X, **({"layer": "conv"} | arguments))
    assert plt.get_fignums() == []


# Patterns by class


def make_patterns(n_samples=40, seed=0):
    generator = np.random.default_rng(seed)
    layers = {
        "real": generator.normal(size=(n_samples, 9)),
        "flags": generator.random((n_samples, 4)) > 0.5,
        "bits": PackedBits.pack(generator.random((n_samples, 70)) > 0.4),
    }
    classes = generator.integers(0, 12, n_samples)
    return Activations(layers, predictions=classes), classes


def unpacked(X):
    return np.hstack([np.asarray(layer) > 0 for _, layer in X.items()])


def codes(display):
    return np.asarray(display.image_.get_array())


def test_rows_are_the_samples_class_by_class_and_columns_the_neurons():
    X, classes = make_patterns()
    display = PatternDisplay.from_activations(X, classes, sort_neurons=False)
    order = np.argsort(classes, kind="stable")
    assert_array_equal(codes(display), unpacked(X)[order])
    assert_array_equal(display.groups, classes[order].astype(str))
    assert {name: len(units) for name, units in display.neurons.items()} == {
        "real": 9,
        "flags": 4,
        "bits": 70,
    }


def test_sorting_exchanges_the_neurons_within_each_layer_as_it_says():
    X, classes = make_patterns()
    display = PatternDisplay.from_activations(X, classes)
    expected = np.hstack([np.asarray(X[n])[:, units] > 0 for n, units in display.neurons.items()])
    assert_array_equal(codes(display), expected[np.argsort(classes, kind="stable")])
    for name, units in display.neurons.items():
        assert sorted(units) == list(range(X[name].shape[1]))


def test_neurons_of_one_class_stand_together_and_undecided_ones_last():
    always, cat, bird, cat_too, never = (
        [1, 1, 1, 1],
        [0, 0, 1, 1],
        [1, 1, 0, 0],
        [0, 1, 1, 1],
        [0] * 4,
    )
    X = Activations({"fc": np.transpose([always, cat_too, cat, bird, never])})
    display = PatternDisplay.from_activations(X, ["bird", "bird", "cat", "cat"])
    assert display.neurons["fc"].tolist() == [3, 2, 1, 0, 4]


@settings(max_examples=20)
@given(n_samples=st.integers(1, 60), max_per_class=st.integers(1, 9), seed=st.integers(0, 99))
def test_classes_are_thinned_evenly_to_at_most_so_many(n_samples, max_per_class, seed):
    classes = np.random.default_rng(seed).integers(0, 3, n_samples)
    X = Activations({"fc": np.eye(n_samples)})
    display = PatternDisplay.from_activations(
        X, classes, max_per_class=max_per_class, sort_neurons=False
    )
    rows = codes(display).argmax(axis=1)
    plt.close("all")
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        positions = np.flatnonzero(np.isin(members, rows))
        assert len(positions) == min(len(members), max_per_class)
        gaps = np.diff([*positions, len(members)])
        assert np.ptp(gaps) <= 1


def test_all_samples_are_drawn_where_no_limit_is_set():
    X, _ = make_patterns(80)
    assert len(codes(PatternDisplay.from_activations(X, np.zeros(80)))) == 25
    display = PatternDisplay.from_activations(X, np.zeros(80), max_per_class=None)
    assert len(codes(display)) == 80


def test_classes_are_named_in_ascending_order_with_lines_between_them():
    X = Activations({"fc": np.eye(5)})
    display = PatternDisplay.from_activations(X, [10, 9, 10, 2, 9])
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["2", "9", "10"]
    assert display.ax_.get_yticks().tolist() == [0, 1.5, 3.5]
    assert [line.get_ydata()[0] for line in display.ax_.get_lines()] == [0.5, 2.5]
    assert display.differing_ == display.marks_ == {}


def test_layers_are_named_with_lines_between_them():
    X, classes = make_patterns()
    display = PatternDisplay.from_activations(X, classes)
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["real", "flags", "bits"]
    (lines,) = display.ax_.collections
    assert [segment[0][0] for segment in lines.get_segments()] == [8.5, 12.5]


def test_long_names_of_layers_are_slanted():
    layers = {f"features.stage{number}.activation": np.eye(3) for number in range(3)}
    display = PatternDisplay.from_activations(Activations(layers), np.zeros(3))
    assert {label.get_rotation() for label in display.ax_.get_xticklabels()} == {30}


def test_training_counts_sort_the_neurons_of_patterns_above_their_shares():
    X = Activations({"a": [[1, 0, 2], [0, 0, 1]], "b": [[1, 1], [0, 1]]})
    counts = {"a": [5, 9, 7], "b": [1, 2]}
    display = PatternDisplay.from_activations(X, [0, 1], sort_by=counts, sorted_by="count")
    assert display.neurons["a"].tolist() == [1, 2, 0]
    assert display.neurons["b"].tolist() == [1, 0]
    expected = [[0, 1, 1, 1, 1], [0, 1, 0, 1, 0]]
    np.testing.assert_array_equal(display.image_.get_array(), expected)
    assert display.active_shares_ == {"a": 0.5, "b": 0.75}
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["a\n50.0% active", "b\n75.0% active"]
    assert display.ax_.get_xlabel() == "neurons by layer, sorted by count (black: active)"
    single = PatternDisplay.from_activations(X, [0, 1], layer="b", sort_by=counts)
    assert single.ax_.get_xlabel() == (
        "neurons of b, sorted by the given measure (black: active)\n75.0% active"
    )
    with pytest.raises(KeyError, match="sort_by has no layer 'b'"):
        PatternDisplay.from_activations(X, [0, 1], sort_by={"a": [1, 2, 3]})


def test_one_layer_can_be_drawn_alone():
    X, classes = make_patterns()
    display = PatternDisplay.from_activations(X, classes, layer="flags", sort_neurons=False)
    assert codes(display).shape[1] == 4
    assert display.ax_.get_xlabel() == "neurons of flags (black: active)"


def test_active_is_black_and_silent_is_white():
    display = PatternDisplay(patterns=[[True, False]], groups=["a"], neurons={"fc": [0, 1]}).plot()
    pixels = display.image_.to_rgba(codes(display))[0, :, :3]
    assert pixels.tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("groups", "options", "error", "message"),
    [
        (np.zeros(39), {}, ValueError, "There are 40 samples, but groups has 39"),
        (np.zeros(40), {"layer": "no"}, KeyError, r"the layers are \['real', 'flags', 'bits'\]"),
        (np.zeros(40), {"max_per_class": 0}, ValueError, "max_per_class == 0, must be >= 1"),
        (np.zeros(40), {"max_per_class": 2.5}, TypeError, "max_per_class must be an instance of"),
    ],
    ids=["length", "layer", "none", "fraction"],
)
def test_patterns_that_cannot_be_drawn_are_refused(groups, options, error, message):
    X, _ = make_patterns()
    with pytest.raises(error, match=message):
        PatternDisplay.from_activations(X, groups, **options)


def test_maps_have_to_be_pooled_before_patterns_are_drawn(X):
    with pytest.raises(ValueError, match=r"layer 'conv' has shape \(6, 3, 4\): pool it first"):
        PatternDisplay.from_activations(X, np.zeros(5))


@pytest.mark.parametrize(
    ("groups", "neurons", "message"),
    [
        (["a"], {"fc": [0, 1]}, "There are 2 samples, but groups has 1"),
        (["a", "b"], {"fc": [0]}, "patterns has 2 neurons, but neurons numbers 1"),
    ],
    ids=["groups", "neurons"],
)
def test_parts_of_other_lengths_are_refused(groups, neurons, message):
    display = PatternDisplay(patterns=np.eye(2), groups=groups, neurons=neurons)
    with pytest.raises(ValueError, match=message):
        display.plot()


@pytest.mark.parametrize("groups", [["a", "a"], ["a", "b", "c"]], ids=["sets", "rows"])
def test_differences_are_those_of_two_rows_of_two_sets(groups):
    display = PatternDisplay(
        patterns=np.eye(len(groups)),
        groups=groups,
        neurons={"fc": range(len(groups))},
        mark_differences=True,
    )
    with pytest.raises(ValueError, match=f"but there are {len(groups)} row"):
        display.plot()


# A sample beside its nearest stored pattern


@pytest.fixture
def train():
    return make_patterns(60, seed=1)


@pytest.fixture
def detector(train):
    return HammingNAPDetector().fit(*train)


def nearest_training_pattern(train, X, sample):
    """By brute force: of the predicted class, the most common one of equally near ones."""
    A, classes = train
    members = unpacked(A)[classes == X.predictions[sample]]
    patterns, counts = np.unique(members, axis=0, return_counts=True)
    distances = (patterns != unpacked(X)[sample]).sum(axis=1)
    is_nearest = distances == distances.min()
    best = is_nearest & (counts == counts[is_nearest].max())
    return patterns[best], distances.min()


@pytest.mark.parametrize("sample", [0, 7, 21])
def test_the_neurons_that_differ_are_those_of_a_brute_force(train, detector, sample):
    X, _ = make_patterns(seed=2)
    display = PatternDisplay.from_detector(detector, X, sample)
    candidates, distance = nearest_training_pattern(train, X, sample)
    assert_array_equal(display.patterns[1], unpacked(X)[sample])
    assert any(np.array_equal(display.patterns[0], candidate) for candidate in candidates)
    differs = display.patterns[0] ^ display.patterns[1]
    layers = np.repeat(["real", "flags", "bits"], [9, 4, 70])
    numbers = np.concatenate([np.arange(9), np.arange(4), np.arange(70)])
    assert list(display.differing_) == ["real", "flags", "bits"]
    for name, units in display.differing_.items():
        assert_array_equal(units, numbers[differs & (layers == name)])
    assert sum(map(len, display.differing_.values())) == distance
    assert distance == detector.kneighbors(X[[sample]], 1)[0][0, 0]


def test_marks_tell_by_shape_and_colour_which_of_the_two_is_active(detector):
    X, _ = make_patterns(seed=2)
    display = PatternDisplay.from_detector(detector, X, 3)
    stored, sample = display.patterns
    only_stored, only_sample = (
        np.flatnonzero(stored & ~sample),
        np.flatnonzero(sample & ~stored),
    )
    marks = display.marks_
    assert_array_equal(marks["stored pattern"].get_xdata(), only_stored)
    assert_array_equal(marks["sample"].get_xdata(), only_sample)
    assert (marks["stored pattern"].get_marker(), marks["sample"].get_marker()) == ("v", "^")
    pixels = display.image_.to_rgba(codes(display))[..., :3]
    assert_allclose(pixels[0, only_stored], [BLUE] * len(only_stored))
    assert_allclose(pixels[1, only_sample], [VERMILION] * len(only_sample))
    assert_array_equal(codes(display)[0] > 0, stored)
    assert_array_equal(codes(display)[1] > 0, sample)
    rows = display.ax_.get_yticklabels()
    assert [row.get_text() for row in rows] == [
        "stored pattern\n▼ active here only",
        "sample\n▲ active here only",
    ]
    assert [matplotlib.colors.to_rgb(row.get_color()) for row in rows] == [BLUE, VERMILION]


def labels_above(display):
    (axis,) = display.ax_.child_axes
    return [label.get_text() for label in axis.get_xticklabels()], axis.get_xticks()


def test_neurons_that_differ_are_named_by_layer_and_number(detector):
    X, _ = make_patterns(seed=2)
    display = PatternDisplay.from_detector(detector, X, 3, max_labels=83)
    names = [f"{layer} {unit}" for layer, units in display.differing_.items() for unit in units]
    assert labels_above(display)[0] == names


def test_neurons_of_one_layer_are_named_by_number_alone():
    patterns = np.array([[1, 0, 0], [1, 1, 1]])
    detector = HammingNAPDetector(tau=1).fit(Activations({"fc": patterns[:1]}))
    display = PatternDisplay.from_detector(detector, Activations({"fc": patterns[1:]}))
    assert labels_above(display)[0] == ["1", "2"]
    assert display.ax_.get_xlabel() == "neurons of fc (black: active)"


def test_labels_are_at_most_so_many_and_keep_clear_of_each_other():
    patterns = np.zeros((2, 200), dtype=bool)
    patterns[1, 80:180] = True
    detector = HammingNAPDetector().fit(patterns[:1])
    display = PatternDisplay.from_detector(detector, patterns[1:], max_labels=25)
    names, places = labels_above(display)
    assert names == [str(unit) for unit in range(80, 180, 4)]
    assert np.diff(places).min() >= 200 / 25 - 1e-6
    assert places[0] >= -0.5
    assert places[-1] <= 199.5
    assert len(display.differing_["X"]) == 100


@pytest.mark.parametrize("max_labels", [0, 40])
def test_a_pattern_that_is_stored_has_no_marks(train, detector, max_labels):
    display = PatternDisplay.from_detector(detector, train[0], 5, max_labels=max_labels)
    assert all(len(units) == 0 for units in display.differing_.values())
    assert not display.ax_.child_axes
    display.figure_.canvas.draw()


@pytest.mark.parametrize(("tau", "verdict"), [(100, "no alarm"), (0, "alarm")])
def test_the_title_tells_class_verdict_and_distance(train, tau, verdict):
    X, classes = make_patterns(seed=2)
    detector = HammingNAPDetector(tau=tau).fit(*train)
    display = PatternDisplay.from_detector(detector, X, 3)
    distance = detector.kneighbors(X[[3]], 1)[0][0, 0]
    assert display.ax_.get_title() == (
        f"class {classes[3]}, {verdict}: {distance} of 83 neurons differ"
    )


def test_without_predictions_the_title_names_no_class():
    detector = HammingNAPDetector(tau=1).fit(np.eye(3))
    display = PatternDisplay.from_detector(detector, [[0, 0, 1], [1, 1, 1]], 1)
    assert display.ax_.get_title() == "alarm: 2 of 3 neurons differ"


def test_a_pipeline_makes_the_pattern_of_the_sample(X):
    pipeline = make_pipeline(PoolingReducer(), PercentileBinarizer(), HammingNAPDetector()).fit(X)
    display = PatternDisplay.from_detector(pipeline, X, 4)
    assert_array_equal(display.patterns[1], unpacked(pipeline[:-1].transform(X))[4])


def test_detectors_of_another_kind_are_refused(train):
    X, _ = train
    with pytest.raises(TypeError, match="Expected a HammingNAPDetector, got KNNDetector"):
        PatternDisplay.from_detector(KNNDetector(n_neighbors=2).fit(X[["real"]]), X[["real"]])
    with pytest.raises(TypeError, match="with the method kneighbors, got PercentileBinarizer"):
        PatternDisplay.from_detector(PercentileBinarizer(), X)


def test_a_detector_that_is_not_fitted_is_refused(train):
    with pytest.raises(NotFittedError, match="HammingNAPDetector instance is not fitted yet"):
        PatternDisplay.from_detector(HammingNAPDetector(), train[0])


@pytest.mark.parametrize("sample", [60, -1])
def test_a_sample_that_is_not_there_is_refused(train, detector, sample):
    with pytest.raises(ValueError, match=f"sample == {sample}, must be"):
        PatternDisplay.from_detector(detector, train[0], sample)


def test_a_class_without_stored_patterns_is_refused():
    train = Activations({"fc": np.eye(2)}, predictions=["cat", "bird"])
    new = Activations({"fc": [[1, 1]]}, predictions=["dog"])
    detector = HammingNAPDetector().fit(train)
    with pytest.raises(ValueError, match=r"class 'dog'; there are some for \['bird', 'cat'\]"):
        PatternDisplay.from_detector(detector, new)


# All of them


def draw(kind, X, ax=None):
    if kind == "maps":
        return ActivationMapDisplay.from_activations(X, layer="relu", sample=1, ax=ax)
    dense = X[["fc"]]
    if kind == "classes":
        return PatternDisplay.from_activations(dense, X.predictions, ax=ax)
    return PatternDisplay.from_detector(HammingNAPDetector().fit(dense[:3]), dense, 3, ax=ax)


KINDS = pytest.mark.parametrize("kind", ["maps", "classes", "sample"])


@KINDS
def test_drawing_again_gives_a_new_figure_and_the_given_style(X, kind):
    display = draw(kind, X)
    first = display.figure_
    assert display.plot(cmap="gray") is display
    assert display.figure_ is not first
    image = display.images_[0] if kind == "maps" else display.image_
    assert image.cmap.name == "gray"


@KINDS
def test_a_given_axes_is_used_and_no_figure_is_made(X, kind):
    ax = in_a_grid()
    display = draw(kind, X, ax)
    assert display.figure_ is ax.figure
    assert kind == "maps" or display.ax_ is ax
    assert len(plt.get_fignums()) == 1


@KINDS
def test_settings_of_matplotlib_stay_and_rendering_gives_no_warning(X, kind):
    before = dict(matplotlib.rcParams)
    draw(kind, X).figure_.canvas.draw()
    assert dict(matplotlib.rcParams) == before


@KINDS
def test_activations_are_only_read(X, kind):
    before = {name: np.array(layer) for name, layer in X.items()}
    for _, layer in X.items():
        layer.setflags(write=False)
    draw(kind, X)
    for name, layer in X.items():
        assert_array_equal(layer, before[name])
        layer.setflags(write=True)


@KINDS
def test_selected_rows_of_activations_on_disk_are_drawn_as_those_in_memory(X, kind, tmp_path):
    X.save(tmp_path / "X")
    rows = [4, 1, 2, 3]
    display = draw(kind, Activations.load(tmp_path / "X", mmap_mode="r")[rows])
    layers = {name: np.array(layer)[rows] for name, layer in X.items()}
    expected = draw(kind, Activations(layers, predictions=X.predictions[rows]))
    if kind == "maps":
        assert_array_equal(drawn(display), drawn(expected))
        assert_array_equal(display.channels, expected.channels)
    else:
        assert_array_equal(codes(display), codes(expected))


@pytest.mark.parametrize("display", [ActivationMapDisplay, PatternDisplay])
def test_arrays_are_refused(display):
    groups = () if display is ActivationMapDisplay else ([0, 0],)
    with pytest.raises(TypeError, match=f"{display.__name__} needs Activations, got ndarray"):
        display.from_activations(np.eye(2), *groups, layer="fc")


@KINDS
def test_without_matplotlib_the_error_says_what_to_install(X, kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    name = "ActivationMapDisplay" if kind == "maps" else "PatternDisplay"
    with pytest.raises(ImportError, match=rf"{name} needs matplotlib.* extra 'plot'"):
        draw(kind, X)
