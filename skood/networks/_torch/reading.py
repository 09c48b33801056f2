"""Taking the values of layers, and what the logits are, out of the calls of a pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from .._base import LayerCallback
from .calls import Call, CallListener, ListeningPost
from .gradients import Mark
from .outputs import Wanted, select_output
from .recorded import Location
from .trace import TorchTrace

_LOGITS = "(logits)"


class _Reading(NamedTuple):
    """The value of a layer, and what the call yields."""

    value: Any
    output: Tensor | None
    mark: Mark | None

    @classmethod
    def of(cls, location: Location, call: Call, *, marks: bool) -> _Reading:
        value = location.read(call)
        mark = Mark.at(value) if marks and value is not None else None
        return cls(value, call.output, mark)

    def copied(self) -> _Reading:
        """The same, with copies of what may be overwritten."""
        value = None if self.value is None else self.value.clone()
        output = None if self.output is None else self.output.clone()
        return self._replace(value=value, output=output)


class LayerReader:
    """Keeps each layer the moment it has its value, or in the end where later calls decide.

    Parameters
    ----------
    trace : TorchTrace
        Where the layers are.
    layers : sequence of str
        Those to keep.
    keep : callable
        Given the name of a layer and its value.
    mark : callable, default=None
        Given the name of a layer and the mark of its value in the network.
    """

    def __init__(
        self,
        trace: TorchTrace,
        layers: Sequence[str],
        keep: LayerCallback,
        mark: Callable[[str, Mark], None] | None = None,
    ) -> None:
        self._trace = trace
        self._keep = keep
        self._mark = mark
        self._locations = {layer: trace.locations[layer] for layer in layers}
        if trace.logits is not None:
            self._locations[_LOGITS] = trace.logits
        self._awaited: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        self._followed: defaultdict[str, list[str]] = defaultdict(list)
        for layer, location in self._locations.items():
            if location.n_calls:
                self._followed[location.call[0]].append(layer)
            else:
                self._awaited[location.call].append(layer)
        self._names = {location.call[0] for location in self._locations.values()}
        self._certain = self._certain_names()
        self._callers = trace.callers(self._names)
        self._post: ListeningPost | None = None
        self._begin()

    def _certain_names(self) -> set[str]:
        """Names of modules of whose calls nothing is wanted but values, as they come."""
        if self._mark is not None:
            return set()
        unclear = {
            location.call[0]
            for layer, location in self._locations.items()
            if layer == _LOGITS or not location.is_certain
        }
        return self._names - unclear - self._trace.functions.keys()

    def _begin(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._held: defaultdict[str, list[_Reading | None]] = defaultdict(list)
        self._squashed: list[Tensor | None] = []
        self._several: dict[str, tuple[Tensor, Tensor]] = {}

    def post(self, network: nn.Module) -> ListeningPost:
        """Where this reader, and those that :meth:`again` makes from now on, listen."""
        self._post = self._new_post(network)
        return self._post

    def _new_post(self, network: nn.Module) -> ListeningPost:
        return ListeningPost(network, self._names, self._callers.quiet, self._certain)

    def again(self, keep: LayerCallback) -> LayerReader:
        """A reader of the same layers for another call of the network."""
        new = object.__new__(type(self))
        vars(new).update(vars(self))
        new._keep, new._awaited = keep, self._awaited.copy()
        new._begin()
        return new

    def listen(self, network: nn.Module) -> CallListener:
        """Context in which the network is to be called once."""
        return CallListener(
            network,
            self._on_call,
            names=self._names,
            callers=self._callers,
            post=self._post or self._new_post(network),
            hear=self._hear,
        )

    def _hear(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        """Keep what comes with a call of which no more is to be known."""
        number = self._counts[name]
        self._counts[name] = number + 1
        for layer in self._awaited.pop((name, number), ()):
            self._keep(layer, self._locations[layer].rows_in(args, kwargs, output))

    def _on_call(self, call: Call) -> None:
        marks = self._mark is not None
        for layer in self._awaited.pop(call.key, ()):
            self._take(layer, _Reading.of(self._locations[layer], call, marks=marks))
        for layer in self._followed.get(call.name, ()):
            location, held = self._locations[layer], self._held[layer]
            held.append(_Reading.of(location, call, marks=marks).copied())
            if location.share == 1 and len(held) > (n_last := location.n_calls - location.call[1]):
                held[-n_last - 1] = None

    def _take(self, layer: str, reading: _Reading) -> None:
        location = self._locations[layer]
        if layer == _LOGITS:
            self._squashed.append(reading.value)
            return
        positions = location.positions
        if positions is not None and positions.is_other_for_each and reading.output is not None:
            vectors, outputs = map(location.vectors_of, (reading.value, reading.output))
            self._several[layer] = vectors.clone(), outputs.clone()
        else:
            self._keep(layer, location.rows_of(reading.value))
        if self._mark is not None and reading.mark is not None:
            self._mark(layer, reading.mark)

    def _take_held(self) -> list[str]:
        """Take what counts among many calls; the layers of which there is none."""
        missing = []
        for layers in self._followed.values():
            for layer in layers:
                held = self._held[layer]
                number = self._locations[layer].number_among(len(held))
                reading = held[number] if 0 <= number < len(held) else None
                if reading is None:
                    missing.append(layer)
                else:
                    self._take(layer, reading)
        return missing

    def finish(self, returned: Any, wanted: Wanted) -> Tensor | None:
        """What the logits are, of what the network returned; keeps what goes by them.

        Raises
        ------
        ValueError
            If the network did not call a layer.
        """
        missing = [layer for layers in self._awaited.values() for layer in layers]
        if missing := sorted(missing + self._take_held()):
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
