"""The figure of the last rows of a stream."""

import numpy as np
import pytest
from _calibrated import Calibrated

from skood.monitoring import DriftDisplay, DriftMonitor

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def monitor(n_changed=0):
    rng = np.random.default_rng(0)
    drift = DriftMonitor(Calibrated(rng.normal(size=200)), n_history=80)
    drift.update(rng.normal(size=(100, 1)))
    return drift.update(rng.normal(size=(n_changed, 1)) - 2) if n_changed else drift


def test_lines_are_those_of_the_history():
    drift = monitor(30)
    history = drift.history_
    display = DriftDisplay.from_estimator(drift)
    for line, name in (
        (display.rate_line_, "alarm_rate"),
        (display.bound_line_, "rate_lower_bound"),
        (display.martingale_line_, "martingale"),
    ):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(51, 131))
        np.testing.assert_array_equal(line.get_ydata(), history[name])
    alarm = history["is_alarm"]
    np.testing.assert_array_equal(display.points_.get_ydata(), history["p_value"][~alarm])
    np.testing.assert_array_equal(display.alarm_points_.get_xdata(), history["row"][alarm])
    limits = [line.get_ydata()[0] for line in display.limit_lines_]
    assert limits == [drift.rate_limit_, drift.martingale_limit_]
    assert [line.get_xdata()[0] for line in display.alarm_lines_] == [drift.alarm_time_] * 3
    assert [ax.get_ylabel() for ax in display.axes_] == ["p-value", "alarm rate", "evidence"]


def test_the_alarm_is_marked_where_it_is_among_the_rows():
    assert DriftDisplay.from_estimator(monitor()).alarm_lines_ == []
    drift = monitor(30)
    display = DriftDisplay.from_estimator(drift, last=5)
    assert display.alarm_lines_ == []
    assert display.rate_line_.get_xdata().tolist() == [126, 127, 128, 129, 130]


def test_it_takes_the_place_of_axes():
    figure, axes = plt.subplots(1, 2)
    display = DriftDisplay.from_estimator(monitor(), ax=axes[1])
    assert display.figure_ is figure
    assert figure.axes == [axes[0], *display.axes_]
    boxes = [ax.get_position() for ax in display.axes_]
    assert boxes[0].y0 > boxes[1].y1 > boxes[2].y1
    assert all(box.x0 > axes[0].get_position().x1 for box in boxes)


def test_what_is_refused():
    with pytest.raises(TypeError, match="Expected a DriftMonitor"):
        DriftDisplay.from_estimator(Calibrated([0.0]))
    with pytest.raises(ValueError, match="last must be a whole number"):
        DriftDisplay.from_estimator(monitor(), last=0)
    empty = DriftMonitor(Calibrated([0.0]))
    with pytest.raises(ValueError, match="no rows to draw"):
        DriftDisplay.from_estimator(empty)
    history = monitor().history_
    limits = {"rate_limit": 0.1, "martingale_limit": 200}
    with pytest.raises(ValueError, match="different lengths"):
        DriftDisplay(history=history | {"p_value": [0.5]}, **limits).plot()
    with pytest.raises(ValueError, match=r"lacks.*p_value"):
        DriftDisplay(history={"row": [1]}, **limits).plot()


@pytest.mark.parametrize("last", [0, -1, 2.5, "3"])
def test_other_numbers_of_rows_are_refused(last):
    with pytest.raises(ValueError, match="last must be a whole number of at least 1"):
        DriftDisplay.from_estimator(monitor(), last=last)


@pytest.mark.parametrize("kind", ["by place", "inset", "of a subfigure"])
def test_axes_outside_of_a_grid_are_shared_too(kind):
    figure = plt.figure()
    if kind == "by place":
        ax = figure.add_axes((0.2, 0.1, 0.6, 0.8))
    elif kind == "inset":
        ax = figure.add_subplot().inset_axes((0.2, 0.1, 0.6, 0.8))
    else:
        ax = figure.subfigures(1, 2)[1].add_axes((0.2, 0.1, 0.6, 0.8))
    figure.canvas.draw()
    place = ax.get_window_extent()
    display = DriftDisplay.from_estimator(monitor(), ax=ax, last=np.int64(4))
    assert display.figure_ is figure
    figure.canvas.draw()
    boxes = [ax.get_window_extent() for ax in display.axes_]
    assert boxes[0].y0 > boxes[1].y1 > boxes[1].y0 > boxes[2].y1
    for box in boxes:
        assert place.x0 - 1 <= box.x0 < box.x1 <= place.x1 + 1
        assert place.y0 - 1 <= box.y0 < box.y1 <= place.y1 + 1
    assert len(display.rate_line_.get_xdata()) == 4


def test_one_row_is_seen():
    display = DriftDisplay.from_estimator(monitor(), last=1)
    for line in (display.rate_line_, display.bound_line_, display.martingale_line_):
        assert line.get_marker() == "o"
