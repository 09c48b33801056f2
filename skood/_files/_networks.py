"""Networks in a file: what is kept of each, and how it comes back."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import PurePath
from typing import Any

from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from ..networks import NetworkAdapter, adapt, is_network
from ._errors import FileFormatError, reading
from ._tree import Fields, text_of

NOTHING, STATE, WEIGHTS, MODEL = "nothing", "state", "weights", "model"
_HOW_TO_PASS = {
    NOTHING: "the file holds nothing of it but its fingerprint: pass the network itself, "
    "skood.load(folder, network), or a function without arguments that returns it",
    WEIGHTS: "the file holds its weights and no code: pass a function without arguments that makes "
    "a network of its architecture, skood.load(folder, make_network); or the trained network",
    MODEL: "",
    STATE: "",
}


class ModelBytes(bytes):
    """A serialised ONNX model that a file held, and what it was called there."""

    called = ""


def adapter_of(network: Any) -> NetworkAdapter | None:
    """What reads a network; None where it is not trained yet, or of no known kind."""
    try:
        return adapt(network) if is_network(network) else None
    except NotFittedError:
        return None


def about(network: Any, adapter: NetworkAdapter | None) -> Fields:
    """What a manifest says of a network, for people and for messages."""
    return {"called": _called(network), "kind": "unknown" if adapter is None else adapter.kind}


def _called(network: Any) -> str:
    if isinstance(network, str | PathLike):
        return f"ONNX model {PurePath(network).name}"
    return network.called if isinstance(network, ModelBytes) else type(network).__name__


def write_weights(network: Any, put: Callable[[NDArray], str]) -> list[list[str]]:
    """Names, types and keys of the tensors of a torch module."""
    from ..networks import read_weights

    keys: dict[int, str] = {}
    entries = []
    for name, held in read_weights(network).items():
        if id(held) not in keys:
            keys[id(held)] = put(held.array)
        entries.append([name, held.dtype, keys[id(held)]])
    return entries


def fill_weights(made: Any, entry: Fields, get: Callable[[str], NDArray]) -> None:
    """Put the weights of a file into a network that a factory has made.

    Raises
    ------
    ValueError
        If it has others.
    TypeError
        If it is no network of torch.
    """
    from ..networks import StoredTensor, load_weights

    try:
        adapter = adapt(made)
    except NotFittedError as error:
        raise ValueError(
            f"The function that was passed returned a {type(made).__name__} without parameters, or "
            "with some whose shapes are not known yet. Before it returns the network, let it "
            "initialize a net of skorch, and call a lazy module once, on inputs of any values."
        ) from error
    if adapter.kept_as != WEIGHTS:
        raise TypeError(
            f"The file holds the weights of a {entry['called']} of torch, but the function that "
            f"was passed returned {adapter.kind}."
        )
    with reading("The weights in the file"):
        stored = {name: StoredTensor(dtype, get(key)) for name, dtype, key in entry["tensors"]}
    load_weights(adapter.network, stored)


def is_factory(value: Any) -> bool:
    """Whether a value is called to make a network: a function or class, and no network itself."""
    return callable(value) and (isinstance(value, type) or not is_network(value))


def made_by(factory: Callable[[], Any]) -> Any:
    """The network that a factory makes.

    Raises
    ------
    TypeError
        If it makes none.
    """
    made = factory()
    if not is_network(made):
        raise TypeError(
            f"network={factory!r} must return a network, but returned a {type(made).__name__}."
        )
    return made


def explain_missing(entry: Fields) -> str:
    """Why a network has to be passed to ``load``, and how."""
    kept = text_of(entry, "kept")
    if kept not in _HOW_TO_PASS:
        raise FileFormatError(f"A network is kept as {kept!r} in the file, which is not known.")
    why = f" It is not in the file: {entry['why']}" if "why" in entry else ""
    return f"The monitor watches a {entry['called']}, but {_HOW_TO_PASS[kept]}.{why}"


def explain_no_weights(entry: Fields) -> str:
    """Why the network that a function makes has to be the trained one."""
    why = f": {entry['why']}" if "why" in entry else "."
    return (
        f"The file holds no weights of the {entry['called']}, so that the function that was passed "
        f"has to return the trained network{why}"
    )
