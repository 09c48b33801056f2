"""Few samples in many layers at once: the same as one layer after the other."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skood.detectors import DistancesSideBySide, MahalanobisDetector, RowsSideBySide, may_stand

# Of a layer: units, samples, classes, parameters.
LAYERS = [
    (40, 500, 5, {"shrinkage": 0.1}),
    (40, 30, 5, {"shrinkage": 0.1}),
    (60, 25, 1, {"shrinkage": 0.1}),
    (40, 500, 5, {}),
    (40, 35, 3, {}),
    (50, 500, 5, {"n_components": 30}),
    (50, 500, 5, {"n_components": 10, "shrinkage": 0.2}),
    (1, 20, 2, {}),
]


def fitted(n_units, n_rows, n_classes, params, *, seed=0, **more):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_units)) @ rng.normal(size=(n_units, n_units))
    X[:, 3:4] = 0  # a dead unit
    if n_units == 1:
        X = rng.normal(size=(n_rows, 1))
    return MahalanobisDetector(**params, **more).fit(X, np.arange(n_rows) % n_classes)


@pytest.mark.parametrize("more", [{}, {"normalize": True}])
@pytest.mark.parametrize("n_rows", [1, 7])
def test_distances_in_all_layers_at_once(n_rows, more):
    layers = LAYERS[:-1] if more else LAYERS  # normalised, the last one does not vary
    detectors = [fitted(*layer, seed=seed, **more) for seed, layer in enumerate(layers)]
    relative = fitted(30, 200, 4, {"shrinkage": 0.1}, relative=True, **more)
    side_by_side = DistancesSideBySide([*detectors, relative])
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=(n_rows, n_units)) for n_units, *_ in layers]
    arrays += [rng.normal(size=(n_rows, 30)).astype(np.float32)]
    arrays[0][0] = 0
    expected = [d.score_samples(a) for d, a in zip([*detectors, relative], arrays, strict=True)]
    rows = RowsSideBySide(side_by_side.widths)
    joined = rows.join([*arrays, arrays[-1]])
    found = side_by_side.scores(joined, rows.lengths(joined))
    assert_allclose(found, np.column_stack(expected), rtol=1e-11)


def test_triangle_is_a_root_of_the_precision():
    for layer in LAYERS:
        detector = fitted(*layer)
        ((gaussian,),) = detector._gaussians.values()
        triangle = gaussian.triangle()
        assert_array_equal(triangle, np.tril(triangle))
        (precision,) = detector.precision_.values()
        assert_allclose(triangle @ triangle.T, precision, atol=1e-12 * np.abs(precision).max())


def test_detectors_that_may_not_stand_side_by_side():
    plain = fitted(5, 50, 2, {})
    assert may_stand(plain, plain)
    assert not may_stand(fitted(5, 50, 2, {}, normalize=True), plain)


def test_lengths_of_rows_of_any_size():
    rows = RowsSideBySide([2, 2, 3])
    joined = rows.join([[[3.0, 4.0]], [[3e-200, 4e-200]], [[0.0, 0.0, 0.0]]])
    lengths = rows.lengths(joined)
    assert_allclose(lengths, [[5, 5e-200, 0]], rtol=1e-14)
    assert_allclose(rows.units(joined, lengths), [[0.6, 0.8, 0.6, 0.8, 0, 0, 0]], rtol=1e-14)


def test_wide_layers_whose_numbers_take_large_pages():
    wide = fitted(800, 900, 3, {"shrinkage": 0.1})
    low_rank = fitted(700, 120, 3, {"shrinkage": 0.1})
    side_by_side = DistancesSideBySide([wide, low_rank])
    arrays = [np.random.default_rng(1).normal(size=(2, n)) for n in (800, 700)]
    found = side_by_side.scores(np.hstack(arrays), None)
    expected = [d.score_samples(a) for d, a in zip([wide, low_rank], arrays, strict=True)]
    assert_allclose(found, np.column_stack(expected), rtol=1e-10)
