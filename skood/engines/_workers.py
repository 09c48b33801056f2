"""Estimators in the tasks of Dask: what is sent to the workers, once, and called there."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import RLock
from typing import Any, NamedTuple
from uuid import uuid4

import dask
from dask.base import get_scheduler

from ..activations import Activations
from ..extraction import ActivationExtractor
from ._parcel import Parcel

_ONE_AT_A_TIME = RLock()
"""A network is put into another mode while it runs, so that threads of a process take turns."""

_N_KEPT = 4
"""As many networks stay on the workers when nothing refers to them any more."""


class NetworkOfCluster:
    """A network that each worker of a cluster was sent once, also those that join later.

    It is no input of the tasks: what several workers hold of these is freed by the scheduler after
    a while, and would be sent anew with the next computation.

    Parameters
    ----------
    name : str
        What it is called on the workers; equal for equal networks.
    network : object
        The network, which is not pickled with it.
    """

    def __init__(self, name: str, network: Any) -> None:
        self._name = name
        self._here: Any = network

    def open(self) -> Any:
        """The network, the same in all tasks of a worker."""
        if self._here is not None:
            return self._here
        from distributed import get_worker

        found: Any = get_worker().plugins.get(self._name)
        if found is None:
            raise RuntimeError(
                "The network is not on the workers any more, as others were sent after it: keep "
                "the Dask collection that needs it until it is computed."
            )
        return found.parcel.open()

    def __getstate__(self) -> dict[str, Any]:
        return {"_name": self._name, "_here": None}


_SENT: weakref.WeakKeyDictionary[Any, dict[str, weakref.ref[NetworkOfCluster]]]
_SENT = weakref.WeakKeyDictionary()
"""By client, the networks that are on its workers, the last one sent last."""


class Worker(NamedTuple):
    """A fitted estimator as tasks are given it."""

    estimator: Any
    """A :class:`Parcel`, or the future of one on a cluster."""
    networks: list[Any]
    """Each a :class:`Parcel`, or a :class:`NetworkOfCluster`."""

    @classmethod
    def of(cls, estimator: Any) -> Worker:
        """Send an estimator as it is now; a network that is there already is not sent again."""
        client, networks = cluster_client(), list(_networks_of(estimator))
        parcel = Parcel.of_now(estimator, [network for network, _ in networks])
        if client is None:
            return cls(parcel, [Parcel(network) for network, _ in networks])
        return cls(_send(client, parcel), [_send_once(client, *known) for known in networks])


def call(estimator: Parcel, networks: Sequence[Any], method: str, X: Any, **options: Any) -> Any:
    """What a method of an estimator makes of rows, in a task."""
    opened = estimator.open([network.open() for network in networks])
    if networks and not isinstance(X, Activations):
        with _ONE_AT_A_TIME:
            return getattr(opened, method)(X, **options)
    return getattr(opened, method)(X, **options)


def cluster_client() -> Any:
    """The client whose workers compute what is asked for; None where this process does."""
    if (distributed := sys.modules.get("distributed")) is None:
        return None
    with suppress(ValueError):  # there is none
        client = distributed.get_client()
        if get_scheduler() in (None, client.get) and not client.asynchronous:
            return client
    return None


def _send(client: Any, parcel: Parcel) -> Any:
    """The future of a parcel, which the scheduler keeps should all workers with it be lost."""
    # It is sent once: no reason to warn of its size.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PB"}):
        return client.submit(_arrived, parcel, pure=False)


def _arrived(parcel: Parcel) -> Parcel:
    return parcel


def _send_once(client: Any, network: Any, digest: str | None) -> NetworkOfCluster:
    """A network that is on all workers; one whose content cannot all be read is sent each time."""
    sent = _SENT.setdefault(client, {})
    name = f"skood-network-{digest or uuid4().hex}"
    known = sent[name]() if name in sent else None
    if name not in sent:
        client.register_plugin(_plugin(Parcel.of_now(network, ())), name=name)
    handle = NetworkOfCluster(name, network) if known is None else known
    sent.pop(name, None)
    sent[name] = weakref.ref(handle)
    _forget_oldest(client, sent)
    return handle


def _forget_oldest(client: Any, sent: dict[str, weakref.ref[NetworkOfCluster]]) -> None:
    """Free networks that nothing refers to, of more than a few the oldest."""
    unused = [name for name, handle in sent.items() if handle() is None]
    for name in unused[: max(0, len(sent) - _N_KEPT)]:
        del sent[name]
        client.unregister_worker_plugin(name)


def _plugin(parcel: Parcel) -> Any:
    from ._network_plugin import NetworkPlugin

    return NetworkPlugin(parcel)


def extractors_of(estimator: Any) -> list[ActivationExtractor]:
    """The extractors among the parameters of an estimator, and itself where it is one."""
    found = [estimator, *estimator.get_params(deep=True).values()]
    distinct = {id(part): part for part in found if isinstance(part, ActivationExtractor)}
    return list(distinct.values())


def _networks_of(estimator: Any) -> Iterator[tuple[Any, str | None]]:
    """Each network of an estimator once, and what it is known by."""
    seen: set[int] = set()
    for extractor in extractors_of(estimator):
        if id(extractor.network) not in seen:
            seen.add(id(extractor.network))
            yield extractor.network, extractor._network_digest()
