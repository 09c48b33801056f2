"""Which sets detectors of a test learn from, and which they are tested on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._warnings import warn_user
from ._od_test_fits import ERRORS, needs_ood
from ._od_test_sets import Source

NO_VALIDATION = "none"
"""In place of the name of a validation set, where no rows are marked."""


class Row(NamedTuple):
    """What a row of the table is about."""

    target: str
    validation: str
    test: str
    learnt: tuple[str, ...]
    """Names of the sets whose rows are marked -1, for detectors that learn from such."""
    test_set: str | None


class FitId(NamedTuple):
    """Which fit of a detector: on a source, and on the marked rows of some sets, or of none."""

    source: str
    detector: str
    learnt: tuple[str, ...]


class CellId(NamedTuple):
    """Which results; a detector that learns from no marked rows has the same for many rows."""

    fit: FitId
    test_set: str | None


@dataclass(frozen=True)
class Protocol:
    """Which sets detectors learn from, and which they are tested on."""

    target: str
    validation: str | None

    def check(self, sources: Mapping[str, Source], detectors: Mapping[str, Any]) -> None:
        """Refuse sources with too few OOD sets, and searches that are given none to choose by."""
        self._check_errors(detectors)
        if self.target == "misclassified":
            return
        for source in sources.values():
            self._check_has_enough(source)
        needing = [name for name, detector in detectors.items() if needs_ood(detector, "ood")]
        if self.validation is None and needing:
            raise ValueError(
                f"The detectors {needing} choose their settings by rows marked -1, or weigh by "
                "them, of which validation=None gives them none: use 'each' or 'others', or fix "
                "the settings."
            )

    def without_errors(self, detectors: Mapping[str, Any]) -> list[str]:
        """Names of detectors that cannot be fitted as it is done to tell errors, on no OOD rows."""
        if self.target == "ood":
            return []
        return [
            name for name, detector in detectors.items() if needs_ood(detector, "misclassified")
        ]

    def _check_errors(self, detectors: Mapping[str, Any]) -> None:
        names = self.without_errors(detectors)
        why = (
            f"The detectors {names} choose or weigh by rows marked -1, but there are none where "
            "errors of the network are told: fix their settings, or search by "
            "make_ood_scorer(target='misclassified') without splits of marked rows."
        )
        if names and self.target == "misclassified" and len(names) == len(detectors):
            raise ValueError(why)
        if names:
            warn_user(f"{why} Their rows of errors are NaN.")

    def _check_has_enough(self, source: Source) -> None:
        n_needed = 1 if self.validation is None else 2
        if len(source.outside) < n_needed:
            advice = " With validation=None, one is enough for detectors that learn from none."
            raise ValueError(
                f"validation={self.validation!r} needs at least {n_needed} out-of-distribution "
                f"sets, but source {source.name!r} has {list(source.outside)}."
                + (advice if n_needed > 1 else "")
            )

    def rows(self, source: Source) -> Iterator[Row]:
        """The rows of each detector on one source."""
        if self.target != "misclassified":
            yield from self._rows_of_sets(list(source.outside))
        if self.target != "ood":
            yield Row("misclassified", NO_VALIDATION, "errors", (), ERRORS)

    def _rows_of_sets(self, names: list[str]) -> Iterator[Row]:
        if self.validation == "each":
            yield from (Row("ood", v, t, (v,), t) for v in names for t in names if t != v)
            return
        for test in names:
            if self.validation is None:
                yield Row("ood", NO_VALIDATION, test, (), test)
            else:
                learnt = tuple(name for name in names if name != test)
                yield Row("ood", "others", test, learnt, test)
