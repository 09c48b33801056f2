"""How much more memory the process may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_KIB = 1024
_SHARE_TO_KEEP = 1 / 8
"""Of the memory that is left: what is kept for later may not be in the way of what comes next."""
_SECONDS = 0.1
"""How long a reading is used again: single samples are scored in less time than one takes."""
_STATUS = Path("/proc/self/status")
_MEMINFO = Path("/proc/meminfo")
_GROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""Where a container's limit is, what counts against it, and what of this is given back on demand:
of the second and the first version."""

_last: tuple[float, float] = (-_SECONDS, 0.0)
"""When memory was looked at, and what was left."""


def memory_left() -> float:
    """Bytes that the process may still take: by its own limits, its container's and the machine.

    Infinity where the system does not say.
    """
    global _last
    now = time.monotonic()
    if now - _last[0] >= _SECONDS:
        _last = now, max(0.0, min(_known(), default=float("inf")))
    return _last[1]


def may_be_kept(n_bytes: float, most: float = float("inf")) -> bool:
    """Whether so many bytes may stay for later: at most a number, and a share of what is left.

    What is not known, NaN, may not.
    """
    return n_bytes <= min(most, _SHARE_TO_KEEP * memory_left())


def _known() -> Iterator[float]:
    yield from _of_process()
    for group in _GROUPS:
        yield from _of_group(*group)
    if (available := _sizes(_MEMINFO).get("MemAvailable")) is not None:
        yield available


def has_limit() -> bool:
    """Whether a limit of its own says how much memory the process may take."""
    return bool(_limits())


def _limits() -> dict[str, float]:
    """The limits of this process (``ulimit -v`` and ``ulimit -d``), by what counts against them."""
    if resource is None:
        return {}
    kinds = {"VmSize": resource.RLIMIT_AS, "VmData": resource.RLIMIT_DATA}
    soft = {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
    return {name: limit for name, limit in soft.items() if limit != resource.RLIM_INFINITY}


def _of_process() -> Iterator[float]:
    if limits := _limits():
        taken = _sizes(_STATUS)
        yield from (limit - taken[name] for name, limit in limits.items() if name in taken)


def _sizes(file: Path) -> dict[str, float]:
    """Sizes by name, of a file that has one on each line, in kB."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    fields = (line.replace(":", " ").split() for line in lines if line.endswith(" kB"))
    return {name: float(size) * _KIB for name, size, _ in fields}


def _of_group(folder: str, limit: str, taken: str, given_back: str) -> Iterator[float]:
    group = Path(folder)
    try:
        allowed, used = float((group / limit).read_text()), float((group / taken).read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # none, or "max"
        return
    yield allowed - used + float(counts.get(given_back, 0))
