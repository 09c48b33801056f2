"""Warnings that point at the user's line."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path

import joblib
import sklearn

# With a separator at the end, as a folder of the user may begin like one of these.
_INSIDE = (
    *(str(Path(file).parent) + os.sep for file in (__file__, sklearn.__file__, joblib.__file__)),
    contextlib.__file__,
)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn as if the nearest caller outside of this package and scikit-learn had done it."""
    stacklevel, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        stacklevel, frame = stacklevel + 1, frame.f_back
    warnings.warn(message, category, stacklevel=stacklevel)
