"""The reference results of the repository are a part of the whole ones, unchanged."""

import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(file.stem for file in FOLDER.glob("*.npz"))


def is_part_of(part, whole):
    """Whether ``part`` is all of an array, or some of its samples, on any axis, in their order."""
    if part.dtype != whole.dtype or part.ndim != whole.ndim:
        return False
    cut = [axis for axis in range(part.ndim) if part.shape[axis] != whole.shape[axis]]
    if len(cut) > 1:
        return False
    axis = cut[0] if cut else 0
    samples = iter(sample.tobytes() for sample in np.moveaxis(np.atleast_1d(whole), axis, 0))
    return all(s.tobytes() in samples for s in np.moveaxis(np.atleast_1d(part), axis, 0))


@pytest.mark.skipif("SKOOD_GOLDEN" not in os.environ, reason="SKOOD_GOLDEN names no folder")
@pytest.mark.parametrize("name", NAMES)
def test_results_are_rows_of_the_whole_results(name):
    file = Path(os.environ["SKOOD_GOLDEN"]) / f"{name}.npz"
    with np.load(FOLDER / f"{name}.npz") as parts, np.load(file) as whole:
        changed = [key for key in parts if not is_part_of(parts[key], whole[key])]
    assert not changed


def test_results_take_little_space():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 3 * 2**20
