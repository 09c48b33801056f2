"""The interface of a network, independent of the library that it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from .._export_error import ExportError
from ._fingerprint import Fingerprint
from ._session import NetworkSession

PENULTIMATE = "penultimate"
"""Name of the input of the head, where no other layer holds it."""

LEAST_ROUNDING = 4e-6
"""Relative error that a product in single precision may have, summed in any order."""

OF_COSINES = (
    "the last product is that of vectors of length one with vectors of one length, as of a cosine "
    "classifier"
)
"""Why a linear map is no head."""

Batch = Any
"""An array, a tensor, or a mapping of names to these."""

LayerReading = Callable[[str, Any, Any], dict[str, Any]]
"""Given the name of a layer, its value and the inputs of the network: what to keep, by name."""

LayerCallback = Callable[[str, Any], None]
"""Called with the name of a layer and its value."""


class GivenHead(Protocol):
    """Weight and bias of the last linear layer, as the user gives them."""

    @property
    def weight(self) -> NDArray:
        """(n_classes, n_units)."""

    @property
    def bias(self) -> NDArray | None:
        """(n_classes,); None for zeros."""

    @property
    def input_layer(self) -> str | None:
        """Name of the layer that it reads, where that is known."""


@dataclass(frozen=True)
class Trace:
    """What a run on a few samples reveals about a network.

    An adapter may derive its own from it, to keep what else ``forward`` needs.

    Parameters
    ----------
    auto : list of str
        Layers that ``layers="auto"`` stands for, in forward order.
    features : list of str, default=[]
        Layers whose values are, unchanged, the input of the head.
    n_axes : dict of str to int, default={}
        Number of axes of each layer, with that of the samples.
    why_no_head : str, default="networks of this kind have none"
        Where no head yields the logits, the reason; otherwise empty.
    why_no_logits : str, default=""
        Where the network yields no logits, the reason, if one is known; otherwise empty.
    head_rounding : float, default=4e-6
        Relative error that the product of features and weights may have.
    unit_axes : dict of str to int, default={}
        The axis of the units of each layer that has them in another than the second axis, such as
        2 of a layer that has a vector of units for each token, (n_samples, n_tokens, n_units).
    takes_any_length : bool, default=False
        Whether the second axis of the inputs, that of tokens, may have another size.
    sequence : str, default=""
        Name of an input of which this is so, where the inputs are a mapping.
    token_steps : dict of str to int, default={}
        Of layers whose number of tokens goes by that of the inputs and is another one, for how many
        tokens of the inputs each of theirs stands, such as 2; 0 where this is no such number.
    left_out : dict of str to str, default={}
        Values that ``layers="auto"`` might stand for and does not, with the reasons.

    Examples
    --------
    >>> from skood.networks import Trace
    >>> Trace(auto=["hidden"], features=["hidden"], n_axes={"hidden": 2}, why_no_head="").features
    ['hidden']
    """

    auto: list[str]
    """Layers that ``layers="auto"`` stands for, in forward order."""
    features: list[str] = field(default_factory=list)
    """Layers whose values are, unchanged, the input of the head."""
    n_axes: dict[str, int] = field(default_factory=dict)
    """Number of axes of each layer, with that of the samples."""
    why_no_head: str = "networks of this kind have none"
    """Where no head yields the logits, the reason; otherwise empty."""
    why_no_logits: str = ""
    """Where the network yields no logits, the reason, if one is known; otherwise empty."""
    head_rounding: float = LEAST_ROUNDING
    """Relative error that the product of features and weights may have."""
    unit_axes: dict[str, int] = field(default_factory=dict)
    """The axis of the units of each layer that has them in another than the second axis."""
    takes_any_length: bool = False
    """Whether the second axis of the inputs may have another size."""
    sequence: str = ""
    """Name of an input of which this is so, where the inputs are a mapping."""
    token_steps: dict[str, int] = field(default_factory=dict)
    """Of layers with another number of tokens, how many of the inputs each stands for, or 0."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Values that ``layers="auto"`` might stand for and does not, with the reasons."""


@dataclass(frozen=True)
class LossGradients:
    """Gradient of a loss with respect to what a network yields, up to a factor per sample.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes) or None
        With respect to the logits; None where the loss does not depend on them.
    means : dict of str to ndarray of shape (n_samples, n_units)
        With respect to layers, averaged over all axes but those of samples and units.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.networks import LossGradients
    >>> LossGradients(logits=np.array([[-0.5, 0.5]]), means={}).means
    {}
    """

    logits: NDArray[np.float64] | None
    means: dict[str, NDArray[np.float64]]


class Perturbation(ABC):
    """Change of the inputs against the sign of the gradient of a loss.

    :class:`skood.extraction.ODIN` and :class:`skood.extraction.MahalanobisPerturbation` are two.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.extraction import ODIN
    >>> odin = ODIN(0.25, temperature=1.0)
    >>> odin.layers()
    []
    >>> odin.steps((2, 3)).item()
    0.25
    """

    @abstractmethod
    def layers(self) -> list[str]:
        """Name the layers whose spatial means the loss depends on.

        Returns
        -------
        layers : list of str
            Empty where the loss depends on the logits alone.
        """

    @abstractmethod
    def gradients(self, logits: NDArray | None, means: Mapping[str, NDArray]) -> LossGradients:
        """Compute the gradients of the loss with respect to logits and spatial means.

        Parameters
        ----------
        logits : ndarray of shape (n_samples, n_classes) or None
            Those of the unchanged inputs.
        means : mapping of str to ndarray of shape (n_samples, n_units)
            The layers that ``layers`` names, averaged over all axes but those of samples and units.

        Returns
        -------
        gradients : LossGradients
            Of the same shapes, sample by sample.
        """

    @abstractmethod
    def steps(self, shape: Sequence[int]) -> NDArray[np.float64]:
        """Size of the change of each channel.

        Parameters
        ----------
        shape : sequence of int
            That of the inputs, (n_samples, n_channels, ...).

        Returns
        -------
        steps : ndarray
            Of a shape that broadcasts to the given one.
        """


CAPABILITIES = frozenset({"gradients", "dropout", "perturbation", "device", "logits", "head"})
"""What an adapter may be able to do beside what it must."""


class NetworkAdapter(ABC):
    """One kind of network, read without leaving a mark on it.

    A subclass must implement ``trace``, ``forward``, ``head`` and ``fingerprint``. What else it can
    do, it names in ``capabilities``, by which others know. Values may be arrays of the network's
    own kind, such as tensors, until ``to_numpy`` is called on them. A batch is what the user gave,
    cut into some rows: an array, a tensor, or a mapping of names to these. Each kind of network
    makes and reads its own kind of trace, a :class:`Trace` or one derived from it. The user guide
    builds one, step by step (:ref:`adding_a_framework`).

    Attributes
    ----------
    capabilities : frozenset of str
        Of "gradients" (``forward_with_gradients``), "dropout" (``forward_with_dropout``) and
        "perturbation" (``perturb``), those that are implemented; and of "device", "logits" and
        "head", the options that can be set when the adapter is made. By default none.
    classes : ndarray of shape (n_classes,) or None
        Label of each column of the logits, where the network knows them.
    network : object or None
        What runs, inside of whatever the user gave.
    kept_as : {"nothing", "state", "weights", "model"}
        What :func:`skood.save` may keep of the network: nothing but its fingerprint, by default;
        the estimator that it is; the tensors of ``network``, a torch module; or a model, which
        the method ``whole_model`` returns as bytes.
    written_by_passes : bool
        Whether a pass may leave something in the network, such as a count; by default it may.
    """

    kept_as: str = "nothing"
    capabilities: frozenset[str] = frozenset()
    classes: NDArray | None = None
    network: Any = None
    written_by_passes: bool = True

    @property
    def precision(self) -> str:
        """What to say of the precision that values are computed in, if not that of the weights."""
        return ""

    @property
    def kind(self) -> str:
        """What the network is called in messages."""
        return f"a network read by {type(self).__name__}"

    def supports(self, capability: str) -> bool:
        """Whether the adapter has a capability.

        Parameters
        ----------
        capability : {"gradients", "dropout", "perturbation", "device", "logits", "head"}
            What it is asked for.

        Returns
        -------
        is_supported : bool
            Whether ``capabilities`` names it.

        Raises
        ------
        ValueError
            If there is no such capability.
        """
        if capability not in CAPABILITIES:
            raise ValueError(
                f"capability must be among {sorted(CAPABILITIES)}, got {capability!r}."
            )
        return capability in self.capabilities

    def untouched(self) -> AbstractContextManager[None]:
        """Context in which the network may be run; it leaves everything as it was before.

        Returns
        -------
        context : context manager
            By default one that does nothing.
        """
        return nullcontext()

    def prepare(self, X: Any) -> Any:
        """What the network is run on, of what the user gives; by default the same.

        Parameters
        ----------
        X : object
            All inputs: an array, data frame, list, mapping, data set, loader or iterator.

        Returns
        -------
        X_prepared : object
            The very same object where nothing changes. Otherwise rows in the same order, such as
            what the steps before the network make of them, or a loader that yields them.
        """
        return X

    def prepare_batch(self, batch: Any) -> Any:
        """The same for what a data set or loader of the user yields, which ``prepare`` returned.

        Parameters
        ----------
        batch : object
            Inputs, without targets.

        Returns
        -------
        batch_prepared : object
            The very same object where nothing changes.
        """
        return batch

    def stamp(self, trace: Any = None) -> Any:
        """Something that compares equal as long as the network seems not to have changed.

        It may be cheaper than the fingerprint, which decides where stamps differ; and it may
        miss a change, since a fingerprint is taken now and then in any case. One adapter is asked
        again and again, also where it was made of something, such as a file or a wrapper, that
        holds another network by now: both are to tell that.

        Parameters
        ----------
        trace : Trace, default=None
            As for ``fingerprint``.

        Returns
        -------
        stamp : object
            By default the fingerprint's digest.
        """
        return self.fingerprint(trace).digest

    def glance(self, trace: Any = None, *, after_pass: bool = False) -> Any:
        """Like ``stamp``, but cheaper: it may miss values that were changed behind all counts.

        Parameters
        ----------
        trace : Trace, default=None
            As for ``fingerprint``.
        after_pass : bool, default=False
            Whether only that counts which a pass that has just run may have left behind, such as
            counts and caches: the weights, hooks and code need not be looked at.

        Returns
        -------
        stamp : object
            Equal to a stamp of before. By default a stamp.
        """
        return self.stamp(trace)

    def session(self, trace: Any, layers: Sequence[str]) -> NetworkSession:
        """What runs the network again and again, for the same layers.

        Parameters
        ----------
        trace : Trace
            What ``trace`` has returned.
        layers : sequence of str
            Names of layers.

        Returns
        -------
        session : NetworkSession
            By default one that calls ``forward`` in ``untouched``.
        """
        return NetworkSession(self, trace, layers)

    def predictions(self, logits: Any, trace: Any) -> NDArray | None:
        """Number of the predicted class of each sample.

        Parameters
        ----------
        logits : array-like of shape (n_samples, n_classes)
            What ``forward`` has returned.
        trace : Trace
            What ``trace`` has returned.

        Returns
        -------
        predictions : ndarray of shape (n_samples,) or None
            None, the default, where it is the number of the largest logit.
        """
        return None

    def explain(self, error: Exception) -> str | None:
        """Say at which part of the network a call failed, and what that part was given.

        Parameters
        ----------
        error : Exception
            What was raised, with its traceback.

        Returns
        -------
        where : str or None
            Such as "its module 'fc', a Linear(4, 2), was given the shape (2, 5)". None, the
            default, for an error that does not come of the network's own code, or where the part
            is not known.
        """
        return None

    @property
    def steps(self) -> list[Any]:
        """Fitted transformers that change the inputs before the network gets them."""
        return []

    def as_module(self, batch: Batch, trace: Any, layers: Sequence[str], read: LayerReading) -> Any:
        """Make a module of torch that computes what ``forward`` does, with weights of its own.

        It is called in ``untouched``. The module takes the inputs, of a mapping one after the
        other, and returns a tuple: the logits or None; the number of the predicted class of each
        sample, or None where it is that of the largest logit; and a dict of tensors by name, all
        that ``read`` makes of the layers.

        Parameters
        ----------
        batch : array, tensor or mapping
            A few samples, of which nothing but shapes and types counts.
        trace : Trace
            What ``trace`` has returned.
        layers : sequence of str
            Names of layers.
        read : callable
            Given the name of a layer, its value and the inputs, each of them tensors; returns a
            dict of tensors, which do not share the memory of the value.

        Returns
        -------
        module : torch.nn.Module
            It can be traced by torch, and changes nothing in the network.

        Raises
        ------
        ExportError
            If there is no such module; the message says why.
        """
        raise ExportError(f"The network cannot be exported: {self.kind} has no form in tensors.")

    @abstractmethod
    def fingerprint(self, trace: Any = None) -> Fingerprint:
        """Hash of what decides the values, equal for copies of the network.

        Parameters
        ----------
        trace : Trace, default=None
            What passes leave behind in the network counts, unless their trace is given.

        Returns
        -------
        fingerprint : Fingerprint
            The hash, and what could not be read; a :class:`ContentReader` makes both.
        """

    @abstractmethod
    def trace(self, batch: Batch) -> tuple[Trace, dict[str, Any]]:
        """Run on a few samples, and find out what there is.

        Parameters
        ----------
        batch : array, tensor or mapping
            Two samples, which may be the same.

        Returns
        -------
        trace : Trace
            Which layers and which head the network has, and what else ``forward`` needs.
        values : dict of str to array
            Each layer by its name, in forward order, with a row for each sample.
        """

    @abstractmethod
    def forward(
        self, batch: Batch, trace: Any, layers: Sequence[str], keep: LayerCallback
    ) -> Any | None:
        """Run on a batch and return the logits.

        Parameters
        ----------
        batch : array, tensor or mapping
            Some samples. They are not overwritten.
        trace : Trace
            What ``trace`` has returned, for other samples.
        layers : sequence of str
            Names of layers, as in the trace.
        keep : callable
            To be called with the name of each layer and its value the moment the layer has it: the
            network may overwrite it afterwards, and what is not named is not computed.

        Returns
        -------
        logits : array of shape (n_samples, n_classes) or None
            None where the network has none. They come before a softmax, in the kind of array of
            the framework.

        Raises
        ------
        ValueError
            If the batch is not of the shape that the network takes, or a layer is not computed.
        """

    def forward_with_gradients(
        self,
        batch: Batch,
        trace: Any,
        layers: Sequence[str],
        keep: LayerCallback,
        keep_gradient: LayerCallback,
    ) -> Any:
        """Run as ``forward`` does, and take gradients at the layers.

        They are those of the Kullback-Leibler divergence from the uniform distribution to the
        predicted probabilities, sample by sample, whose gradient at the logits is
        ``softmax(logits) - 1 / n_classes``.

        Parameters
        ----------
        batch : array, tensor or mapping
            Some samples.
        trace : Trace
            What ``trace`` has returned.
        layers : sequence of str
            Names of layers.
        keep : callable
            Called with the name of each layer and its value, as in ``forward``.
        keep_gradient : callable
            Called with the name of each layer and the gradient, of the shape of the value.

        Returns
        -------
        logits : array of shape (n_samples, n_classes)
            As ``forward`` returns them.

        Raises
        ------
        ValueError
            If there are no logits, they do not depend on one of the layers, or the framework
            computes no gradients.
        """
        raise ValueError(f"gradients=True needs gradients at the layers, but {self.kind} has none.")

    def forward_with_dropout(self, batch: Batch, trace: Any, n_passes: int, seed: int) -> Any:
        """Run several times with dropout.

        Nothing but the dropout layers is in training mode.

        Parameters
        ----------
        batch : array, tensor or mapping
            Some samples.
        trace : Trace
            What ``trace`` has returned.
        n_passes : int
            How often to run.
        seed : int
            Decides what is left out. The same seed gives the same logits.

        Returns
        -------
        logits : array of shape (n_samples, n_passes, n_classes)
            Those of each pass.

        Raises
        ------
        ValueError
            If there are no dropout layers, as where the framework has none, or no logits.
        """
        raise ValueError(f"n_passes={n_passes} needs dropout layers, but {self.kind} has none.")

    def perturb(
        self, batch: Batch, trace: Any, perturbation: Perturbation
    ) -> tuple[Batch, Any | None]:
        """Change the inputs against the sign of the gradient of a loss.

        Parameters
        ----------
        batch : array, tensor or mapping
            Some samples, which are not overwritten.
        trace : Trace
            What ``trace`` has returned.
        perturbation : Perturbation
            Which loss, and how far.

        Returns
        -------
        moved : array, tensor or mapping
            The inputs minus ``perturbation.steps(shape)`` times the sign of the gradient.
        logits : array of shape (n_samples, n_classes) or None
            Those of the inputs before.

        Raises
        ------
        ValueError
            If inputs have no gradient, the network does not let it through, or the framework
            computes no gradients.
        """
        raise ValueError(
            f"{type(perturbation).__name__} needs gradients at the inputs, but {self.kind} has "
            "none."
        )

    @abstractmethod
    def head(self, trace: Any) -> tuple[NDArray, NDArray | None] | None:
        """Copy weight and bias of the linear layer that yields the logits, if one does.

        It is called in ``untouched``, as weights may be computed when they are read.

        Parameters
        ----------
        trace : Trace
            What ``trace`` has returned.

        Returns
        -------
        head : tuple or None
            Weight of shape (n_classes, n_units) and bias of shape (n_classes,), or None in its
            place. None in place of both where there is no such layer; ``trace.why_no_head`` says
            why.
        """

    def to_numpy(self, value: Any) -> NDArray:
        """Convert a value to an array.

        Parameters
        ----------
        value : array
            Of a layer, or logits.

        Returns
        -------
        array : ndarray
            The same numbers; it may share their memory.
        """
        return np.asarray(value)

    @property
    def overlaps(self) -> bool:
        """Whether the network computes elsewhere, and goes on while ``send`` copies a value."""
        return False

    def send(self, value: Any) -> Callable[[], NDArray]:
        """Begin to copy a value to where arrays are, where the adapter ``overlaps``.

        Parameters
        ----------
        value : array
            Of a layer, or logits. It may be overwritten at once.

        Returns
        -------
        receive : callable
            Waits until the copy is complete, and returns what ``to_numpy`` would have.
        """
        array = np.array(self.to_numpy(value))
        return lambda: array


def count_samples(batch: Batch) -> int:
    """Number of samples."""
    values = next(iter(batch.values())) if isinstance(batch, Mapping) else batch
    return values.shape[0] if issparse(values) else len(values)


def take_samples(batch: Batch, rows: slice | list[int]) -> Batch:
    """Some of the samples."""
    if isinstance(batch, Mapping):
        return {key: values[rows] for key, values in batch.items()}
    return batch[rows]


def two_class_head(weight: NDArray, bias: NDArray | None) -> tuple[NDArray, NDArray | None]:
    """The head that yields 0 beside the one output, the log-odds of the second class."""
    zeros = np.zeros_like(weight)
    return np.concatenate([zeros, weight]), None if bias is None else np.append(zeros[:1, 0], bias)


def have_one_length(vectors: NDArray, length: float | None = None) -> bool:
    """Whether several vectors of more than one number have the same length, or a given one."""
    if min(vectors.shape) < 2:
        return False
    lengths = np.linalg.norm(vectors.astype(np.float64, copy=False), axis=1)
    expected = float(lengths[0]) if length is None else length
    return expected > 0 and np.allclose(lengths, expected, rtol=1e-3, atol=0)


def check_reached(unreached: list[str]) -> None:
    """Raise a ValueError where there are layers that the logits do not depend on."""
    if unreached:
        raise ValueError(
            f"No gradient of the logits reaches the layers {unreached}: they come after the "
            "logits, are overwritten, or the network detaches what it computes from them. Name "
            "other layers."
        )
