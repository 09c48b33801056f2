"""Fitted skorch nets as networks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ._base import Batch
from ._fingerprint import ContentReader, Fingerprint, with_settings
from ._inputs import is_stream
from ._torch.adapter import TorchAdapter
from ._torch.autocast import Autocast
from ._torch.chosen_head import WantedHead
from ._torch.outputs import AUTO, Wanted
from ._torch.trace import TorchTrace

# What decides which rows a loader yields, and of what they are made.
_OF_BATCHES = frozenset({"batch_sampler", "collate_fn", "sampler"})
_SETTINGS = ("threshold", "predict_nonlinearity", "dataset", "iterator_valid")
# What would leave out rows or change their order, which serves training alone.
_OF_TRAINING = ("iterator_valid__drop_last", "iterator_valid__shuffle")


def adapt_skorch(
    net: NeuralNet,
    device: Any = "auto",
    logits: Wanted = AUTO,
    head: WantedHead = AUTO,
    autocast: Autocast = False,
) -> SkorchAdapter:
    """The adapter for the kind of net.

    Raises
    ------
    NotFittedError
        If the net has no module yet.
    TypeError
        If it has others than one module.
    """
    if not isinstance(net, NeuralNet):
        raise TypeError(
            f"network must be a fitted NeuralNet, got a {type(net).__name__} of skorch."
        )
    if not getattr(net, "initialized_", False):
        raise NotFittedError(
            f"This {type(net).__name__} instance is not fitted yet: fit it, or initialize it and "
            "load its parameters. Clones, such as a search over networks makes, are not fitted: "
            "there, wrap each net in sklearn.frozen.FrozenEstimator."
        )
    if not hasattr(net, "module_"):
        raise TypeError(
            f"This {type(net).__name__} has no module_: put its modules into one torch module "
            "that calls them, and pass that."
        )
    if isinstance(net, NeuralNetBinaryClassifier):
        return _BinaryAdapter(net, device, logits, head, autocast)
    if isinstance(net, NeuralNetRegressor):
        return _RegressorAdapter(net, device, logits, head, autocast)
    return SkorchAdapter(net, device, logits, head, autocast)


class SkorchAdapter(TorchAdapter):
    """Runs the trained module of a net, on what the net makes of its inputs."""

    def __init__(
        self,
        net: NeuralNet,
        device: Any,
        logits: Wanted = AUTO,
        head: WantedHead = AUTO,
        autocast: Autocast = False,
    ) -> None:
        super().__init__(net.module_, device, logits, head, autocast)
        self._net = net
        # A classifier fitted without labels, on a data set, does not know its classes.
        classes = getattr(net, "classes_", None)
        self.classes = None if classes is None else np.asarray(classes)

    def prepare(self, X: Any) -> Any:
        if is_stream(X) and not isinstance(X, TorchDataset):
            return X
        if _has_own_batches(self._net) or not (
            isinstance(X, TorchDataset) or _has_plain_data_set(self._net)
        ):
            return _loader_of(self._net, X)
        return _as_columns(X, self.network) if _is_frame(X) else X

    def fingerprint(self, trace: TorchTrace | None = None) -> Fingerprint:
        return with_settings(super().fingerprint(trace), ContentReader(), self._settings())

    def stamp(self, trace: TorchTrace | None = None) -> Any:
        return super().stamp(trace), self._digest()

    def glance(self, trace: TorchTrace | None = None, *, after_pass: bool = False) -> Any:
        return super().glance(trace, after_pass=after_pass), self._digest()

    def _digest(self) -> bytes:
        return ContentReader().digest([value for _, value in self._settings()])

    def _settings(self) -> Iterator[tuple[str, Any]]:
        """What of the net itself decides values and predictions."""
        net = self._net
        yield "class of the net", type(net)
        for name in _SETTINGS:
            yield f"{name} of the net", getattr(net, name, None)
        for name in ("dataset", "iterator_valid"):
            yield f"{name} of the net, its parameters", net.get_params_for(name)

    def codes(self, logits: Tensor, trace: TorchTrace) -> Tensor | None:
        if self._wanted != AUTO or not isinstance(self._net, NeuralNetClassifier):
            return None
        if not callable(self._net.predict_nonlinearity):
            return None
        return self._probabilities(logits, trace).argmax(dim=1)

    def _probabilities(self, logits: Tensor, trace: TorchTrace) -> Tensor:
        """What the net's ``predict_proba`` makes of the output of its module."""
        output = self._squash(logits, trace)
        return torch.as_tensor(self._net._get_predict_nonlinearity()(output))

    def _squash(self, logits: Tensor, trace: TorchTrace) -> Tensor:
        """The output of the module, which may end in a softmax or sigmoid."""
        if trace.logits is None:
            return logits
        name = trace.logits.call[0]
        try:
            squash = self.network.get_submodule(name)
        except AttributeError:  # a function
            function = getattr(torch, name.rpartition(".")[2])
            return function(logits) if function is torch.sigmoid else function(logits, -1)
        return squash(logits)

    def _call(self, inputs: Any) -> Any:
        returned = self._infer(inputs)
        # The first output is the one that skorch itself takes.
        is_first = self._wanted == AUTO and isinstance(returned, tuple)
        return returned[0] if is_first else returned

    def _infer(self, inputs: Any) -> Any:
        if type(self._net).infer in (NeuralNet.infer, NeuralNetBinaryClassifier.infer):
            return super()._call(inputs)
        return _changed(self._net, module_=self.network, device=self._device).infer(inputs)


class _BinaryAdapter(SkorchAdapter):
    """The net's one output per sample is the log-odds of the second class."""

    _returns_log_odds = True

    def codes(self, logits: Tensor, trace: TorchTrace) -> Tensor | None:
        if self._wanted != AUTO:
            return None
        probabilities = self._probabilities(logits[:, 1], trace)
        if probabilities.ndim != 2:  # of a criterion that skorch does not know
            return None
        return (probabilities[:, 1] > self._net.threshold).to(torch.int64)


class _RegressorAdapter(SkorchAdapter):
    """What the net yields are no logits."""

    def _may_be_logits(self, output: Tensor) -> bool:
        is_auto = isinstance(self._wanted, str) and self._wanted == AUTO
        return not is_auto and super()._may_be_logits(output)

    def trace(self, batch: Batch) -> tuple[TorchTrace, dict[str, Tensor]]:
        trace, values = super().trace(batch)
        if trace.n_classes is None:
            trace = replace(trace, why_no_logits="a regressor has none unless logits= names them")
        return trace, values


def _has_own_batches(net: NeuralNet) -> bool:
    """Whether the user has set how batches are made of a data set."""
    return (
        net.iterator_valid is not DataLoader
        or not _OF_BATCHES.isdisjoint(net.get_params_for("iterator_valid"))
        or type(net).get_iterator is not NeuralNet.get_iterator
    )


def _has_plain_data_set(net: NeuralNet) -> bool:
    """Whether the user has left it to skorch to make a data set of the inputs."""
    return (
        net.dataset is Dataset
        and not net.get_params_for("dataset")
        and type(net).get_dataset is NeuralNet.get_dataset
    )


def _changed(net: NeuralNet, **attributes: Any) -> NeuralNet:
    """A net that shares all with another, but some attributes."""
    # Neither a copy, for which skorch would save all weights, nor by setattr, which it overrides.
    other = object.__new__(type(net))
    vars(other).update({**vars(net), **attributes})
    return other


def _loader_of(net: NeuralNet, X: Any) -> Any:
    """The loader by which the net itself would predict."""
    predicting = _changed(net)
    for name in _OF_TRAINING:
        vars(predicting).pop(name, None)
    data_set = predicting.get_dataset(X)
    loader = predicting.get_iterator(data_set, training=False)
    # The targets of a data set without any are placeholders.
    if data_set is not X and getattr(data_set, "y", X) is None and hasattr(loader, "collate_fn"):
        loader.collate_fn = _InputsAlone(loader.collate_fn)
    return loader


class _InputsAlone:
    """Collates the inputs of samples and leaves out the targets.

    Parameters
    ----------
    collate : callable
        Makes a pair of samples, each of which is a pair.
    """

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self._collate = collate

    def __call__(self, samples: Any) -> Any:
        return [self._collate(samples)[0]]


def _is_frame(X: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(X, pandas.DataFrame)


def _as_columns(X: Any, module: torch.nn.Module) -> Any:
    """The columns of a frame as skorch passes them, where the module has arguments for them."""
    parameters = inspect.signature(module.forward).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if takes_all or set(X.columns) <= parameters.keys():
        return {name: X[name].to_numpy().reshape(-1, 1) for name in X}
    return X
