"""A fitted monitor as a file of ONNX, compared with the monitor before it is there."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from .._optional import import_optional
from .._versions import __version__
from ..activations import Activations
from ._monitor import MonitorModule
from ._onnx_comparison import Comparison, comparisons
from ._onnx_errors import not_run, not_written

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_OPSET = 18
_EXTERNAL = 1_500_000_000
"""Octets of weights from which on they lie beside the file, which holds 2 GiB at most."""
_N_COMPARED = 64


def write_onnx(monitor: Any, path: Any, X: Any, *, opset: int) -> None:
    """Write a monitor to a file; see :meth:`skood.Monitor.to_onnx`."""
    _check_opset(opset)
    path = _checked(Path(path))
    for name in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(name, "onnx", "Monitor.to_onnx")
    module = MonitorModule(monitor, X)
    rows = module.example_inputs(_N_COMPARED) if X is None else _some_rows(monitor, module, X)
    compared = list(comparisons(monitor, module, rows))
    program = _to_program(module, [value[:2] for value in _at_least_two(rows)], opset)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as folder:
        made = Path(folder) / path.name
        program.save(made, external_data=_n_bytes(module) > _EXTERNAL)
        _compare(module, made, compared)
        for file in sorted(Path(folder).iterdir(), key=lambda each: each == made):
            os.replace(file, path.parent / file.name)  # the model itself last


def _check_opset(opset: int) -> None:
    if isinstance(opset, bool) or not isinstance(opset, Integral) or opset < OLDEST_OPSET:
        raise ValueError(f"opset must be an integer of at least {OLDEST_OPSET}, got {opset!r}.")


def _checked(path: Path) -> Path:
    """A path that can be written, which is known before minutes were spent on what to write."""
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; pass the name of the file to write.")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(path.parent)!r} to write {path.name!r} in."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"The folder {str(path.parent)!r} cannot be written to.")
    return path


def _n_bytes(module: MonitorModule) -> int:
    return sum(value.nbytes for value in module.state_dict().values())


def _at_least_two(rows: tuple[Tensor, ...]) -> list[Tensor]:
    """Rows to trace with: what has one row is taken for what has always one."""
    return [value if len(value) > 1 else value.repeat(2, *[1] * (value.ndim - 1)) for value in rows]


def _to_program(module: MonitorModule, rows: list[Tensor], opset: int) -> Any:
    """The graph of a monitor, for any number of rows."""
    with torch.no_grad(), _quiet():
        names = list(module(*rows))
        try:
            exported = _traced(module, rows)
            program: Any = torch.onnx.export(
                exported,
                dynamo=True,
                opset_version=int(opset),
                input_names=module.input_names,
                output_names=names,
                verbose=False,
            )
        except Exception as error:
            raise not_written(error, module.extraction.network) from error
    if (written := program.model.opset_imports[""]) != opset:
        raise ValueError(f"opset={opset} is none that torch can write: it made opset {written}.")
    for value in (*program.model.graph.inputs, *program.model.graph.outputs):
        # Torch calls the samples by a number of its own.
        value.shape = type(value.shape)(["n_samples", *value.shape[1:]])
    program.model.metadata_props.update(_metadata())
    return program


def _traced(module: MonitorModule, rows: list[Tensor]) -> Any:
    """The program of a module, for sequences of any length if its monitor takes such."""
    of_one_length: list[tuple[int, ...]] = [()] * len(rows)
    axes = getattr(module.extraction.network, "token_axes", of_one_length)
    try:
        return _trace(module, rows, axes)
    except Exception:
        if not any(axes):
            raise
        return _trace(module, rows, of_one_length)


def _trace(module: MonitorModule, rows: list[Tensor], axes: list[tuple[int, ...]]) -> Any:
    n_samples, n_tokens = map(torch.export.Dim, ("n_samples", "n_tokens"))
    shapes = (tuple({0: n_samples} | dict.fromkeys(each, n_tokens) for each in axes),)
    return torch.export.export(module, tuple(rows), dynamic_shapes=shapes, strict=False)


def _metadata() -> dict[str, str]:
    return {
        "skood": __version__,
        "torch": torch.__version__,
        "score": "higher for inputs that are more in-distribution",
        "verdict": "1: trust the network; -1: do not",
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says about its own tracing, by warnings and by logs."""
    import logging

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _some_rows(monitor: Any, module: MonitorModule, X: Any) -> tuple[Tensor, ...]:
    """Rows from all of what was given, each input as a tensor."""
    if isinstance(X, Activations):
        raise TypeError(
            "X holds activations; pass inputs of the network, which the file will take."
        )
    if not isinstance(X, Mapping) and not hasattr(X, "shape"):
        extractor = monitor._extractor
        X = (
            X
            if isinstance(X, list)
            else extractor._batches(extractor._adapt(), X, reset=False).first()
        )
    named = X if isinstance(X, Mapping) else {None: X}
    # Not the first ones alone: rows may be sorted by class.
    spread = [values[:: max(len(values) // _N_COMPARED, 1)] for values in named.values()]
    rows = module.as_tensors(spread, _N_COMPARED)
    if len(rows[0]) == 0:
        raise ValueError("X has no rows, and at least one is needed to compare on.")
    return rows


def _compare(module: MonitorModule, path: Path, compared: list[Comparison]) -> None:
    """Raise an ExportError where a file says something else than the monitor of some rows."""
    onnxruntime = import_optional("onnxruntime", "onnx", "Monitor.to_onnx")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = [_run(session, module.input_names, each.rows) for each in compared]
    except Exception as error:
        raise not_run(error, module.extraction.network) from error
    for comparison, said in zip(compared, found, strict=True):
        comparison.check(said)


def _run(session: Any, input_names: list[str], rows: tuple[Tensor, ...]) -> dict[str, NDArray]:
    feeds = {name: value.numpy() for name, value in zip(input_names, rows, strict=True)}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))
