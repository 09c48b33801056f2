"""What a finding of the layer pattern experiment is, and when it counts as seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One finding of the thesis, and whether a run shows it.

    It is seen where all checks hold, partly where at least half of them do, and otherwise not.
    """

    number: int
    claim: str
    criterion: str
    checks: Sequence[bool]
    numbers: str
    figure: str

    @property
    def verdict(self) -> str:
        share = sum(self.checks) / len(self.checks)
        return "yes" if share == 1 else "partly" if share >= 0.5 else "no"

    @property
    def verdict_in_full(self) -> str:
        return f"{self.verdict} ({sum(self.checks)} of {len(self.checks)})"
