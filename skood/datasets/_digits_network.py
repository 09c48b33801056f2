"""A small network of torch that has learnt some of scikit-learn's digits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch, check_random_state

from .._marks import OOD_LABEL
from .._optional import import_optional
from .._sklearn import Interval, validate_params
from ._digits import load_digits_ood

if TYPE_CHECKING:
    from torch import nn

_SIDE = 8
_BATCH_SIZE = 64


@validate_params(
    {
        "held_out": ["array-like"],
        "channels": [tuple, list],
        "hidden": [tuple, list],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "n_train": [Interval(Integral, 1, None, closed="left"), None],
        "n_calibration": [Interval(Integral, 0, None, closed="left")],
        "n_test": [Interval(Integral, 0, None, closed="left")],
        "n_epochs": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def load_digits_network(
    held_out: ArrayLike = (1, 5),
    *,
    channels: Sequence[int] = (16, 32, 64),
    hidden: Sequence[int] = (64,),
    dropout: float = 0.0,
    n_train: int | None = None,
    n_calibration: int = 200,
    n_test: int = 200,
    n_epochs: int = 20,
    random_state: int | RandomState | None = 0,
) -> Bunch:
    """Train a small torch network on scikit-learn's digits, with some digits held out.

    The network is convolutional, learns in a second or two on a CPU, and names nearly all digits
    rightly that it knows. It comes with the images, and with the rows that it has learnt from,
    those that it has not seen, and those of the digits that it does not know: all that a first
    monitor needs.

    The layers are called by their kind and the number of the layer with weights that they belong
    to. With the default parameters they are ``conv1``, ``relu1``, ``conv2``, ``relu2``, ``pool``,
    ``conv3``, ``relu3``, ``flatten``, ``linear4``, ``relu4``, ``linear5``. The last one gives the
    logits.

    Read more in the :ref:`User Guide <digits_network>`.

    Parameters
    ----------
    held_out : array-like of int, default=(1, 5)
        The digits that the network does not learn: 1 to 9 distinct ones.
    channels : sequence of int, default=(16, 32, 64)
        Channels of each convolutional layer, of 3 x 3 pixels, with a ReLU after each. A maximum
        pooling after the second one, or the only one, halves the images. Without any, the network
        is a multi-layer perceptron on the 64 pixels.
    hidden : sequence of int, default=(64,)
        Units of each linear layer before the last, with a ReLU after each.
    dropout : float, default=0.0
        Probability with which an output of a hidden linear layer is zeroed in training. With 0
        there are no layers of dropout.
    n_train : int, default=None
        Number of images to learn from. If None, all that the two below leave.
    n_calibration : int, default=200
        Number of known digits that are left out for a threshold.
    n_test : int, default=200
        Number of known digits that are left out for testing.
    n_epochs : int, default=20
        Passes over the images to learn from, by Adam in batches of 64. With 0 the network has
        learnt nothing.
    random_state : int, RandomState instance or None, default=0
        Determines the division of the images, the initial weights and the order of the batches.

    Returns
    -------
    digits : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the attributes of :func:`load_digits_ood` (``data``,
        ``target``, ``digit``, ``target_names``, ``DESCR``), and with the following ones.

        network : torch.nn.Sequential
            The network, on the CPU and in evaluation mode. It takes images of shape
            (n_samples, 1, 8, 8) from 0 to 1 and gives logits of shape (n_samples, n_classes).
        train : ndarray of shape (n_train,), dtype int64
            Rows of the images that the network has learnt from.
        calibration : ndarray of shape (n_calibration,), dtype int64
            Rows of known digits that it has not seen, for a threshold.
        test : ndarray of shape (n_test,), dtype int64
            Rows of known digits that it has not seen, for testing.
        unknown : ndarray of shape (n_unknown,), dtype int64
            Rows of the held-out digits, whose ``target`` is -1.

    Raises
    ------
    ValueError
        If ``held_out`` is not 1 to 9 distinct digits, a layer has less than one unit, or there are
        fewer images of known digits than the rows that are asked for.
    ImportError
        If torch is not installed.

    See Also
    --------
    load_digits_ood : The images alone.

    Notes
    -----
    The random state of torch is the same after the call as before.

    Examples
    --------
    >>> from skood import make_monitor
    >>> from skood.datasets import load_digits_network
    >>> digits = load_digits_network(held_out=(1, 5))
    >>> X = digits.data
    >>> monitor = make_monitor(digits.network).fit(X[digits.train])
    >>> monitor = monitor.calibrate(X[digits.calibration], false_alarm_rate=0.05)
    >>> known, unknown = X[digits.test], X[digits.unknown]
    >>> bool((monitor.predict(known) == -1).mean() < 0.1)
    True
    >>> bool((monitor.predict(unknown) == -1).mean() > 0.6)
    True
    """
    _check_widths("channels", channels)
    _check_widths("hidden", hidden)
    digits = load_digits_ood(held_out)
    rng = check_random_state(random_state)
    known = rng.permutation(np.flatnonzero(digits.target != OOD_LABEL))
    calibration, test, train = _divide(known, n_calibration, n_test, n_train)
    return Bunch(
        **digits,
        network=_train(
            digits.data[train],
            digits.target[train],
            (channels, hidden, len(digits.target_names), dropout),
            n_epochs,
            rng.randint(2**31),
        ),
        train=train,
        calibration=calibration,
        test=test,
        unknown=np.flatnonzero(digits.target == OOD_LABEL),
    )


def _check_widths(name: str, widths: Sequence[int]) -> None:
    if not all(isinstance(width, Integral) and width > 0 for width in widths):
        raise ValueError(f"{name} must be positive integers, one for each layer, got {widths!r}.")


def _divide(
    known: NDArray[np.int64], n_calibration: int, n_test: int, n_train: int | None
) -> list[NDArray[np.int64]]:
    """Rows for calibration, for testing and for training, from a shuffled list."""
    n_left_out = n_calibration + n_test
    n_wanted = n_left_out + (n_train or 1)
    if n_wanted > len(known):
        raise ValueError(
            f"There are {len(known)} images of known digits, but n_calibration={n_calibration}, "
            f"n_test={n_test} and n_train={n_train} need at least {n_wanted}. Lower one of them."
        )
    calibration, test, train = np.split(known, [n_calibration, n_left_out])
    return [calibration, test, train[:n_train]]


def _train(
    X: NDArray[np.float32],
    y: NDArray[np.int64],
    architecture: tuple[Sequence[int], Sequence[int], int, float],
    n_epochs: int,
    seed: int,
) -> nn.Sequential:
    """Train a new network on the CPU, in single precision, whatever torch's defaults are."""
    torch = import_optional("torch", "torch", "load_digits_network")
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.enable_grad():
        # Not torch.manual_seed, which would seed all devices.
        torch.default_generator.manual_seed(seed)
        network: nn.Sequential = _build(*architecture).float()
        optimizer = torch.optim.Adam(network.parameters())
        images, labels = torch.from_numpy(X), torch.from_numpy(y)
        for _ in range(n_epochs):
            for batch in torch.randperm(len(X)).split(_BATCH_SIZE):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
                loss.backward()
                optimizer.step()
        optimizer.zero_grad()
    return network.eval()


def _build(
    channels: Sequence[int], hidden: Sequence[int], n_classes: int, dropout: float
) -> nn.Sequential:
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width, side = 1, _SIDE
    for number, n_channels in enumerate(channels, start=1):
        layers[f"conv{number}"] = nn.Conv2d(width, n_channels, 3, padding=1)
        layers[f"relu{number}"] = nn.ReLU()
        width = n_channels
        if number == min(2, len(channels)):
            layers["pool"] = nn.MaxPool2d(2)
            side //= 2
    layers["flatten"] = nn.Flatten()
    width *= side**2
    for number, n_units in enumerate(hidden, start=len(channels) + 1):
        layers[f"linear{number}"] = nn.Linear(width, n_units)
        layers[f"relu{number}"] = nn.ReLU()
        if dropout > 0:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        width = n_units
    layers[f"linear{len(channels) + len(hidden) + 1}"] = nn.Linear(width, n_classes)
    return nn.Sequential(layers)
