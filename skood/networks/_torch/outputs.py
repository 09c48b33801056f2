"""Which output of a torch network holds the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

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
            "by the parameter `logits`, a name or an index."
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
