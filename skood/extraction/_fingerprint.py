"""Hashes of what determines the values that a network computes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def hash_content(texts: Iterable[str], arrays: Iterable[tuple[str, NDArray]]) -> str:
    """Hash of texts and named arrays: the same in every process, and for every copy."""
    content = hashlib.blake2b(digest_size=16)
    for text in texts:
        content.update(f"{text}\0".encode())
    for name, array in arrays:
        content.update(f"{name} {array.dtype} {array.shape}\0".encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def describe_code(function: object) -> str:
    """Text that changes with what a Python function does; empty for one that is not Python."""
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    # The text of other constants, such as functions and sets, differs between processes.
    constants = [c for c in code.co_consts if isinstance(c, bool | int | float | str)]
    return f"{code.co_code!r} {code.co_names} {constants}"
