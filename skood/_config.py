"""The one choice between digits and speed: in which precision scores are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

PRECISIONS = ("double", "single")

_of_process = {"precision": "double"}
_of_context: ContextVar[str | None] = ContextVar("precision", default=None)


def get_config() -> dict[str, str]:
    """Tell how scores are computed here.

    Returns
    -------
    dict
        The key "precision", with the value "double" or "single".

    See Also
    --------
    set_config : Changes it.

    Examples
    --------
    >>> import skood
    >>> skood.get_config()
    {'precision': 'double'}
    """
    return {"precision": _of_context.get() or _of_process["precision"]}


def set_config(*, precision: str) -> None:
    """Choose how scores are computed, in this process.

    Parameters
    ----------
    precision : {"double", "single"}
        "double", the default: scores are computed with 64-bit floats. "single": logits and features
        that are 32-bit floats or smaller are computed with as such, which takes about half of the
        time in the detectors whose score is a few exponentials or one product for each sample.

    Raises
    ------
    ValueError
        If it is neither of them.

    See Also
    --------
    config_context : Chooses for a block of code.
    get_config : Tells what is chosen.

    Notes
    -----
    Single precision concerns scores, also those of training samples, and never what came in double
    precision. Nor does it concern what is learnt, except the weight of ViM's residuals, which is
    made of their norms and then agrees to about seven digits.

    It computes with what a network yields as the network itself does. Scores then differ in about
    the seventh digit, from one batch to another too, and samples may tie whose logits differ in the
    last bits. They are log-odds and logarithms all the same, and what is too small for a 32-bit
    float is computed in double precision: they do not saturate as a softmax in single precision
    does. Thresholds that were learnt before stay as they are.

    The detectors that read the logits alone take it into account, except ``GENDetector`` and
    ``OpenMaxDetector``, and so does ``ViMDetector``. ``KNNDetector`` and
    ``NNGuideDetector`` search in single precision always, and compute what they find in double.

    Each process has its own choice: make it in the workers of joblib or Dask, too.

    Examples
    --------
    >>> import skood
    >>> skood.set_config(precision="single")
    >>> skood.set_config(precision="double")
    """
    _of_process["precision"] = _checked(precision)


@contextmanager
def config_context(*, precision: str) -> Iterator[None]:
    """Choose how scores are computed, in a block of code.

    Parameters
    ----------
    precision : {"double", "single"}
        As for :func:`set_config`.

    Yields
    ------
    None
        Nothing: the choice holds until the block ends, for this thread alone.

    Raises
    ------
    ValueError
        If it is neither of them.

    See Also
    --------
    set_config : Chooses for the process.

    Examples
    --------
    >>> import numpy as np
    >>> import skood
    >>> from skood.detectors import EnergyDetector
    >>> logits = np.array([[0.0, 1.0], [2.0, 0.5]], dtype=np.float32)
    >>> detector = EnergyDetector().fit(logits)
    >>> with skood.config_context(precision="single"):
    ...     fast = detector.score_samples(logits)
    >>> bool(np.abs(fast - detector.score_samples(logits)).max() < 1e-6)
    True
    """
    token = _of_context.set(_checked(precision))
    try:
        yield
    finally:
        _of_context.reset(token)


def working_dtype(dtype: np.dtype) -> type[np.floating]:
    """The type of floats in which scores of values of a type are computed."""
    is_single = get_config()["precision"] == "single"
    return np.float32 if is_single and dtype.kind == "f" and dtype.itemsize <= 4 else np.float64


def _checked(precision: str) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}.")
    return precision
