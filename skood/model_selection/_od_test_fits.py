"""Fitting a detector on a source, perhaps with rows marked -1, and scoring sets with it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from .._foreign import (
    accepted_rows,
    detector_of,
    in_distribution_scores,
    is_of_pyod,
    is_search,
    takes_labels,
)
from .._samples import n_rows_of, take_samples
from .._warnings import Line, working_for
from ..activations import Activations, read_only
from ..detectors import BaseDetector
from ..ensemble import AnyAlarmDetector, LayerEnsembleDetector
from ..metrics import (
    area_under_risk_coverage_score,
    fpr_at_tpr_score,
    ood_average_precision_score,
    ood_roc_auc_score,
)
from ..networks import is_array
from ._detector_search import DetectorSearchCV
from ._od_test_cells import Cell, CellFolder
from ._od_test_sets import concatenate, first_rows, marked
from ._predefined_split import OODPredefinedSplit
from ._split import OODKFold, OODShuffleSplit

METRICS: dict[str, Callable[..., float]] = {
    "auroc": ood_roc_auc_score,
    "aupr_in": partial(ood_average_precision_score, positive="id"),
    "aupr_out": partial(ood_average_precision_score, positive="ood"),
    "fpr95_in": partial(fpr_at_tpr_score, tpr=0.95, positive="id"),
    "fpr95_out": partial(fpr_at_tpr_score, tpr=0.95, positive="ood"),
}
"""What is computed of marks and scores."""
ALL_METRICS = ("accuracy", *METRICS, "aurc")

_SPLITTERS = (OODKFold, OODShuffleSplit, OODPredefinedSplit)

ERRORS = None
"""In place of the name of an OOD set, the errors of the network on the source's test part."""


@dataclass(frozen=True)
class Fit:
    """One fit of a detector, and the sets to be scored after it."""

    estimator: Any
    train: Any
    y_train: NDArray | None
    validation: Sequence[Any]
    """Sets whose rows are marked -1."""
    test: Any
    outside: Mapping[str, Any]
    """Test sets to tell the source's test part from."""
    is_correct: NDArray[np.bool_] | None = None
    """Where the errors of the network are to be told: which rows of the test part are none."""
    label: str = ""
    """What the fit is of, for people."""
    keys: Mapping[str | None, str] = field(default_factory=dict)
    folder: CellFolder | None = None

    def sets(self) -> list[Any]:
        """All sets, to be sent apart: a scheduler sends a large argument of many calls once."""
        return [self.train, self.test, *self.validation, *self.outside.values()]

    def without_sets(self) -> Fit:
        """The same with nothing in place of each set."""
        return self.with_sets([None] * len(self.sets()))

    def with_sets(self, sets: Sequence[Any]) -> Fit:
        """The same with sets in the order of those that it has."""
        train, test, *more = sets
        n_marked = len(self.validation)
        outside = dict(zip(self.outside, more[n_marked:], strict=True))
        return replace(self, train=train, test=test, validation=more[:n_marked], outside=outside)


@dataclass(frozen=True)
class Rated:
    """Scores of the samples of a set, and which of them the threshold accepts."""

    scores: NDArray[np.floating]
    accepted: NDArray[np.bool_] | None
    seconds: float
    remark: str = ""

    def of_rows(self, rows: NDArray) -> Rated:
        """The same of some of the rows; the time is shared among all."""
        accepted = None if self.accepted is None else self.accepted[rows]
        share = len(rows) / len(self.scores)
        return Rated(self.scores[rows], accepted, self.seconds * share, self.remark)


def _is_plain(estimator: Any) -> bool:
    """Whether an estimator is a pipeline that does as its last step does with what others make."""
    module = type(estimator).__module__.partition(".")[0]
    return isinstance(estimator, Pipeline) and module in ("sklearn", "skood") and len(estimator) > 1


def needs_ood(estimator: Any, target: str) -> bool:
    """Whether an estimator cannot be fitted for a target without rows that are marked -1.

    Other searches than those of splits of marked rows may score by the errors of the network.
    """
    if isinstance(estimator, FrozenEstimator):
        return False
    if isinstance(estimator, LayerEnsembleDetector):
        return learns_from_ood(estimator)
    if isinstance(estimator, DetectorSearchCV):
        return True
    if is_search(estimator):
        return target == "ood" or isinstance(estimator.cv, _SPLITTERS)
    return any(needs_ood(detector, target) for detector in _detectors_in(estimator))


def learns_from_ood(estimator: Any) -> bool:
    """Whether rows that are marked -1 change what an estimator learns."""
    if isinstance(estimator, FrozenEstimator):
        return False
    if detectors := _detectors_in(estimator):
        return any(map(learns_from_ood, detectors))
    if isinstance(estimator, LayerEnsembleDetector):
        # The members themselves are not shown these rows.
        return estimator.combine == "weighted" or estimator.n_layers is not None
    return is_search(estimator) or bool(getattr(estimator, "_learns_from_ood", False))


def _detectors_in(estimator: Any) -> list[Any]:
    """Detectors that are given all rows that an estimator is given."""
    if isinstance(estimator, Pipeline):
        return [estimator[-1]]
    if isinstance(estimator, AnyAlarmDetector):
        return [detector for _, detector in estimator.detectors]
    return []


def run(task: Fit, line: Line, verbose: int, *sets: Any) -> dict[str | None, Cell]:
    """Fit, and score one set after the other; each finished cell is kept at once.

    What fails is a cell with the reason, and does not stop what other cells need.
    """
    task = task.with_sets(sets)
    with working_for(line):
        tests: list[str | None] = [*task.outside, *([] if task.is_correct is None else [ERRORS])]
        start = time.perf_counter()
        try:
            fitted = fit(task)
            fit_time = time.perf_counter() - start
            inside = rate(fitted, take_samples(task.test, _rows_needed(task)))
        except Exception as error:
            _say(verbose, task, "failed", time.perf_counter() - start)
            return dict.fromkeys(tests, failed_cell(error))
        cells = {test: _finish(task, test, fitted, inside, fit_time) for test in tests}
        _say(verbose, task, f"{len(cells)} cells", time.perf_counter() - start)
        return cells


def _say(verbose: int, task: Fit, what: str, seconds: float) -> None:
    if verbose:
        print(f"[od_test] {task.label}: {what}, {seconds:.1f} s", flush=True)


def failed_cell(error: Exception) -> Cell:
    """In place of the results of what raised an error."""
    return replace(absent_cell(), failure=f"{type(error).__name__}: {error}")


def absent_cell() -> Cell:
    """In place of results that cannot be had."""
    return Cell(dict.fromkeys(ALL_METRICS, nan), 0, 0, nan, nan)


def _rows_needed(task: Fit) -> NDArray[np.intp]:
    """Which rows of the source's test part the cells need, ascending."""
    n_inside = n_rows_of(task.test)
    if task.is_correct is not None:
        return np.arange(n_inside)
    return first_rows(n_inside, max(map(n_rows_of, task.outside.values())))


def _finish(task: Fit, test: str | None, fitted: Any, inside: Rated, fit_time: float) -> Cell:
    try:
        if test is ERRORS:
            cell = _tell_errors(task, inside, fit_time)
        else:
            cell = _tell_apart(task, test, fitted, inside, fit_time)
    except Exception as error:
        return failed_cell(error)
    if task.folder is not None and test in task.keys:
        task.folder.keep(task.keys[test], cell)
    return cell


def _tell_apart(task: Fit, test: str, fitted: Any, inside: Rated, fit_time: float) -> Cell:
    """Compare equal numbers of in-distribution and OOD samples."""
    X = task.outside[test]
    n_inside, n_outside = n_rows_of(task.test), n_rows_of(X)
    n_each = min(n_inside, n_outside)
    rows = np.searchsorted(_rows_needed(task), first_rows(n_inside, n_each))
    outside = rate(fitted, take_samples(X, first_rows(n_outside, n_each)))
    return _compare(inside.of_rows(rows), outside, fit_time)


def _tell_errors(task: Fit, inside: Rated, fit_time: float) -> Cell:
    """Compare all correctly classified samples of the test part with all others."""
    is_correct = task.is_correct
    assert is_correct is not None
    right, wrong = (inside.of_rows(np.flatnonzero(rows)) for rows in (is_correct, ~is_correct))
    if len(right.scores) == 0 or len(wrong.scores) == 0:
        said = f"{len(right.scores)} of {len(is_correct)} test samples are classified correctly"
        return replace(
            absent_cell(),
            n_in=len(right.scores),
            n_out=len(wrong.scores),
            fit_time=fit_time,
            score_time=inside.seconds,
            remark=f"{said}, so that there is nothing to tell apart",
        )
    aurc = area_under_risk_coverage_score(is_correct, inside.scores)
    return _compare(right, wrong, fit_time, aurc)


def _compare(inside: Rated, outside: Rated, fit_time: float, aurc: float = nan) -> Cell:
    scores = np.concatenate([inside.scores, outside.scores])
    marks = marked(None, len(inside.scores), len(outside.scores))
    metrics = {"accuracy": nan}
    if inside.accepted is not None and outside.accepted is not None:
        metrics["accuracy"] = float(inside.accepted.mean() + (~outside.accepted).mean()) / 2
    metrics |= {name: metric(marks, scores) for name, metric in METRICS.items()}
    return Cell(
        {**metrics, "aurc": aurc},
        len(inside.scores),
        len(outside.scores),
        fit_time,
        inside.seconds + outside.seconds,
        remark=inside.remark,
    )


def fit(task: Fit) -> Any:
    """A fitted copy of a detector: on in-distribution rows, and on rows marked -1 if it takes any.

    Steps of a pipeline before a detector that learns from marked rows are fitted without these,
    since those of other libraries would take them for in-distribution.
    """
    estimator = clone(task.estimator, safe=False)
    train = _to_give_away(estimator, task.train)
    y_train = None if task.y_train is None else task.y_train.copy()
    if not task.validation:
        return _fit_inside(estimator, train, y_train)
    return _fit_marked(estimator, train, y_train, concatenate(task.validation))


def _to_give_away(estimator: Any, X: Any) -> Any:
    """The samples, protected from estimators of other libraries, which may change them in place."""
    if _is_of_skood(estimator):
        return X
    if isinstance(X, Activations):
        return _protected(X)
    if isinstance(X, np.ndarray) or hasattr(X, "iloc") or issparse(X):
        return X.copy()
    return deepcopy(X) if is_array(X) else X


def _protected(X: Activations) -> Activations:
    """The same, which cannot be written into, or of a single layer a copy.

    Of several layers an estimator that takes arrays gets a new one, but a step may select one.
    """
    names, protected = X.layer_names, read_only(X)
    if len(names) == 1 and isinstance(layer := X[names[0]], np.ndarray):
        return protected.assign({names[0]: np.array(layer)})
    return protected


def _is_of_skood(estimator: Any) -> bool:
    """Whether an estimator and all that it is made of belong to this package."""
    inner = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else []
    parts = [estimator, *inner]
    estimators = [part for part in parts if hasattr(part, "fit") and type(part) is not Pipeline]
    return all(type(part).__module__.partition(".")[0] == "skood" for part in estimators)


def _fit_inside(estimator: Any, X: Any, y: NDArray | None) -> Any:
    if is_of_pyod(estimator):
        y = None  # PyOD would read class 1 as outliers
    if is_search(estimator):
        return _best(estimator.fit(X, y), X, y)
    return estimator.fit(X, y) if takes_labels(estimator) else estimator.fit(X)


def _best(search: Any, X: Any, y: NDArray | None) -> Any:
    if hasattr(search, "best_estimator_"):
        return search.best_estimator_
    return _fit_inside(_best_setting(search), X, y)


def _best_setting(search: Any) -> Any:
    best = clone(search.best_params_, safe=False)
    return clone(search.estimator, safe=False).set_params(**best)


def _fit_marked(estimator: Any, train: Any, y: NDArray | None, outside: Any) -> Any:
    if not learns_from_ood(estimator):
        return _fit_inside(estimator, train, y)
    labels = marked(y, n_rows_of(train), n_rows_of(outside))
    if is_search(estimator):
        if estimator.refit is True:
            # The last fit of a search is on all rows, and the detector may know no marks.
            estimator.set_params(refit=False)
        with warnings.catch_warnings():
            # PyOD says of each fit that it makes no use of the labels, by which the search chooses.
            warnings.filterwarnings("ignore", "y should not be presented in unsupervised")
            estimator.fit(concatenate([train, outside]), labels)
        return _fit_marked(_best_setting(estimator), train, y, outside)
    if _is_plain(estimator):
        before = estimator[:-1]
        train, outside = before.fit_transform(train, y), before.transform(outside)
        last = _fit_marked(estimator[-1], train, y, outside)
        return Pipeline([*before.steps, (estimator.steps[-1][0], last)])
    return estimator.fit(concatenate([train, outside]), labels)


def rate(estimator: Any, X: Any) -> Rated:
    """Scores and verdicts of a set, whose samples go through the steps of a pipeline once."""
    start = time.perf_counter()
    X = _to_give_away(estimator, X)
    n_samples = n_rows_of(X)
    while True:
        if _is_plain(estimator):
            X, estimator = estimator[:-1].transform(X), estimator[-1]
        elif is_search(estimator):
            estimator = estimator.best_estimator_
        else:
            break
    scores = np.asarray(in_distribution_scores(estimator, X))
    if scores.ndim != 1:
        raise ValueError(
            f"{detector_of(estimator)!r} gives scores of shape {scores.shape}, in place of one for "
            "each sample: it is no detector."
        )
    accepted, remark = _verdicts(estimator, X, scores)
    for what, found in (("scores", scores), ("verdicts", accepted)):
        if found is not None and len(found) != n_samples:
            raise ValueError(
                f"{detector_of(estimator)!r} gives {len(found)} {what} for {n_samples} samples."
            )
    return Rated(scores, accepted, time.perf_counter() - start, remark)


def _verdicts(estimator: Any, X: Any, scores: NDArray) -> tuple[NDArray[np.bool_] | None, str]:
    if isinstance(estimator, BaseDetector) and _has_plain_verdicts(type(estimator)):
        return scores >= estimator._lowest_accepted, ""
    try:
        return accepted_rows(estimator, X), ""
    except ValueError as error:
        return None, f"there are no verdicts, so that the accuracy is NaN: {error}"


def _has_plain_verdicts(kind: type[BaseDetector]) -> bool:
    """Whether what a detector predicts is only whether the score reaches the threshold."""
    names = ("predict", "decision_function")
    return all(getattr(kind, name) is getattr(BaseDetector, name) for name in names)
