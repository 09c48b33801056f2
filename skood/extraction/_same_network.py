"""Whether a network is still the one that ``fit`` saw."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from .._warnings import warn_user
from ..networks import Fingerprint, NetworkAdapter, Trace, differing

_SHARE = 0.005
"""Of the time of extraction, what may be spent on fingerprints that no stamp asks for."""
_SHARE_OF_LOOKS = 0.02
"""Of the time that passes while a monitor is open, what may be spent on looks at values."""
_CHEAP, _AT_LEAST_EACH = 1e-4, 1.0
"""Seconds: a look that takes less is always taken, and another one when so many have passed."""
_N_NAMED = 5
_NOT_WRITTEN = ("_hooks", "_hooks_with_kwargs", ".forward", ":class", ":forward", ":script")
"""Ends of the places of code and hooks, which others may change while a network runs."""

_WHAT_TO_DO = (
    "What was learnt from its activations, such as thresholds, holds for the network that fit saw. "
    "Fit again; or set changed_network='ignore', or 'warn', where the change is meant."
)


class ChangedNetworkError(ValueError):
    """A network is not the one that ``fit`` saw.

    The message names the parts that differ. See ``changed_network`` of
    :class:`~skood.ActivationExtractor`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import ActivationExtractor
    >>> from skood.extraction import ChangedNetworkError
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> network = MLPClassifier((5,), tol=1.0).fit(X, X[:, 0] > 0)
    >>> extractor = ActivationExtractor(network).fit(X)
    >>> network.coefs_[0] *= 2
    >>> try:
    ...     extractor.transform(X)
    ... except ChangedNetworkError as error:
    ...     print(str(error)[:39])
    The network is not what it was in fit:
    """

    __module__ = "skood.extraction"  # where it is public, as tracebacks show it


@dataclass(frozen=True)
class _Verdict:
    """What is to be said of a network."""

    error: str = ""
    warning: str = ""


class SameNetwork:
    """Compares networks with the one that ``fit`` saw, mostly by their stamps.

    Parameters
    ----------
    adapter : NetworkAdapter
        Reads the network of ``fit``.
    trace : Trace or None
        What was found out of it, where it has run.

    Attributes
    ----------
    noted : object
        Another one as soon as the network has been looked at in full, as it seemed to change.
    """

    noted: object
    _stamp: Any
    _next_look: float
    _is_written: bool
    """Whether a pass has left other marks behind than it found, if only at weights."""

    def __init__(self, adapter: NetworkAdapter, trace: Trace | None) -> None:
        start = time.perf_counter()
        self.fingerprint = adapter.fingerprint(trace)
        self._forget()
        self._cost = time.perf_counter() - start
        self._note(adapter, trace, _Verdict())

    def check(
        self,
        adapter: NetworkAdapter,
        trace: Trace | None,
        on_change: str,
        *,
        in_full: bool = False,
    ) -> None:
        """Compare a network with that of ``fit``; if in full, whatever its stamp says.

        Raises
        ------
        ChangedNetworkError
            If it is another one, or has changed, and ``on_change`` is "raise".
        """
        if on_change == "ignore":
            return
        verdict = self._verdict
        if in_full or self._is_due() or adapter.stamp(trace) != self._stamp:
            verdict = self._compare(adapter, trace)
        if verdict.error and on_change == "raise":
            raise ChangedNetworkError(f"{verdict.error} {_WHAT_TO_DO}")
        if text := verdict.error or verdict.warning:
            warn_user(f"{text} {_WHAT_TO_DO}")

    def is_known(self, adapter: NetworkAdapter, trace: Trace | None, *, at_a_glance: bool) -> bool:
        """Whether a look shows the network of ``fit``, and nothing is to be said of it.

        A glance tells a change of what it is made of by the objects and their versions alone; it
        becomes a look at values as well where these are cheap to look at, and now and then.
        """
        if self._is_due():
            self._compare(adapter, trace)
        if self._verdict != _Verdict():
            return False
        start = time.perf_counter()
        if at_a_glance and start < self._next_look:
            return bool(adapter.glance(trace) == self._stamp)
        is_same = bool(adapter.stamp(trace) == self._stamp)
        end = time.perf_counter()
        pause = min((end - start) / _SHARE_OF_LOOKS, _AT_LEAST_EACH)
        self._next_look = end + pause if end - start > _CHEAP else end
        return is_same

    @contextmanager
    def running(self, adapter: NetworkAdapter, trace: Trace | None) -> Iterator[None]:
        """Block in which the network runs; what it writes meanwhile is no change."""
        start = time.perf_counter()
        try:
            yield
        finally:  # a pass that fails may have written, too
            self.has_run(adapter, trace, time.perf_counter() - start)

    def has_run(
        self,
        adapter: NetworkAdapter,
        trace: Trace | None,
        seconds: float,
        *,
        at_a_glance: bool = False,
    ) -> None:
        """Note that the network has run for so long; what it is seen to have written is no change.

        A glance does where it is known what it writes to its weights.
        """
        self._seconds += seconds
        has_cheap_stamp = type(adapter).stamp is not NetworkAdapter.stamp
        if not (adapter.written_by_passes and has_cheap_stamp) or self._verdict.error:
            return
        if at_a_glance and adapter.glance(trace, after_pass=not self._is_written) == self._stamp:
            return
        if adapter.stamp(trace) == self._stamp:
            return
        self._is_written = True  # perhaps weights, with the same values, in each pass
        now, known = adapter.fingerprint(trace), self.fingerprint
        by_pass = all(map(_may_be_written, differing(known.settings, now.settings, now.left_out)))
        if by_pass and not differing(known.weights, now.weights, now.left_out):
            self.fingerprint = replace(known, digest=now.digest, settings=now.settings)
            self._note(adapter, trace, self._verdict)

    def _compare(self, adapter: NetworkAdapter, trace: Trace | None) -> _Verdict:
        start = time.perf_counter()
        verdict = _judge(self.fingerprint, adapter.fingerprint(trace))
        self._seconds, self._cost = 0.0, time.perf_counter() - start
        self._note(adapter, trace, verdict)
        return verdict

    def _is_due(self) -> bool:
        """Whether it is time to look for changes that no stamp shows."""
        return self._cost < _SHARE * self._seconds

    def _note(self, adapter: NetworkAdapter, trace: Trace | None, verdict: _Verdict) -> None:
        self._stamp, self._verdict = adapter.stamp(trace), verdict
        self.noted = object()

    def _forget(self) -> None:
        self._stamp, self._verdict = None, _Verdict()
        self._seconds, self._cost = 0.0, float("inf")
        self._next_look = 0.0
        self._is_written, self.noted = False, object()

    def __getstate__(self) -> dict[str, Any]:
        # A stamp is of objects that have no copies.
        return {"fingerprint": self.fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


def _judge(before: Fingerprint, now: Fingerprint) -> _Verdict:
    if before.digest == now.digest:
        return _Verdict()
    left_out = before.left_out | now.left_out
    weights = differing(before.weights, now.weights, left_out)
    settings = differing(before.settings, now.settings, left_out)
    # A library that only one of the two leads to is no other version, but other code.
    versions = sorted(
        name
        for name in before.versions.keys() & now.versions.keys()
        if before.versions[name] != now.versions[name]
    )
    has_parts = bool(before.weights or before.settings)
    if versions and has_parts and not weights:
        named = ", ".join(
            f"{name} {before.versions[name]} in fit, {now.versions[name]} now" for name in versions
        )
        return _Verdict(
            warning="Other libraries compute the activations than in fit, by which they may "
            f"differ: {named}."
        )
    if has_parts and not (weights or settings):
        return _Verdict()
    return _Verdict(error=f"The network is not what it was in fit{_name([*weights, *settings])}.")


def _may_be_written(place: str) -> bool:
    """Whether a pass may have written there."""
    return not place.endswith(_NOT_WRITTEN)


def _name(places: list[str]) -> str:
    if not places:
        return ""
    named = ", ".join(repr(place.removeprefix(".")) for place in places[:_N_NAMED])
    more = f" and {len(places) - _N_NAMED} more" if len(places) > _N_NAMED else ""
    return f": {named}{more} differ" if len(places) > 1 else f": {named} differs"
