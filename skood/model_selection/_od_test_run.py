"""A test of detectors as a run: from what is known to all cells, and the rows of its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
from joblib import delayed
from numpy.typing import NDArray
from sklearn.exceptions import FitFailedWarning

from .._progress import CountingParallel, steps
from .._warnings import users_line, warn_user
from ..activations import Activations
from ._od_test_cells import Cell, CellFolder, Keys, key_of_estimator
from ._od_test_extraction import Extractions, SharedSets
from ._od_test_fits import ALL_METRICS, ERRORS, Fit, absent_cell, failed_cell, learns_from_ood, run
from ._od_test_protocol import CellId, FitId, Protocol, Row
from ._od_test_sets import Source, are_correct


class Run:
    """All cells of a test: those that are known, and how the others come to be."""

    def __init__(
        self,
        detectors: Mapping[str, Any],
        sources: Mapping[str, Source],
        protocol: Protocol,
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
        found = (
            {}
            if folder is None
            else {i: folder.find(key, ALL_METRICS) for i, key in self._keys.items()}
        )
        self._cells = {cell_id: cell for cell_id, cell in found.items() if cell is not None}
        hopeless = protocol.without_errors(detectors)
        self._absent = {i for i in self._ids if i.test_set is ERRORS and i.fit.detector in hopeless}
        self._cells |= {cell_id: absent_cell() for cell_id in self._absent}

    def _rows(self) -> Iterator[tuple[str, str, Row]]:
        for source in self._sources.values():
            for detector in self._detectors:
                for row in self._protocol.rows(source):
                    yield source.name, detector, row

    def _id_of(self, source: str, detector: str, row: Row) -> CellId:
        learnt = row.learnt if self._learns[detector] else ()
        return CellId(FitId(source, detector, learnt), row.test_set)

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

    def _find_keys(self) -> dict[CellId, str]:
        """Keys of the cells that can be kept."""
        if self._folder is None:
            return {}
        keys, lent_to = Keys(), self._extractions.lent_to
        own = {name: key_of_estimator(detector) for name, detector in self._detectors.items()}
        lent = {name: key_of_estimator(lent_to(name)) for name in own if lent_to(name) is not None}
        found = {}
        for cell in self._ids:
            name, is_errors = cell.fit.detector, cell.test_set is ERRORS
            # The errors that a detector without a network tells are those of another's.
            parts = [own[name], *([lent[name]] if is_errors and name in lent else [])]
            read = [part for part in parts if part is not None]
            if len(read) == len(parts):
                found[cell] = keys.of_cell(" ".join(read), self._sets_of(cell), is_errors)
        return found

    def _sets_of(self, cell: CellId) -> list[Any]:
        """What a cell depends on beside its detector."""
        source = self._sources[cell.fit.source]
        is_errors = cell.test_set is ERRORS
        tested = _plain(source.y_test) if is_errors else source.outside[str(cell.test_set)]
        marked = [source.outside[name] for name in cell.fit.learnt]
        return [*marked, source.train, _plain(source.y_train), source.test, tested]

    def compute(self, n_jobs: int | None, verbose: int) -> None:
        """Compute the cells that are not known, those of one fit together."""
        fits: dict[FitId, list[str | None]] = {}
        for cell in self._ids:
            if cell not in self._cells:
                fits.setdefault(cell.fit, []).append(cell.test_set)
        with SharedSets(n_jobs) as sets:
            tasks = {}
            for fit, tests in fits.items():
                try:
                    tasks[fit] = self._make_task(fit, tests, sets.share)
                except Exception as error:
                    self._take(fit, dict.fromkeys(tests, failed_cell(error)))
            more = users_line(), max(0, verbose - 1)
            with steps("od_test", len(tasks), "fits", verbose=verbose, are_counted=True) as told:
                done = CountingParallel(told, n_jobs=n_jobs)(
                    delayed(run)(task.without_sets(), *more, *task.sets())
                    for task in tasks.values()
                )
        for fit, cells in zip(tasks, done, strict=True):
            self._take(fit, cells)

    def _take(self, fit: FitId, cells: Mapping[str | None, Cell]) -> None:
        self._cells |= {CellId(fit, test): cell for test, cell in cells.items()}

    def _make_task(self, fit: FitId, tests: list[str | None], share: Callable[[Any], Any]) -> Fit:
        source, extractions = self._sources[fit.source], self._extractions

        def given(X: Any) -> Any:
            return share(extractions.extract(fit.detector, source.train, X))

        learning = f", learning from {', '.join(fit.learnt)}" if fit.learnt else ""
        keys = {test: self._keys.get(CellId(fit, test)) for test in tests}
        return Fit(
            estimator=self._detectors[fit.detector],
            train=given(source.train),
            y_train=source.y_train,
            validation=[given(source.outside[name]) for name in fit.learnt],
            test=given(source.test),
            outside={test: given(source.outside[test]) for test in tests if test is not ERRORS},
            is_correct=self._find_correct(fit) if ERRORS in tests else None,
            label=f"{fit.detector} on {fit.source}{learning}",
            keys={test: key for test, key in keys.items() if key is not None},
            folder=self._folder,
        )

    def _find_correct(self, fit: FitId) -> NDArray[np.bool_]:
        """Which test samples of a source the network classifies correctly."""
        source = self._sources[fit.source]
        assert source.y_test is not None
        predictions = self._extractions.predictions(fit.detector, source.train, source.test)
        return are_correct(predictions, source.y_test)

    def report(self, metrics: Sequence[str]) -> None:
        """Warn of what failed, and of what could not be computed.

        Raises
        ------
        ValueError
            If all cells failed.
        """
        failed = {i: cell.failure for i, cell in self._cells.items() if cell.failure}
        if failed and len(failed) == len(self._ids) - len(self._absent):
            raise ValueError(f"All {len(failed)} cells failed. {_tell_failures(failed)}")
        for detector in self._detectors:
            own = {i: failure for i, failure in failed.items() if i.fit.detector == detector}
            if own:
                n_cells = sum(cell.fit.detector == detector for cell in self._ids)
                warn_user(
                    f"{detector!r} failed in {len(own)} of {n_cells} cells, which are NaN in the "
                    f"table: {_tell_failures(own)}",
                    FitFailedWarning,
                )
        remarks: dict[tuple[str, str], list[str]] = {}
        for cell_id, cell in self._cells.items():
            if cell.remark and any(isnan(cell.metrics[name]) for name in metrics):
                fit = cell_id.fit
                remarks.setdefault((cell.remark, fit.source), []).append(fit.detector)
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


def _plain(y: NDArray | None) -> NDArray | None:
    """Labels, of which integers of all sizes are the same."""
    return y if y is None or y.dtype.kind not in "iu" else y.astype(np.int64, copy=False)


def _tell_failures(failed: Mapping[CellId, str]) -> str:
    """The first place of each kind of failure."""
    first: dict[str, CellId] = {}
    for cell, failure in failed.items():
        first.setdefault(failure, cell)
    said = [
        f"{cell.fit.detector!r} on source {cell.fit.source!r}"
        + (f" with {list(cell.fit.learnt)} marked -1" if cell.fit.learnt else "")
        + f": {failure}"
        for failure, cell in list(first.items())[:3]
    ]
    more = [f"and {len(first) - 3} other failures"] if len(first) > 3 else []
    return "; ".join(said + more)
