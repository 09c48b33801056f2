"""What an estimator knows of the user's inputs where a network prepares its own of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from sklearn.utils.validation import validate_data

from ..networks import is_stream
from ._shapes import SHAPE_OF_FIT


def forget_features(estimator: Any) -> None:
    """Delete what an earlier ``fit`` stored: not all kinds of inputs store it anew."""
    for name in ("n_features_in_", "feature_names_in_", SHAPE_OF_FIT):
        if hasattr(estimator, name):
            delattr(estimator, name)


def stand_in_for(estimator: Any, X: Any, *, reset: bool) -> Any:
    """What validates the prepared inputs, after the user's own were checked, or set, here.

    Raises
    ------
    ValueError
        If the user's have other features than in ``fit``.
    """
    if not (isinstance(X, Mapping) or is_stream(X)):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    stand_in = copy.copy(estimator)
    forget_features(stand_in)
    return stand_in
