"""Reads estimators from folders."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .._patterns import OwnedFolder
from ..extraction import ActivationExtractor
from ..networks import is_network
from . import _networks as networks
from ._arrays import ArrayReader
from ._errors import FileFormatError, reading
from ._folder import MANIFEST, SavedFolder, read_json, unchanged
from ._kinds import AllKinds
from ._save import ARRAYS, STATE, WEIGHTS
from ._tree import Decoder, Fields


def load(folder: str | PathLike[str], network: Any = None) -> Any:
    """Read an estimator that :func:`save` or ``Monitor.save`` has written.

    Nothing that is in the folder is executed. Each file is compared with its checksum, classes are
    looked up in a table of skood, and arrays are read without pickle.

    Parameters
    ----------
    folder : str or path-like
        The folder.
    network : network or callable, default=None
        What the extractor is to run:

        - the trained network itself, of any kind that :class:`ActivationExtractor` takes. By its
          fingerprint it has to be the one that was saved;
        - a function without arguments, or a class, that makes the network. Where the file holds
          weights, they are put into what it makes;
        - None, where the file holds all of the network: a scikit-learn perceptron or an ONNX model.

        Where the file holds several networks, a list of such, in the order of "networks" in its
        ``manifest.json``.

    Returns
    -------
    estimator : estimator
        As it was saved.

    Raises
    ------
    FileFormatError
        If the folder is something else, of a newer version, not complete, or damaged. It is a
        ``ValueError``.
    FileNotFoundError
        If there is no such folder.
    ValueError
        If the network has to be passed, and is not; or is not the one that was saved: the message
        says whether its architecture, weights or other parts differ, and which.
    TypeError
        If ``network`` is none, and makes none.
    ImportError
        If a library is missing that the network needs.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If an estimator of scikit-learn was saved with another version of it.
    UserWarning
        If the network is the same, but other versions of libraries compute its values.

    See Also
    --------
    save : Writes it.

    Notes
    -----
    A checksum tells damage, not who has written a file: one that was made on purpose can hold any
    numbers, but runs no code. Patterns of a detector with ``store`` stay in the folder, from where
    they are read when they are searched.

    Examples
    --------
    >>> import tempfile
    >>> import skood
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood.datasets import load_digits_ood
    >>> X, y = load_digits_ood(return_X_y=True)
    >>> X = X.reshape(len(X), -1)
    >>> net = MLPClassifier((64, 32), random_state=0).fit(X[y != -1], y[y != -1])
    >>> monitor = skood.make_monitor(net).fit(X[y != -1], y[y != -1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     monitor.save(f"{folder}/monitor")
    ...     loaded = skood.load(f"{folder}/monitor")
    >>> bool((loaded.predict(X) == monitor.predict(X)).all())
    True
    """
    folder = Path(folder).resolve()
    with unchanged(folder):
        return _load(folder, network)


def _load(folder: Path, network: Any) -> Any:
    saved = SavedFolder(folder)
    given = _given_networks(network, len(saved.manifest["networks"]))
    tree = read_json(saved.read(STATE), STATE)
    if not isinstance(tree, dict) or not isinstance(tree.get("networks"), list):
        raise FileFormatError(f"{STATE} of {folder} does not hold an estimator.")
    read = _Reading(saved, given, tree["networks"])
    estimator = read.estimator(tree.get("estimator"))
    if not isinstance(estimator, BaseEstimator):
        raise FileFormatError(f"{folder} holds no estimator, but {type(estimator).__name__}.")
    read.check_networks()
    return estimator


def _given_networks(network: Any, n_networks: int) -> list[Any]:
    if network is None:
        return [None] * n_networks
    if isinstance(network, Mapping):
        raise TypeError(
            f"network must be a network or a function that makes one, got a "
            f"{type(network).__name__}: of weights alone no network can be made. Pass a function "
            "without arguments that makes the architecture; the weights are in the file."
        )
    is_list = isinstance(network, list | tuple)
    if n_networks > 1 or (is_list and n_networks == 1):
        if not is_list or len(network) != n_networks:
            raise ValueError(
                f"The file holds {n_networks} networks: pass a list of as many, in the order of "
                f"its {MANIFEST}, with None for those that the file holds itself."
            )
        return list(network)
    return [network] * n_networks


class _Reading:
    """What a decoder takes from beside the tree."""

    def __init__(self, saved: SavedFolder, given: list[Any], states: list[Any]) -> None:
        self._saved, self._given, self._states = saved, given, states
        self._entries: list[Fields] = saved.manifest["networks"]
        self._networks: dict[int, Any] = {}
        self._arrays: dict[str, dict[str, NDArray]] = {}
        self._extractors: list[ActivationExtractor] = []
        self._without_weights: list[str] = []
        self._decoder = Decoder(AllKinds(is_network), self)

    def estimator(self, node: Any) -> Any:
        """What the tree says."""
        # Before, so that what fails of a network given by the user is no fault of the file.
        for number in range(len(self._entries)):
            self.get_network(number)
        return self._decoder.value(node)

    def get(self, key: str) -> NDArray:
        """The array of a key."""
        return self._array(ARRAYS, key)

    def _array(self, file: str, key: str) -> NDArray:
        if file not in self._arrays:
            with self._saved.open(file) as stream, reading(file):
                archive = ArrayReader(stream, file)
                self._arrays[file] = {name: archive.read(name) for name in archive.keys}
        if key not in self._arrays[file]:
            raise FileFormatError(f"{file} has no array {key!r}.")
        return self._arrays[file][key]

    def note(self, made: Any) -> None:
        """Remember what runs a network."""
        if isinstance(made, ActivationExtractor):
            self._extractors.append(made)

    def get_network(self, number: Any) -> Any:
        """A network, given or made of what the file holds."""
        if not isinstance(number, int) or not 0 <= number < len(self._entries):
            raise FileFormatError(f"The file refers to the network {number!r}, which is not there.")
        if number not in self._networks:
            entry, given = self._entries[number], self._given[number]
            missing = networks.explain_missing(entry)
            if given is None:
                self._networks[number] = self._kept(number, entry, missing)
            elif networks.is_factory(given):
                self._networks[number] = self._made(given, entry)
            else:
                self._networks[number] = given
        return self._networks[number]

    def _made(self, factory: Any, entry: Fields) -> Any:
        made = networks.made_by(factory)
        if entry["kept"] == networks.WEIGHTS:
            networks.fill_weights(made, entry, lambda key: self._array(WEIGHTS, key))
        elif entry["kept"] == networks.NOTHING:
            self._without_weights.append(networks.explain_no_weights(entry))
        return made

    def _kept(self, number: int, entry: Fields, missing: str) -> Any:
        if entry["kept"] == networks.STATE:
            if number >= len(self._states):
                raise FileFormatError(f"The file holds no network {number}, which it refers to.")
            return Decoder(AllKinds(is_network), self).value(self._states[number])
        if entry["kept"] == networks.MODEL:
            model = networks.ModelBytes(self._saved.read(f"network-{number}.onnx"))
            model.called = str(entry["called"])
            return model
        raise ValueError(missing)

    def get_folder(self, name: str) -> OwnedFolder:
        """A folder of patterns, whose files are compared with their checksums."""
        names = self._saved.names_in(name)
        if not names:
            raise FileFormatError(f"The file refers to a folder {name!r}, which is not there.")
        for file in names:
            with self._saved.open(file):
                pass
        owned = object.__new__(OwnedFolder)
        owned.root, owned.name = self._saved.data, name
        return owned

    def check_networks(self) -> None:
        """Raise a ValueError where an extractor was saved with another network."""
        is_given = any(network is not None for network in self._given)
        for extractor in self._extractors:
            with nullcontext() if is_given else reading("The network in the file"):
                try:
                    extractor._check_network()
                except ValueError as error:
                    if not self._without_weights:
                        raise
                    raise ValueError(" ".join([str(error), *self._without_weights])) from error
