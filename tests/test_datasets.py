"""Digits with classes held out, noise and triangles."""

from itertools import combinations

import numpy as np
import pytest
from scipy.ndimage import label
from scipy.spatial import ConvexHull
from sklearn.datasets import load_digits

from skood.datasets import load_digits_ood, make_noise, make_triangles

KINDS = ["blobs", "constant", "gaussian", "salt_and_pepper", "uniform"]


# --------------------------------------------------------------------------------------
# load_digits_ood
# --------------------------------------------------------------------------------------


def test_digits_are_the_images_of_scikit_learn_from_zero_to_one():
    digits = load_digits_ood()
    assert digits.data.dtype == np.float32
    np.testing.assert_array_equal(digits.data[:, 0] * 16, load_digits().images)


def test_digits_that_are_kept_are_numbered_without_gaps():
    digits = load_digits_ood(held_out=(0, 7))
    kept = digits.target != -1
    assert set(digits.target[kept]) == set(range(8))
    np.testing.assert_array_equal(digits.target_names[digits.target[kept]], digits.digit[kept])


def test_digits_that_are_held_out_are_marked():
    digits = load_digits_ood(held_out=[3])
    np.testing.assert_array_equal(digits.target == -1, load_digits().target == 3)


def test_digits_as_a_tuple_are_those_of_the_bunch():
    X, y = load_digits_ood(held_out=np.array([9, 2]), return_X_y=True)
    digits = load_digits_ood(held_out=(2, 9))
    np.testing.assert_array_equal(X, digits.data)
    np.testing.assert_array_equal(y, digits.target)


@pytest.mark.parametrize(
    "held_out", [(), (1, 1), (10,), (-1,), (1.0,), ("1",), [[1, 5]], range(10), (0, 256)]
)
def test_digits_that_cannot_be_held_out_are_refused(held_out):
    with pytest.raises(ValueError, match="1 to 9 distinct digits from 0 to 9, got"):
        load_digits_ood(held_out=held_out)


# --------------------------------------------------------------------------------------
# make_noise
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 2), (1, 1), (4, 1, 8, 8), (2, 3, 5, 7)])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_a_float32_image_of_the_given_shape(kind, shape):
    X = make_noise(kind, shape, random_state=0)
    assert X.shape == shape
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert X.flags.writeable
    assert X.min() >= 0
    assert X.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_determined_by_the_random_state(kind):
    first, again, other = (make_noise(kind, (5, 6, 6), random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_uniform_noise_has_the_moments_of_the_uniform_distribution():
    X = make_noise("uniform", (100, 1000), random_state=0)
    assert X.mean() == pytest.approx(1 / 2, abs=0.01)
    assert X.var() == pytest.approx(1 / 12, abs=0.01)


def test_gaussian_noise_is_clipped_at_half_a_standard_deviation():
    X = make_noise("gaussian", (100, 1000), random_state=0)
    assert np.mean(X == 0) == pytest.approx(0.3085, abs=0.01)
    assert np.mean(X == 1) == pytest.approx(0.3085, abs=0.01)


def test_salt_and_pepper_noise_is_black_or_white():
    X = make_noise("salt_and_pepper", (100, 1000), random_state=0)
    assert set(np.unique(X)) == {0, 1}
    assert X.mean() == pytest.approx(0.5, abs=0.01)


def test_constant_noise_has_one_grey_per_sample():
    X = make_noise("constant", (20, 3, 4, 4), random_state=0)
    assert np.all(np.ptp(X, axis=(1, 2, 3)) == 0)
    assert len(np.unique(X)) == 20


def test_blobs_are_smooth_and_use_the_whole_range():
    X = make_noise("blobs", (20, 1, 28, 28), random_state=0)
    neighbour_step = np.abs(np.diff(X, axis=-1)).mean()
    assert neighbour_step < 0.1  # independent uniform pixels differ by 1/3 on average
    np.testing.assert_array_equal(X.min(axis=(1, 2, 3)), 0)
    np.testing.assert_array_equal(X.max(axis=(1, 2, 3)), 1)


def test_blobs_do_not_mix_samples_or_channels():
    X = make_noise("blobs", (200, 2, 16, 16), random_state=0)
    # Smoothed over the wrong axis, neighbours would correlate by 0.8 and more.
    for a, b in [(X[:-1, 0], X[1:, 0]), (X[:, 0], X[:, 1])]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("shape", [(), (3,), (3, 0), (3, -1), (3, 2.0)])
def test_noise_of_an_impossible_shape_is_refused(shape):
    with pytest.raises(ValueError, match="shape must be two or more positive integers, got"):
        make_noise("uniform", shape)


def test_noise_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'kind' parameter of make_noise"):
        make_noise("pink", (3, 2))


# --------------------------------------------------------------------------------------
# make_triangles
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 1, 28, 28), (4, 3, 20, 32), (2, 1, 8, 8)])
def test_triangles_have_the_given_shape_and_equal_channels(shape):
    X = make_triangles(shape, random_state=0)
    assert X.shape == shape
    assert X.dtype == np.float32
    assert X.min() == 0
    assert 0.95 < X.max() <= 1
    images = X.reshape(len(X), -1, *shape[-2:])
    np.testing.assert_array_equal(images, np.repeat(images[:, :1], images.shape[1], axis=1))


def test_triangles_follow_from_the_seed_alone():
    first, again, other = (make_triangles((300, 9, 9), random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2)).all()
    # However many are drawn at a time.
    assert not (first[:-1] == first[1:]).all(axis=(1, 2)).any()


def test_triangles_are_closed_lines_with_three_corners():
    for image in make_triangles((40, 64, 64), random_state=0):
        ink = image > 0.5
        _, n_parts = label(ink, structure=np.ones((3, 3)))
        areas, _ = label(~ink)
        outside, inside = np.argsort(-np.bincount(areas[~ink]))[:2]
        assert n_parts == 1
        assert outside == areas[0, 0]
        # Nothing else but single pixels in the tips.
        assert np.isin(areas[~ink], [outside, inside], invert=True).sum() < 5
        hull = ConvexHull(np.argwhere(areas == inside))
        points = hull.points[hull.vertices]
        largest = max(
            abs(np.linalg.det(np.array([b - a, c - a]))) / 2 for a, b, c in combinations(points, 3)
        )
        # Of a square that is half of its area, of a circle 41 %.
        assert largest > 0.8 * hull.volume


@pytest.mark.parametrize("shape", [(3, 8), (3, 1, 1, 8, 8), (0, 8, 8), (2, 8.0, 8), ()])
def test_shapes_that_are_no_images_of_triangles_are_refused(shape):
    with pytest.raises(ValueError, match="three or four positive integers"):
        make_triangles(shape)
