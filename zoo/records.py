"""Findings in a file, one a line, so that a run that was interrupted can go on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from .examine import Finding


def read_findings(file: Path) -> dict[str, Finding]:
    """Of each network the last finding; none where there is no file."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    findings = (Finding(**json.loads(line)) for line in lines)
    return {finding.name: finding for finding in findings}


def add_finding(file: Path, finding: Finding) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as target:
        target.write(json.dumps(asdict(finding)) + "\n")
