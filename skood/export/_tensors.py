"""Activations as tensors: what the exported parts of a monitor hand to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TensorHead:
    """The last linear layer.

    Parameters
    ----------
    weight : Tensor of shape (n_classes, n_units)
        Weights.
    bias : Tensor of shape (n_classes,)
        Biases.
    input_layer : str or None
        Layer that it reads.
    """

    weight: Tensor
    bias: Tensor
    input_layer: str | None

    def logits(self, features: Tensor) -> Tensor:
        """Logits of features, in their precision.

        Parameters
        ----------
        features : Tensor of shape (n_samples, n_units)
            What the head reads.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Weight times features, plus bias.
        """
        weight, bias = self.weight.to(features.dtype), self.bias.to(features.dtype)
        return features @ weight.T + bias


@dataclass
class TensorActivations:
    """What :class:`~skood.Activations` are to estimators, to their exported forms.

    Nothing is checked, and nothing depends on values: that of a batch of any size is one graph.

    Parameters
    ----------
    layers : dict of str to Tensor of shape (n_samples, ...)
        Layers in forward order, as the network or the step before yields them. Packed bits are a
        tensor of booleans, not packed.
    logits : Tensor of shape (n_samples, n_classes), default=None
        Output of the network before the softmax.
    predictions : Tensor of shape (n_samples,), dtype int64, default=None
        Number of the predicted class of each sample in ``Activations.classes``: the column of its
        logit.
    head : TensorHead, default=None
        The last linear layer of the network.
    features : Tensor of shape (n_samples, n_units), default=None
        What the head reads in the network; by default the layer that it reads.
    mask : Tensor of shape (n_samples, n_tokens), dtype bool, default=None
        True at tokens, False at padding.

    Examples
    --------
    >>> import torch
    >>> from skood.export import TensorActivations
    >>> A = TensorActivations({"relu": torch.ones(3, 2), "fc": torch.zeros(3, 4)})
    >>> A.matrix().shape
    torch.Size([3, 6])
    """

    layers: Mapping[str, Tensor]
    logits: Tensor | None = None
    predictions: Tensor | None = None
    head: TensorHead | None = None
    features: Tensor | None = None
    mask: Tensor | None = None

    def only_layer(self) -> Tensor:
        """The values of the only layer.

        Returns
        -------
        values : Tensor of shape (n_samples, ...)
            As the layer has them.
        """
        (layer,) = self.layers.values()
        return layer

    def matrix(self) -> Tensor:
        """All layers side by side, as ``numpy.asarray`` gives those of ``Activations``.

        Returns
        -------
        matrix : Tensor of shape (n_samples, n_units), dtype float64
            One column for each unit of each layer.
        """
        import torch

        flat = [layer.flatten(1).to(torch.float64) for layer in self.layers.values()]
        return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)

    def with_layers(self, layers: Mapping[str, Tensor]) -> TensorActivations:
        """The same samples with other layers; what the network itself said stays.

        Parameters
        ----------
        layers : dict of str to Tensor of shape (n_samples, ...)
            The new layers.

        Returns
        -------
        TensorActivations
            With the logits, predictions, head and mask of these, and the features as they were.
        """
        return replace(self, layers=layers, features=self.read_by_head())

    def select(self, names: Sequence[str]) -> TensorActivations:
        """Some of the layers, with all that is beside them.

        Parameters
        ----------
        names : sequence of str
            Layers.

        Returns
        -------
        TensorActivations
            The same samples.
        """
        return self.with_layers({name: self.layers[name] for name in names})

    def read_by_head(self) -> Tensor | None:
        """What the head reads in the network, where it is known.

        Returns
        -------
        features : Tensor of shape (n_samples, n_units) or None
            ``features``, or the layer that the head reads.
        """
        if self.features is not None or self.head is None:
            return self.features
        return self.layers.get(self.head.input_layer or "")
