"""What to do where a network fails on its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..networks import Batch, NetworkAdapter, count_samples, take_samples
from ._shapes import Change, Shape, changes_of, samples_of

_LARGEST_SAMPLE = 4096
"""Longest first axis of inputs that are tried as one sample."""


class InputError(ValueError, RuntimeError):
    """A network failed on its inputs; also what torch raises then."""


@contextmanager
def explaining(
    adapter: NetworkAdapter, batch: Batch, whole: Batch | None = None, seen: Shape | None = None
) -> Iterator[None]:
    """Context in which an error of the network says which part failed on what, and what to do.

    Parameters
    ----------
    adapter : NetworkAdapter
        Of the network that is run.
    batch : batch
        What it is run on.
    whole : batch, default=None
        All inputs, where they may be one sample.
    seen : tuple of int, default=None
        The shape of a sample with which the network ran.

    Raises
    ------
    InputError
        In place of an error that comes of the network's own code.
    """
    try:
        yield
    except Exception as error:
        where = adapter.explain(error)
        if where is None:
            raise
        advice = _advise(adapter, batch, batch if whole is None else whole, seen)
        raise InputError(
            f"The network failed on inputs of shape {_shape(batch)}: {where}.{advice} The error "
            f"was {type(error).__name__}: {error}"
        ) from error


def _advise(adapter: NetworkAdapter, batch: Batch, whole: Batch, seen: Shape | None) -> str:
    if not isinstance(batch, Mapping) and not isinstance(whole, Mapping):
        for change in changes_of(batch):
            if _runs(adapter, batch, whole, change):
                return f" These seem to be {change.what}: it runs on {change.code}, so pass that."
    if seen is not None:
        return f" In fit, it ran on inputs of shape {samples_of(seen)}."
    if count_samples(whole) > count_samples(batch):
        return " If it takes batches of one size only, give that as batch_size."
    return ""


def _runs(adapter: NetworkAdapter, batch: Batch, whole: Batch, change: Change) -> bool:
    """Whether the network runs on changed inputs."""
    if change.of_one and count_samples(whole) > _LARGEST_SAMPLE:
        return False
    try:
        adapter.trace(change.apply(whole if change.of_one else take_samples(batch, slice(2))))
    except Exception:
        return False
    return True


def _shape(batch: Batch) -> Any:
    if isinstance(batch, Mapping):
        return {key: tuple(values.shape) for key, values in batch.items()}
    return tuple(batch.shape)
