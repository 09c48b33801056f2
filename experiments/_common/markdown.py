"""Tables and lists in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def list_lines(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
