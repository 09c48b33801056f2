"""The state of a stream in a file: JSON, which runs no code, whole or not there."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from .._versions import __version__

FORMAT = "skood.DriftMonitor"
FORMAT_VERSION = 1
_KEYS = {"format", "version", "skood", "parameters", "reference", "state"}


def write_state(path: Path, content: dict[str, Any]) -> None:
    """Write a file, or leave the one that is there as it is if the process is killed."""
    head = {"format": FORMAT, "version": FORMAT_VERSION, "skood": __version__}
    text = json.dumps(head | content, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read_state(path: Path) -> dict[str, Any]:
    """Read what ``write_state`` has written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is none of a drift monitor, incomplete, or of a later version of skood.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except ValueError as error:  # of JSON and of UTF-8
        raise ValueError(
            f"{path} is not a drift monitor that was saved by skood, or it is incomplete: {error}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is JSON, but not a drift monitor that was saved by skood.")
    if content.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has version {content.get('version')!r} of the format, written by skood "
            f"{content.get('skood')}; this is skood {__version__}, which reads version "
            f"{FORMAT_VERSION}. Load it with the skood that saved it."
        )
    if missing := _KEYS - set(content):
        raise ValueError(f"{path} is incomplete: it lacks {sorted(missing)}.")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of a state")
