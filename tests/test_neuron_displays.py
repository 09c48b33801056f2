"""Displays of single neurons: what is drawn, where, and what is refused."""

import sys

import numpy as np
import pytest

from skood import Activations
from skood.activations import PackedBits
from skood.inspection import MeanActivationDisplay, NeuronMeasureDisplay, NeuronStatistics

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

ACCURACY = {"fc1": [0.5, np.nan, 1.0, 0.75], "fc2": [0.25, 1.0]}
COUNT = {"fc1": [10, 0, 30, 20], "fc2": [0, 40]}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def statistics():
    weak = {"fc1": [False, True, False, False], "fc2": [True, False]}
    return NeuronStatistics({"accuracy": ACCURACY, "activation_count": COUNT, "weak": weak})


def heights(display, layer):
    return [bar.get_height() for bar in display.bars_[layer]]


def colors(display, layer):
    return [bar.get_facecolor() for bar in display.bars_[layer]]


# Neuron measures


def test_bars_are_sorted_and_neurons_without_a_value_have_none(statistics):
    display = NeuronMeasureDisplay.from_statistics(statistics, "accuracy")
    assert heights(display, "fc1") == [1.0, 0.75, 0.5]
    assert heights(display, "fc2") == [1.0, 0.25]
    assert display.order_["fc1"].tolist() == [2, 3, 0]
    assert display.order_["fc2"].tolist() == [1, 0]
    assert display.axes_[0].get_xlabel() == "3 of 4 neurons"
    assert display.axes_[1].get_xlabel() == "2 neurons"


def test_height_order_and_colour_of_bars_are_three_measures():
    gradient = {"fc1": [0.1, 0.4, 0.2, 0.3], "fc2": [np.nan, 0.0]}
    statistics = NeuronStatistics(
        {"accuracy": ACCURACY, "training_count": COUNT, "average_gradient": gradient}
    )
    display = NeuronMeasureDisplay.from_statistics(
        statistics, height="accuracy", sort_by="training_count", color="average_gradient"
    )
    # By count 30, 20, 10, 0, of which the last has no accuracy; and 40, 0.
    assert display.order_["fc1"].tolist() == [2, 3, 0]
    assert display.order_["fc2"].tolist() == [1, 0]
    assert heights(display, "fc1") == [1.0, 0.75, 0.5]
    scale, cmap = plt.Normalize(0, 0.4), plt.get_cmap("viridis")
    np.testing.assert_allclose(colors(display, "fc1"), cmap(scale([0.2, 0.3, 0.1])))
    assert display.axes_[0].get_ylabel() == "neuron accuracy (share of samples)"
    assert display.axes_[0].get_xlabel() == "3 of 4 neurons by\nactivation count in\ntraining"
    assert display.colorbar_.ax.get_ylabel() == "average gradient in training"


def test_the_same_three_measures_can_be_given_as_they_are():
    display = NeuronMeasureDisplay(
        height={"fc": [1, 2, 3, 4]}, sort_by={"fc": [0, np.nan, 5, 1]}, color={"fc": [9, 9, 9, 0]}
    ).plot()
    assert display.order_["fc"].tolist() == [2, 3, 0, 1]  # one without a value comes last
    assert heights(display, "fc") == [3, 4, 1, 2]
    first, second, third, _ = colors(display, "fc")
    assert first == third != second


def test_where_accuracies_are_heights_that_of_the_network_is_a_dotted_line():
    measures = {"accuracy": ACCURACY, "activation_count": COUNT}
    statistics = NeuronStatistics(measures, network_accuracy=0.9)
    display = NeuronMeasureDisplay.from_statistics(
        statistics, height="accuracy", sort_by="activation_count"
    )
    assert list(display.reference_lines_) == ["fc1", "fc2"]
    for line in display.reference_lines_.values():
        assert list(line.get_ydata()) == [0.9, 0.9]
        assert line.get_linestyle() == ":"
    assert [text.get_text() for text in display.axes_[-1].texts] == ["network"]
    counts = NeuronMeasureDisplay.from_statistics(
        statistics, height="activation_count", color="accuracy"
    )
    assert counts.reference_lines_ == {}
    other = NeuronMeasureDisplay.from_statistics(statistics, "accuracy", reference=0.5)
    assert list(other.reference_lines_["fc1"].get_ydata()) == [0.5, 0.5]


def test_equal_values_keep_the_order_of_the_units():
    display = NeuronMeasureDisplay(height={"fc": [1, 2, 1, 2]}).plot()
    assert display.order_["fc"].tolist() == [1, 3, 0, 2]


def test_bars_are_coloured_by_the_other_measure_on_one_scale(statistics):
    display = NeuronMeasureDisplay.from_statistics(
        statistics, "accuracy", color="activation_count", cmap="cividis"
    )
    scale = plt.Normalize(0, 40)
    cmap = plt.get_cmap("cividis")
    np.testing.assert_allclose(colors(display, "fc1"), cmap(scale([30, 20, 10])))
    np.testing.assert_allclose(colors(display, "fc2"), cmap(scale([40, 0])))
    assert (display.colorbar_.vmin, display.colorbar_.vmax) == (0, 40)
    assert display.colorbar_.ax.get_ylabel() == "activation count (samples)"


def test_a_neuron_without_a_colour_is_grey(statistics):
    display = NeuronMeasureDisplay.from_statistics(statistics, "activation_count", color="accuracy")
    assert display.order_["fc1"].tolist() == [2, 3, 0, 1]
    grey = matplotlib.colors.to_rgba("#bbbbbb")
    assert [color == grey for color in colors(display, "fc1")] == [False, False, False, True]


def test_where_no_neuron_has_a_colour_all_are_grey():
    nothing = {"fc": [np.nan, np.nan]}
    display = NeuronMeasureDisplay(
        height={"fc": [1, 2]}, color=nothing, names={"color": "accuracy"}
    ).plot()
    assert set(colors(display, "fc")) == {matplotlib.colors.to_rgba("#bbbbbb")}


def test_true_and_false_have_two_colours(statistics):
    display = NeuronMeasureDisplay.from_statistics(
        statistics, "activation_count", color="weak", layers="fc2"
    )
    high, low = colors(display, "fc2")
    assert (high, low) == (plt.get_cmap("viridis")(0.0), plt.get_cmap("viridis")(1.0))
    labels = [label.get_text() for label in display.colorbar_.ax.get_yticklabels()]
    assert labels == ["no", "yes"]


def test_without_a_colour_there_is_no_colour_bar(statistics):
    display = NeuronMeasureDisplay.from_statistics(statistics, "accuracy")
    assert display.colorbar_ is None
    assert len(display.figure_.axes) == 2


def test_each_layer_has_axes_with_its_name(statistics):
    display = NeuronMeasureDisplay.from_statistics(statistics, "accuracy")
    assert [ax.get_title() for ax in display.axes_] == ["fc1", "fc2"]
    assert display.axes_[0].get_ylabel() == "neuron accuracy (share of samples)"
    assert display.axes_[0].get_ylim() == display.axes_[1].get_ylim()
    assert all(ax.figure is display.figure_ for ax in display.axes_)


@pytest.mark.parametrize("layers", ["fc2", ["fc2"]])
def test_some_layers_can_be_drawn_alone(statistics, layers):
    display = NeuronMeasureDisplay.from_statistics(statistics, "accuracy", layers=layers)
    assert list(display.bars_) == ["fc2"]
    assert len(display.axes_) == 1


def test_the_reference_line_crosses_all_axes_and_is_named(statistics):
    display = NeuronMeasureDisplay.from_statistics(
        statistics, "accuracy", reference=0.9, reference_label="network"
    )
    assert list(display.reference_lines_) == ["fc1", "fc2"]
    for line in display.reference_lines_.values():
        assert list(line.get_ydata()) == [0.9, 0.9]
    assert [text.get_text() for text in display.axes_[-1].texts] == ["network"]
    bare = NeuronMeasureDisplay.from_statistics(statistics, "accuracy", reference_label="network")
    assert bare.reference_lines_ == {}
    assert not bare.axes_[-1].texts


def test_axes_that_are_given_are_used_and_no_figure_is_made(statistics):
    figure, axes = plt.subplots(2, 1)
    n_figures = len(plt.get_fignums())
    display = NeuronMeasureDisplay.from_statistics(statistics, "accuracy", ax=axes)
    assert list(display.axes_) == list(axes)
    assert display.figure_ is figure
    single = NeuronMeasureDisplay.from_statistics(statistics, "accuracy", layers="fc1", ax=axes[1])
    assert list(single.axes_) == [axes[1]]
    assert len(plt.get_fignums()) == n_figures


def test_axes_that_are_not_as_many_as_the_layers_are_refused(statistics):
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="There are 2 layers, but ax holds 1 axes"):
        NeuronMeasureDisplay.from_statistics(statistics, "accuracy", ax=ax)


def test_plot_again_draws_the_same_elsewhere(statistics):
    display = NeuronMeasureDisplay.from_statistics(statistics, "accuracy")
    first = display.figure_
    assert display.plot(color="black") is display
    assert display.figure_ is not first
    assert heights(display, "fc1") == [1.0, 0.75, 0.5]
    assert set(colors(display, "fc1")) == {(0.0, 0.0, 0.0, 1.0)}


def test_measures_of_other_neurons_are_refused():
    display = NeuronMeasureDisplay(height={"fc": [1, 2]}, sort_by={"fc": [2, 1]}, color={"fc": [1]})
    with pytest.raises(ValueError, match=r"height has.*'fc': 2.*color has.*'fc': 1"):
        display.plot()
    display = NeuronMeasureDisplay(height={"fc": [1, 2]}, sort_by={"fc2": [1, 2]})
    with pytest.raises(ValueError, match=r"height has.*'fc': 2.*sort_by has.*'fc2': 2"):
        display.plot()
    assert not plt.get_fignums()


def test_unknown_columns_and_layers_are_refused(statistics):
    with pytest.raises(KeyError, match="No column 'support'"):
        NeuronMeasureDisplay.from_statistics(statistics, "support")
    with pytest.raises(KeyError, match="No column 'support'"):
        NeuronMeasureDisplay.from_statistics(statistics, "accuracy", color="support")
    with pytest.raises(KeyError, match=r"No layers \['fc3'\]; the layers are \['fc1', 'fc2'\]"):
        NeuronMeasureDisplay.from_statistics(statistics, "accuracy", layers=["fc1", "fc3"])
    with pytest.raises(ValueError, match="'layer' does not hold numbers"):
        NeuronMeasureDisplay.from_statistics(statistics, "layer")


# Mean activations


@pytest.fixture
def X():
    return Activations({"fc": [[0, 3, 1], [0, 1, 3], [4, 0, 0], [0, 2, 5], [2, 2, 6]]})


GROUPS = ["known", "known", "noise", "noise", "noise"]


def test_lines_are_means_of_the_sets_sorted_by_the_first(X):
    display = MeanActivationDisplay.from_activations(X, GROUPS, layer="fc")
    assert list(display.lines_) == ["known", "noise"]
    assert display.order_.tolist() == [1, 2, 0]
    np.testing.assert_allclose(display.lines_["known"].get_ydata(), [2, 2, 0])
    np.testing.assert_allclose(display.lines_["noise"].get_ydata(), [4 / 3, 11 / 3, 2])
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == list(
        display.lines_
    )
    assert display.ax_.get_title() == "fc"


def test_another_set_can_sort_the_neurons(X):
    display = MeanActivationDisplay.from_activations(X, GROUPS, layer="fc", reference="noise")
    assert display.order_.tolist() == [2, 0, 1]
    assert (np.diff(display.lines_["noise"].get_ydata()) <= 0).all()
    assert "'noise'" in display.ax_.get_xlabel()


def test_training_counts_sort_the_neurons_above_their_shares(X):
    counts = {"fc": [3, 7, np.nan], "other": [1]}
    display = MeanActivationDisplay.from_activations(
        X, GROUPS, layer="fc", sort_by=counts, sorted_by="training count"
    )
    assert display.order_.tolist() == [1, 0, 2]
    np.testing.assert_allclose(display.lines_["known"].get_ydata(), [2, 0, 2])
    # Active are 2 and 2 of 3 neurons, and 1, 2 and 3.
    assert display.active_shares == {"known": 4 / 6, "noise": 6 / 9}
    assert display.ax_.get_xlabel() == (
        "neuron, sorted by training count\nneurons active: known 66.7%, noise 66.7%"
    )
    of_layer = MeanActivationDisplay.from_activations(X, GROUPS, layer="fc", sort_by=[1, 2, 3])
    assert of_layer.order_.tolist() == [2, 1, 0]


def test_each_set_can_have_a_diagram_with_its_share_under_it(X):
    display = MeanActivationDisplay.from_activations(
        X[:4], GROUPS[:4], layer="fc", sort_by=[1, 2, 3], separate=True
    )
    assert len(display.axes_) == 2
    for (name, line), ax in zip(display.lines_.items(), display.axes_, strict=True):
        assert line.axes is ax
        assert ax.get_xlabel().endswith(f"neurons active: {name} {display.active_shares[name]:.1%}")
    assert display.active_shares == {"known": 4 / 6, "noise": 3 / 6}
    _, axes = plt.subplots(1, 2)
    assert list(display.plot(axes, separate=True).axes_) == list(axes)
    with pytest.raises(ValueError, match="2 axes are needed, but ax holds 1"):
        display.plot(axes[0], separate=True)


def test_a_channel_is_active_where_any_position_is():
    maps = np.array([[[[0, 0], [0, 1]], [[0, 0], [0, 0]]], [[[-1, 0], [0, 0]], [[2, 2], [2, 2]]]])
    X = Activations({"conv": maps.astype(float)})
    display = MeanActivationDisplay.from_activations(X, ["a", "a"], layer="conv")
    assert display.active_shares == {"a": 0.5}


def test_a_measure_of_other_neurons_sorts_nothing(X):
    draw = MeanActivationDisplay.from_activations
    with pytest.raises(KeyError, match=r"sort_by has no layer 'fc'; its layers are \['relu'\]"):
        draw(X, GROUPS, layer="fc", sort_by={"relu": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"each of the 3 neurons of 'fc', got shape \(2,\)"):
        draw(X, GROUPS, layer="fc", sort_by=[1, 2])
    assert not plt.get_fignums()


def test_feature_maps_are_averaged_over_positions_and_bits_counted():
    rng = np.random.default_rng(0)
    maps, bits = rng.random((6, 3, 2, 4)), rng.random((6, 70)) < 0.5
    X = Activations({"conv": maps, "bits": PackedBits.pack(bits)})
    groups = np.array(["a", "b"] * 3)
    for layer, by_unit in (("conv", maps.mean(axis=(2, 3))), ("bits", bits)):
        display = MeanActivationDisplay.from_activations(X, groups, layer=layer)
        for name in "ab":
            expected = by_unit[groups == name].mean(axis=0)
            np.testing.assert_allclose(display.means[name], expected)
            np.testing.assert_allclose(display.lines_[name].get_ydata(), expected[display.order_])


def test_mean_activations_are_drawn_where_asked_and_as_asked(X):
    figure, ax = plt.subplots()
    display = MeanActivationDisplay.from_activations(X, GROUPS, layer="fc", ax=ax, linewidth=3)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert {line.get_linewidth() for line in display.lines_.values()} == {3}
    again = display.plot()
    assert again is display
    assert display.ax_ is not ax


def test_what_cannot_be_averaged_is_refused(X):
    draw = MeanActivationDisplay.from_activations
    with pytest.raises(TypeError, match="needs Activations, got ndarray"):
        draw(np.ones((5, 3)), GROUPS, layer="fc")
    with pytest.raises(KeyError, match="relu"):
        draw(X, GROUPS, layer="relu")
    with pytest.raises(ValueError, match="5 samples, but groups has 4"):
        draw(X, GROUPS[1:], layer="fc")
    with pytest.raises(ValueError, match=r"one of \['known', 'noise'\], got 'ones'"):
        draw(X, GROUPS, layer="fc", reference="ones")
    assert not plt.get_fignums()


def test_without_matplotlib_the_displays_say_what_is_missing(monkeypatch, statistics, X):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"NeuronMeasureDisplay needs matplotlib.* extra 'plot'"):
        NeuronMeasureDisplay.from_statistics(statistics, "accuracy")
    with pytest.raises(ImportError, match=r"MeanActivationDisplay needs matplotlib.* extra 'plot'"):
        MeanActivationDisplay.from_activations(X, GROUPS, layer="fc")
