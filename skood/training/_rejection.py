"""Class labels as classifiers answer that can reject a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from .._marks import read_labels


def label_rejected(labels: NDArray, is_ood: NDArray[np.bool_], reject_label: Any) -> NDArray:
    """Labels, with ``reject_label`` in place of those of out-of-distribution samples.

    Without a ``reject_label`` they stay as they are. Where labels and ``reject_label`` are of
    different kinds, as texts and -1, the result has the dtype object.
    """
    if reject_label is None:
        return labels
    rejected = np.asarray(reject_label)
    kinds = {labels.dtype.kind, rejected.dtype.kind}
    same_kind = len(kinds) == 1 or kinds <= set("iuf")
    answers = labels.astype(np.result_type(labels, rejected) if same_kind else object)
    answers[is_ood] = reject_label
    return answers


def accuracy(answers: NDArray, y: ArrayLike, sample_weight: ArrayLike | None) -> float:
    """Share of the answers that equal the labels, of whatever kinds both are."""
    labels = read_labels(y)
    check_consistent_length(answers, labels, sample_weight)
    is_right = answers.astype(object) == labels.astype(object)
    weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    return float(np.average(is_right, weights=weights))
