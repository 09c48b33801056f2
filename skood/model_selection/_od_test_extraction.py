"""Extraction for several detectors at once, and sets on the disk for several processes."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from .._foreign import is_search
from ..activations import Activations
from ..extraction import ActivationExtractor
from ..networks import ContentReader


class Extractions:
    """Activations of raw sets, each extracted once for all detectors that begin alike.

    Parameters
    ----------
    detectors : dict of str to estimator
        Those that begin with an extractor are given activations in place of inputs.
    """

    def __init__(self, detectors: Mapping[str, Any]) -> None:
        found = {name: _first_extractor(detector) for name, detector in detectors.items()}
        self._group_of = {
            name: None if extractor is None else _group(detectors[name], extractor)
            for name, extractor in found.items()
        }
        self._extractors = {
            self._group_of[name]: extractor if _is_frozen(detectors[name]) else clone(extractor)
            for name, extractor in found.items()
            if extractor is not None
        }
        self._fitted = {
            group for name, group in self._group_of.items() if _is_frozen(detectors[name])
        }
        # The inputs are kept alive, since others could get their addresses.
        self._done: dict[tuple[Hashable, int], tuple[Any, Activations]] = {}

    def knows_network_of(self, detector: str) -> bool:
        """Whether predictions for raw inputs are known: by its own network, or the only one."""
        return self._network_of(detector) is not None

    def lent_to(self, detector: str) -> ActivationExtractor | None:
        """The extractor whose predictions stand for those of a detector that has none."""
        if self._group_of[detector] is None and (group := self._network_of(detector)):
            return self._extractors[group]
        return None

    def extract(self, detector: str, train: Any, X: Any) -> Any:
        """A set as a detector is to be given it."""
        group = self._group_of[detector]
        return X if group is None else self._activations(group, train, X)

    def predictions(self, detector: str, train: Any, X: Any) -> NDArray:
        """What the network predicts for a set.

        Raises
        ------
        ValueError
            If it predicts no classes.
        """
        if not isinstance(X, Activations):
            X = self._activations(self._network_of(detector), train, X)
        predictions: NDArray | None = X.predictions
        if predictions is None:
            raise ValueError("The network predicts no classes, so that it makes no errors.")
        return predictions

    def _network_of(self, detector: str) -> Hashable | None:
        networks = {id(extractor.network) for extractor in self._extractors.values()}
        if self._group_of[detector] is None and len(networks) == 1:
            return next(iter(self._extractors))
        return self._group_of[detector]

    def _activations(self, group: Hashable, train: Any, X: Any) -> Activations:
        if isinstance(X, Activations):
            return X
        if (group, id(X)) not in self._done:
            extractor = self._extractors[group]
            if group in self._fitted:
                extracted = extractor.transform(X)
            elif X is train:
                extracted = extractor.fit_transform(X)
            else:
                extracted = extractor.fit(train).transform(X)
            self._fitted.add(group)
            self._done[group, id(X)] = X, extracted
        return self._done[group, id(X)][1]


def _first_extractor(estimator: Any) -> ActivationExtractor | None:
    """What turns the inputs of an estimator into activations, if this is always the same."""
    if isinstance(estimator, ActivationExtractor):
        return estimator
    if isinstance(estimator, Pipeline):
        return _first_extractor(estimator.steps[0][1])
    if isinstance(estimator, FrozenEstimator):
        return _first_extractor(estimator.estimator)
    if is_search(estimator) and not _changes_extraction(estimator):
        return _first_extractor(estimator.estimator)
    return None


def _changes_extraction(search: Any) -> bool:
    """Whether a search tries several settings of the extractor, or of what cannot be told."""
    grid = getattr(search, "param_grid", None) or getattr(search, "param_distributions", None)
    if grid is None:
        return True
    parts = [grid] if isinstance(grid, Mapping) else grid
    searched = {name for part in parts for name in part}
    places = [
        place
        for place, value in search.estimator.get_params().items()
        if isinstance(value, ActivationExtractor)
    ]
    return any(
        name == place or name.startswith(f"{place}__") for name in searched for place in places
    )


def _is_frozen(estimator: Any) -> bool:
    return isinstance(estimator, FrozenEstimator)


def _group(detector: Any, extractor: ActivationExtractor) -> Hashable:
    """What detectors that are given the same activations have in common."""
    # A frozen detector keeps to the extractor that was fitted with it.
    return id(extractor) if _is_frozen(detector) else _settings(extractor)


def _settings(extractor: ActivationExtractor) -> Hashable:
    """What extractors that yield the same activations have in common."""
    reader = ContentReader()
    reader.know(extractor.network, f"network {id(extractor.network)}")
    digest = reader.digest(clone(extractor))
    return id(extractor) if reader.unread else digest


class SharedSets:
    """Sets that are passed to other processes: on the disk, where these map them into memory.

    Parameters
    ----------
    n_jobs : int or None
        How many tasks run at once, of the backend of joblib that is active.
    """

    def __init__(self, n_jobs: int | None) -> None:
        backend, _ = get_active_backend()
        is_needed = effective_n_jobs(n_jobs) != 1 and not getattr(
            backend, "supports_sharedmem", False
        )
        self._folder = tempfile.TemporaryDirectory(prefix="skood-") if is_needed else None
        self._done: dict[int, tuple[Any, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            self._done.clear()
            self._folder.cleanup()

    def share(self, X: Any) -> Any:
        """The set itself, or the same on the disk."""
        if self._folder is None:
            return X
        if id(X) not in self._done:
            file = Path(self._folder.name) / str(len(self._done))
            self._done[id(X)] = X, _on_disk(X, file)
        return self._done[id(X)][1]


def _on_disk(X: Any, file: Path) -> Any:
    """A set that other processes can map; the same where it is one already, or cannot be."""
    if isinstance(X, Activations):
        layers = [column.array for column in X.columns if column.role == "layer"]
        if all(map(_is_mapped, layers)) or any(c.dtype.hasobject for c in X.columns):
            return X
        X.save(file)
        return Activations.load(file, mmap_mode="r")
    if isinstance(X, np.ndarray) and not (X.dtype.hasobject or _is_mapped(X)):
        np.save(file, X)
        return np.load(f"{file}.npy", mmap_mode="r")
    return X


def _is_mapped(array: Any) -> bool:
    """Whether an array, or one of packed bits, or what it is a view of, is that of a file."""
    array = getattr(array, "words", array)
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap)
