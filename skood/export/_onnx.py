"""A fitted monitor as a file of ONNX, compared with the monitor before it is there."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._export_error import ExportError
from .._optional import import_optional
from .._versions import __version__
from ._monitor import MonitorModule
from ._onnx_errors import not_run, not_written, other_scores

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_OPSET = 18
_TOLERANCE = 1e-4
"""Largest difference of scores, of large ones as a share of them."""
_EXTERNAL = 1_500_000_000
"""Octets of weights from which on they lie beside the file, which holds 2 GiB at most."""
_N_COMPARED = 64
_N_PERTURBED = 4
_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Relative change of inputs whose effect on scores is that of rounding."""


def write_onnx(monitor: Any, path: Any, X: Any, *, opset: int) -> None:
    """Write a monitor to a file; see :meth:`skood.Monitor.to_onnx`."""
    _check_opset(opset)
    for name in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(name, "onnx", "Monitor.to_onnx")
    module, path = MonitorModule(monitor, X), Path(path)
    rows = module.example_inputs(_N_COMPARED) if X is None else _first_rows(monitor, module, X)
    program = _to_program(module, [value[:2] for value in _at_least_two(rows)], opset)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as folder:
        made = Path(folder) / path.name
        program.save(made, external_data=_n_bytes(module) > _EXTERNAL)
        _compare(monitor, module, made, rows)
        for file in sorted(Path(folder).iterdir(), key=lambda each: each == made):
            os.replace(file, path.parent / file.name)  # the model itself last


def _check_opset(opset: int) -> None:
    if isinstance(opset, bool) or not isinstance(opset, int) or opset < OLDEST_OPSET:
        raise ValueError(f"opset must be an integer of at least {OLDEST_OPSET}, got {opset!r}.")


def _n_bytes(module: MonitorModule) -> int:
    return sum(value.nbytes for value in module.state_dict().values())


def _at_least_two(rows: tuple[Tensor, ...]) -> list[Tensor]:
    """Rows to trace with: what has one row is taken for what has always one."""
    return [value if len(value) > 1 else value.repeat(2, *[1] * (value.ndim - 1)) for value in rows]


def _to_program(module: MonitorModule, rows: list[Tensor], opset: int) -> Any:
    """The graph of a monitor, for any number of rows."""
    with torch.no_grad(), _quiet():
        names = list(module(*rows))
        n_samples, n_tokens = map(torch.export.Dim, ("n_samples", "n_tokens"))
        axes = getattr(module.extraction.network, "token_axes", [()] * len(rows))
        shapes = (tuple({0: n_samples} | dict.fromkeys(each, n_tokens) for each in axes),)
        try:
            exported = torch.export.export(module, tuple(rows), dynamic_shapes=shapes, strict=False)
            program: Any = torch.onnx.export(
                exported,
                dynamo=True,
                opset_version=opset,
                input_names=module.input_names,
                output_names=names,
                verbose=False,
            )
        except Exception as error:
            raise not_written(error, module.extraction.network) from error
    for value in (*program.model.graph.inputs, *program.model.graph.outputs):
        value.shape[0] = "n_samples"  # which torch calls by a number of its own
    program.model.metadata_props.update(_metadata())
    return program


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

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _first_rows(monitor: Any, module: MonitorModule, X: Any) -> tuple[Tensor, ...]:
    """The first rows of what was given, each input as a tensor."""
    if not isinstance(X, Mapping) and not hasattr(X, "shape"):
        extractor = monitor._extractor
        X = (
            X
            if isinstance(X, list)
            else extractor._batches(extractor._adapt(), X, reset=False).first()
        )
    named = X if isinstance(X, Mapping) else {None: X}
    return module.as_tensors([named[name] for name in named], _N_COMPARED)


def _compare(monitor: Any, module: MonitorModule, path: Path, rows: tuple[Tensor, ...]) -> None:
    """Raise an ExportError where a file says something else than the monitor of some rows."""
    onnxruntime = import_optional("onnxruntime", "onnx", "Monitor.to_onnx")
    some_rows = [tuple(value[:n_rows] for value in rows) for n_rows in (len(rows[0]), 1)]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = [_run(session, module.input_names, some) for some in some_rows]
    except Exception as error:
        raise not_run(error, module.extraction.network) from error
    for some, said in zip(some_rows, found, strict=True):
        _check_scores(monitor, module, some, said)


def _run(session: Any, input_names: list[str], rows: tuple[Tensor, ...]) -> dict[str, NDArray]:
    feeds = {name: value.numpy() for name, value in zip(input_names, rows, strict=True)}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def _check_scores(
    monitor: Any, module: MonitorModule, rows: tuple[Tensor, ...], found: dict[str, NDArray]
) -> None:
    inputs = module.as_given(rows)
    A = monitor[:-1].transform(inputs)
    scores = np.asarray(monitor[-1].score_samples(A))
    allowed = _TOLERANCE * np.maximum(1, np.abs(scores)) + _effect_of_rounding(module, rows)
    off = np.abs(found["score"] - scores)
    if (is_wrong := ~(off <= allowed)).any():
        raise other_scores(is_wrong.sum(), len(scores), off.max(), module.extraction.network)
    away = np.abs(np.asarray(monitor.decision_function(A))) > allowed
    if (found["verdict"] != np.asarray(monitor.predict(A)))[away].any():
        raise ExportError(
            "The ONNX file would give other verdicts than the monitor away from the threshold: it "
            "was not written. This is a defect of skood, torch or onnxruntime."
        )


def _effect_of_rounding(module: MonitorModule, rows: tuple[Tensor, ...]) -> NDArray:
    """By how much scores change where inputs do as by rounding.

    A bit of a pattern flips where a value is as good as equal to its percentile, and runtimes sum
    in other orders.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        scores = module(*rows)["score"]
        most = torch.zeros_like(scores)
        for _ in range(_N_PERTURBED):
            changed = [_perturbed(value, generator) for value in rows]
            most = torch.maximum(most, (module(*changed)["score"] - scores).abs())
    return most.numpy()


def _perturbed(value: Tensor, generator: torch.Generator) -> Tensor:
    if not value.is_floating_point():
        return value
    noise = torch.rand(value.shape, generator=generator, dtype=value.dtype) * 2 - 1
    return value * (1 + _ROUNDING * noise)
