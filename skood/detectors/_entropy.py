"""Entropy of the softmax."""

from __future__ import annotations

import numpy as np

from .._values import Floats
from ._base_logit import BaseLogitDetector
from ._base_sample_wise import BaseSampleWiseDetector
from ._softmax import Logits, all_plain, are_plain, below_largest, exp_of_others, row_sums


class EntropyDetector(BaseLogitDetector, BaseSampleWiseDetector):
    """Minus the entropy of the softmax.

    The score ``sum(p * log(p))`` is 0 for a certain prediction and ``-log(n_classes)`` where all
    classes are equally likely.

    See Also
    --------
    GENDetector : Weighs small probabilities more.
    MaxSoftmaxDetector : Considers the largest probability alone.

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits. The entropy is
    in nats, and keeps its relative precision however near to 0 it is: confident samples keep
    their order until the largest logit is some 700 above the others, where float64 ends.

    Only the threshold is learnt: in batches, too, by ``partial_fit`` and ``merge``.

    References
    ----------
    The measure is Shannon's [1]_; as a score of doubt, it has been used as long as the softmax.

    .. [1] C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal
       27(3), 1948, pp. 379-423. doi:10.1002/j.1538-7305.1948.tb01338.x

    Examples
    --------
    >>> from skood.detectors import EntropyDetector
    >>> logits = [[0.0, 50.0], [0.0, 80.0], [1.0, 1.0]]
    >>> for score in EntropyDetector().fit(logits).score_samples(logits):
    ...     print(f"{score:.2e}")
    -9.84e-21
    -1.46e-33
    -6.93e-01
    """

    _min_classes = 2

    def _score_logits(self, logits: Logits) -> Floats:
        others, largest = exp_of_others(logits)
        largest = largest.astype(np.float64, copy=False)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            of_largest, sums = np.exp(largest), row_sums(others)
            below = np.vecdot(others, logits) - largest * sums
            # The two terms have the same sign: nothing cancels.
            scores: Floats = below / (of_largest + sums) - np.log1p(sums / of_largest)
        if not (all_plain(sums, logits.dtype) and all_plain(of_largest, logits.dtype)):
            is_plain = are_plain(sums, logits.dtype) & are_plain(of_largest, logits.dtype)
            scores[~is_plain] = _shifted(logits[~is_plain].astype(np.float64, copy=False))
        return scores


def _shifted(logits: Floats) -> Floats:
    """The same, where the exponentials of the logits themselves are too large or too small."""
    below, others, _ = below_largest(logits)
    total = row_sums(others)
    scores: Floats = np.einsum("sk,sk->s", others, below) / (1 + total) - np.log1p(total)
    return scores
