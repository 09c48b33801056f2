"""Recorder of single neurons while their network is trained."""

from __future__ import annotations

from numbers import Real
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from torch import nn

from .._sklearn import Interval, validate_parameter_constraints
from ..networks import TorchAdapter, WeightLayer, find_weight_layers
from ._hooks import TrainingHooks
from ._record import Record, Settings

try:
    from skorch.callbacks import Callback
except ImportError:  # a loop in plain torch needs no skorch
    Callback = object


class TrainingRecorder(Callback):
    """Activation counts and average gradients of hidden neurons, recorded in training.

    Both are measures of [1]_. The recorder is a context manager for a training loop in plain
    torch, and a callback of skorch.

    Parameters
    ----------
    network : torch.nn.Module, default=None
        The network that is trained within the ``with`` block. A callback gets the
        network from its net, and None is left here.
    last_fraction : float in (0, 1], default=0.5
        Share of the iterations, the last ones, over which gradients are averaged.
    signed : bool, default=False
        Whether to sum the gradients with their signs instead of averaging their magnitudes.
    include_bias : bool, default=True
        Whether the bias of a neuron is one of its incoming weights.
    read_fraction : float in (0, 1], default=1.0
        Share of the iterations whose gradients are read, for long trainings: less than 1 saves
        memory and time, and makes the averages estimates.

    Attributes
    ----------
    activation_counts_ : dict of str to ndarray of shape (n_units,)
        For each hidden layer with weights, on how many batches each neuron was active, dtype
        int64. Only the first sample of a batch is looked at.
    ever_active_ : dict of str to ndarray of shape (n_units,)
        For each of these layers, whether any sample of any batch activated each neuron, dtype
        bool. All samples are looked at.
    average_gradients_ : dict of str to ndarray of shape (n_units,)
        For each of these layers, the mean magnitude of the gradients of each neuron's incoming
        weights, over these weights and the last ``round(last_fraction * n_iterations_)``
        iterations, one at least. With ``signed=True``, the sum of the gradients over the same.
    n_iterations_ : int
        Number of backward passes.

    See Also
    --------
    skood.inspection.NeuronStatistics : Gathers what was recorded with other measures.
    skood.inspection.neuron_influence : Takes ``ever_active_``, to leave out neurons that never
        fired.

    Notes
    -----
    The layers are the dense and convolutional ones without the last, in the order in which the
    network registers its modules, and have the names of these.

    A neuron is active where the value that enters its activation function is above 0; for ReLU and
    its kind, that is where its output is. The value is what the layer returns, or the
    batch, group, instance or layer norm that is registered right after it. A channel
    is active where any of its positions is. Passes in evaluation mode or without gradients do not
    count, and every call of a layer does. A network that ``torch.compile`` compiled must not have
    run before: its layers are compiled without their hooks then.

    Gradients are those of single backward passes, whether or not the optimizer takes a step after
    each of them. Frozen weights have the gradient 0. Gradients that a ``GradScaler`` scales, as
    is usual in half precision, are recorded scaled.

    In [1]_ the gradients are summed with their signs, over the weights and the bias, which is the
    weight of an input that is always 1; its text speaks of their size, which is the default here.

    Training goes as it would without the recorder, to the last bit. The average is over all of
    the last iterations, exactly. Where they begin is known at the end only, so one number a neuron
    is kept for each iteration until it can no longer be among them. That takes 4 bytes (8 in
    double precision) times the neurons times ``last_fraction`` times the iterations: 3 MB for 1,280
    neurons and 1,200 iterations, 256 MB for 100,000. With ``read_fraction=0.1`` it is a tenth of
    that: a tenth of the iterations is read, in an order without a period, the mean is over these,
    and the sum of ``signed=True`` is scaled to all.

    What was recorded can be read at any time, and stays when the loop raises. Entering the block
    once more, or fitting the net anew, begins anew; ``partial_fit`` and ``warm_start`` go on.
    Where ``fit`` of skorch raises anything but ``KeyboardInterrupt``, callbacks are not called, and
    the hooks stay on the module until the net is initialized or trained again.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skood.training import TrainingRecorder
    >>> _ = torch.manual_seed(0)
    >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> optimizer = torch.optim.SGD(network.parameters())
    >>> with TrainingRecorder(network) as recorder:
    ...     for _ in range(20):
    ...         optimizer.zero_grad()
    ...         loss = network(torch.rand(8, 3)).square().mean()
    ...         loss.backward()
    ...         optimizer.step()
    >>> recorder.n_iterations_
    20
    >>> recorder.activation_counts_["0"].shape, recorder.average_gradients_["0"].shape
    ((4,), (4,))
    """

    _parameter_constraints: dict = {
        "network": [nn.Module, None],
        "last_fraction": [Interval(Real, 0, 1, closed="right")],
        "signed": ["boolean"],
        "include_bias": ["boolean"],
        "read_fraction": [Interval(Real, 0, 1, closed="right")],
    }

    # skorch takes every attribute that does not end in an underscore for a parameter.
    def __init__(
        self,
        network: nn.Module | None = None,
        *,
        last_fraction: float = 0.5,
        signed: bool = False,
        include_bias: bool = True,
        read_fraction: float = 1.0,
    ) -> None:
        self.network = network
        self.last_fraction = last_fraction
        self.signed = signed
        self.include_bias = include_bias
        self.read_fraction = read_fraction
        self._record_: Record | None = None
        self._hooks_: TrainingHooks | None = None
        self._trained_: nn.Module | None = None

    def __enter__(self) -> Self:
        self.initialize()
        if self.network is None:
            raise ValueError(
                "A TrainingRecorder in a with statement needs the network, got network=None. Only "
                "as a callback of skorch it gets it from the net."
            )
        self._start(self.network)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def initialize(self) -> Self:
        """Forget what was recorded.

        Returns
        -------
        self : object
            The recorder.
        """
        self._stop()
        self._record_ = None
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begin or go on recording; skorch calls it.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net, of which ``module_`` is recorded.
        X, y : object, default=None
            Not used.
        **kwargs : dict
            Not used.

        Raises
        ------
        ValueError
            If the recorder was given another network, or the module has no hidden layer with
            weights.
        """
        if self.network is not None:
            raise ValueError(
                "A TrainingRecorder among the callbacks of a net records that net; leave "
                f"network=None, got {type(self.network).__name__}."
            )
        self._start(net.module_)

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Stop recording; skorch calls it.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net.
        X, y : object, default=None
            Not used.
        **kwargs : dict
            Not used.
        """
        self._stop()

    def _start(self, network: nn.Module) -> None:
        settings = Settings(self.last_fraction, self.signed, self.include_bias, self.read_fraction)
        validate_parameter_constraints(
            self._parameter_constraints,
            {"network": network, **settings._asdict()},
            caller_name=type(self).__name__,
        )
        self._stop()
        network, hidden, output = _read(network)
        # A recorder that was pickled does not know its network, only the layers.
        goes_on = self._trained_ in (None, network)
        if self._record_ is None or not (goes_on and self._record_.is_of(hidden, settings)):
            self._record_ = Record(hidden, settings)
        self._trained_ = network
        self._hooks_ = TrainingHooks(network, hidden, output, self._record_)

    def _stop(self) -> None:
        if self._hooks_ is not None:
            self._hooks_.close()
            self._hooks_ = None

    @property
    def activation_counts_(self) -> dict[str, NDArray[np.int64]]:
        """On how many batches each neuron was active for the first sample, by layer."""
        return self._recorded().activation_counts()

    @property
    def ever_active_(self) -> dict[str, NDArray[np.bool_]]:
        """Whether any sample of any batch activated each neuron, by layer."""
        return self._recorded().ever_active()

    @property
    def average_gradients_(self) -> dict[str, NDArray[np.float64]]:
        """Mean magnitude, or sum, of the gradients of each neuron's weights, by layer."""
        return self._recorded().average_gradients(self.last_fraction)

    @property
    def n_iterations_(self) -> int:
        """Number of backward passes."""
        return self._recorded().gradients.n_iterations

    def _recorded(self) -> Record:
        if self._record_ is None or self._record_.gradients.n_iterations == 0:
            raise NotFittedError(
                "This TrainingRecorder has recorded no iteration yet: train the network inside "
                "of its with block, or the net that has it among its callbacks."
            )
        if self._hooks_ is not None:
            self._hooks_.flush()
        return self._record_

    def __getstate__(self) -> dict[str, Any]:
        if self._hooks_ is not None:
            self._hooks_.flush()
        return {**self.__dict__, "_hooks_": None, "_trained_": None}


def _read(network: nn.Module) -> tuple[nn.Module, list[WeightLayer], WeightLayer]:
    """The module that calls the layers, its hidden layers with weights, and the output layer."""
    if any(nn.parameter.is_lazy(weights) for weights in network.parameters()):
        raise ValueError(
            f"This {type(network).__name__} has parameters that are not initialised yet: run it on "
            "a batch before its training is recorded."
        )
    network = TorchAdapter(network).network
    layers = find_weight_layers(network)
    if len(layers) < 2:
        raise ValueError(
            "A TrainingRecorder needs a network with at least one hidden dense or convolutional "
            f"layer and an output layer, got the layers {[layer.name for layer in layers]}."
        )
    return network, layers[:-1], layers[-1]
