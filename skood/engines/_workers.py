"""Estimators in the tasks of Dask: what is sent to the workers, once, and called there."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import RLock
from typing import Any, NamedTuple

import dask
from dask.base import get_scheduler

from ..activations import Activations
from ..extraction import ActivationExtractor
from ._parcel import Parcel

_ONE_AT_A_TIME = RLock()
"""A network is put into another mode while it runs, so that threads of a process take turns."""

_SENT: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
"""Networks that are on the workers of a client, by what they are known by."""


class Worker(NamedTuple):
    """A fitted estimator as tasks are given it: parcels, or futures of parcels on a cluster."""

    estimator: Any
    networks: list[Any]

    @classmethod
    def of(cls, estimator: Any) -> Worker:
        """Send an estimator as it is now; a network that is there already is not sent again."""
        client, networks = cluster_client(), list(_networks_of(estimator))
        parcel = Parcel.of_now(estimator, [network for network, _ in networks])
        if client is None:
            return cls(parcel, [Parcel(network) for network, _ in networks])
        return cls(_send(client, parcel), [_send_once(client, *known) for known in networks])


def call(
    estimator: Parcel, networks: Sequence[Parcel], method: str, X: Any, *args: Any
) -> Any:
    """What a method of an estimator makes of rows, in a task."""
    opened = opened_on_worker(estimator, networks)
    if networks and not isinstance(X, Activations):
        with _ONE_AT_A_TIME:
            return getattr(opened, method)(X, *args)
    return getattr(opened, method)(X, *args)


def opened_on_worker(estimator: Parcel, networks: Sequence[Parcel]) -> Any:
    """The estimator of a task, with its networks."""
    return estimator.open([network.open() for network in networks])


def cluster_client() -> Any:
    """The client whose workers compute what is asked for; None where this process does."""
    if (distributed := sys.modules.get("distributed")) is None:
        return None
    with suppress(ValueError):  # there is none
        client = distributed.get_client()
        if get_scheduler() in (None, client.get):
            return client
    return None


def send(content: Any) -> Any:
    """A parcel with any object, or the future of one on the workers of a cluster."""
    client = cluster_client()
    return Parcel(content) if client is None else _send(client, Parcel.of_now(content, ()))


def _send(client: Any, parcel: Parcel) -> Any:
    """The future of a parcel that the scheduler keeps, should all workers that have it be lost."""
    # The parcel is sent once: no reason to warn of its size.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PB"}):
        return client.submit(_arrived, parcel, pure=False)


def _arrived(parcel: Parcel) -> Parcel:
    return parcel


def _send_once(client: Any, network: Any, digest: str | None) -> Any:
    if digest is None:
        return _send(client, Parcel.of_now(network, ()))
    sent = _SENT.setdefault(client, {})
    if digest not in sent or sent[digest].status in ("cancelled", "error", "lost"):
        sent[digest] = _send(client, Parcel.of_now(network, ()))
        with suppress(TypeError):  # a path is not waited for
            weakref.finalize(network, sent.pop, digest, None)
    return sent[digest]


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
