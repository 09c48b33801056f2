"""Which output of a torch network holds the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..._warnings import warn_user

AUTO, BINARY = "auto", "binary"

Path = tuple[Any, ...]
"""Keys that lead to a tensor in nested tuples, lists and mappings, or in an object."""
Wanted = str | int | Path | Callable[[Any], Any]
"""The parameter ``logits``: "auto", "binary", the name, index or path of an output, or a
function."""


def outputs_of(returned: Any) -> Iterator[tuple[Path, Tensor]]:
    """All tensors in what a network returns, in their order."""
    if isinstance(returned, Tensor):
        yield (), returned
    else:
        for key, value in _fields(returned).items():
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


def _fields(returned: Any) -> Mapping[Any, Any]:
    """What the outermost container or object holds."""
    if items := _items(returned):
        return items
    slots = [name for kind in type(returned).__mro__ for name in getattr(kind, "__slots__", ())]
    held = {name: getattr(returned, name) for name in slots if hasattr(returned, name)}
    return {**held, **getattr(returned, "__dict__", {})}


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
    """The path of the output of a name, an index or a path.

    Of nested outputs the name is that of the tensor, if no other has it, or all keys on the way,
    joined by dots. What holds a single tensor stands for it.

    Raises
    ------
    ValueError
        If there is no such tensor; the message lists the tensors that there are.
    """
    paths = [path for path, _ in outputs_of(returned)]
    if wanted in paths or isinstance(wanted, tuple):
        found = [path for path in paths if path == wanted]
    elif find_output(returned, (wanted,)) is not None:
        found = [(wanted,)]
    else:
        found = _below(paths, _key_at(returned, wanted)) or _named_below(paths, wanted)
    if (isinstance(returned, Tensor) and wanted != ()) or len(found) != 1:
        raise ValueError(_explain_name(returned, wanted, found))
    return found[0]


def _key_at(returned: Any, wanted: Wanted) -> Any:
    """A key of the outermost container, given itself or its index."""
    keys = list(_fields(returned))
    # Mappings and objects have an order too; a negative index counts from the end.
    if isinstance(wanted, int) and wanted not in keys and -len(keys) <= wanted < len(keys):
        return keys[wanted]
    return wanted


def _below(paths: list[Path], key: Any) -> list[Path]:
    return [path for path in paths if path[:1] == (key,)]


def _named_below(paths: list[Path], wanted: Wanted) -> list[Path]:
    """Where names are joined by dots, or the last is that wanted."""
    if not isinstance(wanted, str):
        return []
    joined = [path for path in paths if len(path) > 1 and ".".join(map(str, path)) == wanted]
    return joined or [path for path in paths if wanted in path]


def _explain_name(returned: Any, wanted: Wanted, found: list[Path]) -> str:
    outputs = _describe(outputs_of(returned))
    if len(found) > 1:
        names = [".".join(map(str, path)) for path in found]
        return (
            f"logits={wanted!r} names {len(found)} outputs of the network: name one of {names}; it "
            f"returns {outputs}."
        )
    return f"logits={wanted!r} names no output of the network; it returns {outputs}."


def explain_missing_logits(returned: Any, n_samples: int, fits: Callable[[Tensor], bool]) -> str:
    """Why what is taken of what a network returns for so many samples cannot be logits."""
    outputs = list(outputs_of(returned))
    if not outputs:
        return f"the network returns {type(returned).__name__}, in which there is no tensor"
    why = (
        f"the network returns {_describe(outputs, n_samples)}, and logits are a matrix of floating "
        "point numbers with a column for each of two classes or more"
    )
    if any(v.is_floating_point() and v.numel() == len(v) > 0 for _, v in outputs if v.ndim):
        why += ": with logits='binary', one value a sample is the log-odds of the second class"
    if others := [describe_choice(path) for path, v in outputs if fits(v)]:
        why += f"; {' or '.join(others)} takes one that may be"
    return why


def describe_choice(path: Path) -> str:
    """The parameter that names an output."""
    is_plain = len(path) == 1 and isinstance(path[0], str | int)
    return f"logits={path[0] if is_plain else '.'.join(map(str, path))!r}"


class Candidates(NamedTuple):
    """Outputs that may be the logits."""

    paths: list[Path]
    """Where they are, what is taken first."""
    is_linear: bool
    """Whether the first is, but for a scale, a shift and pooling, that of a linear layer."""


def choose_output(
    returned: Any,
    fits: Callable[[Tensor], bool],
    find_candidates: Callable[[Mapping[Path, Tensor]], Candidates],
) -> Path | None:
    """The path of the output that counts as the logits, where the user does not say which.

    The output named "logits"; or else the first of the candidates among those that ``fits`` if a
    last linear layer yields it; or else the first matrix of a mapping or object, the first tensor
    of a tuple or list, which no other is computed from.
    """
    if isinstance(returned, Tensor):
        return ()
    outputs = dict(outputs_of(returned))
    if (named := _named_logits(returned, outputs)) is not None:
        return named
    fitting = {path: output for path, output in outputs.items() if fits(output)}
    candidates, is_linear = find_candidates(fitting)
    left = [path for path in outputs if path not in fitting or path in candidates]
    if is_linear:
        chosen: Path | None = candidates[0]
    elif isinstance(returned, tuple | list):
        chosen = next(iter(left), None)
    else:
        chosen = next((path for path in left if len(path) == 1 and outputs[path].ndim == 2), None)
    if len(candidates) > 1 and chosen is not None:
        n_samples = len(fitting[candidates[0]])
        warn_user(
            "Several outputs of the network may be its logits: "
            f"{_describe(fitting.items(), n_samples)}; taken is {_name(chosen)}. Say which it is "
            f"by the parameter `logits`, a name or an index, such as {describe_choice(chosen)}."
        )
    return chosen


def _named_logits(returned: Any, outputs: Iterable[Path]) -> Path | None:
    if find_output(returned, ("logits",)) is not None:
        return ("logits",)
    return next((p for p in outputs if len(p) == 1 and str(p[0]).lower() == "logits"), None)


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
