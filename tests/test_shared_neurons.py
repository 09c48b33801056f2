"""Which of a class's most important neurons other classes share, and the display of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import EnergyDetector
from skood.inspection import SharedNeuronDisplay
from skood.shaping import DICE, LINe, shared_top_neurons


def shares_by_definition(contributions, percentile, overlap):
    """A row for each class; None where it has no neuron above the percentile."""
    tops = [
        {unit for unit, value in enumerate(column) if value > np.percentile(column, percentile)}
        for column in contributions.T
    ]
    owners = [units for units in tops if units]
    rows = []
    for units in tops:
        shared = [
            [unit for unit in units if sum(unit in o for o in owners) / len(owners) > level]
            for level in overlap
        ]
        rows.append([len(some) / len(units) for some in shared] if units else None)
    return rows


@given(
    np_arrays(
        np.float64,
        st.tuples(st.integers(2, 12), st.integers(1, 6)),
        elements=st.integers(-3, 3).map(float),
    ),
    st.sampled_from([90, 75, 50, 25]),
)
def test_shares_are_those_of_the_definition(contributions, percentile):
    overlap = [0, 0.2, 1 / 3, 0.5, 0.8]
    expected = shares_by_definition(contributions, percentile, overlap)
    known = [row for row in expected if row is not None]
    if not known:
        with pytest.raises(ValueError, match="No unit contributes more than others"):
            shared_top_neurons(contributions, percentile=percentile, overlap=overlap)
        return
    found = shared_top_neurons(contributions, percentile=percentile, overlap=overlap, average=False)
    rows = [[np.nan] * len(overlap) if row is None else row for row in expected]
    assert_allclose(found, rows)
    mean = shared_top_neurons(contributions, percentile=percentile, overlap=overlap)
    assert_allclose(mean, np.mean(known, axis=0))


def test_no_neuron_is_shared_where_each_class_has_its_own():
    contributions = np.eye(20)[:, :2] + 1e-3
    # A neuron is always that of its own class, one of two.
    assert_array_equal(shared_top_neurons(contributions, percentile=95, overlap=[0.4, 0.5]), [1, 0])


def test_all_are_shared_where_classes_are_alike():
    contributions = np.repeat(np.arange(20.0)[:, np.newaxis], 7, axis=1)
    assert_array_equal(shared_top_neurons(contributions, overlap=[0, 0.99]), [1, 1])


@pytest.mark.parametrize(("n_classes", "n_owners", "overlap"), [(10, 3, 0.3), (100, 7, 0.07)])
def test_exactly_the_share_is_not_more_than_it(n_classes, n_owners, overlap):
    contributions = np.zeros((n_classes + 1, n_classes))
    contributions[np.arange(n_classes), np.arange(n_classes)] = 1
    contributions[-1, :n_owners] = 1
    shares = shared_top_neurons(contributions, percentile=50, overlap=[overlap, overlap - 0.01])
    assert shares[0] == 0
    assert shares[1] == pytest.approx(n_owners * 0.5 / n_classes)


@pytest.fixture
def line():
    rng = np.random.default_rng(0)
    X, y = np.abs(rng.normal(size=(60, 30))), np.arange(60) % 4
    head = LinearHead(rng.normal(size=(5, 30)), input_layer="fc")
    return LINe(activation_percentile=80, weight_percentile=50).fit(
        Activations({"fc": X}, head=head), y
    )


def test_top_neurons_are_those_that_line_keeps(line):
    # Class 4 has no sample, and so no important neuron.
    found = shared_top_neurons(line, percentile=80, overlap=[0.25, 0.5], average=False)
    masks = line.unit_masks_[:4]
    shared = [(masks.sum(axis=0) / 4 > level) & masks for level in (0.25, 0.5)]
    expected = [some.sum(axis=1) / masks.sum(axis=1) for some in shared]
    assert_allclose(found[:4], np.transpose(expected))
    assert np.isnan(found[4]).all()


def test_a_fitted_line_a_pipeline_and_its_contributions_say_the_same(line):
    expected = shared_top_neurons(line.contributions_)
    assert expected.shape == (5,)
    assert_array_equal(shared_top_neurons(line), expected)
    assert_array_equal(shared_top_neurons(make_pipeline(line, EnergyDetector())), expected)
    assert_array_equal(shared_top_neurons(line, overlap=0.3), expected[[2]])


def test_what_has_no_contributions_is_refused(line):
    with pytest.raises(NotFittedError):
        shared_top_neurons(LINe())
    with pytest.raises(ValueError, match="one LINe in the pipeline, found 0"):
        shared_top_neurons(make_pipeline(DICE(), EnergyDetector()))
    with pytest.raises(ValueError, match="contains NaN"):
        shared_top_neurons([[1.0, np.nan]])
    with pytest.raises(ValueError, match="2D array"):
        shared_top_neurons([1.0, 2.0])
    for overlap in ([10, 20], [1.0], [], [-0.1], [np.nan]):
        with pytest.raises(ValueError, match="overlap must be shares"):
            shared_top_neurons(line, overlap=overlap)
    for percentile in (0, 100, -10):
        with pytest.raises(ValueError, match="'percentile' parameter"):
            shared_top_neurons(line, percentile=percentile)


# Display


def test_lines_are_the_mean_shares_and_bands_the_range_of_the_classes(line):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    overlap = [0.6, 0.2]
    display = SharedNeuronDisplay.from_contributions(
        {"line": line, "alike": np.repeat(np.arange(20.0)[:, np.newaxis], 3, axis=1)},
        percentile=80,
        overlap=overlap,
    )
    shares = 100 * shared_top_neurons(line, percentile=80, overlap=[0.2, 0.6], average=False)[:4]
    assert_array_equal(display.lines_["line"].get_xdata(), [20, 60])
    assert_allclose(display.lines_["line"].get_ydata(), shares.mean(axis=0))
    assert_array_equal(display.lines_["alike"].get_ydata(), 100)
    (band,) = display.ranges_["line"].get_paths()
    assert_allclose(band.vertices[:, 1].min(), shares.min())
    assert_allclose(band.vertices[:, 1].max(), shares.max())
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["line (4 classes)", "alike (3 classes)"]
    assert "top 20 %" in display.ax_.get_ylabel()
    _, ax = pyplot.subplots()
    assert SharedNeuronDisplay.from_contributions(line, ax=ax).ax_ is ax
    pyplot.close("all")
