"""What surrounds every ``fit``: parameters are checked, and a failure changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, cast

from ._progress import telling_callbacks
from ._sklearn import Function, check_parameters, has_callbacks


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Function], Function]:
    """Decorate ``fit`` or ``partial_fit``, as scikit-learn does, and keep the state if it fails.

    A refit that fails half way would otherwise leave a mixture of two fits, which scores without
    a word. An estimator that was not fitted before is not fitted afterwards either.

    Parameters
    ----------
    prefer_skip_nested_validation : bool
        Whether parameters of estimators that are used inside are taken as checked.
    """
    check = check_parameters(prefer_skip_nested_validation=prefer_skip_nested_validation)

    def decorate(fit_method: Function) -> Function:
        is_told = not fit_method.__name__.startswith("partial")
        fit_checked = check(_told(fit_method) if is_told else fit_method)

        @wraps(fit_method)
        def fit(estimator: Any, *args: Any, **kwargs: Any) -> Any:
            with unchanged_on_failure(estimator):
                # scikit-learn asks whether the estimator is fitted, which says what was missing.
                vars(estimator).pop("_missing", None)
                return fit_checked(estimator, *args, **kwargs)

        return cast(Function, fit)

    return decorate


def _told(fit_method: Function) -> Function:
    """The method, of which the callbacks of the estimator are told."""

    @wraps(fit_method)
    def fit(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        if not has_callbacks(estimator):
            return fit_method(estimator, *args, **kwargs)
        given = dict(zip(("X", "y"), args, strict=False)) | kwargs
        with telling_callbacks(estimator, given.get("X"), given.get("y")):
            return fit_method(estimator, *args, **kwargs)

    return cast(Function, fit)


def forget_fit(estimator: Any) -> None:
    """Leave nothing of an earlier fit, which may have had other attributes."""
    # Private attributes may be those of scikit-learn.
    for name in [name for name in vars(estimator) if name.endswith("_") and name[0] != "_"]:
        delattr(estimator, name)


@contextmanager
def unchanged_on_failure(estimator: Any) -> Iterator[None]:
    """Put the attributes of an estimator back where an exception leaves the block.

    Attributes have to be exchanged in the block, not changed in place.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
