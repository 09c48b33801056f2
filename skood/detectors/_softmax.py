"""Sums of exponentials of logits that keep their precision.

``log_sum_exp`` takes a third to a fifth of the time of ``scipy.special.logsumexp``, measured in one
thread on 10 000 rows of 1000 and of 10 logits. The two differ by rounding alone, a bit or two of
the largest logit, which is many bits of a sum near 0: SciPy's is more precise there. NNGuide and
ViM use SciPy's, and with this one the last bits of their scores would be others. So does KL
matching, which sums over samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_sum_exp(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the sum of exponentials of each row."""
    largest = logits.max(axis=1, keepdims=True)
    below = logits - largest
    return largest[:, 0] + np.log(np.exp(below, out=below).sum(axis=1))


def below_largest(
    logits: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits minus the largest of their row, and exponentials of these: 0 for the largest."""
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    below = logits - logits[rows, top, np.newaxis]
    others = np.exp(below)
    others[rows, top] = 0
    return below, others
