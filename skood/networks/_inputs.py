"""How the inputs that objects of a library hold are read, found by the library's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._registry import Kind, Registry


@dataclass(frozen=True)
class Loader:
    """Inputs that come batch by batch.

    Parameters
    ----------
    batches : iterable
        Yields batches, arrays or mappings of names to arrays; or tuples and lists whose first item
        is a batch, of which the second, where there are two, holds the labels.
    n_samples : int, default=None
        Number of samples that a pass yields, where it is known.
    order : str, default=""
        What decides the order of the samples, such as "a RandomSampler", where it is not that of
        the data set. Labels given beside are refused then.
    left_out : str, default=""
        What a pass leaves out, such as "3 of 11 samples (drop_last=True)".
    read_once : bool or None, default=False
        Whether a second pass goes on where the first one ended; None where this is not known.
    advice : str, default="leave this column out, or turn it into numbers"
        What to do about a column that is not made of numbers.
    label_columns : tuple of str, default=()
        Names among those of a mapping that are labels and not for the network.
    after : callable, default=None
        Given a number of samples, yields the batches that come after these, none of which is read.

    See Also
    --------
    InputReader : Returns one.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.networks import Loader
    >>> loader = Loader([np.eye(3), np.eye(3)], n_samples=6)
    >>> loader.read_once
    False
    """

    batches: Iterable[Any]
    n_samples: int | None = None
    order: str = ""
    left_out: str = ""
    read_once: bool | None = False
    advice: str = "leave this column out, or turn it into numbers"
    label_columns: tuple[str, ...] = ()
    after: Callable[[int], Iterable[Any]] | None = None


class InputReader:
    """How the objects of one library are read as inputs; by default as if they were not known.

    What :func:`register_inputs` is given makes one, without arguments. It says which objects of
    the library are arrays, which yield arrays batch by batch, and which are neither.

    See Also
    --------
    register_inputs : Says which reader reads which objects.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.networks import InputReader, Loader
    >>> class Halves(InputReader):
    ...     def load(self, X, batch_size):
    ...         return Loader(np.array_split(X, 2), len(X))
    >>> [len(batch) for batch in Halves().load(np.eye(5), 256).batches]
    [3, 2]
    """

    def refuse(self, X: Any) -> None:
        """Refuse an object that is no input of a network.

        Parameters
        ----------
        X : object
            Inputs, or a part of them.

        Raises
        ------
        TypeError
            If it is none; the message says what to pass. By default never.
        """

    def load(self, X: Any, batch_size: int) -> Loader | None:
        """Find what yields the batches of an object.

        Parameters
        ----------
        X : object
            Inputs.
        batch_size : int
            Number of samples of a batch, where the object has none of its own.

        Returns
        -------
        loader : Loader or None
            None, the default, for all that is read as a whole.
        """
        return None

    def is_array(self, X: Any) -> bool:
        """Whether an object is an array that a network may be given as it is.

        Parameters
        ----------
        X : object
            Inputs, or a part of them. An array has ``shape``, ``ndim`` and a length, and its rows
            are selected by brackets.

        Returns
        -------
        is_array : bool
            By default False.
        """
        return False

    def is_finite(self, array: Any) -> bool:
        """Whether all values of an array are finite, found where they are.

        Parameters
        ----------
        array : array
            One of the library.

        Returns
        -------
        is_finite : bool
            By default what NumPy says of them.
        """
        return bool(np.isfinite(self.to_numpy(array)).all())

    def to_numpy(self, array: Any) -> NDArray:
        """Convert an array.

        Parameters
        ----------
        array : array
            One of the library.

        Returns
        -------
        values : ndarray
            May share its memory.
        """
        return np.asarray(array)


_READERS = Registry(
    "skood.inputs",
    {
        "torch": "skood.networks._torch.loaders:TorchInputs",
        "datasets": "skood.networks._hf_datasets:HuggingFaceInputs",
        "torch_geometric": "skood.networks._graphs:Graphs",
        "dgl": "skood.networks._graphs:Graphs",
    },
    what="inputs",
)

_PLAIN = InputReader()


def register_inputs(kind: Kind, reader: Callable[[], InputReader] | str) -> None:
    """Say how inputs of a kind are read, for networks of all frameworks.

    Known are tensors, data sets and loaders of torch, and the data sets of Hugging Face. A package
    may register its own by an entry point of the group "skood.inputs", whose name is the kind.

    Parameters
    ----------
    kind : type or str
        A class, the dotted name of one, or the name of a library, which is not imported.
    reader : type or str
        A class derived from :class:`InputReader`, or "module:name", which is imported when the
        first such object comes.

    Raises
    ------
    TypeError
        If the kind or the reader is none of these.

    See Also
    --------
    register : The same for networks.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import ActivationExtractor
    >>> from skood.networks import InputReader, Loader, register_inputs
    >>> class Parts:
    ...     def __init__(self, *parts):
    ...         self.parts = parts
    >>> class PartsReader(InputReader):
    ...     def load(self, X, batch_size):
    ...         return Loader(X.parts, n_samples=sum(map(len, X.parts)))
    >>> register_inputs(Parts, PartsReader)
    >>> X, y = np.eye(4), [0, 0, 1, 1]
    >>> network = MLPClassifier((5,), max_iter=2000, random_state=0).fit(X, y)
    >>> len(ActivationExtractor(network).fit_transform(Parts(X, X[:2])))
    6
    """
    _READERS.register(kind, reader)


def refuse_unreadable(X: Any) -> None:
    """Raise a TypeError that says what to do, where a library's object is no input."""
    for find in _READERS.find_all(X):
        find().refuse(X)


def as_loader(X: Any, batch_size: int) -> Loader | None:
    """What yields the batches of inputs; None for those that are read as a whole."""
    loaders = (find().load(X, batch_size) for find in _READERS.find_all(X))
    if (loader := next((loader for loader in loaders if loader is not None), None)) is not None:
        return loader
    if isinstance(X, Iterator):
        return Loader(X, read_once=True)
    is_whole = any(hasattr(X, name) for name in ("__getitem__", "__array__", "shape"))
    return None if is_whole or not isinstance(X, Iterable) else Loader(X, read_once=None)


def is_stream(X: Any) -> bool:
    """Whether inputs come batch by batch, as from a data set, a loader or an iterator."""
    return as_loader(X, 1) is not None


def is_array(X: Any) -> bool:
    """Whether an object is an array that a network may be given as it is."""
    return isinstance(X, np.ndarray) or _array_reader(X) is not _PLAIN


def is_finite(array: Any) -> bool:
    """Whether all values of an array are finite."""
    return _array_reader(array).is_finite(array)


def to_array(values: Any) -> NDArray:
    """The values of an array of any library as one of NumPy."""
    return _array_reader(values).to_numpy(values)


def _array_reader(X: Any) -> InputReader:
    if isinstance(X, np.ndarray):
        return _PLAIN
    readers = (find() for find in _READERS.find_all(X))
    return next((reader for reader in readers if reader.is_array(X)), _PLAIN)
