"""What a monitor says of some rows, and what a file of ONNX does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from torch import Tensor

from .._export_error import ExportError
from .._foreign import flat_steps
from ._monitor import MonitorModule
from ._onnx_errors import other_values

_TOLERANCE = 1e-4
"""Largest difference of scores and logits, of large ones as a share of them."""
_P_TOLERANCE = 0.02
"""Largest difference of p-values, which change in steps."""
_FAR = 10
"""Far rows have values so many times as large as those that the network was given in fit."""
_N_FAR = 32
_SHARE_OF_TIES = 0.25
"""Of so many far rows the scores may be others: units that saturate have values that differ in
their last bits, and these are what patterns are then made of."""
_N_PERTURBED = 4
_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Relative change of inputs whose effect on scores is that of rounding."""

Rows = tuple[Tensor, ...]
"""Samples, of one input of the network after the other."""


def comparisons(monitor: Any, module: MonitorModule, rows: Rows) -> Iterator[Comparison]:
    """Of some rows, of the first of them alone, and of others far from all that was learnt.

    Parameters
    ----------
    monitor : Monitor
        Fitted.
    module : MonitorModule
        Made from it.
    rows : tuple of Tensor
        Some samples.
    """
    yield Comparison(monitor, module, rows)
    yield Comparison(monitor, module, tuple(value[:1] for value in rows))
    drawn = module.example_inputs(_N_FAR)
    far = tuple(_farther(*pair) for pair in zip(drawn, rows, strict=True))
    with torch.no_grad():
        is_finite = torch.isfinite(module(*far)["score"])  # a monitor refuses the others
    if is_finite.any():
        far = tuple(value[is_finite] for value in far)
        yield Comparison(monitor, module, far, share_of_ties=_SHARE_OF_TIES)


def _farther(drawn: Tensor, like: Tensor) -> Tensor:
    """Values that are far from those of samples; of integers, which may be tokens, the same."""
    return (_FAR * drawn if drawn.is_floating_point() else drawn).to(like.dtype)


class Comparison:
    """What a monitor says of some rows, and how far a file may be from it.

    Parameters
    ----------
    monitor : Monitor
        Fitted.
    module : MonitorModule
        Made from it.
    rows : tuple of Tensor
        The rows.
    share_of_ties : float, default=0.0
        Share of the rows of which a file may say something else.
    """

    def __init__(
        self, monitor: Any, module: MonitorModule, rows: Rows, *, share_of_ties: float = 0.0
    ) -> None:
        given = module.as_given(rows)
        self.n_ties = int(share_of_ties * len(rows[0]))
        self.rows, self.network = rows, module.extraction.network
        self.verdicts = np.asarray(monitor.predict(given))
        self.expected = {
            "score": monitor.score_samples(given),
            "logits": _logits(monitor, given),
            "p_value": _p_values(monitor, given),
        }
        rounding = _effect_of_rounding(module, rows)
        self.allowed = {
            name: rounding[name] + _tolerance(name, values)
            for name, values in self.expected.items()
            if values is not None
        }
        decisions = np.abs(np.asarray(monitor.decision_function(given)))
        self.is_sure = (decisions > self.allowed["score"]) & (rounding["verdict"] == 0)

    def check(self, found: dict[str, NDArray]) -> None:
        """Raise an ExportError where a file says something else.

        Parameters
        ----------
        found : dict of str to ndarray
            What it says of the rows.
        """
        for name, allowed in self.allowed.items():
            off = _sizes(found[name] - self.expected[name])
            if (n_wrong := (~(off <= allowed)).sum()) > self.n_ties:
                raise other_values(name, n_wrong, len(off), off.max(), self.network)
        if (found["verdict"] != self.verdicts)[self.is_sure].sum() > self.n_ties:
            raise ExportError(
                "The ONNX file would give other verdicts than the monitor away from the threshold: "
                "it was not written. This is a defect of skood, torch or onnxruntime."
            )


def _tolerance(name: str, values: NDArray) -> Any:
    """How far from the values of each row others may be, beside what rounding does."""
    return _P_TOLERANCE if name == "p_value" else _TOLERANCE * np.maximum(1, _sizes(values))


def _sizes(values: NDArray) -> NDArray:
    """The largest absolute value of each row."""
    sizes: NDArray = np.abs(values).reshape(len(values), -1).max(axis=1)
    return sizes


def _logits(monitor: Any, given: Any) -> NDArray | None:
    """Those of the network itself, before a step changes them, where it has some."""
    for step in flat_steps(monitor):
        given = step.transform(given)
        if step is monitor._extractor:
            break
    logits: NDArray | None = given.logits
    return logits


def _p_values(monitor: Any, given: Any) -> NDArray | None:
    """p-values, where held-out rows have set the threshold."""
    try:
        p_values: NDArray = monitor.p_values(given)
    except NotFittedError:
        return None
    return p_values


def _effect_of_rounding(module: MonitorModule, rows: Rows) -> dict[str, NDArray]:
    """By how much what is said of each row changes where inputs do as by rounding.

    A bit of a pattern flips where a value is as good as equal to its percentile, and runtimes sum
    in other orders.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        said = module(*rows)
        most = {name: np.zeros(len(values)) for name, values in said.items()}
        for _ in range(_N_PERTURBED):
            changed = module(*(_perturbed(value, generator) for value in rows))
            for name, values in said.items():
                change = _sizes((changed[name] - values).numpy())
                most[name] = np.maximum(most[name], change)
    return most


def _perturbed(value: Tensor, generator: torch.Generator) -> Tensor:
    if not value.is_floating_point():
        return value
    noise = torch.rand(value.shape, generator=generator, dtype=value.dtype) * 2 - 1
    return value * (1 + _ROUNDING * noise)
