"""The displays of tables of OD-tests: what they draw, whether it can be read, what they refuse."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from _od_tables import make_table, make_table_of_errors

from skood.inspection import MeanPerformanceDisplay, TransferDisplay, ValidationTestDisplay
from skood.model_selection import summarize

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

DISPLAYS = [MeanPerformanceDisplay, TransferDisplay, ValidationTestDisplay]
every_display = pytest.mark.parametrize("display", DISPLAYS)
LONG = [f"LayerEnsembleDetector(percentile={number}, combine='mean')" for number in range(25)]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def from_table(display, table, ax=None):
    if display is TransferDisplay:
        return display.from_table(table, table["detector"].iloc[0], ax=ax)
    return display.from_table(table, ax=ax)


# All of them


@every_display
def test_given_axes_are_drawn_on(display):
    figure, (left, right) = plt.subplots(1, 2)
    drawn = from_table(display, make_table("ab"), ax=right)
    assert drawn.ax_ is right
    assert drawn.figure_ is figure
    assert not left.has_data()
    assert right.has_data()
    assert plt.get_fignums() == [figure.number]


@every_display
def test_drawing_again_makes_another_figure(display):
    drawn = from_table(display, make_table("ab"))
    first = drawn.figure_
    assert drawn.plot() is drawn
    assert drawn.figure_ is not first


def boxes(texts):
    return [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]


def labels_in_view(axis):
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def texts_of(drawn):
    """Groups of texts that must not overlap: labels of an axis, the legend, the numbers."""
    ax = drawn.ax_
    groups = [labels_in_view(ax.yaxis), ax.texts]
    if not isinstance(drawn, TransferDisplay):
        # Those of its columns are aslant: their boxes overlap where they do not.
        groups.append(labels_in_view(ax.xaxis))
        groups.append(ax.get_legend().get_texts())
    return groups


@every_display
@pytest.mark.parametrize("n_detectors", [1, 25])
@pytest.mark.parametrize("sets", ["cd", "cdefghijklmnopqrstuvwxyz"])
def test_texts_do_not_overlap_and_are_inside_the_figure(display, n_detectors, sets):
    drawn = from_table(display, make_table(LONG[:n_detectors], sets=sets))
    drawn.figure_.canvas.draw()
    for group in texts_of(drawn):
        assert not any(one.overlaps(other) for one, other in combinations(boxes(group), 2))
    outer = drawn.figure_.bbox
    for box in boxes([text for group in texts_of(drawn) for text in group]):
        assert outer.x0 <= box.x0 <= box.x1 <= outer.x1
        assert outer.y0 <= box.y0 <= box.y1 <= outer.y1
    assert all(text.get_fontsize() >= 6 for group in texts_of(drawn) for text in group)


def test_aslant_labels_of_columns_have_room():
    drawn = TransferDisplay.from_table(make_table(LONG[:1], sets="cdefghijklmnopqrstuvwxyz"))
    drawn.figure_.canvas.draw()
    labels = drawn.ax_.get_xticklabels()
    step = np.diff(drawn.ax_.transData.transform([(0, 0), (1, 0)])[:, 0])[0]
    # Lines of text at 45 degrees are step / sqrt(2) apart.
    points = step / np.sqrt(2) * 72 / drawn.figure_.dpi
    assert all(label.get_fontsize() <= points for label in labels)


@every_display
def test_one_target_is_drawn(display):
    table = pd.concat([make_table("ab"), make_table_of_errors("ab")])
    with pytest.raises(ValueError, match=r"one target, .*table\['target'\] == 'ood'"):
        from_table(display, table)


@every_display
def test_cells_without_value_are_named(display):
    table = make_table("ab")
    table.loc[1, ["auroc", "accuracy"]] = np.nan
    with pytest.warns(UserWarning, match=r"1 cell\(s\) have no value"):
        from_table(display, table)


@every_display
@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (make_table("a").drop(columns=["auroc", "accuracy"]), ValueError, "no metric"),
        (make_table("a").drop(columns="validation"), ValueError, "no column 'validation'"),
        (make_table("a").to_dict("list"), TypeError, "got dict"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(display, table, error, message):
    with pytest.raises(error, match=message):
        display.from_table(table)


# Means


def test_bars_are_the_means_best_on_top():
    table = make_table(["a", "b", "c"], sources=["one", "other"])
    drawn = MeanPerformanceDisplay.from_table(table)
    summary = summarize(table, by="detector").set_index("detector")
    summary = summary.sort_values("auroc", ascending=False)
    assert drawn.detectors == summary.index.tolist()
    labels = [label.get_text() for label in drawn.ax_.get_yticklabels()]
    assert labels == drawn.detectors
    top, bottom = drawn.ax_.get_ylim()[::-1]
    assert top < 0 < bottom
    for metric in ("auroc", "accuracy"):
        bars = drawn.bars_[metric]
        ends = [bar.get_x() + bar.get_width() for bar in bars]
        assert ends == pytest.approx(summary[metric].tolist())
        assert [bar.get_x() for bar in bars] == [0.5] * 3
        segments = bars.errorbar.lines[2][0].get_segments()
        widths = [np.ptp(segment[:, 0]) for segment in segments]
        assert widths == pytest.approx((2 * summary[f"{metric}_se"]).tolist())
        written = [text.get_text() for text in drawn.ax_.texts]
        assert {f"{mean:.3f}" for mean in summary[metric]} <= set(written)
    assert [text.get_text() for text in drawn.ax_.get_legend().get_texts()] == ["AUROC", "accuracy"]


def test_lower_is_better_for_rates_of_errors_and_bars_begin_at_zero():
    table = make_table(["a", "b", "c"])
    drawn = MeanPerformanceDisplay.from_table(table, metrics=["fpr95_out"], color="black")
    assert np.all(np.diff(drawn.means["fpr95_out"]) > 0)
    assert drawn.bars_["fpr95_out"][0].get_x() == 0
    assert drawn.bars_["fpr95_out"][0].get_facecolor()[:3] == (0, 0, 0)
    assert drawn.chance_line_ is None


def test_means_below_chance_are_drawn_and_written_to_the_left():
    table = make_table(["a"]).assign(auroc=0.3, accuracy=0.55)
    drawn = MeanPerformanceDisplay.from_table(table)
    (bar,) = drawn.bars_["auroc"]
    assert sorted([bar.get_x(), bar.get_x() + bar.get_width()]) == pytest.approx([0.3, 0.5])
    drawn.figure_.canvas.draw()
    (text,) = [text for text in drawn.ax_.texts if text.get_text() == "0.300"]
    inside = drawn.ax_.get_window_extent()
    assert inside.x0 <= text.get_window_extent().x0
    assert text.get_window_extent().x1 <= drawn.ax_.transData.transform((0.3, 0))[0]


def test_one_test_set_has_no_error_bar_and_can_be_drawn():
    drawn = MeanPerformanceDisplay.from_table(make_table_of_errors(["msp", "knn"]))
    assert np.isnan(drawn.errors["auroc"]).all()
    drawn.figure_.canvas.draw()
    assert len(drawn.bars_["auroc"]) == 2


def test_a_detector_that_failed_everywhere_is_at_the_bottom_without_a_number():
    table = make_table(["a", "b"])
    table.loc[table["detector"] == "a", ["auroc", "accuracy"]] = np.nan
    with pytest.warns(UserWarning, match=r"6 cell\(s\) have no value"):
        drawn = MeanPerformanceDisplay.from_table(table)
    assert drawn.detectors == ["b", "a"]
    drawn.figure_.canvas.draw()
    assert len([text for text in drawn.ax_.texts if text.get_text()]) == 2


def test_means_and_detectors_must_be_as_many():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MeanPerformanceDisplay(
            detectors=["a", "b"], means={"auroc": [0.5]}, errors={"auroc": [0.1]}
        ).plot()


# Transfer


def test_cells_are_the_means_over_sources():
    table = make_table(["a", "b"], sources=["one", "other"])
    drawn = TransferDisplay.from_table(table, "b")
    # A set is first tested on after it is first configured with.
    assert drawn.test == drawn.validation == ["c", "d", "e"]
    values = np.asarray(drawn.values)
    assert np.isnan(values.diagonal()).all()
    for row, before in enumerate(drawn.validation):
        for column, after in enumerate(drawn.test):
            cell = table.query("detector == 'b' and validation == @before and test == @after")
            if before == after:
                assert (before, after) not in drawn.texts_
                continue
            assert values[row, column] == pytest.approx(cell["auroc"].mean())
            text = drawn.texts_[before, after]
            assert text.get_text() == f"{cell['auroc'].mean():.2f}"
            assert text.get_position() == (column, row)
    assert drawn.ax_.get_title() == "b"
    assert drawn.ax_.get_xlabel() == "test set"
    assert [label.get_text() for label in drawn.ax_.get_yticklabels()] == drawn.validation


def luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("metric", ["auroc", "fpr95_in"])
def test_every_number_stands_out_from_its_cell(metric):
    """The contrast that the guidelines on accessibility want of text is 4.5."""
    drawn = TransferDisplay.from_table(make_table(["a"], sets="cdefgh"), metric=metric)
    for (before, after), text in drawn.texts_.items():
        value = drawn.values[drawn.validation.index(before), drawn.test.index(after)]
        behind = luminance(drawn.image_.to_rgba(value))
        written = luminance(matplotlib.colors.to_rgb(text.get_color()))
        lower, higher = sorted([behind, written])
        assert (higher + 0.05) / (lower + 0.05) >= 4.5


@pytest.mark.parametrize("metric", ["auroc", "fpr95_in"])
def test_brighter_is_better(metric):
    drawn = TransferDisplay.from_table(make_table(["a"]), metric=metric)
    worst, best = np.nanmin(drawn.values), np.nanmax(drawn.values)
    if metric == "fpr95_in":
        worst, best = best, worst
    assert luminance(drawn.image_.to_rgba(worst)) < luminance(drawn.image_.to_rgba(best))


@pytest.mark.parametrize("validation", ["others", "none"])
def test_all_others_together_or_none_are_one_row(validation):
    table = make_table(["a"]).drop_duplicates("test").assign(validation=validation)
    drawn = TransferDisplay.from_table(table, vmin=0, vmax=1)
    assert drawn.validation == [validation]
    assert sorted(drawn.test) == ["c", "d", "e"]
    assert drawn.image_.get_clim() == (0, 1)


def test_the_detector_is_named_where_there_are_several():
    table = make_table(["a", "b"])
    for name in (None, "c"):
        with pytest.raises(ValueError, match=r"name one of \['a', 'b'\]"):
            TransferDisplay.from_table(table, name)


def test_rows_without_validation_set_have_no_heat_map():
    rows = make_table(["a"]).drop_duplicates("test").assign(validation=None)
    with pytest.raises(ValueError, match="validation='each'"):
        TransferDisplay.from_table(rows)


def test_values_must_have_the_shape_of_the_names():
    with pytest.raises(ValueError, match=r"shape \(1, 2\), .*got \(2, 1\)"):
        TransferDisplay(values=[[0.1], [0.2]], validation=["c"], test=["d", "e"]).plot()


# Validation against test


def test_points_are_means_with_a_set_as_test_and_as_validation():
    table = make_table(["a", "b"], sets="cdef", sources=["one", "other"])
    drawn = ValidationTestDisplay.from_table(table)
    keys = table[["source", "detector", "validation"]].drop_duplicates()
    expected = [
        (
            table.query("source == @s and detector == @d and test == @v")["accuracy"].mean(),
            table.query("source == @s and detector == @d and validation == @v")["accuracy"].mean(),
        )
        for s, d, v in keys.itertuples(index=False)
    ]
    assert len(expected) == 16
    drawn_points = np.column_stack([drawn.validation, drawn.test])
    np.testing.assert_allclose(drawn_points, expected)
    assert list(drawn.points_) == ["a", "b"]
    of_a = keys["detector"].to_numpy() == "a"
    np.testing.assert_allclose(drawn.points_["a"].get_offsets(), np.array(expected)[of_a])
    assert drawn.pearson_ == pytest.approx(np.corrcoef(drawn_points.T)[0, 1])
    assert f"Pearson {drawn.pearson_:.2f}" in drawn.ax_.get_legend().get_title().get_text()


@pytest.mark.parametrize(
    ("color_by", "names"),
    [("source", ["one", "other"]), ("validation", ["c", "d", "e"]), ("detector", ["a"])],
)
def test_colours_may_mean_sources_and_validation_sets(color_by, names):
    table = make_table(["a"], sources=["one", "other"])
    drawn = ValidationTestDisplay.from_table(table, metric="auroc", color_by=color_by)
    assert list(drawn.points_) == names
    assert "AUROC" in drawn.ax_.get_xlabel()


def test_each_of_many_detectors_has_its_own_colour_and_marker():
    drawn = ValidationTestDisplay.from_table(make_table(LONG))
    looks = {
        (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
        for points in drawn.points_.values()
    }
    assert len(looks) == 25


def test_validation_against_test_refuses():
    table = make_table(["a"])
    with pytest.raises(ValueError, match="color_by must be one of"):
        ValidationTestDisplay.from_table(table, color_by="test")
    for validation in (None, "none", "others"):
        rows = table.drop_duplicates("test").assign(validation=validation)
        with pytest.raises(ValueError, match="validation='each'"):
            ValidationTestDisplay.from_table(rows)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        ValidationTestDisplay(validation=[0.1, 0.2], test=[0.1]).plot()
