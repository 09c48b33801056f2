"""At which module of a network a call failed, found in the traceback of the error."""

from __future__ import annotations

import inspect
import traceback
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from .calls import readable_modules

_OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)


def explain_failure(network: nn.Module, error: BaseException) -> str | None:
    """Where a call of a network failed; None for an error that is not one of its code."""
    if isinstance(error, _OUT_OF_MEMORY):
        return None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = {id(module): name for name, module in [("", network), *readable_modules(network)]}
    is_of_call = any(_is_call_of(frame, network) for frame in frames[-2:])
    if is_of_call and isinstance(error, TypeError) and "argument" in str(error):
        return (
            f"it takes the inputs {_arguments(network)}, as a mapping of these names where several"
        )
    numbers = [i for i, frame in enumerate(frames) if id(_owner(frame)) in names]
    if not numbers or _is_of_listener(frames[numbers[-1] + 1 :]):
        return None
    module = _owner(frames[numbers[-1]])
    name = names[id(module)]
    calls = (_shapes(frame) for frame in reversed(frames) if _is_call_of(frame, module))
    given = next(calls, "inputs that are not known")
    what = f"its module {name!r}, a {_short(module)}," if name else "its own forward"
    if not any(module.children()):
        return f"{what} was given {given}"
    line = traceback.extract_tb(error.__traceback__)[numbers[-1]].line
    return f"{what} failed at `{line}`, given {given}"


def _owner(frame: FrameType) -> Any:
    """The object whose method a frame is of, if it is of one."""
    code = frame.f_code
    if not code.co_argcount or (_is_ours(frame) and code.co_varnames[0] != "self"):
        # Functions of ours that are given the network are no methods of it.
        return None
    return frame.f_locals.get(code.co_varnames[0])


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("skood.")


def _is_call_of(frame: FrameType, module: nn.Module) -> bool:
    is_call = frame.f_code.co_name == "_call_impl"
    return is_call and _owner(frame) is module


def _is_of_listener(frames: list[FrameType]) -> bool:
    """Whether what fails is called by a hook or at a layer, not by the network."""
    return any(_is_ours(f) and f.f_code.co_name != "__torch_function__" for f in frames)


def _shapes(frame: FrameType) -> str:
    """The shapes that a module was called with."""
    args, kwargs = frame.f_locals.get("args", ()), frame.f_locals.get("kwargs", {})
    named = [("", value) for value in args] + list(kwargs.items())
    found = [
        f"{key}={tuple(value.shape)}" if key else str(tuple(value.shape))
        for key, value in named
        if isinstance(value, Tensor)
    ]
    return f"the shape{'s' if len(found) > 1 else ''} {', '.join(found)}" if found else "no tensor"


def _short(module: nn.Module) -> str:
    extra = module.extra_repr()
    kind = type(module).__name__
    return f"{kind}({extra})" if extra and len(extra) < 80 else kind


def _arguments(network: nn.Module) -> list[str]:
    """Names of what the network can be called with."""
    return [
        name
        for name, parameter in inspect.signature(network.forward).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
