"""Writes estimators to folders without pickle."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing
from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .._patterns import OwnedFolder
from .._storage import new_file
from .._versions import __version__, installed_versions
from ..extraction import ActivationExtractor
from ..networks import NetworkAdapter, is_network
from . import _networks as networks
from ._arrays import ArrayWriter
from ._folder import check_free, new_name, new_save, write_json
from ._kinds import AllKinds
from ._names import name_of
from ._tree import Encoder, Fields

ARRAYS, STATE, WEIGHTS = "arrays.npz", "state.json", "weights.npz"
_OWNER = "owner"
"""File by which the folder of a process is known, which the copy is not."""


def save(estimator: Any, folder: str | PathLike[str], *, network: str | None = "auto") -> None:
    """Write an estimator to a folder of JSON and arrays, in which nothing is ever executed.

    All estimators of skood can be saved, fitted or not, and many of scikit-learn, alone or in
    pipelines. :func:`load` reads them in any later version. What is saved scores, decides and
    learns on as before, to the last bit with the same versions of the libraries.

    Parameters
    ----------
    estimator : estimator
        A monitor, detector, transformer, ensemble or search; or a pipeline of them.
    folder : str or path-like
        The folder to make. One that this function has written is replaced as a whole: a process
        that is killed leaves the old one or the new one.
    network : {"auto"} or None, default="auto"
        What to keep of each network that an extractor runs:

        - "auto": as much as needs no code: of a scikit-learn perceptron all, alone or behind
          transformers in a pipeline; of an ONNX model all; of a torch module or skorch net the
          weights, to which :func:`load` needs a function that makes the architecture; of other
          networks, such as programs of ``torch.export``, nothing.
        - None: nothing. :func:`load` needs the network.

        In any case the fingerprint is kept, by which :func:`load` knows the network again. A
        ``memory`` for caches is not kept: it is None in what is loaded.

    Raises
    ------
    TypeError
        If it is no estimator; or if something in it is of a type that is not written, such as a
        function of the user or an estimator of another library. The message says where it is.
    ValueError
        If the network is not the one that ``fit`` saw; or ``network`` is none of the above.
    FileExistsError
        If the folder holds something else.

    See Also
    --------
    load : Reads it.
    Monitor.save : The same for a monitor.

    Notes
    -----
    The folder holds a ``manifest.json``, with the version of the format, those of the libraries,
    what is known of the networks, and the size and SHA-256 of each file; and in an inner folder
    ``state.json``, a tree of typed nodes, ``arrays.npz``, and where they are kept ``weights.npz``,
    ONNX models, and the patterns of detectors that have a ``store``. The format is open: NumPy and
    any reader of JSON see all of it.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import skood
    >>> from skood.detectors import KNNDetector
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> detector = KNNDetector(n_neighbors=5).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skood.save(detector, f"{folder}/detector")
    ...     loaded = skood.load(f"{folder}/detector")
    >>> np.array_equal(loaded.score_samples(X), detector.score_samples(X))
    True
    """
    if network not in ("auto", None):
        raise ValueError(f"network must be 'auto' or None, got {network!r}.")
    if not isinstance(estimator, BaseEstimator) or isinstance(estimator, type):
        raise TypeError(
            f"Estimators are saved, got {estimator!r}. Activations have a method of their own, "
            "Activations.save."
        )
    if (name := name_of(type(estimator))) is None:
        raise TypeError(
            f"A {type(estimator).__module__}.{type(estimator).__qualname__} cannot be saved: files "
            "hold the estimators of skood but for networks, and many of scikit-learn."
        )
    about: Fields = {
        "kind": name,
        "skood": __version__,
        "libraries": installed_versions(),
        "networks": [],
    }
    folder = Path(folder).absolute()
    check_free(folder)
    folder = folder.resolve()
    with new_save(folder, about) as data:
        written = _Writing(data, keeps_networks=network == "auto")
        written.write(estimator)
        about["networks"] = written.networks
    written.moved_to(folder)


class _Archive:
    """A file of arrays that is made with the first of them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._writer: ArrayWriter | None = None
        self._opened = ExitStack()
        self._n = 0

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    def put(self, array: NDArray) -> str:
        if self._writer is None:
            stream = self._opened.enter_context(new_file(self._file))
            self._writer = self._opened.enter_context(closing(ArrayWriter(stream)))
        key = str(self._n)
        self._n += 1
        self._writer.write(key, array)
        return key


class _Writing:
    """What an encoder puts beside the tree."""

    def __init__(self, data: Path, *, keeps_networks: bool) -> None:
        self._data, self._keeps_networks = data, keeps_networks
        self._arrays, self._weights = _Archive(data / ARRAYS), _Archive(data / WEIGHTS)
        self._known: dict[int, int] = {}
        self._networks: list[Any] = []
        self._folders: list[tuple[OwnedFolder, str]] = []
        self.networks: list[Fields] = []
        self._states: list[Any] = []

    def write(self, estimator: Any) -> None:
        """Write the tree, and all that is beside it."""
        with self._arrays, self._weights:
            tree = Encoder(AllKinds(is_network), self).node(estimator)
        write_json(self._data / STATE, {"estimator": tree, "networks": self._states})

    def put(self, array: NDArray) -> str:
        """Keep an array, and return its key."""
        return self._arrays.put(array)

    def is_network_of(self, owner: Any, name: str) -> bool:
        """Whether an attribute of an object is the network that it runs."""
        return name == "network" and isinstance(owner, ActivationExtractor)

    def put_network(self, network: Any, owner: Any = None) -> int:
        """Keep of a network what may be kept, and return its number."""
        if owner is not None:
            owner._check_network()
        if id(network) not in self._known:
            number = self._known[id(network)] = len(self.networks)
            self._networks.append(network)  # so that no other gets its address
            adapter = networks.adapter_of(network)
            self.networks.append({**networks.about(network, adapter), "kept": networks.NOTHING})
            self._states.append(None)
            try:
                self.networks[number] |= self._keep(network, adapter, number)
            except TypeError as error:
                self.networks[number]["why"] = str(error)
        entry = self.networks[self._known[id(network)]]
        if hasattr(owner, "fingerprint_"):
            entry["fingerprint"] = owner.fingerprint_
        return self._known[id(network)]

    def _keep(self, network: Any, adapter: NetworkAdapter | None, number: int) -> Fields:
        """What is kept, and where."""
        kept = networks.STATE if adapter is None else adapter.kept_as
        if not self._keeps_networks or isinstance(network, NetworkAdapter):
            return {}
        if kept == networks.STATE and name_of(type(network)) is not None:
            # By itself, since it is read before the estimator.
            encoder = Encoder(AllKinds(is_network), self)
            self._states[number] = encoder.part(network, "the network")
        elif kept == networks.WEIGHTS and adapter is not None:
            tensors = networks.write_weights(adapter.network, self._weights.put)
            return {"kept": kept, "tensors": tensors}
        elif kept == networks.MODEL:
            with new_file(self._data / f"network-{number}.onnx") as stream:
                stream.write(adapter.whole_model())  # type: ignore[union-attr]
        else:
            return {}
        return {"kept": kept}

    def put_folder(self, folder: OwnedFolder) -> str:
        """Copy a folder of patterns, and return its name here."""
        name = new_name("patterns")
        (self._data / name).mkdir()
        for path in sorted(folder.path.iterdir()):
            if path.name != _OWNER:
                with open(path, "rb") as source, new_file(self._data / name / path.name) as copy:
                    shutil.copyfileobj(source, copy, 2**22)
        self._folders.append((folder, name))
        return name

    def moved_to(self, folder: Path) -> None:
        """Follow patterns that lay in the folder which this save has replaced."""
        for owned, name in self._folders:
            if owned.root.parent == folder and not owned.path.exists():
                owned.root, owned.name = folder / self._data.name, name
