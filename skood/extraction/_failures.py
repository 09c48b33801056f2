"""What to do where a network fails on its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from ..networks import Batch, NetworkAdapter, count_samples, take_samples
from ._shapes import Change, changes_of

_BATCH_SIZES = (1, 3, 4, 5, 8, 10, 12, 16, 20, 24, 25, 32, 48, 50, 64, 96, 100, 128, 200, 256, 512)
"""Sizes of batches that a network may be written for, where it does not run on two samples."""


class InputError(ValueError, RuntimeError):
    """A network failed on its inputs.

    The message names the module that failed, the shape that it was given and, where one was found
    by trying, the change of the axes on which the network runs. It is a ``RuntimeError``, as what
    torch raises then.

    Examples
    --------
    >>> import torch
    >>> from skood import ActivationExtractor
    >>> from skood.extraction import InputError
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> try:
    ...     ActivationExtractor(network).fit(torch.ones(10, 5))
    ... except InputError as error:
    ...     print(str(error)[:48])
    The network failed on inputs of shape (2, 5): it
    """

    __module__ = "skood.extraction"  # where it is public, as tracebacks show it


class Explaining:
    """Context in which an error of the network says which part failed on what, and what to do.

    It raises an InputError in place of an error that comes of the network's own code.

    Parameters
    ----------
    adapter : NetworkAdapter
        Of the network that is run.
    batch : batch
        What it is run on.
    whole : batch, default=None
        All inputs, where they may be one sample.
    known : str, default=""
        What the network ran on in ``fit``.
    """

    # No generator: contextlib raises a StopIteration itself in place of what it has caused.
    def __init__(
        self, adapter: NetworkAdapter, batch: Batch, whole: Batch | None = None, known: str = ""
    ) -> None:
        self._adapter, self._batch, self._known = adapter, batch, known
        self._whole = batch if whole is None else whole

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception):
            return
        where = self._adapter.explain(error)
        if where is None and isinstance(error, StopIteration):  # ends loops without an error
            where = "its code raised what ends a loop"
        if where is None:
            return
        advice = _advise(self._adapter, self._batch, self._whole, self._known)
        raise InputError(
            f"The network failed on inputs of shape {_shape(self._batch)}: {where}.{advice} The "
            f"error was {type(error).__name__}: {error}"
        ) from error


def _advise(adapter: NetworkAdapter, batch: Batch, whole: Batch, known: str) -> str:
    for change, changed in _changed(batch, whole):
        if _runs(adapter, changed):
            return f" These seem to be {change.what}: it runs on {change.code}, so pass that."
    if known:
        return f" In fit, it ran on {known}."
    for size in _BATCH_SIZES:
        if _runs(adapter, take_samples(batch, [0] * size)):
            few = count_samples(batch)
            return f" It runs on batches of {size} and not of {few}: pass batch_size={size}."
    return ""


def _changed(batch: Batch, whole: Batch) -> Iterator[tuple[Change, Batch | None]]:
    """Inputs with other axes, and how they were changed; of a mapping one at a time."""
    if not isinstance(batch, Mapping):
        yield from ((change, change.of(batch, whole)) for change in changes_of(whole))
        return
    for key, values in batch.items():
        for change in changes_of(values):
            if not change.of_one:
                code = change.code.replace("X", f"X[{key!r}]")
                yield change._replace(code=code), {**batch, key: change.apply(values)}


def _runs(adapter: NetworkAdapter, batch: Batch | None) -> bool:
    """Whether the network runs on a batch."""
    if batch is None:
        return False
    try:
        adapter.trace(batch)
    except Exception:
        return False
    return True


def _shape(batch: Batch) -> Any:
    if isinstance(batch, Mapping):
        return {key: tuple(values.shape) for key, values in batch.items()}
    return tuple(batch.shape)
