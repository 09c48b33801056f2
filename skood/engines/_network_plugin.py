"""What holds a network on a worker of a cluster; imports ``distributed``, which Dask does not."""

from __future__ import annotations

from distributed import WorkerPlugin

from ._parcel import Parcel


class NetworkPlugin(WorkerPlugin):
    """Holds a network on each worker, from when it was sent or the worker has started.

    Parameters
    ----------
    parcel : Parcel
        The network.
    """

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
