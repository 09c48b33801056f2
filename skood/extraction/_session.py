"""Extraction from inputs like earlier ones, without the checks that these have passed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Set
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config

from .._pooling import pooler
from .._values import SQUARABLE, all_finite, largest_size
from ..activations import Activations, Trust, trusted_like, unread_like, without_rows
from ..networks import NetworkAdapter
from ._collector import pooled_by
from ._head_check import makes_all
from ._inputs import all_are_finite
from ._plan import Plan
from ._shapes import SHAPE_OF_FIT

if TYPE_CHECKING:
    from ._extractor import ActivationExtractor

_VALUES_AT_ONCE = 2**16
"""So few values are looked at together; of more, each array is."""


class ExtractionSession:
    """Reads a network for a fitted extractor, in haste for inputs like those that it has read.

    Parameters
    ----------
    extractor : ActivationExtractor
        The extractor, of which :func:`may_hurry` is true.

    Attributes
    ----------
    trust : Trust
        Mark of what is extracted.
    """

    def __init__(self, extractor: ActivationExtractor) -> None:
        assert extractor._plan is not None  # of one that may hurry
        self._adapt, self._plan = extractor._adapt, extractor._plan
        self._trace, self._layers = self._plan.trace, self._plan.layers
        self._reducer, self._same = extractor.reducer, extractor._same_network
        self._shape, self._most = getattr(extractor, SHAPE_OF_FIT), extractor.batch_size
        self._is_open = False
        self._begin()
        # One without a stamp of its own may know only the network that it was made of.
        has_stamp = type(self._adapter).stamp is not NetworkAdapter.stamp
        self._adapt_anew = None if has_stamp else extractor._adapt
        self._like: Activations | None = None
        self._read: set[tuple[str, str]] = set()
        self._unread: Activations | None = None
        self._poolers: dict[str, dict[tuple[str, str], Callable[[Any], Any]]] = {}
        self._sizes: set[int] = set()
        self._dtypes: set[Any] = set()
        self.trust = Trust()

    def _begin(self) -> None:
        """Read the network as it is made up now."""
        self._noted = self._same.noted
        self._adapter = self._adapt()
        self._network = self._adapter.session(self._trace, self._layers)
        if self._is_open:
            self._network.open()

    def _begin_again(self) -> None:
        """The same, in place of what it was before."""
        before = self._network
        self._begin()
        before.close()

    def learn(self, X: Any, extracted: Activations, wanted: Set[str] | None = None) -> None:
        """See what the extractor itself has made of inputs, and what reads that has checked.

        Parameters
        ----------
        X : ndarray or Tensor
            Inputs.
        extracted : Activations
            What it has made of them.
        wanted : set of str, default=None
            The columns of layers that anybody reads; by default all.
        """
        if extracted.mask is not None or self._adapter.prepare(X) is not X:
            return
        self._dtypes.add(X.dtype)
        if self._like is not None:
            return
        self._like = without_rows(extracted)
        columns = self._like._table.columns
        if wanted is not None:
            wanted = {*wanted, str(self._plan.head_input)}
        self._read = {key for key in columns if wanted is None or key[1] in wanted}
        layers = {str(columns[key].layer) for key in self._read}
        self._listen_to([layer for layer in self._plan.layers if layer in layers])

    def _listen_to(self, layers: list[str]) -> None:
        if layers == self._plan.layers:
            return
        self._layers = layers
        self._begin_again()

    def suits(self, X: Any) -> bool:
        """Whether inputs are few, and of the shape of those of ``fit``; not yet whether finite."""
        is_array = type(X) is np.ndarray or type(X).__qualname__ == "Tensor"
        if not is_array or X.ndim == 0 or tuple(X.shape[1:]) != self._shape:
            return False
        return 0 < X.shape[0] <= self._most  # tensors tell their length by code of Python

    def open(self) -> None:
        """Let what listens to the network stay there."""
        if not self._is_open:
            self._network.open()
            self._is_open = True

    def close(self) -> None:
        """Leave nothing there."""
        self._is_open = False
        self._network.close()

    def extract(self, X: Any) -> Activations | None:
        """Activations of inputs that are like earlier ones in all that is checked.

        None where they are not, or anything else is unusual, of which the extractor itself says
        what it is.
        """
        if self._like is None or X.dtype not in self._dtypes or not self.suits(X):
            return None
        if not self._knows_network():
            return None
        start = time.perf_counter()
        kept: dict[tuple[str, str], Any] = {}
        logits = None
        try:
            # Steps before the network may change these inputs, and not the earlier ones.
            if is_as_given := self._adapter.prepare(X) is X:
                logits = self._network.run(X, partial(self._keep, kept))
        except Exception:  # the extractor runs it again, and explains the error
            return None
        finally:
            # To tensors it writes at once, or where a batch is larger; elsewhere for some inputs.
            self._same.has_run(
                self._adapter,
                self._trace,
                time.perf_counter() - start,
                at_a_glance=X.shape[0] in self._sizes,
            )
            self._sizes.add(X.shape[0])
        return self._finish(kept, logits, X) if is_as_given else None

    def _knows_network(self) -> bool:
        """Whether the network seems to be that of ``fit``; it is then read as it is made up now."""
        adapter = self._adapter if self._adapt_anew is None else self._adapt_anew()
        if not self._same.is_known(adapter, self._trace, at_a_glance=self._is_open):
            return False
        if self._noted is not self._same.noted:
            self._noted = self._same.noted
            if not self._network.is_current():
                self._begin_again()
        return True

    def _keep(self, kept: dict[tuple[str, str], Any], layer: str, value: Any) -> None:
        """Keep what is extracted of a layer: numbers of their own, since the value may change."""
        n_axes = self._trace.n_axes.get(layer, value.ndim)
        if value.ndim != n_axes:
            raise ValueError(f"Layer {layer!r} has {value.ndim} axes, not {n_axes}.")
        poolers = self._poolers.get(layer)
        if poolers is None:
            poolers = self._poolers[layer] = self._poolers_of(layer)
        for key, pool in poolers.items():
            kept[key] = pool(value)
        if not poolers:
            self._keep_reduced(kept, layer, value)

    def _poolers_of(self, layer: str) -> dict[tuple[str, str], Callable[[Any], Any]]:
        """What pools a layer, by the columns that it makes; none where that is not known."""
        n_axes = self._trace.n_axes.get(layer)
        if n_axes is None or self._trace.unit_axes.get(layer, 1) != 1:
            return {}
        name = self._plan.names[layer, "value"]
        if self._reducer is None:
            return {("layer", name): pooler(None, 1, n_axes)}
        if not hasattr(self._reducer, "_poolers"):
            return {}
        poolers = self._reducer._poolers(name, n_axes)
        return {("layer", pooled): pool for pooled, pool in poolers.items()}

    def _keep_reduced(self, kept: dict[tuple[str, str], Any], layer: str, value: Any) -> None:
        """Keep what the reducer makes of a layer, of which only the reducer knows what that is."""
        name, axis = self._plan.names[layer, "value"], self._trace.unit_axes.get(layer, 1)
        pooled = {name: value}
        if self._reducer is not None:
            pooled = pooled_by(self._reducer, name, value, axis, 0, None)
        for pooled_name, part in pooled.items():
            kept["layer", pooled_name] = np.array(self._adapter.to_numpy(part))

    def _finish(self, kept: dict[tuple[str, str], Any], logits: Any, X: Any) -> Activations | None:
        """What was kept as activations; None where it is not like what was learnt."""
        like, predicted = self._unread_like(X.shape[0]), None
        if logits is not None:
            predicted = self._adapter.predictions(logits, self._trace)
            kept["logits", "logits"] = logits
        if not self._read <= kept.keys() <= like._table.columns.keys():
            return None
        found, blocks = self._network.arrays(list(kept.values()))
        arrays = dict(zip(kept, found, strict=True))
        # How many units there are, and of which numbers, may depend on the values of an input.
        columns = like._table.columns
        are_alike = all(
            columns[key].shape == array.shape and columns[key].dtype.kind == array.dtype.kind
            for key, array in arrays.items()
        )
        if not (are_alike and _are_finite(blocks, X) and self._head_makes(arrays)):
            return None
        if logits is not None:
            logits = arrays["logits", "logits"]
            numbers = logits.argmax(axis=1) if predicted is None else predicted
            classes = like._classes
            arrays["prediction", "predictions"] = numbers if classes is None else classes[numbers]
        return trusted_like(like, arrays, self.trust)

    def _unread_like(self, n_rows: int) -> Activations:
        """So many samples without values."""
        assert self._like is not None
        unread = self._unread  # another thread may read other inputs meanwhile
        if unread is None or len(unread) != n_rows:
            unread = self._unread = unread_like(self._like, n_rows)
        return unread

    def _head_makes(self, arrays: dict[tuple[str, str], Any]) -> bool:
        """Whether the head, if there is one, makes the logits of all samples."""
        assert self._like is not None
        head, logits = self._like.head, arrays.get(("logits", "logits"))
        features = arrays.get(("layer", str(self._plan.head_input)))
        if head is None or features is None or logits is None:
            return True
        return makes_all(head, features, logits, self._trace.head_rounding)


def may_hurry(extractor: Any) -> bool:
    """Whether a fitted extractor extracts values alone, of arrays, each layer by itself."""
    plan: Plan | None = getattr(extractor, "_plan", None)
    return (
        plan is not None
        and not plan.trace.takes_any_length
        and extractor.memory is None
        and extractor.perturbation is None
        and extractor.n_passes is None
        and not extractor.gradients
        and hasattr(extractor, SHAPE_OF_FIT)
        and not hasattr(extractor, "feature_names_in_")
        and (extractor.reducer is None or hasattr(extractor.reducer, "pool_layers"))
    )


def _are_finite(arrays: list[NDArray], X: Any) -> bool:
    """Whether inputs are finite, and what was made of them can be computed with."""
    if get_config()["assume_finite"]:
        return _are_usable(arrays)
    if isinstance(X, np.ndarray):  # with the others: a look at few takes longer than their values
        return _are_usable([*arrays, X])
    # A sum shows it sooner, unless it overflows.
    is_summed = not X.is_complex() and math.isfinite(X.detach().sum().item())
    return (is_summed or all_are_finite(X)) and _are_usable(arrays)


def _are_usable(arrays: list[NDArray]) -> bool:
    """Whether all values can be computed with, as far as that depends on their size alone."""
    floats = [array for array in arrays if array.dtype.kind == "f"]
    if len(floats) > 1 and sum(array.size for array in floats) <= _VALUES_AT_ONCE:
        floats = [np.concatenate([array.reshape(-1) for array in floats])]
    for array in floats:
        if not all_finite(array):
            return False
        if array.dtype.itemsize >= 8 and largest_size(array) > SQUARABLE[1]:
            return False
    return True
