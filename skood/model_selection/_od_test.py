"""A test of detectors on every choice of validation and test sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

from joblib import Parallel, delayed
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import Pipeline

from .._optional import import_optional
from .._sklearn import StrOptions, validate_params
from .._warnings import users_line, warn_user
from ..activations import Activations
from ._od_test_cells import Cell, CellFolder, Keys, key_of_estimator
from ._od_test_extraction import Extractions, SharedSets
from ._od_test_fits import (
    ALL_METRICS,
    ERRORS,
    Fit,
    chooses_by_ood,
    failed_cell,
    is_search,
    learns_from_ood,
    run,
)
from ._od_test_sets import Source, are_correct, check_names, read_sources

if TYPE_CHECKING:
    import pandas as pd

_NO_VALIDATION = "none"


@validate_params(
    {
        "target": [StrOptions({"ood", "misclassified", "both"})],
        "validation": [StrOptions({"each", "others"}), None],
        "results": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def od_test(
    detectors: Any,
    in_distribution: Any,
    out_sets: Mapping[str, Any] | None,
    *,
    y: Any = None,
    target: str = "ood",
    metrics: Sequence[str] = ALL_METRICS,
    validation: str | None = "each",
    results: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Test detectors on every pair of out-of-distribution (OOD) sets, to configure and to report.

    What a detector will meet is not known beforehand, so it must not be reported on the OOD samples
    that it was configured with. For every triple of a source and two different OOD sets, those for
    validation and for testing, a detector learns from the source's training part and the validation
    set, whose rows are marked -1, and is reported on equal numbers of samples of the source's test
    part and the test set [1]_. A detector that learns nothing from marked rows is fitted once for
    each source and scores each set once; its values stand in the rows of all triples, so that
    tables of all detectors have the same rows.

    Parameters
    ----------
    detectors : dict of str to estimator, list of estimators, or estimator
        Detectors of this package, pipelines, monitors, searches such as ``GridSearchCV``, and
        outlier detectors of other libraries: whatever has ``fit``, and ``score_samples`` or
        ``decision_function``. Without names, they are named by their class. Detectors of PyOD,
        recognised by their base class, are read with the opposite sign. Copies are fitted.
    in_distribution : Activations, array-like, tuple of two, or dict of str to any of these
        One source, or several by name: all samples of it, of which one half is for training and
        the other for testing, with the same share of each class where labels or predictions are
        known; or a tuple ``(train, test)``.
    out_sets : dict of str to Activations or array-like, or dict of str to such dicts
        OOD sets by name, for all sources; or, where there are several, such a dict for each
        source. A set that has the name of a source is left out for this source. Not used for
        ``target="misclassified"``, where None will do.
    y : array-like, tuple of two, or dict of str to any of these, default=None
        Class labels of the sources, in the form of ``in_distribution``. Detectors learn from them,
        and errors of the network are found by them.
    target : {"ood", "misclassified", "both"}, default="ood"
        What is to be told from in-distribution samples: OOD samples; or, among the test samples of
        the source, those that the network misclassifies, from all others. Detectors learn from no
        marked rows for the latter.
    metrics : sequence of str, default=("accuracy", "auroc", ..., "aurc")
        Any of the following; by default all, in this order.

        - "accuracy": mean of the shares of in-distribution samples that the detector's own
          threshold accepts and of OOD samples that it rejects.
        - "auroc": :func:`~skood.metrics.ood_roc_auc_score`.
        - "aupr_in", "aupr_out": :func:`~skood.metrics.ood_average_precision_score` with
          in-distribution or OOD samples as positives.
        - "fpr95_in", "fpr95_out": :func:`~skood.metrics.fpr_at_tpr_score` at 95 %, with these
          as positives.
        - "aurc": :func:`~skood.metrics.area_under_risk_coverage_score`, of errors alone: NaN for
          OOD sets, and no column for ``target="ood"``.

        Misclassified samples count as OOD, correctly classified ones as in-distribution.
    validation : {"each", "others"} or None, default="each"
        Which rows are marked -1: each of the other sets by itself, one after the other; all sets
        but the one for testing together; or none at all, which is all that an OOD-free detector
        needs. Searches are refused then.
    results : str or Path, default=None
        Folder in which finished cells are kept, and from which they are taken: a run that was
        killed goes on where it was, also if there are more detectors or sets. See the notes.
    n_jobs : int, default=None
        How many fits run at once, by joblib: with :func:`joblib.parallel_config` in threads,
        processes or on a cluster. None means 1, -1 all processors.
    verbose : int, default=0
        1 reports the progress, 2 also each fit.

    Returns
    -------
    table : pandas.DataFrame
        A row for each source, detector, validation set and test set, with the columns "source",
        "detector", "target", "validation", "test", one for each of the ``metrics``, "n_in" and
        "n_out", the numbers of samples, and "fit_time" and "score_time" in seconds, without
        extraction. "validation" is "others" or "none" where it names no single set, and "test"
        is "errors" for misclassified samples. A source without a name is "in-distribution".

    Raises
    ------
    ValueError
        If names are given twice or metrics are unknown; a set is empty, or has other layers than
        the source; there are too few OOD sets; labels or predictions are missing that errors are
        found by; a search is to choose by no marked rows; ``results`` is a folder of something
        else, or of another version; or all cells failed.
    TypeError
        If a detector is none, or a name no string.
    ImportError
        If pandas is not installed.

    Warns
    -----
    FitFailedWarning
        If a detector fails, as in :class:`~sklearn.model_selection.GridSearchCV`: its rows are
        NaN, all others are not touched. Failures are not kept in ``results``.
    UserWarning
        If a metric is NaN since a detector has no threshold or the network makes no errors.

    See Also
    --------
    OODKFold : Splits for a search.
    skood.metrics.make_ood_scorer : The metrics as scorers of a search.

    Notes
    -----
    **Inputs.** All sets may be raw inputs, arrays of any shape, where a pipeline begins with an
    :class:`~skood.ActivationExtractor`, as a monitor does. Each set then goes through the network
    once for all detectors whose extractors have the same network and settings. A search that tries
    several settings of the extractor is given the inputs themselves.

    **Marked rows.** They are given to detectors that learn from them, such as
    :class:`~skood.ensemble.AutoNAPDetector`, and to searches, whose last fit is repeated for the
    best setting. All others learn from in-distribution samples alone, as do the steps of a pipeline
    before its last. PyOD is given no ``y``, where 1 would mean an outlier.

    **Numbers of samples.** Of the larger of the two sets that are compared, the first samples in a
    random order that is always the same are used, by all detectors. For errors, all samples of the
    test part are.

    **Kept results.** A cell is a file, named by a hash of the detector's class and parameters, the
    content of its network and of the sets, and the versions of the libraries. Names have no part
    in it, nor has ``n_jobs``. Any number of runs may share a folder.

    Numbers depend on nothing but the arguments, if detectors that draw random numbers have an int
    as ``random_state``.

    References
    ----------
    .. [1] A. Shafaei, M. Schmidt, J. J. Little, "A less biased evaluation of out-of-distribution
       sample detectors", BMVC 2019. arXiv:1809.04729

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import LocalOutlierFactor
    >>> from skood.detectors import MahalanobisDetector
    >>> from skood.model_selection import od_test
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 3))
    >>> out_sets = {"far": X[:100] + 4, "wide": 4 * X[:100], "near": X[:50] + 1}
    >>> detectors = {"Gaussian": MahalanobisDetector(), "LOF": LocalOutlierFactor(novelty=True)}
    >>> table = od_test(detectors, X, out_sets, metrics=["accuracy", "auroc"])
    >>> len(table)
    12
    >>> table.groupby("detector")["auroc"].mean().round(2)
    detector
    Gaussian    0.92
    LOF         0.92
    Name: auroc, dtype: float64
    """
    pandas = import_optional("pandas", "pandas", "od_test")
    named = _read_detectors(detectors)
    chosen = _read_metrics(metrics, target)
    sources = read_sources(in_distribution, out_sets, y, needs_labels=target != "ood")
    protocol = _Protocol(target, validation)
    protocol.check(sources, named)
    folder = None if results is None else CellFolder.open(results)
    test = _Test(named, sources, protocol, folder)
    test.run(n_jobs, verbose)
    test.report(chosen)
    return pandas.DataFrame(test.table(chosen))


class _Row(NamedTuple):
    """What a row of the table is about."""

    target: str
    validation: str
    test: str
    learnt: tuple[str, ...]
    """Names of the sets whose rows are marked -1, for detectors that learn from such."""
    test_set: str | None


class _CellId(NamedTuple):
    """Where a cell comes from; detectors that learn from no marked rows have few of them."""

    source: str
    detector: str
    learnt: tuple[str, ...]
    test_set: str | None


@dataclass(frozen=True)
class _Protocol:
    """Which sets detectors learn from, and which they are tested on."""

    target: str
    validation: str | None

    def check(self, sources: Mapping[str, Source], detectors: Mapping[str, Any]) -> None:
        """Refuse sources with too few OOD sets, and searches that are given none to choose by."""
        if self.target == "misclassified":
            return
        for source in sources.values():
            self._check_has_enough(source)
        searches = [name for name, detector in detectors.items() if chooses_by_ood(detector)]
        if self.validation is None and searches:
            raise ValueError(
                f"The detectors {searches} choose their settings by rows marked -1, of which "
                "validation=None gives them none: use 'each' or 'others', or fix the settings."
            )

    def _check_has_enough(self, source: Source) -> None:
        n_needed = 1 if self.validation is None else 2
        if len(source.outside) < n_needed:
            raise ValueError(
                f"validation={self.validation!r} needs at least {n_needed} out-of-distribution "
                f"sets, but source {source.name!r} has {list(source.outside)}."
                + " With validation=None, one is enough for detectors that learn from none."
                * (n_needed > 1)
            )

    def rows(self, source: Source) -> Iterator[_Row]:
        """The rows of each detector on one source."""
        if self.target != "misclassified":
            yield from self._rows_of_sets(list(source.outside))
        if self.target != "ood":
            yield _Row("misclassified", _NO_VALIDATION, "errors", (), ERRORS)

    def _rows_of_sets(self, names: list[str]) -> Iterator[_Row]:
        if self.validation == "each":
            yield from (_Row("ood", v, t, (v,), t) for v in names for t in names if t != v)
            return
        for test in names:
            if self.validation is None:
                yield _Row("ood", _NO_VALIDATION, test, (), test)
            else:
                learnt = tuple(name for name in names if name != test)
                yield _Row("ood", "others", test, learnt, test)


class _Test:
    """All cells of a test: those that are known, and how the others come to be."""

    def __init__(
        self,
        detectors: Mapping[str, Any],
        sources: Mapping[str, Source],
        protocol: _Protocol,
        folder: CellFolder | None,
    ) -> None:
        self._detectors, self._sources = detectors, sources
        self._protocol, self._folder = protocol, folder
        self._learns = {name: learns_from_ood(d) for name, d in detectors.items()}
        self._extractions = Extractions(detectors)
        ids = [self._id_of(source, name, row) for source, name, row in self._rows()]
        # Each once, in the order of the table.
        self._ids = list(dict.fromkeys(ids))
        if any(cell.test_set is ERRORS for cell in self._ids):
            self._check_predictions()
        self._keys = self._find_keys()
        found = {} if folder is None else {i: folder.find(key) for i, key in self._keys.items()}
        self._cells = {cell_id: cell for cell_id, cell in found.items() if cell is not None}

    def _rows(self) -> Iterator[tuple[str, str, _Row]]:
        for source in self._sources.values():
            for detector in self._detectors:
                for row in self._protocol.rows(source):
                    yield source.name, detector, row

    def _id_of(self, source: str, detector: str, row: _Row) -> _CellId:
        return _CellId(source, detector, row.learnt if self._learns[detector] else (), row.test_set)

    def _check_predictions(self) -> None:
        """Refuse sets whose errors nobody knows."""
        for source in self._sources.values():
            if isinstance(source.test, Activations):
                unknown = [] if source.test.predictions is not None else list(self._detectors)
            else:
                knows = self._extractions.knows_network_of
                unknown = [name for name in self._detectors if not knows(name)]
            if unknown:
                raise ValueError(
                    "Errors need the predictions of the network, which are not known for the "
                    f"detectors {unknown} on source {source.name!r}: pass Activations with logits "
                    "or predictions, or pipelines that begin with an ActivationExtractor."
                )

    def _find_keys(self) -> dict[_CellId, str]:
        """Keys of the cells that can be kept."""
        if self._folder is None:
            return {}
        keys = Keys()
        estimators = {name: key_of_estimator(d) for name, d in self._detectors.items()}
        found = {}
        for cell in self._ids:
            estimator, source = estimators[cell.detector], self._sources[cell.source]
            if estimator is not None:
                network = self._extractions.lent_to(cell.detector)
                found[cell] = keys.of_cell(
                    estimator if network is None else f"{estimator} {key_of_estimator(network)}",
                    [*(source.outside[name] for name in cell.learnt), *_read(source, cell)],
                    cell.test_set is ERRORS,
                )
        return found

    def run(self, n_jobs: int | None, verbose: int) -> None:
        """Compute the cells that are not known, those of one fit together."""
        fits: dict[tuple[str, str, tuple[str, ...]], list[str | None]] = {}
        for cell in self._ids:
            if cell not in self._cells:
                fits.setdefault(cell[:3], []).append(cell.test_set)
        with SharedSets(n_jobs) as sets:
            tasks = {}
            for group, tests in fits.items():
                try:
                    tasks[group] = self._make_fit(*group, tests, sets.share)
                except Exception as error:
                    self._take(group, dict.fromkeys(tests, failed_cell(error)))
            line = users_line()
            done = Parallel(n_jobs=n_jobs, verbose=verbose)(
                delayed(run)(task, line, max(0, verbose - 1)) for task in tasks.values()
            )
        for group, cells in zip(tasks, done, strict=True):
            self._take(group, cells)

    def _take(
        self, group: tuple[str, str, tuple[str, ...]], cells: Mapping[str | None, Cell]
    ) -> None:
        self._cells |= {_CellId(*group, test): cell for test, cell in cells.items()}

    def _make_fit(
        self,
        source_name: str,
        detector: str,
        learnt: tuple[str, ...],
        tests: list[str | None],
        share: Callable[[Any], Any],
    ) -> Fit:
        source, extractions = self._sources[source_name], self._extractions

        def given(X: Any) -> Any:
            return share(extractions.extract(detector, source.train, X))

        is_correct = None
        if ERRORS in tests:
            predictions = extractions.predictions(detector, source.train, source.test)
            assert predictions is not None
            assert source.y_test is not None
            is_correct = are_correct(predictions, source.y_test)
        learning = f", learning from {', '.join(learnt)}" if learnt else ""
        return Fit(
            estimator=self._detectors[detector],
            train=given(source.train),
            y_train=source.y_train,
            validation=[given(source.outside[name]) for name in learnt],
            test=given(source.test),
            outside={t: given(source.outside[t]) for t in tests if t is not None},
            is_correct=is_correct,
            label=f"{detector} on {source_name}{learning}",
            keys={
                test: key
                for test in tests
                if (key := self._keys.get(_CellId(source_name, detector, learnt, test)))
            },
            folder=self._folder,
        )

    def report(self, metrics: Sequence[str]) -> None:
        """Warn of what failed, and of what could not be computed.

        Raises
        ------
        ValueError
            If all cells failed.
        """
        failed = {i: cell.failure for i, cell in self._cells.items() if cell.failure}
        if len(failed) == len(self._ids):
            raise ValueError(f"All {len(failed)} cells failed. {_tell_failures(failed)}")
        for detector in self._detectors:
            own = {i: failure for i, failure in failed.items() if i.detector == detector}
            if own:
                n_cells = sum(cell.detector == detector for cell in self._ids)
                warn_user(
                    f"{detector!r} failed in {len(own)} of {n_cells} cells, which are NaN in the "
                    f"table: {_tell_failures(own)}",
                    FitFailedWarning,
                )
        remarks: dict[tuple[str, str], list[str]] = {}
        for cell_id, cell in self._cells.items():
            if cell.remark and any(isnan(cell.metrics[name]) for name in metrics):
                remarks.setdefault((cell.remark, cell_id.source), []).append(cell_id.detector)
        for (remark, source), detectors in remarks.items():
            warn_user(f"{list(dict.fromkeys(detectors))} on source {source!r}: {remark}.")

    def table(self, metrics: Sequence[str]) -> list[dict[str, Any]]:
        """One row for each source, detector, validation set, test set and target."""
        rows = []
        for source, detector, row in self._rows():
            cell = self._cells[self._id_of(source, detector, row)]
            rows.append(
                {
                    "source": source,
                    "detector": detector,
                    "target": row.target,
                    "validation": row.validation,
                    "test": row.test,
                    **{name: cell.metrics[name] for name in metrics},
                    "n_in": cell.n_in,
                    "n_out": cell.n_out,
                    "fit_time": cell.fit_time,
                    "score_time": cell.score_time,
                }
            )
        return rows


def _read(source: Source, cell: _CellId) -> list[Any]:
    """What a cell depends on beside its detector and the rows that are marked."""
    tested = source.y_test if cell.test_set is ERRORS else source.outside[str(cell.test_set)]
    return [source.train, source.y_train, source.test, tested]


def _tell_failures(failed: Mapping[_CellId, str]) -> str:
    """The first place of each kind of failure."""
    first: dict[str, _CellId] = {}
    for cell, failure in failed.items():
        first.setdefault(failure, cell)
    said = [
        f"{cell.detector!r} on source {cell.source!r}"
        + (f" with {list(cell.learnt)} marked -1" if cell.learnt else "")
        + f": {failure}"
        for failure, cell in list(first.items())[:3]
    ]
    more = [f"and {len(first) - 3} other failures"] if len(first) > 3 else []
    return "; ".join(said + more)


def _read_detectors(detectors: Any) -> dict[str, Any]:
    """The detectors by name.

    Raises
    ------
    ValueError
        If there is none, or two have the same name.
    TypeError
        If one of them is no detector, or a name no string.
    """
    if isinstance(detectors, Mapping):
        named = list(detectors.items())
    else:
        given = detectors if isinstance(detectors, list | tuple) else [detectors]
        named = [item if isinstance(item, tuple) else (_name(item), item) for item in given]
    names = [name for name, _ in named]
    if twice := sorted({str(name) for name in names if names.count(name) > 1}):
        raise ValueError(f"Several detectors have the names {twice}: pass a dict of names.")
    for name, detector in named:
        _check_detector(name, detector)
    return check_names(dict(named), "detectors")


def _name(detector: Any) -> str:
    """The class of a detector; of a plain pipeline, that of its last step."""
    while type(detector) is Pipeline:
        detector = detector[-1]
    return type(detector).__name__


def _check_detector(name: Any, detector: Any) -> None:
    if isinstance(detector, type):
        raise TypeError(f"Detector {name!r} is a class: pass an instance, {detector.__name__}().")
    # A search without a last fit has no scores itself.
    scores = detector.estimator if is_search(detector) else detector
    if not any(hasattr(scores, method) for method in ("score_samples", "decision_function")):
        raise TypeError(
            f"Detector {name!r} has neither score_samples nor decision_function: got {detector!r}. "
            "(LocalOutlierFactor has both with novelty=True.)"
        )
    if not hasattr(detector, "fit"):
        raise TypeError(f"Detector {name!r} has no method fit: got {detector!r}.")


def _read_metrics(metrics: Sequence[str] | str, target: str) -> list[str]:
    """Names of metrics, each once; that of errors only where there are any.

    Raises
    ------
    ValueError
        If a name is unknown, or none is left.
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if unknown := [name for name in names if name not in ALL_METRICS]:
        raise ValueError(f"Unknown metrics {unknown}: choose among {list(ALL_METRICS)}.")
    chosen = [name for name in dict.fromkeys(names) if name != "aurc" or target != "ood"]
    if not chosen:
        raise ValueError(f"metrics={metrics!r} leaves no metric for target={target!r}.")
    return chosen
