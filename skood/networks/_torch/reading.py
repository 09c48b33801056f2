"""Taking the values of layers, and what the logits are, out of the calls of a pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .._base import LayerCallback
from .calls import Call, CallListener
from .outputs import Wanted, select_output
from .trace import TorchTrace

_LOGITS = "(logits)"


class LayerReader:
    """Keeps each layer the moment it has its value.

    Parameters
    ----------
    trace : TorchTrace
        Where the layers are.
    layers : sequence of str
        Those to keep.
    keep : callable
        Given the name of a layer and its value.
    mark : callable, default=None
        Given the name of a layer and its value as it is in the network.
    """

    def __init__(
        self,
        trace: TorchTrace,
        layers: Sequence[str],
        keep: LayerCallback,
        mark: LayerCallback | None = None,
    ) -> None:
        self._trace = trace
        self._keep = keep
        self._mark = mark
        self._locations = {layer: trace.locations[layer] for layer in layers}
        if trace.logits is not None:
            self._locations[_LOGITS] = trace.logits
        self._awaited = defaultdict(list)
        for layer, location in self._locations.items():
            self._awaited[location.call].append(layer)
        self._squashed: list[Tensor | None] = []
        self._several: dict[str, tuple[Tensor, Tensor]] = {}

    def listen(self, network: nn.Module) -> CallListener:
        """Context in which the network is to be called once."""
        names = {name for name, _ in self._awaited}
        callers = self._trace.callers(names)
        return CallListener(network, self._on_call, names=names, callers=callers)

    def _on_call(self, call: Call) -> None:
        for layer in self._awaited.pop(call.key, ()):
            location = self._locations[layer]
            value: Any = location.read(call)
            if layer == _LOGITS:
                self._squashed.append(value)
                continue
            positions = location.positions
            if positions is not None and positions.is_other_for_each and call.output is not None:
                vectors, outputs = map(location.vectors_of, (value, call.output))
                self._several[layer] = vectors.clone(), outputs.clone()
            else:
                self._keep(layer, location.rows_of(value))
            if self._mark is not None:
                self._mark(layer, value)

    def finish(self, returned: Any, wanted: Wanted) -> Tensor | None:
        """What the logits are, of what the network returned; keeps what goes by them.

        Raises
        ------
        ValueError
            If the network did not call a layer.
        """
        if missing := sorted(layer for layers in self._awaited.values() for layer in layers):
            raise ValueError(
                f"The network does not call its layers {missing} for all inputs: leave them out, "
                "and name the others by layers=[...]."
            )
        if self._squashed:
            logits = self._squashed[0]
        else:
            logits = select_output(returned, wanted, self._trace.output)
        head = self._trace.head
        for layer, (vectors, outputs) in self._several.items():
            if head is not None and logits is not None:
                self._keep(layer, head.pick(logits, vectors, outputs))
        return logits
