"""Learning in batches through pipelines: what passes a batch on, and what cannot."""

from __future__ import annotations

from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from ._fitted_state import fitted_state


def why_not_in_batches(estimator: Any, *methods: str) -> str:
    """Why an estimator, or what a pipeline ends in, lacks one of the methods; nothing if it has.

    Parameters
    ----------
    estimator : estimator
        A detector, or a pipeline that ends in one.
    *methods : str
        "partial_fit" or "merge", or both.
    """
    *before, last = steps_of(estimator)
    if why := why_steps_learn(before):
        return why
    for method in methods:
        try:
            getattr(last, method)
        except AttributeError as error:
            return str(error.__cause__ or f"{type(last).__name__} has no {method}")
    return ""


def why_steps_learn(steps: list[Any]) -> str:
    """What is wrong with steps before a detector that is to learn in batches; mostly nothing."""
    for step in steps:
        if learns_from_rows(step):
            return (
                f"{type(step).__name__} learns from the rows of its fit, and later batches would "
                "change what earlier ones were turned into: fit it on a sample before, and put it "
                "into the pipeline as sklearn.frozen.FrozenEstimator"
            )
    return ""


def learns_from_rows(step: Any) -> bool:
    """Whether what a transformer does to a row depends on the rows that it was fitted on."""
    if isinstance(step, FrozenEstimator):
        return False
    if hasattr(step, "_learns_from_rows"):
        return bool(step._learns_from_rows)
    try:
        return bool(get_tags(step).requires_fit)
    except (AttributeError, TypeError):  # of no scikit-learn estimator, nothing is known
        return True


def steps_of(estimator: Any) -> list[Any]:
    """The steps of a pipeline, those of one in its last step too; of anything else, itself."""
    if not isinstance(estimator, Pipeline):
        return [estimator]
    *before, (_, last) = estimator.steps
    return [*(step for _, step in before if step not in (None, "passthrough")), *steps_of(last)]


def partial_fit(estimator: Any, X: Any, y: Any) -> None:
    """Let an estimator, or what a pipeline ends in, learn from one more batch."""
    *before, last = steps_of(estimator)
    is_first = not has_begun(last)
    for step in before:
        X = first_transform(step, X, y) if is_first else step.transform(X)
    last.partial_fit(X, y)


def first_transform(step: Any, X: Any, y: Any = None) -> Any:
    """Fit a transformer to the first batch, unless it is frozen, and transform this."""
    return step.transform(X) if isinstance(step, FrozenEstimator) else step.fit_transform(X, y)


def merge(estimator: Any, other: Any) -> None:
    """Merge what two estimators, or pipelines, end in; other steps must do the same.

    Raises
    ------
    ValueError
        If the steps before differ.
    """
    (*before, last), (*others, new) = steps_of(estimator), steps_of(other)
    check_same_steps(before, others)
    last.merge(new)


def check_same_steps(steps: list[Any], others: list[Any]) -> None:
    """Raise a ValueError where steps are of other kinds, parameters or, where frozen, state."""
    kinds = [[type(step).__name__ for step in part] for part in (steps, others)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"Only the same steps can be merged, got {kinds[0]} and {kinds[1]}.")
    for mine, theirs in zip(steps, others, strict=True):
        if _described(mine) != _described(theirs):
            raise ValueError(
                f"Steps before merged detectors must do the same, but two of the kind "
                f"{type(mine).__name__} differ: {mine!r} and {theirs!r}, by parameters or by what "
                "they were fitted on."
            )


def _described(step: Any) -> tuple[str, str]:
    params = step.get_params() if hasattr(step, "get_params") else {}
    return repr(sorted(params.items())), fitted_state(step)


def has_begun(estimator: Any) -> bool:
    """Whether an estimator, or what a pipeline ends in, has seen a batch, enough for it or not."""
    *_, last = steps_of(estimator)
    return hasattr(last, "n_samples_seen_") or is_fitted(last)


def check_has_begun(estimator: Any) -> None:
    """Raise a NotFittedError where an estimator has seen no batch."""
    if not has_begun(estimator):
        check_is_fitted(estimator)


def check_fitted(estimator: Any) -> None:
    """Raise a NotFittedError where an estimator cannot score; of a stream, it says what is missing.

    scikit-learn's own words would tell to call fit, which forgets what was learnt so far.
    """
    *_, last = steps_of(estimator)
    if missing := getattr(last, "_missing", ""):
        raise NotFittedError(missing)
    check_is_fitted(estimator)


def is_fitted(estimator: Any) -> bool:
    """Whether an estimator was fitted."""
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True
