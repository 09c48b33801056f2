"""Where the image files are, and which of the images are taken."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(os.environ.get("SKOOD_DATA", "~/skood_data")).expanduser()


def draw_rows(n_rows: int, n_samples: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(n_rows)[:n_samples])
