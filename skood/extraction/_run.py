"""Running a network over all batches, or finding in a cache what it yielded before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_memory

from .._progress import steps
from .._rows import is_on_disk
from .._store import StoreWriter, begin_store, said_in
from .._warnings import warn_user
from ..activations import Activations, LinearHead, finish_store
from ..networks import NetworkAdapter, count_samples
from ._collector import Collector
from ._deliveries import Deliveries
from ._failures import Explaining
from ._inputs import Batches
from ._masks import read_mask
from ._mode import Mode
from ._plan import Plan


def extract(
    adapter: NetworkAdapter,
    batches: Batches,
    plan: Plan,
    reducer: Any,
    mode: Mode,
    *,
    mask: str | None,
    told_by: Any,
    known: str = "",
    dtype: np.dtype | None = None,
    writer: StoreWriter | None = None,
) -> Activations:
    """Run the network over all batches; ``known`` is what it ran on in ``fit``.

    ``told_by``, the extractor, tells how far it has come. Where a ``writer`` has blocks already,
    their samples do not pass.
    """
    with adapter.untouched():
        head = adapter.head(plan.trace)
        collector = Collector(
            reducer,
            Deliveries(adapter, pooled=hasattr(reducer, "pool_layers")),
            batches.n_samples,
            plan,
            partial(adapter.predictions, trace=plan.trace),
            head=head and LinearHead(*head, plan.head_input),
            classes=adapter.classes,
            head_rounding=plan.trace.head_rounding,
            dtype=dtype,
            writer=writer,
        )
        n_done = n_batches = 0
        if writer is not None:
            n_done, n_batches = writer.n_samples, writer.n_batches
        n = batches.n_samples
        is_quick = n is not None and n <= told_by.batch_size
        with steps(
            told_by, n, "samples", n_done=n_done, are_counted=True, is_quick=is_quick
        ) as told:
            for number, (batch, labels) in enumerate(batches.after(writer), start=n_batches):
                collector.begin_batch(read_mask(batch, mask, plan.trace, adapter.to_numpy, n_done))
                with Explaining(adapter, batch, known=known):
                    outcome = mode.run(
                        adapter,
                        batch,
                        plan.trace,
                        plan.layers,
                        collector.keep,
                        number=number,
                        n_at_once=plan.n_at_once,
                    )
                n_rows = count_samples(batch)
                about = None if writer is None else batches.about(batch, labels)
                collector.end_batch(n_rows, outcome, labels, about)
                n_done += n_rows
                told.advance(n_rows)
    return collector.collect()


class Cache:
    """Results on disk, by all that they depend on.

    What memory does not hold is not kept, with a warning.

    Parameters
    ----------
    memory : str or object with the joblib.Memory interface
        Where they are kept.
    """

    def __init__(self, memory: Any) -> None:
        self._recall = check_memory(memory).cache(_compute, ignore=["compute"])

    def get(self, key: tuple[Any, ...], compute: Callable[[], Activations]) -> Activations:
        """The result that was kept under a key, which is hashed, or else the one computed now."""
        try:
            return self._recall(key, compute)
        except _TooLargeError as found:
            warn_user(
                "These activations are larger than memory and are not put into the cache: pass a "
                "folder, as in extractor.transform(X, out=folder), to keep them."
            )
            return found.extracted


class _TooLargeError(Exception):
    """Carries a result past the cache, which would read all of it."""

    def __init__(self, extracted: Activations) -> None:
        super().__init__()
        self.extracted = extracted


def _compute(key: tuple[Any, ...], compute: Callable[[], Activations]) -> Activations:
    extracted = compute()
    if any(is_on_disk(column.array) for column in extracted.columns):
        raise _TooLargeError(extracted)
    return extracted


def store(
    folder: Path,
    made_from: dict[str, Any],
    compute: Callable[..., Activations],
    check_inputs: Callable[..., None],
    order: str,
) -> Activations:
    """What a folder holds, once the rows are there that it lacks.

    Parameters
    ----------
    folder : Path
        The folder.
    made_from : dict of str to object
        What decides its content.
    compute : callable
        Given a ``writer``, writes the rows that are lacking, and returns all.
    check_inputs : callable
        Given what is said of the batches in the folder, and whether ``is_whole``, raises an error
        where those of an earlier call may be others.
    order : str
        What decided the order of the samples.
    """
    with begin_store(folder, made_from) as writer:
        if writer is None or writer.n_samples:
            check_inputs(partial(said_in, folder), is_whole=writer is None)
        if writer is not None:
            extracted = compute(writer=writer)
            extracted._order = order
            finish_store(writer, extracted)
    return Activations.load(folder)
