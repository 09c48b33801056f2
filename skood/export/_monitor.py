"""A fitted monitor as one module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._foreign import flat_steps
from ._calibrated import judge_of
from ._network import ExtractionForm, draw_inputs
from ._registry import form


class MonitorModule(nn.Module):
    """The network and its monitor in one pass: what :meth:`skood.Monitor.to_torch` returns.

    Parameters
    ----------
    monitor : Monitor
        Fitted.
    X : array-like, Tensor, Dataset, DataLoader or dict, default=None
        Some inputs, where the monitor was fitted on activations.
    """

    def __init__(self, monitor: Any, X: Any = None) -> None:
        super().__init__()
        thresholds = monitor._held_out_thresholds()  # refused where the detector is another by now
        (*steps, detector), extractor = flat_steps(monitor), monitor._extractor
        place = next(i for i, step in enumerate(steps) if step is extractor)
        self.before = nn.ModuleList(form(step) for step in steps[:place])
        self.extraction = ExtractionForm(extractor, X)
        self.after = nn.ModuleList(form(step) for step in steps[place + 1 :])
        self.judge: Any = judge_of(detector, None if thresholds is None else thresholds.by_name)
        self.n_features = int(getattr(steps[0], "n_features_in_", 0))
        self.requires_grad_(False)
        self.training = False

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in the order in which they are taken."""
        names = list(self.extraction.plan.inputs)
        return ["input"] if names == [None] else [str(name) for name in names]

    def forward(self, *inputs: Any) -> dict[str, Tensor]:
        """Logits, score, p-value and verdict of samples.

        Parameters
        ----------
        *inputs : Tensor
            Inputs of the network, one after the other, or a dict of them by name.

        Returns
        -------
        said : dict of str to Tensor
            "logits", where the network has some, of shape (n_samples, n_classes); "score",
            "p_value" and "verdict", of shape (n_samples,). A graph raises no error: a sample with a
            value in inputs or layers that is not finite, which a monitor refuses, is rejected, with
            a score of NaN.
        """
        if len(inputs) == 1 and not isinstance(inputs[0], Tensor):
            inputs = tuple(inputs[0][name] for name in self.input_names)
        for step in self.before:
            inputs = (step(*inputs),)
        A = self.extraction(*inputs)
        is_finite = _are_finite([*inputs, *A.layers.values()])
        logits = A.logits
        for step in self.after:
            A = step(A)
        score, p_value, is_accepted = self.judge.judge(A)
        said = {} if logits is None else {"logits": logits}
        said |= {"score": _where(is_finite, score), "p_value": _where(is_finite, p_value)}
        return said | {"verdict": torch.where(is_accepted & is_finite, 1, -1)}

    def train(self, mode: bool = True) -> MonitorModule:
        """Nothing: a monitor evaluates."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MonitorModule:
        """Move to other devices; numbers keep their types, without which scores are others."""

        def move(values: Tensor) -> Tensor:
            moved = fn(values)
            return moved if moved.dtype == values.dtype else values.to(moved.device)

        super()._apply(move, recurse)
        return self

    def example_inputs(self, n_samples: int) -> tuple[Tensor, ...]:
        """Inputs to trace with, of values such as ``fit`` has seen.

        Parameters
        ----------
        n_samples : int
            How many.

        Returns
        -------
        inputs : tuple of Tensor
            One after the other.
        """
        if self.before or self.extraction.steps:  # which take matrices
            # The steps keep the precision of what they are given.
            (kind,) = self.extraction.plan.inputs.values()
            drawn: Any = np.random.default_rng(0).normal(size=(n_samples, self.n_features))
            drawn = drawn.astype(kind.dtype)
        else:
            drawn = draw_inputs(self.extraction.plan, n_samples, self.extraction.mask)
        return self.as_tensors(drawn.values() if isinstance(drawn, Mapping) else [drawn], n_samples)

    def as_tensors(self, inputs: Iterable[Any], n_samples: int) -> tuple[Tensor, ...]:
        """The first samples of inputs as tensors, of the types that the network takes.

        Parameters
        ----------
        inputs : iterable of array-like or Tensor
            One after the other.
        n_samples : int
            How many samples to take.

        Returns
        -------
        inputs : tuple of Tensor
            In memory of their own.
        """
        tensors = [
            x[:n_samples].detach().cpu().clone()
            if isinstance(x, Tensor)
            else torch.as_tensor(np.array(x[:n_samples]))
            for x in inputs
        ]
        if self.before or self.extraction.steps:
            return tuple(tensors)
        dtypes = getattr(self.extraction.network, "dtypes", [each.dtype for each in tensors])
        pairs = zip(tensors, dtypes, strict=True)
        return tuple(x.to(dtype) for x, dtype in pairs)

    def as_given(self, rows: tuple[Tensor, ...]) -> Any:
        """Inputs as a monitor takes them: an array, or a dict of arrays by name.

        Parameters
        ----------
        rows : tuple of Tensor
            One after the other.

        Returns
        -------
        inputs : ndarray, Tensor or dict of these by name
            Of the same numbers.
        """
        names = list(self.extraction.plan.inputs)
        # NumPy has no bfloat16.
        arrays = [value if value.dtype == torch.bfloat16 else value.numpy() for value in rows]
        return arrays[0] if names == [None] else dict(zip(names, arrays, strict=True))


def _are_finite(values: Sequence[Tensor]) -> Tensor:
    """Whether all numbers of each sample are."""
    floats = [array for array in values if array.is_floating_point()]
    parts = [torch.isfinite(array).unsqueeze(-1).flatten(1).all(dim=1) for array in floats]
    return torch.stack(parts).all(dim=0)


def _where(is_finite: Tensor, values: Tensor) -> Tensor:
    return torch.where(is_finite, values, torch.nan)
