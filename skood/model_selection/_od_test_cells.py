"""Cells of a test, what decides them, and a folder that keeps those that are finished."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import secrets
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from math import nan, prod
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator

from .._batches import row_batches
from .._patterns import PackedBits
from .._rows import take
from .._warnings import warn_user
from ..activations import Activations
from ..extraction import ActivationExtractor
from ..networks import ContentReader, adapt, is_array, to_array

FORMAT = "skood.model_selection.od_test"
FORMAT_VERSION = 1
_MARKER = "format.json"
_LEFTOVER_AFTER = 3600.0
"""Age in seconds from which a file that is being written is one that a killed process left."""
_CHANGE_NO_SCORE = frozenset({"n_jobs", "verbose", "pre_dispatch"})
"""Parameters that change no score."""


@dataclass(frozen=True)
class Cell:
    """How a detector did on a test set; NaN and a reason where it did not."""

    metrics: Mapping[str, float]
    n_in: int
    n_out: int
    fit_time: float
    score_time: float
    failure: str = ""
    remark: str = ""

    def as_json(self) -> str:
        """Text of all values, NaN as null."""
        metrics = {k: None if v != v else v for k, v in self.metrics.items()}
        return json.dumps({**asdict(self), "metrics": metrics}, indent=1)

    @classmethod
    def of_json(cls, text: str) -> Cell:
        """The cell that a text holds.

        Raises
        ------
        ValueError, TypeError, AttributeError
            If it holds none.
        """
        values = json.loads(text)
        metrics = values.pop("metrics").items()
        cell = cls({k: nan if v is None else float(v) for k, v in metrics}, **values)
        counts, times = (cell.n_in, cell.n_out), (cell.fit_time, cell.score_time)
        if not all(type(count) is int for count in counts) or cell.failure != "":
            raise ValueError("It is no cell that was kept.")
        if not all(isinstance(seconds, int | float) for seconds in times):
            raise ValueError("It has no times.")
        if not isinstance(cell.remark, str):
            raise ValueError("It has no remark.")
        return cell


@dataclass(frozen=True)
class CellFolder:
    """A folder with a file for each finished cell, which is there whole or not at all."""

    path: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> CellFolder:
        """Make the folder, or take up the one that is there.

        Raises
        ------
        ValueError
            If it holds something else, or cells of another version of the format.
        """
        # Workers may have another working directory.
        folder = cls(Path(path).absolute())
        folder.path.mkdir(parents=True, exist_ok=True)
        folder._sweep()
        folder._check_format()
        return folder

    def find(self, key: str, metrics: Iterable[str]) -> Cell | None:
        """The finished cell of a key, with all of the metrics, or None.

        Raises
        ------
        ValueError
            If a folder is in its place.
        """
        file = self._file(key)
        if file.is_dir():
            raise ValueError(f"{file} is a folder in place of a kept result: delete it.")
        try:
            cell = Cell.of_json(file.read_text(encoding="utf-8"))
            if set(cell.metrics) >= set(metrics):
                return cell
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            pass
        warn_user(f"{file} holds no result any more: it is computed again.")
        return None

    def keep(self, key: str, cell: Cell) -> None:
        """Store a finished cell."""
        _write(self._file(key), cell.as_json())

    def _file(self, key: str) -> Path:
        return self.path / f"{key}.json"

    def _check_format(self) -> None:
        marker = self.path / _MARKER
        expected = {"format": FORMAT, "version": FORMAT_VERSION}
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if others := self._foreign_files():
                raise ValueError(
                    f"The folder results={str(self.path)!r} holds something else than results of "
                    f"od_test: {others[:3]}. Pass a new or an empty folder."
                ) from None
            _write(marker, json.dumps(expected))
            return
        except ValueError:
            found = None
        if found != expected:
            raise ValueError(
                f"The folder results={str(self.path)!r} holds results of the format {found}, but "
                f"this version of skood reads {expected}: pass another folder, or delete this one."
            )

    def _foreign_files(self) -> list[str]:
        """Names of what no run wrote; another run may be about to open the folder, too."""
        names = sorted(file.name for file in self.path.iterdir())
        return [] if _MARKER in names else [name for name in names if not name.startswith(".")]

    def _sweep(self) -> None:
        """Delete what a killed process was writing."""
        for file in self.path.glob(".*.tmp"):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > _LEFTOVER_AFTER:
                    file.unlink()


def _write(file: Path, text: str) -> None:
    """Write a file that is there whole or not at all, whenever the process is killed."""
    scratch = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    with open(scratch, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    scratch.replace(file)


class Keys:
    """Hashes of what decides a cell: names have no part in it, nor have copies of the same."""

    def __init__(self) -> None:
        # The sets are kept alive, since others could get their addresses.
        self._known: dict[int, tuple[Any, str]] = {}

    def of_cell(self, estimator: str, sets: Iterable[Any], *more: Any) -> str:
        """Key of a cell by the hash of its estimator, its sets and further values."""
        return _digest([FORMAT_VERSION, estimator, *map(self.of_set, sets), *map(repr, more)])

    def of_set(self, X: Any) -> str:
        """Hash of the content of a set, or of labels.

        Raises
        ------
        ValueError
            If it cannot be read twice.
        """
        if id(X) not in self._known:
            digest = _of_activations(X) if isinstance(X, Activations) else _of_inputs(X)
            self._known[id(X)] = X, digest
        return self._known[id(X)][1]


def key_of_estimator(estimator: Any) -> str | None:
    """Hash of the class and the parameters of an estimator; None, and a warning, if unreadable.

    A class counts by its name, its source and the version of its library, not by what it has come
    to hold: a detector that counts its fits stays the same.
    """
    reader = _Reader()
    key = _digest(reader.describe(estimator))
    if reader.unread:
        warn_user(
            f"Nothing of {estimator!r} is taken from the folder of results, or put there: what it "
            f"computes may depend on {reader.unread}, whose content cannot be read."
        )
        return None
    return key


class _Reader:
    """Describes estimators by lists and texts that are the same in every process."""

    def __init__(self) -> None:
        self._content = ContentReader()
        self._of_networks: list[str] = []

    @property
    def unread(self) -> list[str]:
        """What may count and could not be read."""
        return [*self._of_networks, *self._content.unread]

    def describe(self, value: Any) -> Any:
        """Class and parameters of an estimator, items of a container, or a hash of the content."""
        if isinstance(value, FrozenEstimator):
            kind: Any = type(value.estimator)
            self._content.know(kind, _describe_class(kind))
            return ["frozen", self._hash(value.estimator)]
        if hasattr(value, "get_params") and not isinstance(value, type):
            kind = type(value)
            return [_describe_class(kind), self._parameters(value)]
        if isinstance(value, list | tuple):
            return list(map(self.describe, value))
        if isinstance(value, dict):
            return [[self._hash(key), self.describe(item)] for key, item in value.items()]
        return self._hash(value)

    def _parameters(self, estimator: Any) -> list[Any]:
        if isinstance(estimator, ActivationExtractor):
            fingerprint = _fingerprint(estimator)
            self._content.know(estimator.network, fingerprint.digest)
            self._of_networks += fingerprint.unread
            # It may be an estimator, whose parameters say less.
            others = estimator.get_params(deep=False) | {"network": fingerprint.digest}
        else:
            others = estimator.get_params(deep=False)
        return [
            [name, self.describe(value)]
            for name, value in sorted(others.items())
            if name not in _CHANGE_NO_SCORE
        ]

    def _hash(self, value: Any) -> str:
        self._content.place = type(value).__name__
        return self._content.digest(value).hex()


@cache
def _describe_class(kind: Any) -> str:
    """Name, source and library of a class and of those that it derives from."""
    said = []
    for base in kind.__mro__[:-1]:
        root = base.__module__.partition(".")[0]
        version = getattr(sys.modules.get(root), "__version__", "")
        said.append(f"{base.__module__}.{base.__qualname__} {version} {_source_of(base)}")
    return _digest(said)


def _source_of(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # of a class that was typed in, or is compiled
        return ""


def _fingerprint(extractor: ActivationExtractor) -> Any:
    adapter = adapt(
        extractor.network,
        device=extractor.device,
        logits=extractor.logits,
        head=extractor.head,
        autocast=extractor.autocast,
    )
    return adapter.fingerprint(None)


def _of_inputs(X: Any) -> str:
    if isinstance(X, Mapping):
        return _digest([[str(name), _of_inputs(values)] for name, values in X.items()])
    reader = ContentReader()
    digest = reader.digest(to_array(X) if is_array(X) else X)
    if reader.unread:
        raise ValueError(
            f"results= needs sets whose content can be read, which {type(X).__name__} does not "
            "allow: pass arrays, or Activations that were extracted before."
        )
    return digest.hex()


def _of_activations(X: Activations) -> str:
    content = hashlib.blake2b(digest_size=16)
    for column in X.columns:
        array = column.array
        said = [column.role, column.name, column.metadata(), str(array.dtype), list(array.shape)]
        content.update(repr(said).encode())
        for rows in row_batches(len(array), prod(array.shape[1:])):
            content.update(_octets(take(array, range(*rows.indices(len(array))))))
    head = [] if X.head is None else [X.head.weight, X.head.bias, X.head.input_layer]
    return _digest([content.hexdigest(), ContentReader().digest([X.classes, *head]).hex()])


def _octets(values: Any) -> bytes:
    if isinstance(values, PackedBits):
        values = values.words
    array = np.asarray(values)
    return repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()


def _digest(parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
