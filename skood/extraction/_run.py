"""Running a network over all batches, or finding in a cache what it yielded before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_memory
from tqdm import tqdm

from .._batches import row_batches
from .._warnings import warn_user
from ..activations import Activations, LinearHead
from ..networks import NetworkAdapter, count_samples
from ._collector import Collector
from ._failures import explaining
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
    verbose: int,
    known: str = "",
) -> Activations:
    """Run the network over all batches; ``known`` is what it ran on in ``fit``."""
    predict = partial(adapter.predictions, trace=plan.trace)
    collector = Collector(reducer, adapter.to_numpy, batches.n_samples, plan, predict)
    bar = tqdm(total=batches.n_samples, unit=" samples", disable=not verbose)
    with bar, adapter.untouched():
        n_done = 0
        for number, (batch, labels) in enumerate(batches):
            collector.begin_batch(read_mask(batch, mask, plan.trace, adapter.to_numpy, n_done))
            keep, layers = collector.keep, plan.layers
            with explaining(adapter, batch, known=known):
                outcome = mode.run(
                    adapter,
                    batch,
                    plan.trace,
                    layers,
                    keep,
                    number=number,
                    n_at_once=plan.n_at_once,
                )
            n_rows = count_samples(batch)
            collector.end_batch(n_rows, outcome, labels)
            n_done += n_rows
            bar.update(n_rows)
        head = adapter.head(plan.trace)
    extracted = collector.collect(head and LinearHead(*head, plan.head_input), adapter.classes)
    return _without_false_head(extracted, plan.trace.head_rounding)


class Cache:
    """Results on disk, by all that they depend on.

    Parameters
    ----------
    memory : str or object with the joblib.Memory interface
        Where they are kept.
    """

    def __init__(self, memory: Any) -> None:
        self._recall = check_memory(memory).cache(_compute, ignore=["compute"])

    def get(self, key: tuple[Any, ...], compute: Callable[[], Activations]) -> Activations:
        """The result that was kept under a key, which is hashed, or else the one computed now."""
        return self._recall(key, compute)


def _compute(key: tuple[Any, ...], compute: Callable[[], Activations]) -> Activations:
    return compute()


def _without_false_head(extracted: Activations, rounding: float) -> Activations:
    """The same, without a head that does not yield the logits of all samples, and a warning then.

    What clips or chooses among several layers may show in other samples than those of the trace.
    """
    head, features, logits = extracted.head, extracted.features, extracted.logits
    if head is None or features is None or logits is None:
        return extracted
    wrong = 0
    for rows in row_batches(len(features), max(features.shape[1], logits.shape[1])):
        some = np.asarray(features[rows], dtype=logits.dtype)
        wrong += _count_wrong(head, some, logits[rows], rounding)
    if not wrong:
        return extracted
    why = (
        f"the last linear layer does not yield the logits of {wrong} of {len(features)} samples: "
        "its input or output is clipped, or another layer takes its place"
    )
    warn_user(
        f"{why.capitalize()}. These activations carry no head, and detectors that read it compute "
        "with what it is for the other samples."
    )
    return extracted.assign(head=None, why_missing={"head": why})


def _count_wrong(head: LinearHead, features: NDArray, logits: NDArray, rounding: float) -> int:
    """Number of samples of whose features the head makes other logits."""
    made = head.logits(features)
    off = np.abs(made - logits)
    # What the sums would be without signs, for what rounding may do to them, is no less than this.
    wrong = off > rounding * np.abs(made)
    if (columns := wrong.any(axis=0)).any():
        scale = np.abs(features) @ np.abs(head.weight[columns].T)
        scale += np.abs(np.asarray(head.bias)[columns])
        wrong[:, columns] = off[:, columns] > rounding * scale
    return int(wrong.any(axis=1).sum())
