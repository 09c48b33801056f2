"""Networks at the end of a pipeline of scikit-learn, or in a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline

from .._sklearn import num_samples
from ._base import Batch, LayerCallback, LayerReading, NetworkAdapter, Perturbation, Trace
from ._fingerprint import SCALARS, ContentReader, Fingerprint, sample_octets, with_settings
from ._inputs import is_stream

Step = tuple[str, Any]
"""Name and estimator."""


def is_search(estimator: Any) -> bool:
    """Whether it is a search over parameters, of scikit-learn or of another library."""
    if hasattr(estimator, "best_estimator_"):
        return True
    # Before it is fitted, the name tells: estimators that choose their own parameters, such as
    # LogisticRegressionCV, have `refit`, too.
    names = [parent.__name__ for parent in type(estimator).__mro__]
    return hasattr(estimator, "refit") and any(name.endswith("SearchCV") for name in names)


def best_estimator(search: Any) -> Any:
    """The estimator that a search has found and fitted.

    Raises
    ------
    NotFittedError
        If the search is not fitted, or does not fit what it has found.
    """
    if hasattr(search, "best_estimator_"):
        return search.best_estimator_
    kind = type(search).__name__
    if not search.refit:
        raise NotFittedError(
            f"This {kind} instance has refit=False, so it holds no fitted network: set refit=True "
            "and fit it, or pass a network that is fitted with its best_params_."
        )
    raise NotFittedError(
        f"This {kind} instance is not fitted yet: fit it before the activations of its "
        "best_estimator_ are extracted."
    )


def applied_steps(pipeline: Pipeline) -> tuple[list[Step], Step]:
    """The steps that change the inputs, and the last one.

    Steps without ``transform``, such as samplers of imbalanced-learn, work in ``fit`` alone.
    """
    *earlier, last = pipeline.steps
    changing = [(n, step) for n, step in earlier if not _is_passed(step)]
    return changing, last


def _is_passed(step: Any) -> bool:
    return step is None or step == "passthrough" or hasattr(step, "fit_resample")


class PipelineAdapter(NetworkAdapter):
    """Runs a network on what the steps before it make of the inputs.

    Parameters
    ----------
    steps : list of tuple
        Names and fitted transformers, in order.
    inner : NetworkAdapter
        Of the last step.
    """

    def __init__(self, steps: list[Step], inner: NetworkAdapter) -> None:
        self._steps = steps
        self._inner = inner
        self.capabilities = inner.capabilities
        self.classes = inner.classes
        self.network = inner.network

    @property
    def kept_as(self) -> str:  # type: ignore[override]
        return self._inner.kept_as if self._inner.kept_as == "state" else "nothing"

    @property
    def precision(self) -> str:
        return self._inner.precision

    @property
    def kind(self) -> str:
        return self._inner.kind

    def prepare(self, X: Any) -> Any:
        if is_stream(X):
            return X  # whose batches are prepared one by one
        n_samples = num_samples(X)
        for name, step in self._steps:
            try:
                X = step.transform(X)
            except StopIteration as error:  # which would end the loop of a caller without an error
                raise RuntimeError(
                    f"The step {name!r} of the Pipeline raised {error!r}."
                ) from error
            if num_samples(X) != n_samples:
                raise ValueError(
                    f"The step {name!r} of the Pipeline makes {num_samples(X)} rows of {n_samples} "
                    "samples: each sample needs a row."
                )
        return self._inner.prepare(X)

    def prepare_batch(self, batch: Any) -> Any:
        prepared = self.prepare(batch)
        if is_stream(prepared):
            raise TypeError(
                "The network at the end of the Pipeline makes its own batches, which it cannot do "
                "of what a data set or loader yields: pass the inputs themselves."
            )
        return prepared

    def untouched(self) -> AbstractContextManager[None]:
        return self._inner.untouched()

    def stamp(self, trace: Any = None) -> Any:
        return self._inner.stamp(trace), _stamp(self._steps)

    def glance(self, trace: Any = None, *, after_pass: bool = False) -> Any:
        return self._inner.glance(trace, after_pass=after_pass), _stamp(self._steps)

    def fingerprint(self, trace: Any = None) -> Fingerprint:
        steps = [(f"step {name}", step) for name, step in self._steps]
        return with_settings(self._inner.fingerprint(trace), ContentReader(), steps)

    def trace(self, batch: Batch) -> tuple[Trace, dict[str, Any]]:
        return self._inner.trace(batch)

    def forward(
        self, batch: Batch, trace: Any, layers: Sequence[str], keep: LayerCallback
    ) -> Any | None:
        return self._inner.forward(batch, trace, layers, keep)

    @property
    def steps(self) -> list[Any]:
        """The transformers before the network."""
        return [step for _, step in self._steps]

    def as_module(self, batch: Batch, trace: Any, layers: Sequence[str], read: LayerReading) -> Any:
        # Of what the steps make of the inputs, as for `forward`.
        return self._inner.as_module(batch, trace, layers, read)

    def forward_with_gradients(
        self,
        batch: Batch,
        trace: Any,
        layers: Sequence[str],
        keep: LayerCallback,
        keep_gradient: LayerCallback,
    ) -> Any:
        return self._inner.forward_with_gradients(batch, trace, layers, keep, keep_gradient)

    def forward_with_dropout(self, batch: Batch, trace: Any, n_passes: int, seed: int) -> Any:
        return self._inner.forward_with_dropout(batch, trace, n_passes, seed)

    def perturb(
        self, batch: Batch, trace: Any, perturbation: Perturbation
    ) -> tuple[Batch, Any | None]:
        return self._inner.perturb(batch, trace, perturbation)

    def head(self, trace: Any) -> tuple[NDArray, NDArray | None] | None:
        return self._inner.head(trace)

    def predictions(self, logits: Any, trace: Any) -> NDArray | None:
        return self._inner.predictions(logits, trace)

    def explain(self, error: Exception) -> str | None:
        return self._inner.explain(error)

    def to_numpy(self, value: Any) -> NDArray:
        return self._inner.to_numpy(value)

    @property
    def overlaps(self) -> bool:
        return self._inner.overlaps

    def send(self, value: Any) -> Callable[[], NDArray]:
        return self._inner.send(value)


_LONG = 1000


class _Same:
    """Equal to what holds the same object, which is kept alive so that no other has its address."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._held is other._held

    __hash__ = None  # type: ignore[assignment]


def _stamp(value: Any) -> Any:
    """What shows most changes of fitted estimators, at a cost that large ones do not raise."""
    if isinstance(value, BaseEstimator):
        return type(value), {name: _stamp(part) for name, part in vars(value).items()}
    if isinstance(value, list | tuple) and len(value) < _LONG:
        return [_stamp(part) for part in value]
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return sample_octets(value)
    if isinstance(value, SCALARS):
        return repr(value)
    return _Same(value), len(value) if isinstance(value, Sized) else 0
