"""A monitor written in tensors, for torch and for ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from torch import nn


class ExportMixin:
    """The part of :class:`~skood.Monitor` that exports it."""

    def to_torch(self, X: Any = None) -> nn.Module:
        """Write network and monitor as one module of torch.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader or dict, default=None
            Some inputs of the network. They are needed only where the monitor was fitted on
            activations that were extracted before, which do not tell what inputs are like.

        Returns
        -------
        module : torch.nn.Module
            Maps a batch of inputs to a dict of tensors.
        """
        from .export._monitor import MonitorModule

        check_is_fitted(self)
        return MonitorModule(self, X)
