"""Private names of scikit-learn, all in one place: no other module imports or reads any.

A release that moves one of them is adapted to here alone. Decorators that keep the signature of
what they decorate say so to type checkers, which scikit-learn's own do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from sklearn.base import _fit_context, clone
from sklearn.metrics._scorer import _BaseScorer as BaseScorer
from sklearn.utils import _param_validation
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads as n_openmp_threads
from sklearn.utils._param_validation import (
    HasMethods,
    InvalidParameterError,
    RealNotInt,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._param_validation import Interval as _Interval
from sklearn.utils.metaestimators import _BaseComposition as BaseComposition
from sklearn.utils.metaestimators import available_if as _available_if
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _num_samples as num_samples

try:
    from sklearn.utils._repr_html.estimator import _VisualBlock as VisualBlock
except ImportError:  # before scikit-learn 1.8
    from sklearn.utils._estimator_html_repr import _VisualBlock as VisualBlock
try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback._callback_support import callback_management_context
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Adds nothing to an estimator: there are no callbacks to set."""

    def callback_management_context(estimator: Any) -> AbstractContextManager[None]:
        """Block around ``fit``, which does nothing."""
        return nullcontext()


__all__ = [
    "PRIVATE_CLASSES",
    "BaseComposition",
    "BaseScorer",
    "CallbackSupportMixin",
    "Function",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "RealNotInt",
    "StrOptions",
    "VisualBlock",
    "available_if",
    "callback_management_context",
    "check_feature_names_in",
    "check_own_parameters",
    "check_parameters",
    "check_steps",
    "copy_settings",
    "has_callbacks",
    "n_openmp_threads",
    "new_callback_context",
    "num_samples",
    "passing_callbacks",
    "safe_indexing",
    "set_container",
    "validate_parameter_constraints",
    "validate_params",
    "without_callbacks",
    "without_callbacks_in",
]

Function = TypeVar("Function", bound=Callable[..., Any])

PRIVATE_CLASSES = {
    "sklearn.state.AdamOptimizer": "sklearn.neural_network._stochastic_optimizers:AdamOptimizer",
    "sklearn.state.CalibratedClassifier": "sklearn.calibration:_CalibratedClassifier",
    "sklearn.state.ConstantPredictor": "sklearn.multiclass:_ConstantPredictor",
    "sklearn.state.MetadataRequest": "sklearn.utils._metadata_requests:MetadataRequest",
    "sklearn.state.MethodMetadataRequest": "sklearn.utils._metadata_requests:MethodMetadataRequest",
    "sklearn.state.PassthroughScorer": "sklearn.metrics._scorer:_PassthroughScorer",
    "sklearn.state.SGDOptimizer": "sklearn.neural_network._stochastic_optimizers:SGDOptimizer",
    "sklearn.state.SigmoidCalibration": "sklearn.calibration:_SigmoidCalibration",
    "sklearn.state.Tree": "sklearn.tree._tree:Tree",
}
"""Classes of what its fitted estimators hold, by names of our own, and where they are."""


class Interval(_Interval):
    """Constraint of a parameter to an interval of numbers, which True and False are not."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether a value is in the interval."""
        return not isinstance(val, bool) and bool(super().is_satisfied_by(val))


def check_parameters(*, prefer_skip_nested_validation: bool) -> Callable[[Function], Function]:
    """Decorator of ``fit`` that checks the parameters of the estimator before."""
    decorate: Callable[[Function], Function] = _fit_context(
        prefer_skip_nested_validation=prefer_skip_nested_validation
    )
    return decorate


def check_own_parameters(estimator: Any) -> None:
    """Check the parameters of an estimator, outside of ``fit``."""
    estimator._validate_params()


def check_steps(pipeline: Any) -> None:
    """Check the parameters of a pipeline and its steps, as its ``fit`` does."""
    check_own_parameters(pipeline)
    pipeline._validate_steps()


def validate_params(
    constraints: dict[str, Any], *, prefer_skip_nested_validation: bool
) -> Callable[[Function], Function]:
    """Decorator of a function that checks its arguments before."""
    decorate: Callable[[Function], Function] = _param_validation.validate_params(
        constraints, prefer_skip_nested_validation=prefer_skip_nested_validation
    )
    return decorate


def available_if(check: Callable[[Any], bool]) -> Callable[[Function], Function]:
    """Decorator of a method that only estimators have for which ``check`` holds."""
    decorate: Callable[[Function], Function] = _available_if(check)
    return decorate


def set_container(transformer: Any, container: str) -> None:
    """Keep the choice of ``set_output`` where a transformer has no feature names yet.

    scikit-learn's own method refuses that.
    """
    transformer._sklearn_output_config = {"transform": container}


def copy_settings(new: Any, estimator: Any) -> None:
    """Give a clone the metadata requests, the container of outputs and the callbacks.

    This is what ``clone`` does itself; callbacks are shared.
    """
    for name in ("_metadata_request", "_sklearn_output_config"):
        if name in vars(estimator):
            setattr(new, name, clone(vars(estimator)[name], safe=False))
    if _CALLBACKS in vars(estimator):
        setattr(new, _CALLBACKS, vars(estimator)[_CALLBACKS])


_CALLBACKS = "_skl_callbacks"


def has_callbacks(estimator: Any) -> bool:
    """Whether callbacks are to be told of the ``fit`` of an estimator, its own or another's."""
    state = vars(estimator)
    is_free = "_callback_fit_ctx" not in state  # of an outer call of the same estimator
    return is_free and (_CALLBACKS in state or "_parent_callback_ctx" in state)


def new_callback_context(estimator: Any) -> Any:
    """The context of a ``fit`` that begins now; its callbacks are ready."""
    return estimator._init_callback_context(max_subtasks=None)


@contextmanager
def passing_callbacks(context: Any, estimator: Any) -> Iterator[None]:
    """Block in which an estimator is fitted as a step of another one, and has its callbacks."""
    if estimator is None:
        yield
        return
    with context.propagate_callback_context(estimator):
        yield


def without_callbacks(estimator: Any) -> Any:
    """The estimator itself, to be fitted beside what callbacks are told of."""
    vars(estimator).pop(_CALLBACKS, None)
    return estimator


def without_callbacks_in(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an estimator that says nothing of who looks on."""
    return {name: value for name, value in state.items() if name != _CALLBACKS}
