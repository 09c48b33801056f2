"""What a service answers in place of verdicts."""

from __future__ import annotations

from collections.abc import Mapping


class RefusalError(Exception):
    """A request that gets no verdicts, and why.

    Parameters
    ----------
    status : int
        Status of the answer.
    reason : str
        What the client is told: nothing of the machine, and no text of an error of the network.
    headers : dict of str to str, default={}
        Further headers of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.headers = dict(headers or {})
