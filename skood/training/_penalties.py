"""Confidence losses: they penalise a classifier for confidence in wrong classes."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Real

import torch
from sklearn.utils import check_scalar
from torch import Tensor, nn


class _PenalizedCrossEntropy(nn.CrossEntropyLoss):
    """Template of the confidence losses: cross entropy plus a weighted penalty.

    skorch takes the outputs of a network with a ``CrossEntropyLoss`` for logits.
    """

    def __init__(self, penalty_weight: float = 1.0, *, reduction: str = "mean") -> None:
        check_scalar(penalty_weight, "penalty_weight", Real, min_val=0)
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")
        super().__init__(reduction=reduction)
        self.penalty_weight = penalty_weight

    def penalty(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the penalty alone, to be added to other losses.

        Parameters
        ----------
        input : torch.Tensor of shape (n_samples, n_classes)
            Logits.
        target : torch.Tensor of shape (n_samples,)
            Classes, dtype int64.

        Returns
        -------
        penalty : torch.Tensor of shape (n_samples,)
            The penalty of each sample, 0 or more, not yet weighted.
        """
        return self._penalty(input, target)

    @abstractmethod
    def _penalty(self, input: Tensor, target: Tensor) -> Tensor:
        """The penalty of each sample."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : torch.Tensor of shape (n_samples, n_classes)
            Logits.
        target : torch.Tensor of shape (n_samples,)
            Classes, dtype int64.

        Returns
        -------
        loss : torch.Tensor
            Cross entropy plus ``penalty_weight`` times the penalty: the mean or the sum over
            the samples, or one value a sample, of shape (n_samples,).
        """
        if target.is_floating_point():
            raise TypeError(f"target must hold classes, not probabilities, got {target.dtype}.")
        loss = nn.functional.cross_entropy(input, target, reduction="none")
        loss = loss + self.penalty_weight * self.penalty(input, target)
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()

    def extra_repr(self) -> str:
        """Return the parameters, for the representation of the module.

        Returns
        -------
        str
            Their names and values.
        """
        return f"penalty_weight={self.penalty_weight}, reduction={self.reduction!r}"


class OverconfidencePenalty(_PenalizedCrossEntropy):
    r"""Cross entropy plus a penalty on confidence in wrong classes [1]_.

    It replaces ``torch.nn.CrossEntropyLoss``, in a loop of plain torch as well as in skorch.
    Targets are classes. It has no weights of classes, label smoothing or ``ignore_index``.

    Parameters
    ----------
    penalty_weight : float, default=1.0
        Weight of the penalty, k below; with 0 the loss is the cross entropy.
    reduction : {"mean", "sum", "none"}, default="mean"
        How the losses of the samples are reduced.

    Raises
    ------
    TypeError
        If ``penalty_weight`` is not a number.
    ValueError
        If ``penalty_weight`` is negative, or ``reduction`` unknown.

    See Also
    --------
    SpreadPenalty : Pushes wrong predictions towards uniform ones.
    DenoisingClassifier : A classifier that is trained with both.

    Notes
    -----
    With p the softmax and t the true class, the loss of a sample is

    .. math::

        -\log p_t - k \sum_{i \ne t} p_i \log(1 - p_i).

    The terms of the sum are negative, so each wrong class costs more the more confident the
    network is in it, without bound. The cross entropy depends on :math:`p_t` alone: of two
    predictions with the same, this loss prefers the one that spreads the rest evenly. It is
    computed from the logits and stays finite where :math:`p_i` rounds to 1.

    References
    ----------
    .. [1] Y. Song, "Deep Learning Lab, final project report", Yonsei University.

    Examples
    --------
    >>> import torch
    >>> from skood.training import OverconfidencePenalty
    >>> logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    >>> loss = OverconfidencePenalty(reduction="none")
    >>> even, confident_and_wrong = loss(logits, torch.tensor([0, 0])).tolist()
    >>> round(even, 2), round(confident_and_wrong, 2)
    (1.37, 7.26)
    """

    def _penalty(self, input: Tensor, target: Tensor) -> Tensor:
        wrong = torch.ones_like(input).scatter(1, target[:, None], 0.0)
        p = input.softmax(dim=1)
        return -(wrong * p * _log_complement(input, p)).sum(dim=1)


class SpreadPenalty(_PenalizedCrossEntropy):
    r"""Cross entropy plus a penalty on wrong predictions that are not uniform [1]_.

    It replaces ``torch.nn.CrossEntropyLoss``, in a loop of plain torch as well as in skorch.
    Targets are classes. It has no weights of classes, label smoothing or ``ignore_index``.

    Parameters
    ----------
    penalty_weight : float, default=1.0
        Weight of the penalty; with 0 the loss is the cross entropy. The penalty of a sample is
        below 1/2. A weight far above 1 costs accuracy: an uncertain network has no penalty.
    reduction : {"mean", "sum", "none"}, default="mean"
        How the losses of the samples are reduced.

    Raises
    ------
    TypeError
        If ``penalty_weight`` is not a number.
    ValueError
        If ``penalty_weight`` is negative, or ``reduction`` unknown.

    See Also
    --------
    OverconfidencePenalty : Penalises confidence in wrong classes.
    DenoisingClassifier : A classifier that is trained with both.

    Notes
    -----
    The penalty is the standard deviation of the softmax over the classes, with the number of
    classes as the divisor, where the most probable class is not the true one, and 0 elsewhere. It
    is 0 for the uniform prediction, and largest where one wrong class has the probability 1.

    References
    ----------
    .. [1] Y. Song, "Deep Learning Lab, final project report", Yonsei University.

    Examples
    --------
    >>> import torch
    >>> from skood.training import SpreadPenalty
    >>> logits = torch.tensor([[0.0, 1.0, 0.0], [0.0, 4.0, 0.0], [4.0, 0.0, 0.0]])
    >>> wrong, confident_and_wrong, right = (
    ...     SpreadPenalty().penalty(logits, torch.tensor([0, 0, 0])).tolist()
    ... )
    >>> round(wrong, 2), round(confident_and_wrong, 2), right
    (0.17, 0.45, 0.0)
    """

    def _penalty(self, input: Tensor, target: Tensor) -> Tensor:
        n_classes = input.shape[1]
        # A norm, unlike a standard deviation, has a gradient where all probabilities are equal.
        distance = torch.linalg.vector_norm(input.softmax(dim=1) - 1 / n_classes, dim=1)
        return distance / n_classes**0.5 * (input.argmax(dim=1) != target)


def _log_complement(logits: Tensor, p: Tensor) -> Tensor:
    """log(1 - p) of the softmax p of logits, finite also where p rounds to 1."""
    largest = torch.zeros_like(logits, dtype=torch.bool)
    largest.scatter_(1, logits.argmax(dim=1, keepdim=True), True)
    # Only the largest probability can round to 1: its complement is the sum of the others.
    rest = logits.masked_fill(largest, -torch.inf).logsumexp(dim=1) - logits.logsumexp(dim=1)
    others = torch.log1p(-p.masked_fill(largest, 0.0))
    return torch.where(largest, rest[:, None], others)
