"""Warnings that point at the user's line."""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

import joblib
import sklearn

_INSIDE = (
    str(Path(__file__).parent),
    *(str(Path(library.__file__).parent) for library in (sklearn, joblib)),
    contextlib.__file__,
)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn as if the nearest caller outside of this package and scikit-learn had done it."""
    stacklevel, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        stacklevel, frame = stacklevel + 1, frame.f_back
    warnings.warn(message, category, stacklevel=stacklevel)
