"""Displays of a decoder: errors by class, and the images behind the largest ones."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skood.detectors import KNNDetector
from skood.inspection import ReconstructionDisplay, ReconstructionErrorDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


class Halving:
    """Knows the classes 3 and 7, and draws images half as dark."""

    classes_ = np.array([3, 7])
    error_threshold_ = 0.1

    def reconstruct(self, X):
        return self._read(X) / 2

    def reconstruction_error(self, X):
        X = self._read(X)
        return np.square(X / 2).reshape(len(X), -1).mean(axis=1)

    def _read(self, X):
        return X / 255 if X.dtype == np.uint8 else X


def make_images(grey, shape=(4, 5)):
    return np.array([np.full(shape, value) for value in grey])


GREY = np.array([0.2, 1.0, 0.4, 0.8, 0.0, 0.6])
LABELS = np.array([7, 7, 3, 0, 7, 3])


# Errors by class


def test_boxes_means_and_largest_errors_are_those_of_each_class():
    display = ReconstructionErrorDisplay.from_estimator(Halving(), make_images(GREY), LABELS)
    assert display.classes_ == [0, 3, 7]
    errors = np.square(GREY / 2)
    by_class = [errors[label == LABELS] for label in (0, 3, 7)]
    assert_allclose(display.means_, [some.mean() for some in by_class])
    assert_allclose(display.largest_, [some.max() for some in by_class])
    assert_array_equal(display.counts_, [1, 2, 3])
    for box, some in zip(display.boxes_, by_class, strict=True):
        heights = box.get_path().vertices[:, 1]
        assert_allclose([heights.min(), heights.max()], np.percentile(some, [25, 75]))
    assert_array_equal(display.threshold_line_.get_ydata(), 0.1)
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["0", "3", "7"]


@pytest.mark.parametrize(
    ("known", "unknown"), [([3, 7], [0]), ([0, 3, 7], []), (None, []), ([], [0, 3, 7])]
)
def test_classes_that_are_not_known_have_another_colour(known, unknown):
    display = ReconstructionErrorDisplay.from_errors(GREY, LABELS, known=known)
    colors = {box.get_facecolor() for box in display.boxes_}
    assert len(colors) == 1 + (0 < len(unknown) < 3)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert ("unknown class" in texts) == bool(unknown)
    assert ("known class" in texts) == (len(unknown) < 3)


def test_the_mark_of_unknown_images_is_no_class_that_is_known():
    display = ReconstructionErrorDisplay.from_errors([1.0, 2.0, 3.0], [-1, 4, 4])
    first, second = (box.get_facecolor() for box in display.boxes_)
    assert first != second
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[:2] == ["known class", "unknown class"]


def test_names_are_classes_too_and_without_a_threshold_there_is_no_line():
    classifier = Halving()
    classifier.classes_, classifier.error_threshold_ = np.array(["a", "b"]), np.inf
    images = make_images(GREY[:3])
    display = ReconstructionErrorDisplay.from_estimator(classifier, images, ["b", "a", "z"])
    assert display.classes_ == ["a", "b", "z"]
    assert display.threshold_line_ is None


def test_errors_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers"):
        ReconstructionErrorDisplay.from_errors([0.1], [1, 2])
    with pytest.raises(ValueError, match="contains NaN"):
        ReconstructionErrorDisplay.from_errors([0.1, np.nan], [1, 2])
    with pytest.raises(TypeError, match="method reconstruction_error"):
        ReconstructionErrorDisplay.from_estimator(KNNDetector(), make_images([0.1]), [1])


# Images


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("largest", {0: [0.8], 3: [0.6, 0.4], 7: [1.0, 0.2]}),
        ("smallest", {0: [0.8], 3: [0.4, 0.6], 7: [0.0, 0.2]}),
        ("first", {0: [0.8], 3: [0.4, 0.6], 7: [0.2, 1.0]}),
    ],
)
def test_images_of_each_class_are_chosen_by_their_errors(order, expected):
    images = make_images(GREY)
    display = ReconstructionDisplay.from_estimator(
        Halving(), images, LABELS, n_images=2, order=order
    )
    assert display.classes_ == [0, 3, 7]
    for label, grey in expected.items():
        of_class = np.asarray(display.y) == label
        assert_allclose(display.images[of_class], make_images(grey))
        assert_allclose(display.drawn[of_class], make_images(grey) / 2)
        assert_allclose(np.asarray(display.errors)[of_class], np.square(grey) / 4)
    texts = [text.get_text() for text in display.ax_.texts]
    assert texts == [f"{value**2 / 4:.3g}" for grey in expected.values() for value in grey]


def test_each_image_stands_beside_its_drawing_in_the_row_of_its_class():
    images = np.random.default_rng(0).random((3, 4, 5))
    display = ReconstructionDisplay(
        images=images, drawn=1 - images, errors=[1, 2, 3], y=["b", "a", "b"]
    ).plot()
    canvas = np.ma.filled(display.image_.get_array().astype(float), np.nan)
    assert display.image_.get_clim() == (images.min(), images.max())
    # Two rows of tiles, of which the second one is full.
    blocks = {
        (row, column): canvas[np.ix_(rows, columns)]
        for row, rows in enumerate(np.split(np.arange(len(canvas)), 2))
        for column, columns in enumerate(np.split(np.arange(canvas.shape[1]), 2))
    }
    for number, place in enumerate([(1, 0), (0, 0), (1, 1)]):
        block = blocks[place]
        drawn = block[~np.isnan(block).all(axis=1)][:, ~np.isnan(block).all(axis=0)]
        expected = np.hstack([images[number], 1 - images[number]])
        assert_allclose(drawn, expected)
    assert np.isnan(blocks[0, 1]).all()
    ticks = display.ax_.get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["a", "b"]


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (3, 4, 5)])
def test_grey_images_and_coloured_ones_are_drawn(shape):
    display = ReconstructionDisplay.from_estimator(
        Halving(), make_images(GREY, shape), LABELS, n_images=2
    )
    assert display.image_.get_array().ndim == (3 if shape[0] == 3 else 2)
    display.figure_.canvas.draw()


def test_bytes_are_drawn_as_the_network_sees_them():
    images = np.full((2, 4, 4), 51, dtype=np.uint8)
    display = ReconstructionDisplay.from_estimator(Halving(), images, [1, 1])
    assert_allclose(display.images, 0.2)
    assert_allclose(display.drawn, 0.1)


def test_a_pipeline_hands_over_the_images_that_its_classifier_sees():
    pipeline = make_pipeline(FunctionTransformer(lambda X: X / 2), Halving())
    images = make_images(GREY)
    display = ReconstructionDisplay.from_estimator(pipeline, images, LABELS, order="first")
    assert_allclose(display.images.max(), 0.5)
    errors = ReconstructionErrorDisplay.from_estimator(pipeline, images, LABELS)
    assert_allclose(errors.errors, np.square(GREY / 4))


def test_images_that_cannot_be_drawn_are_refused():
    images = make_images(GREY)
    for params, message in (
        ({"order": "best"}, "order must be one of"),
        ({"n_images": 0}, "n_images"),
    ):
        with pytest.raises(ValueError, match=message):
            ReconstructionDisplay.from_estimator(Halving(), images, LABELS, **params)
    with pytest.raises(TypeError, match="n_images"):
        ReconstructionDisplay.from_estimator(Halving(), images, LABELS, n_images=1.5)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        ReconstructionDisplay.from_estimator(Halving(), images, LABELS[:2])
    with pytest.raises(ValueError, match=r"\(n, 3, height, width\)"):
        ReconstructionDisplay.from_estimator(Halving(), make_images(GREY, (2, 4, 5)), LABELS)
    with pytest.raises(ValueError, match="but drawn"):
        ReconstructionDisplay(images=images, drawn=images[:, 1:], errors=GREY, y=LABELS).plot()
    with pytest.raises(TypeError, match="method reconstruct"):
        ReconstructionDisplay.from_estimator(KNNDetector(), images, LABELS)


# Both


def test_a_denoising_classifier_is_drawn():
    pytest.importorskip("skorch")
    from skood.datasets import load_digits_ood
    from skood.training import DenoisingClassifier

    digits = load_digits_ood(held_out=(0,))
    X, y = digits.data[:300], digits.digit[:300]
    classifier = DenoisingClassifier(module__width=4, max_epochs=1, random_state=0, verbose=0)
    classifier.fit(X, digits.target[:300])
    errors = classifier.reconstruction_error(X)
    display = ReconstructionErrorDisplay.from_estimator(classifier, X, y - 1)
    assert display.classes_ == list(range(-1, 9))
    assert_allclose(display.largest_, [errors[y == digit].max() for digit in range(10)])
    assert display.threshold == classifier.error_threshold_
    images = ReconstructionDisplay.from_estimator(classifier, X, y, n_images=1)
    rows = [np.flatnonzero(y == digit)[errors[y == digit].argmax()] for digit in range(10)]
    assert_array_equal(images.images, X[rows])
    assert_allclose(images.drawn, classifier.reconstruct(X[rows]), atol=1e-6)


def draw_errors(ax=None):
    return ReconstructionErrorDisplay.from_errors(GREY, LABELS, ax=ax)


def draw_images(ax=None):
    return ReconstructionDisplay.from_estimator(Halving(), make_images(GREY), LABELS, ax=ax)


@pytest.mark.parametrize("draw", [draw_errors, draw_images])
def test_given_axes_are_drawn_on_and_rendered(draw):
    figure, (left, right) = plt.subplots(1, 2)
    drawn = draw(right)
    assert (drawn.ax_, drawn.figure_) == (right, figure)
    assert not left.has_data()
    figure.canvas.draw()
    assert drawn.plot() is drawn
    assert drawn.figure_ is not figure


@pytest.mark.parametrize("draw", [draw_errors, draw_images])
def test_without_matplotlib_it_is_said_what_needs_it(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="Display"):
        draw()
