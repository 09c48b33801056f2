"""Predictions of classifiers that can reject a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def label_rejected(labels: NDArray, is_ood: NDArray[np.bool_], reject_label: Any) -> NDArray:
    """Labels, with ``reject_label`` in place of those of out-of-distribution samples.

    Without a ``reject_label`` they stay as they are. Where it cannot be told from the labels once
    both have one dtype, as -1 beside texts, the result has the dtype object.
    """
    if reject_label is None:
        return labels
    rejected = np.asarray(reject_label)
    same_kind = labels.dtype.kind == rejected.dtype.kind
    dtype = np.result_type(labels, rejected) if same_kind else object
    answers = labels.astype(dtype)
    answers[is_ood] = reject_label
    return answers
