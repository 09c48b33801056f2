"""Detectors of any library, read with one sign: the higher the score, the more in-distribution."""

from __future__ import annotations

import inspect
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from ._elsewhere import are_activations
from .activations import Activations


def detector_of(estimator: Any) -> Any:
    """What scores in the end: the last step of a pipeline, the best estimator of a search."""
    if isinstance(estimator, Pipeline):
        return detector_of(estimator[-1])
    if isinstance(estimator, FrozenEstimator):
        return detector_of(estimator.estimator)
    if hasattr(estimator, "best_estimator_"):
        return detector_of(estimator.best_estimator_)
    return estimator


def is_calibrated(estimator: Any) -> bool:
    """Whether an estimator sets the threshold of others, on their scores, by held-out rows."""
    has_fitted = hasattr(estimator, "estimators_") or hasattr(estimator, "estimator_")
    return hasattr(estimator, "calibration_rows_") and has_fitted


def what_is_calibrated(estimator: Any) -> Any:
    """What an estimator of that kind has set a threshold for, of several the first."""
    return estimator.estimators_[0] if hasattr(estimator, "estimators_") else estimator.estimator_


def flat_steps(estimator: Any) -> list[Any]:
    """What is fitted, one after the other, up to what :func:`detector_of` gives."""
    if isinstance(estimator, Pipeline):
        *before, (_, last) = estimator.steps
        steps = [step for _, step in before if step not in (None, "passthrough")]
        return [*steps, *flat_steps(last)]
    if isinstance(estimator, FrozenEstimator):
        return flat_steps(estimator.estimator)
    if hasattr(estimator, "best_estimator_"):
        return flat_steps(estimator.best_estimator_)
    return [estimator]


def scoring_steps(estimator: Any) -> list[Any]:
    """The same, with what is calibrated in place of what calibrates it, of several the first."""
    steps = flat_steps(estimator)
    while is_calibrated(steps[-1]):
        steps = [*steps[:-1], *flat_steps(what_is_calibrated(steps[-1]))]
    return steps


def rows_of_fit(estimator: Any) -> tuple[NDArray[np.intp], int] | None:
    """Rows that what scores was fitted on, and of how many; None where they are all.

    Of what is calibrated and holds rows out itself, and of a search that does.
    """
    steps = [estimator]
    while steps[-1] is not (inner := _inside(steps[-1])):
        steps.append(inner)
    known = [step._rows_of_fit for step in steps if getattr(step, "_rows_of_fit", None) is not None]
    if not known:
        return None
    rows, n_rows = known[0]
    for inner_rows, _ in known[1:]:
        rows = rows[inner_rows]
    return rows, n_rows


def _inside(estimator: Any) -> Any:
    """What an estimator has fitted and scores by, itself where it scores."""
    if isinstance(estimator, Pipeline):
        return estimator[-1]
    if isinstance(estimator, FrozenEstimator):
        return estimator.estimator
    if hasattr(estimator, "best_estimator_"):
        return estimator.best_estimator_
    return what_is_calibrated(estimator) if is_calibrated(estimator) else estimator


def is_search(estimator: Any) -> bool:
    """Whether an estimator is a search over the parameters of another."""
    return all(hasattr(estimator, name) for name in ("estimator", "cv", "refit"))


def takes_labels(estimator: Any) -> bool:
    """Whether ``fit`` takes labels beside the samples."""
    parameters = inspect.signature(estimator.fit).parameters.values()
    kinds = [parameter.kind for parameter in parameters]
    by_position = [kind for kind in kinds if kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return len(by_position) > 1 or inspect.Parameter.VAR_POSITIONAL in kinds


def up_to_activations(detector: Any, X: Any) -> tuple[Any, Any]:
    """What remains of a pipeline, and what its first steps make of raw inputs, once: Activations.

    Where no step makes some, its last step remains.
    """
    while not are_activations(X):
        if isinstance(detector, FrozenEstimator):
            detector = detector.estimator
        elif is_search(detector) and hasattr(detector, "best_estimator_"):
            detector = detector.best_estimator_
        elif not isinstance(detector, Pipeline):
            break
        elif len(detector.steps) == 1:
            detector = detector[0]
        else:
            X, detector = detector[:1].transform(X), detector[1:]
    return detector, X


def run_to_predictions(estimator: Any, X: Any, wanted_by: str) -> tuple[Any, Activations]:
    """The same, where the activations have to carry predictions.

    Raises
    ------
    ValueError
        If there are none. The message begins with ``wanted_by``.
    """
    detector, samples = up_to_activations(estimator, X)
    if are_activations(samples) and samples.predictions is not None:
        return detector, samples
    given = f"{samples!r} without any" if isinstance(samples, Activations) else type(X).__name__
    raise ValueError(
        f"{wanted_by} needs the network's predictions: X must be Activations with logits or "
        "predictions, or the estimator a pipeline with a step that makes them, got "
        f"{given} and {estimator!r}."
    )


def are_named(pairs: Any) -> bool:
    """Whether each of some entries is a name and a detector."""
    return all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    )


def is_of_pyod(estimator: Any) -> bool:
    """Whether a detector derives from PyOD's, whose large scores and 1 mean outliers."""
    return any(
        base.__name__ == "BaseDetector" and base.__module__.partition(".")[0] == "pyod"
        for base in type(detector_of(estimator)).__mro__
    )


def rate_of(estimator: Any) -> float | None:
    """The share of in-distribution samples that a detector is to reject, where it has a number."""
    detector = detector_of(estimator)
    rates = [getattr(detector, name, None) for name in ("false_alarm_rate", "contamination")]
    numbers = [float(rate) for rate in rates if isinstance(rate, Real)]
    return numbers[0] if numbers else None


def in_distribution_scores(
    estimator: Any, X: Any, methods: tuple[str, str] = ("score_samples", "decision_function")
) -> NDArray[np.floating]:
    """Scores by the first of the methods that the estimator has, with skood's sign.

    ``score_samples`` is not PyOD's: whoever adds it to one of its detectors gives it our sign.
    """
    found = [method for method in methods if hasattr(estimator, method)]
    for method in found:
        scores = np.asarray(getattr(estimator, method)(X))
        # Where no threshold could be set, decisions are infinite and say nothing of the order.
        if method == found[-1] or not np.isinf(scores).all():
            is_turned = method == "decision_function" and is_of_pyod(estimator)
            return -scores if is_turned else scores
    raise TypeError(f"Expected a detector with one of the methods {methods}, got {estimator!r}.")


def accepted_rows(estimator: Any, X: Any) -> NDArray[np.bool_]:
    """Which samples the estimator's own threshold takes for in-distribution.

    Raises
    ------
    ValueError
        If it gives no verdicts, but classes or numbers.
    """
    if hasattr(estimator, "is_ood"):
        return ~np.asarray(estimator.is_ood(X))
    detector = detector_of(estimator)
    if isinstance(estimator, Pipeline) and hasattr(detector, "is_ood"):
        return accepted_rows(estimator[-1], estimator[:-1].transform(X))
    if not hasattr(estimator, "predict"):
        raise ValueError(f"{detector!r} has no threshold: it scores samples, but predicts nothing.")
    verdicts = np.asarray(estimator.predict(X))
    inside, outside = (0, 1) if is_of_pyod(estimator) else (1, -1)
    found = set(verdicts.ravel().tolist())
    if strange := found - {inside, outside}:
        raise ValueError(
            f"Expected verdicts, {inside} for in-distribution and {outside} for OOD samples, but "
            f"{detector!r} predicts {sorted(strange, key=str)[:5]}."
        )
    return verdicts == inside
