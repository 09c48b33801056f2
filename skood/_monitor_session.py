"""A monitor in use: few inputs at a time, read without what earlier ones have settled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import TracebackType
from typing import Any, Self

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ._fitted_state import fitted_state
from ._look import Look
from ._progress import quick_unseen
from .activations import Activations
from .detectors import BaseDetector
from .extraction import ActivationExtractor, ExtractionSession, may_hurry

_IN_USE = "_in_use"
_COUNTING_BLOCKS = Lock()


class _Kept:
    """An attribute that lies beside the others of a monitor, in one dict that stays the same."""

    def __init__(self, default: Any) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, monitor: Any, owner: type | None = None) -> Any:
        if monitor is None:  # asked of the class, as inspect.getmembers does
            return self
        return vars(monitor).get(_IN_USE, {}).get(self._name, self._default)

    def __set__(self, monitor: Any, value: Any) -> None:
        vars(monitor).setdefault(_IN_USE, {})[self._name] = value


class SessionMixin(BaseEstimator):
    """What a monitor keeps between the calls on inputs, to be fast on the next ones.

    Nothing of it is a parameter or learnt: copies, clones and pickles begin without.
    """

    steps: list[tuple[str, Any]]
    _session = _Kept(None)
    _is_open = _Kept(False)
    _n_blocks = _Kept(0)
    _n_open = _Kept(0)
    """How often it was opened since it was last closed, beside blocks."""
    _looked = _Kept(None)
    _known_state = _Kept(None)

    def open(self) -> Self:
        """Keep what listens to the network in place, for many calls on few inputs each.

        What a call does beside a pass of the network is then done once: its hooks stay in place,
        the network is compared with that of ``fit`` in full now, and in later calls by a glance at
        what it is made of. Scores are the same as without. Several threads may call a monitor,
        as long as none of them fits it, wholly or in part.

        Returns
        -------
        self : object
            The monitor, which is also a context manager that closes it. Of blocks in each other, or
            of several threads at once, the one that ends last does. Where it was opened before,
            without a block, it stays open after those that open it again.

        Raises
        ------
        NotFittedError
            If the monitor is not fitted.
        ValueError
            If the network is not that of ``fit``; nothing is then left in place.

        See Also
        --------
        Monitor.close : Takes the hooks away.

        Notes
        -----
        Networks of torch alone have hooks. The network computes what it computes without them; to
        train it on, script it, or save the whole module, close the monitor first. Whether it is
        open is no part of what is saved, copied or cloned. If the network is put into training
        mode meanwhile, it is still read in evaluation mode.

        A monitor that was fitted on Activations, or on data frames, has not seen what arrays its
        network takes: nothing stays in place then, and its calls are as slow as without.

        If its weights are changed as training does, or its code or other hooks, the next call
        raises the error that it would raise without. What is written behind the counts of torch,
        through ``.data`` or a NumPy view, shows in values: some of each tensor, all of networks of
        up to 20,000, are looked at in each call where that takes less than 0.1 ms; of larger
        networks when 50 times as long has passed as the last look took, and each second at most.
        A few values that are written so between those looked at show when all are compared
        again, on which 0.5 % of the time of extraction is spent, or at the next ``open``.

        What the network itself writes so to its buffers, for some inputs and not for those of
        ``fit``, is given back where these buffers have up to 64 KiB together. Those of layers of
        torch's own are not counted: they write none in evaluation mode.

        Examples
        --------
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skood import make_monitor
        >>> from skood.datasets import load_digits_ood
        >>> X, y = load_digits_ood(return_X_y=True)
        >>> X, y = X.reshape(len(X), -1)[y != -1], y[y != -1]
        >>> net = MLPClassifier((64, 32), random_state=0, max_iter=20, tol=1).fit(X[:700], y[:700])
        >>> monitor = make_monitor(net).fit(X[700:], y[700:])
        >>> with monitor.open():
        ...     verdicts = [monitor.predict(x[None]).item() for x in X[:3]]
        >>> verdicts
        [1, 1, 1]
        """
        check_is_fitted(self)
        if isinstance(extractor := self.steps[0][1], ActivationExtractor):
            extractor._check_network_in_full()
        with _COUNTING_BLOCKS:
            self._n_open += 1
        self._is_open = True
        self._current_session()
        return self

    def close(self) -> None:
        """Leave nothing in place at the network; a monitor that is not open stays so.

        It closes at once, as a file does, also within blocks that have opened it. Calls go on, and
        give the same scores.

        See Also
        --------
        Monitor.open : Is undone by this.
        """
        self._is_open, self._n_open = False, 0
        session, self._session = self._session, None
        if session is not None:
            session.extraction.close()

    def __enter__(self) -> Self:
        if not self._is_open:
            self.open()
        with _COUNTING_BLOCKS:
            self._n_blocks += 1
            self._n_open = max(self._n_open - 1, 0)  # which was this block's
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _COUNTING_BLOCKS:
            self._n_blocks -= 1
            is_last = self._n_blocks == self._n_open == 0
        if is_last:
            self.close()

    @contextmanager
    def _reading(self, X: Any) -> Iterator[Any]:
        """Block in which inputs are read: yields their activations, if these can be had in haste.

        If not, it yields the inputs, or what the extractor makes of them; what comes out of the
        block without an error has been checked by all that read it, and like inputs need not be.
        """
        session = None if isinstance(X, Activations) else self._current_session()
        if session is None or not session.extraction.suits(X):
            with quick_unseen():
                yield X
            return
        if (A := session.extraction.extract(X)) is not None:
            yield A
            return
        with quick_unseen():
            A = self.steps[0][1].transform(X)
        yield A
        session.extraction.learn(X, A, self._layers_to_read())

    def _layers_to_read(self) -> set[str] | None:
        """Names of the layers that the detector reads, or None for all."""
        (_, last) = self.steps[-1]
        if len(self.steps) != 2 or not isinstance(last, BaseDetector):
            return None
        return last._layers_to_read()

    def _call(self, method: str, A: Any) -> Any:
        """What the last step says of activations that the extractor has just made in haste."""
        for _, step in self.steps[1:-1]:
            if step not in (None, "passthrough"):
                A = step.transform(A)
        return getattr(self.steps[-1][1], method)(A)

    def _current_session(self) -> _Session | None:
        """What reads inputs of these very steps, or None where they have no use for one."""
        look = self._look()
        session = self._session
        if session is None or session.look is not look:
            if session is not None:
                session.extraction.close()
            extractor = self.steps[0][1]
            is_first = isinstance(extractor, ActivationExtractor)
            if not is_first or not may_hurry(extractor):
                self._session = None
                return None
            session = self._session = _Session(look, ExtractionSession(extractor))
        if self._is_open:
            session.extraction.open()
        return session

    def _look(self) -> Look:
        """The last look at the steps, if nothing has changed, or a new one."""
        look = self._looked
        if look is None or not look.is_same(self.steps):
            look = self._looked = Look(self.steps)
        return look

    def _state(self) -> str:
        """What all scores come from, as far as it is no parameter of extractor or detector."""
        look, known = self._look(), self._known_state
        if known is None or known[0] is not look:
            between = [step for _, step in self.steps[:-1] if hasattr(step, "get_params")]
            parameters = [
                (type(step).__name__, step.get_params(deep=False))
                for step in between
                if not isinstance(step, ActivationExtractor)
            ]
            state = fitted_state(*(step for _, step in self.steps), repr(parameters))
            known = self._known_state = (look, state)
        return known[1]

    def __getstate__(self) -> dict[str, Any]:
        # Copies of the network are to have no hooks of ours.
        if (session := self._session) is not None:
            session.extraction.close()  # until the next call
        return {key: value for key, value in super().__getstate__().items() if key != _IN_USE}


def is_trusted(A: Any) -> bool:
    """Whether these are activations that were extracted in haste."""
    return isinstance(A, Activations) and A._trust is not None


class _Session:
    """What reads inputs, and the look at the steps for which it does."""

    def __init__(self, look: Look, extraction: ExtractionSession) -> None:
        self.look, self.extraction = look, extraction
