"""Whether the head of a network yields its logits, of every sample that passes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._blocks import BlockWriter
from .._warnings import warn_user
from ..activations import Activations, LinearHead

_N_FEW = 100


class HeadCheck:
    """Counts the samples of whose features the head makes other logits than the network.

    What clips or chooses among several layers may show in other samples than those of the trace.

    Parameters
    ----------
    head : LinearHead or None
        The head.
    rounding : float
        What rounding may do to the logits that it makes.
    writer : BlockWriter or None
        Knows of the samples that were extracted in another call.
    """

    def __init__(self, head: LinearHead | None, rounding: float, writer: BlockWriter | None):
        self._head, self._rounding = head, rounding
        self._n_wrong = 0 if writer is None else writer.total("n_without_head")

    def count(self, features: NDArray | None, logits: NDArray | None) -> int:
        """Number of samples of a batch that have other logits, which is added up."""
        if self._head is None or features is None or logits is None:
            return 0
        some = np.asarray(features, dtype=logits.dtype)
        n_wrong = count_wrong(self._head, some, logits, self._rounding)
        self._n_wrong += n_wrong
        return n_wrong

    def without_false_head(self, extracted: Activations) -> Activations:
        """The same, without a head that is wrong of some of all samples, and a warning then."""
        if not self._n_wrong or extracted.head is None:
            return extracted
        why = (
            f"the last linear layer does not yield the logits of {self._n_wrong} of "
            f"{len(extracted)} samples: its input or output is clipped, or another layer takes its "
            "place"
        )
        warn_user(
            f"{why.capitalize()}. These activations carry no head, and detectors that read it "
            "compute with what it is for the other samples."
        )
        return extracted.assign(head=None, why_missing={"head": why})


def makes_all(head: LinearHead, features: NDArray, logits: NDArray, rounding: float) -> bool:
    """Whether the head makes the logits of all samples of these features."""
    some = np.asarray(features, dtype=logits.dtype)
    if logits.size <= _N_FEW:  # as numbers of Python: arrays take longer that were not used lately
        with np.errstate(invalid="ignore", over="ignore"):
            made = head.logits(some).ravel().tolist()
        pairs = zip(made, logits.ravel().tolist(), strict=True)
        if all(abs(one - other) <= rounding * abs(one) for one, other in pairs):
            return True
    return count_wrong(head, some, logits, rounding) == 0


def count_wrong(head: LinearHead, features: NDArray, logits: NDArray, rounding: float) -> int:
    """Number of samples of whose features the head makes other logits."""
    # Some processors flag products of numbers beside those that count; what is wrong is counted.
    with np.errstate(invalid="ignore", over="ignore"):
        made = head.logits(features)
    off = np.abs(made - logits)
    # What the sums would be without signs, for what rounding may do to them, is no less than this.
    wrong = off > rounding * np.abs(made)
    if (columns := wrong.any(axis=0)).any():
        scale = np.abs(features) @ np.abs(head.weight[columns].T)
        scale += np.abs(np.asarray(head.bias)[columns])
        wrong[:, columns] = off[:, columns] > rounding * scale
    return int(wrong.any(axis=1).sum())
