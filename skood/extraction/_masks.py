"""Which tokens of a batch are padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._column import check_tokens
from .._warnings import warn_user
from ..networks import Batch, Trace, count_samples

AUTO = "auto"

_MARKS_TOKENS = ("attention_mask",)
MARKS_PADDING = ("src_key_padding_mask", "key_padding_mask", "padding_mask")
KNOWN_MASKS = (*_MARKS_TOKENS, *MARKS_PADDING)
"""Names of inputs that ``mask="auto"`` reads."""

Mask = NDArray[np.bool_]


def read_mask(
    batch: Batch,
    wanted: str | None,
    trace: Trace,
    to_numpy: Callable[[Any], NDArray],
    first_row: int = 0,
) -> Mask | None:
    """True at the tokens of a batch, (n_samples, n_tokens).

    Where the network takes sequences of any length, and no input says what is padding, all are
    tokens. None where the samples are no sequences.

    Parameters
    ----------
    batch : array, tensor or mapping
        Inputs.
    wanted : str or None
        The parameter ``mask``.
    trace : Trace
        What is known of the network.
    to_numpy : callable
        Makes an array of a tensor.
    first_row : int, default=0
        Number of the first sample, for messages.

    Raises
    ------
    ValueError
        If there is no input of the wanted name, it has another shape, or marks no token of a
        sample.
    """
    name = mask_name(batch, wanted)
    if name is None:
        return _all_tokens(batch, trace) if trace.takes_any_length else None
    given = batch[name]
    values = given if isinstance(given, np.ndarray) else to_numpy(given)
    if values.ndim != 2:
        if wanted == AUTO:  # of pairs of tokens, say
            return None
        raise ValueError(
            f"mask={wanted!r} must name an input of shape (n_samples, n_tokens), but it has shape "
            f"{values.shape}."
        )
    mask = values == 0 if name in MARKS_PADDING else values != 0
    check_tokens(mask, f"The input {name!r}", first_row)
    return mask


def shorten(mask: Mask, n_tokens: int, step: int) -> Mask:
    """The mask of a layer, of which each token stands for some of the inputs, one after the other.

    It is no padding if one of these is none.
    """
    stretches = np.zeros((len(mask), n_tokens * step), dtype=bool)
    n_known = min(stretches.shape[1], mask.shape[1])
    stretches[:, :n_known] = mask[:, :n_known]
    shorter: Mask = np.any(stretches.reshape(len(mask), n_tokens, step), axis=2)
    shorter[~shorter.any(axis=1), -1] = True  # of what the network leaves out at the end
    return shorter


def warn_of_padding(
    batch: Batch, wanted: str | None, trace: Trace, layers: Sequence[str], reducer: Any
) -> None:
    """Warn where the mask does not tell which tokens of a layer are padding."""
    name = mask_name(batch, wanted)
    other = [layer for layer in layers if layer in trace.token_steps]
    unknown = [layer for layer in other if not trace.token_steps[layer]]
    is_shortened = hasattr(reducer, "pool_tokens")
    if name is None or not (found := unknown if is_shortened else other):
        return
    advice = (
        "Leave these layers out where this matters."
        if unknown
        else "Pass reducer=PoolingReducer(), which leaves it out."
    )
    warn_user(
        f"The layers {found} have another number of tokens than the mask {name!r}, which does not "
        f"tell what is padding there: padding counts in what is pooled of them. {advice}"
    )


def mask_name(batch: Batch, wanted: str | None) -> str | None:
    """Name of the input that says what is padding, if there is one.

    Raises
    ------
    ValueError
        If there is no input of the wanted name.
    """
    if wanted is None:
        return None
    names = list(batch) if isinstance(batch, Mapping) else []
    if wanted == AUTO:
        return next((name for name in KNOWN_MASKS if name in names), None)
    if wanted not in names:
        got = f"the inputs are {names}" if names else f"the inputs are a {type(batch).__name__}"
        raise ValueError(
            f"mask={wanted!r} must name one of several inputs, which are a mapping, but {got}."
        )
    return wanted


def _all_tokens(batch: Batch, trace: Trace) -> Mask:
    inputs = batch if isinstance(batch, Mapping) else {trace.sequence: batch}
    # What was an array in `fit` may come as a mapping now.
    sequence = inputs.get(trace.sequence, next(iter(inputs.values())))
    return np.ones((count_samples(batch), *sequence.shape[1:2]), dtype=bool)
