"""Which estimators can be written in tensors, and by what."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, TypeVar

from .._export_error import ExportError

if TYPE_CHECKING:
    from torch import nn

Maker = TypeVar("Maker", bound=Callable[[Any], Any])

_FORMS: dict[type, Callable[[Any], Any]] = {}


def form_of(estimator_class: type) -> Callable[[Maker], Maker]:
    """Decorate what makes the form in tensors of fitted estimators of a class.

    Parameters
    ----------
    estimator_class : type
        The class of the estimator; not its subclasses, which may do something else.

    Returns
    -------
    decorator : callable
        Of a function or class that takes the fitted estimator and returns a ``torch.nn.Module``.
        That of a detector maps :class:`TensorActivations` to scores, a tensor of shape
        (n_samples,) and dtype float64; that of a transformer maps them to other ones. All that was
        learnt is in buffers, nothing depends on the number of samples, and no value decides what
        is computed.

    Examples
    --------
    >>> from torch import nn
    >>> from skood.export import form, form_of
    >>> class Negative:
    ...     "A detector whose score is minus the sum of the logits."
    >>> @form_of(Negative)
    ... class NegativeForm(nn.Module):
    ...     def __init__(self, detector):
    ...         super().__init__()
    ...
    ...     def forward(self, A):
    ...         return -A.logits.double().sum(dim=1)
    >>> form(Negative())
    NegativeForm()
    """

    def register(make: Maker) -> Maker:
        _FORMS[estimator_class] = make
        return make

    return register


def form(estimator: Any) -> nn.Module:
    """The form in tensors of a fitted estimator.

    Parameters
    ----------
    estimator : estimator
        Fitted.

    Returns
    -------
    module : torch.nn.Module
        From :class:`TensorActivations` to scores or to others of them, see :func:`form_of`.

    Raises
    ------
    ExportError
        If there is none for its class, or for its parameters.

    Examples
    --------
    >>> import torch
    >>> from skood.detectors import MaxLogitDetector
    >>> from skood.export import TensorActivations, form
    >>> detector = MaxLogitDetector().fit([[0.0, 5.0], [9.0, 1.0]])
    >>> form(detector)(TensorActivations({"X": torch.tensor([[0.0, 2.0]])}))
    tensor([2.], dtype=torch.float64)
    """
    make = forms().get(type(estimator))
    if make is None:
        name = type(estimator).__name__
        raise ExportError(
            f"{name} cannot be exported: skood knows no form of {type(estimator).__module__}.{name}"
            " in tensors. Register one by skood.export.form_of, or leave this part out."
        )
    module: nn.Module = make(estimator)
    return module


def forms() -> dict[type, Callable[[Any], Any]]:
    """What makes forms, by the class of what they are the form of."""
    _load()
    return _FORMS


def _load() -> None:
    """Import all modules of this package, which register what they have."""
    package = import_module(__package__)
    for module in iter_modules(package.__path__):
        import_module(f"{__package__}.{module.name}")
