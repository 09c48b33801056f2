"""Which output of a torch network holds the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..._warnings import warn_user

AUTO, BINARY = "auto", "binary"

Wanted = str | int | Callable[[Any], Any]
"""The parameter ``logits``: "auto", "binary", the name or index of an output, or a function."""
Path = tuple[Any, ...]
"""Keys that lead to a tensor in nested tuples, lists and mappings, or in an object."""


def outputs_of(returned: Any) -> Iterator[tuple[Path, Tensor]]:
    """All tensors in what a network returns, in their order."""
    if isinstance(returned, Tensor):
        yield (), returned
    else:
        items = _items(returned) or getattr(returned, "__dict__", {})
        for key, value in items.items():
            yield from _in_containers(value, (key,))


def _in_containers(value: Any, path: Path) -> Iterator[tuple[Path, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    for key, item in _items(value).items():
        yield from _in_containers(item, (*path, key))


def _items(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    return dict(enumerate(value)) if isinstance(value, tuple | list) else {}


def find_output(returned: Any, path: Path | None) -> Tensor | None:
    """The tensor at a path, or None."""
    if path is None:
        return None
    for key in path:
        items = _items(returned)
        returned = items[key] if key in items else getattr(returned, str(key), None)
    return returned if isinstance(returned, Tensor) else None


def select_output(returned: Any, wanted: Wanted, path: Path | None) -> Tensor | None:
    """The tensor at a path, or what a function of the user's makes of all.

    Raises
    ------
    TypeError
        If that is no tensor.
    """
    if not callable(wanted):
        return find_output(returned, path)
    selected = wanted(returned)
    if selected is not None and not isinstance(selected, Tensor):
        raise TypeError(
            "The function logits= must return a tensor of shape (n_samples, n_classes), got "
            f"{type(selected).__name__}."
        )
    return selected


def name_output(returned: Any, wanted: Wanted) -> Path:
    """The path of the output of a name or an index.

    Raises
    ------
    ValueError
        If there is no such tensor; the message lists the tensors that there are.
    """
    paths: list[Path] = [(wanted,)]
    if isinstance(wanted, int):
        # Mappings and objects have an order too; a negative index counts from the end.
        keys = list(_items(returned) or getattr(returned, "__dict__", {}))
        if -len(keys) <= wanted < len(keys):
            paths.append((keys[wanted],))
    found = [path for path in paths if find_output(returned, path) is not None]
    if isinstance(returned, Tensor) or not found:
        outputs = _describe(outputs_of(returned))
        raise ValueError(f"logits={wanted!r} names no output of the network; it returns {outputs}.")
    return found[0]


def explain_missing_logits(returned: Any, n_samples: int) -> str:
    """Why nothing that a network returns for so many samples can be logits."""
    outputs = list(outputs_of(returned))
    if not outputs:
        return f"the network returns {type(returned).__name__}, in which there is no tensor"
    why = (
        f"the network returns {_describe(outputs, n_samples)}, and logits are a matrix of floating "
        "point numbers with a column for each of two classes or more"
    )
    if any(v.is_floating_point() and v.numel() == len(v) > 0 for _, v in outputs if v.ndim):
        why += ": with logits='binary', one value a sample is the log-odds of the second class"
    return why


def choose_output(
    returned: Any,
    fits: Callable[[Tensor], bool],
    readers: Sequence[Callable[[Tensor], Any]],
) -> Path | None:
    """The path of the output that counts as the logits, where the user does not say which.

    The output named "logits"; or else the first that ``fits`` and that a last linear layer
    yields, which the first of ``readers`` that knows any returns; or else the first matrix of a
    mapping or object, the first tensor of a tuple or list.
    """
    if isinstance(returned, Tensor):
        return ()
    if find_output(returned, ("logits",)) is not None:
        return ("logits",)
    outputs = dict(outputs_of(returned))
    fitting = {path: output for path, output in outputs.items() if fits(output)}
    chosen = next(filter(None, (_first_of_each(fitting, reader_of) for reader_of in readers)), [])
    if len(chosen or fitting) > 1:
        first = next(iter(chosen or fitting))
        warn_user(
            "Several outputs of the network may be its logits: "
            f"{_describe(fitting.items())}; taken is {_name(first)}. Say which it is by the "
            "parameter `logits`, a name or an index."
        )
    if chosen:
        return chosen[0]
    if isinstance(returned, tuple | list):
        return next(iter(outputs), None)
    return next((path for path, v in outputs.items() if len(path) == 1 and v.ndim == 2), None)


def _first_of_each(outputs: Mapping[Path, Tensor], reader_of: Callable) -> list[Path]:
    """The first output of each layer that yields one."""
    yielded: dict[int, Path] = {}
    for path, output in outputs.items():
        if (reader := reader_of(output)) is not None:
            yielded.setdefault(id(reader), path)
    return list(yielded.values())


def _describe(outputs: Iterable[tuple[Path, Tensor]], n_samples: int | None = None) -> str:
    return ", ".join(f"{_name(path)} of {_kind(v, n_samples)}" for path, v in outputs) or "nothing"


def _kind(output: Tensor, n_samples: int | None) -> str:
    shape = ", ".join(
        "n_samples" if axis == 0 and size == n_samples else str(size)
        for axis, size in enumerate(output.shape)
    )
    shape = f"shape ({shape},)" if output.ndim == 1 else f"shape ({shape})"
    return shape if output.is_floating_point() else f"{shape} and type {output.dtype}"


def describe_output(output: Tensor | None) -> str:
    """Shape of an output, and its type where that is no floating point."""
    return "nothing" if output is None else _kind(output, None)


def _name(path: Path) -> str:
    return "one tensor" if not path else "".join(f"[{key!r}]" for key in path)
