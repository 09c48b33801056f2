"""Whether a stream of samples still comes from where the calibration rows came from."""

from __future__ import annotations

from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .._diagram import DocLinkMixin
from .._sklearn import HasMethods, Interval, check_own_parameters
from ._reference import Reference
from ._state_file import read_state, write_state
from ._stream import Stream


class DriftMonitor(DocLinkMixin, BaseEstimator):
    r"""Watch a stream of samples for a change, with a bound on false alarms over its whole life.

    The reference are the rows that a detector or monitor was calibrated on. As long as the samples
    of the stream come from the same distribution, independent of each other, the probability that
    the alarm **ever** rings is at most ``alpha``, however long the stream is and however often it
    is looked at. Two watches share ``alpha``:

    - **scores** (half of it): the scores of the stream, and the order that they come in, are not
      those of exchangeable rows. It rings for scores that fall, rise, spread or draw together, and
      so for harmless changes too;
    - **alarm rate** (the other half): the detector rejects more samples than calibration can
      account for.

    Once it has rung, the alarm stays until :meth:`reset`.

    Parameters
    ----------
    detector : object
        A calibrated detector: a :class:`~skood.calibration.ConformalDetector`, or a
        :class:`~skood.Monitor` after ``calibrate``. It is not changed, and has to stay as it is.
        Of a monitor of inputs and errors, the detector of inputs is watched; of one that looks for
        errors, the stream is compared with all rows of ``calibrate``. Cross-conformal ones
        are refused: several detectors have scored the calibration rows.
    alpha : float in (0, 1), default=0.01
        Largest probability of an alarm over the whole life of a stream in which nothing changes.
    n_history : int, default=1000
        Number of the last rows that are kept for ``history_`` and for :class:`DriftDisplay`.
    random_state : int, default=0
        Seed of the random numbers that decide between equal scores: the same stream gives the same
        numbers. None draws a seed, which a saved state holds.

    Attributes
    ----------
    alarm_ : bool
        Whether it has rung.
    alarm_time_ : int or None
        Number of rows that had been seen when it rang, that row included.
    alarm_cause_ : {"scores", "alarm rate"} or None
        Which watch rang.
    n_samples_seen_ : int
        Number of rows so far.
    statistic_ : float
        How near the alarm is: the logarithm of the evidence as a share of that which rings, the
        larger of the two watches. The alarm rings at 1; below 0 nothing speaks for a change.
    martingale_ : float
        Capital of the bets against the scores, 1 at the start; rings at ``martingale_limit_``.
    martingale_limit_ : float
        2 / alpha.
    alarm_rate_ : float
        Share of the rows so far that the detector rejects; NaN before the first.
    rate_lower_bound_ : float
        With probability 1 - alpha / 4, at some row of the stream an alarm was more probable than
        this. 0 where nothing is known.
    rate_limit_ : float
        The rate that calibration can account for: with probability 1 - alpha / 4, the true rate of
        alarms in-distribution is no higher. The watch rings when the lower bound reaches it.
    history_ : dict of str to ndarray
        The last rows: ``row`` (from 1), ``p_value``, ``is_alarm``, ``martingale``, ``alarm_rate``
        since the first row, and ``rate_lower_bound``.

    See Also
    --------
    DriftDisplay : The last rows in a figure.
    drift_test : A test of one batch.
    skood.calibration.ConformalDetector : Calibrates a detector.

    Notes
    -----
    **Scores.** Each new score is ranked among the n calibration scores *and all scores of the
    stream before it*: with :math:`U` uniform, and equal scores in random order,
    :math:`p_t = (\#\{\text{smaller}\} + U) / (n + t)`. If all are exchangeable, the rank of each
    new score is uniform and independent of the ranks before, so :math:`p_1, p_2, \ldots` are
    independent and uniform on (0, 1) [1]_. For any densities :math:`f_t` that are chosen before
    :math:`p_t` is known, :math:`\prod_t f_t(p_t)` is then a martingale that starts at 1, and it
    ever reaches :math:`c` with probability at most :math:`1 / c` (Ville).

    The usual p-values, against the calibration scores alone, would not do: they share these n
    scores, and given them they are not uniform but off by about :math:`1 / \sqrt{n}`, at each row
    in the same direction. Bets learn that, and of streams in which nothing changes ring in many
    more than they should. The price of the right ones is that samples after a change join the
    comparison: a change at the first row is only seen as far as n calibration rows can tell it, and
    what has not rung for long is the new normal.

    Of a score of the stream only the gap between calibration scores is kept, so that memory and
    time do not grow. Given all before, the probability of a gap is proportional to 1 + the number
    of scores in it (Pólya's urn). So the share of the gaps below, and a uniform part of the own
    one, is uniform and independent of all before: the same p-value, but that the order of scores
    within a gap is drawn.

    The bets are twelve densities (powers of the p-value, of its distance from 1 and from the nearer
    end, and lines), each of which begins anew at every row: row t with the weight
    :math:`w_t = k_{t-1} - k_t`, where :math:`k_t = 1 / (2 + 2 \log t)` and :math:`k_0 = 1`. The
    capital is :math:`k_t + \sum_{s \le t} w_s \sum_i \pi_i \prod_{u=s}^t f_i(p_u)`, a mean of
    martingales. It never falls below :math:`k_t`, so that a change after a long quiet time is found
    nearly as fast as one at the start; this is the weighted form of the Shiryaev-Roberts procedure
    [2]_.

    **Alarm rate.** Given the calibration scores, the true rate of a threshold of rank k has the
    distribution Beta(k, n + 1 - k), or a smaller one where scores are equal. ``rate_limit_`` is its
    quantile at 1 - alpha / 4 (with a threshold for each class, the largest of the quantiles at
    1 - alpha / (4 classes)), and at least the rate that was promised. Against the hypothesis that
    no alarm is more probable than :math:`m`, given all before, bets multiply by the likelihood
    ratios of rates of up to 100 times its odds, from all rows on as above: a test supermartingale
    for each of 49 values of m [3]_. Those that reach 4 / alpha are refuted, and the largest is the
    lower bound, for all rows at once. The watch on scores rings falsely with a probability of at
    most alpha / 2, limit and bound are wrong with alpha / 4 each: together alpha.

    **Errors of the network.** The threshold of a monitor that looks for errors is set by rows that
    are classified correctly, where ``calibrate`` gets labels. The scores of the stream are ranked
    among those of all rows that it got. The rate of alarms among all is :math:`(1 - w) a + w b`,
    with the rates among correct and wrong samples, a and b, and the share of the latter, w. The
    threshold is chosen by the former rows alone, so that a has the Beta distribution above, and
    Clopper-Pearson bounds of w and b hold for finite samples. ``rate_limit_`` puts in the upper
    bounds of all three, each at 1 - alpha / 12: a safe limit, and a wider one than that of the
    same number of rows that all calibrate.

    **What is assumed.** Rows that are independent and of one distribution. The frames of a video
    are not independent of each other: the watch on scores rings for a scene that stays, and should
    get frames that are far apart. A stream that is sorted, or comes in blocks of a class or a time
    of day, is not exchangeable either, and rings. So does a change of the shares of the classes,
    where scores differ between classes. The watch on the alarm rate asks less: only that at no row,
    given those before, an alarm is more probable than the limit. A change that leaves the scores as
    they are is not noticed.

    Scores that differ by no more than rounding in 32 bits count as equal: those of equal inputs do,
    where a network rounds otherwise in other batches.

    References
    ----------
    .. [1] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world", 2nd edition,
       Springer 2022, doi:10.1007/978-3-031-06649-8, chapter 8.
    .. [2] J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential
       change detection", 2022, arXiv:2203.03532.
    .. [3] I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by betting",
       Journal of the Royal Statistical Society B 2024, arXiv:2010.09686.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.calibration import ConformalDetector
    >>> from skood.detectors import KNNDetector
    >>> from skood.monitoring import DriftMonitor
    >>> rng = np.random.default_rng(0)
    >>> detector = KNNDetector(normalize=False).fit(rng.normal(size=(500, 3)))
    >>> calibrated = ConformalDetector(detector).fit(rng.normal(size=(500, 3)))
    >>> drift = DriftMonitor(calibrated, alpha=0.01)
    >>> drift.update(rng.normal(size=(1000, 3))).alarm_
    False
    >>> for x in rng.normal(loc=1, size=(200, 3)):
    ...     if drift.update(x).alarm_:
    ...         break
    >>> drift.alarm_time_, drift.alarm_cause_
    (1..., 'scores')
    """

    _parameter_constraints: dict = {
        "detector": [HasMethods(["score_samples"])],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "n_history": [Interval(Integral, 0, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
    }

    # Not of __init__, where scikit-learn wants to see parameters alone.
    _running: tuple[Stream, tuple[Any, ...]] | None = None

    def __init__(
        self,
        detector: Any,
        *,
        alpha: float = 0.01,
        n_history: int = 1000,
        random_state: int | None = 0,
    ) -> None:
        self.detector = detector
        self.alpha = alpha
        self.n_history = n_history
        self.random_state = random_state

    def update(self, X: Any) -> Self:
        """Take in samples, in the order in which they came.

        Any division of a stream into batches and single samples gives the same state, provided the
        detector gives the same scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            A batch, as the detector takes it; it may hold a single row. A text is one row, and so
            is a one-dimensional array, where the detector takes rows of ``n_features_in_`` numbers.

        Returns
        -------
        self : DriftMonitor
            The monitor, whose attributes know the new samples.

        Raises
        ------
        TypeError
            If the detector gives no p-values.
        NotFittedError
            If it is not calibrated.
        ValueError
            If a score is NaN, in which case the batch is not taken in; if the detector was
            calibrated by several detectors, or anew since the stream began; or a parameter was
            changed since.
        """
        stream = self._stream()
        scores, is_alarm = stream.reference.judge(as_batch(X, self.detector))
        stream.add(scores, is_alarm)
        return self

    def _update_judged(self, scores: NDArray, verdicts: NDArray) -> None:
        """Take in samples that the detector, which has one score, has judged already."""
        stream = self._stream()
        stream.add(*stream.reference.judged(scores, verdicts))

    def reset(self) -> Self:
        """Forget the stream, and begin another: the next row is the first.

        The bound on false alarms is for each stream by itself, and all of them share the
        calibration rows. Random numbers are drawn from the seed again.

        Returns
        -------
        self : DriftMonitor
            The monitor, as before its first row.
        """
        self._running = None
        return self

    def save(self, path: str | PathLike[str]) -> None:
        """Save the state of the stream as JSON; the detector is not part of it.

        Parameters
        ----------
        path : str or PathLike
            File to write, and its folders. One that is there is replaced as a whole.
        """
        stream = self._stream()
        content = {
            "parameters": {
                "alpha": float(self.alpha),
                "n_history": int(self.n_history),
                "random_state": None if self.random_state is None else int(self.random_state),
                "seed": stream.seed,
            },
            "reference": {
                "n_calibration_samples": len(stream.reference.given),
                "sha256": stream.reference.digest,
            },
            "state": stream.state,
        }
        write_state(Path(path), content)

    @classmethod
    def load(cls, path: str | PathLike[str], detector: Any) -> Self:
        """Go on with a stream that was saved, as if there had been no interruption.

        Parameters
        ----------
        path : str or PathLike
            File that :meth:`save` has written.
        detector : object
            The detector that watched the stream, with the same calibration.

        Returns
        -------
        monitor : DriftMonitor
            A monitor with the parameters and the state that were saved.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file was not written by ``save``, is incomplete, has values that do not fit
            together, or comes from a later version of skood; or if the detector is calibrated
            otherwise than the one that watched the stream.
        """
        content = read_state(Path(path))
        try:
            parameters = dict(content["parameters"])
            seed = parameters.pop("seed")
            monitor = cls(detector, **parameters)
            stream = monitor._start(seed)
            _check_same_reference(stream.reference, content["reference"])
            stream.restore(content["state"])
        except (AttributeError, KeyError, IndexError, OverflowError, TypeError) as error:
            raise ValueError(f"{path} holds no state of a stream: {error!r}.") from error
        except ValueError as error:
            raise ValueError(f"{path} cannot be continued: {error}") from error
        return monitor

    def _stream(self) -> Stream:
        """The stream, which begins here if there is none."""
        if self._running is None:
            return self._start(self.random_state)
        stream, parameters = self._running
        if stream.n_samples == 0 and parameters != self._parameters():
            return self._start(self.random_state)
        if parameters != self._parameters() or not stream.reference.still_holds():
            raise ValueError(
                "A parameter was set or the detector calibrated anew since the stream began, so "
                "that its evidence is of something else. Call reset() to begin another stream."
            )
        return stream

    def _seen(self) -> Stream:
        """The stream, or one without rows, which does not begin by being looked at."""
        if self._running is not None and self._running[0].n_samples:
            return self._stream()
        try:
            check_own_parameters(self)
            return self._new(Reference.of(self.detector), 0)
        except (TypeError, ValueError) as error:  # such as of a detector without p-values
            raise AttributeError(f"There is no stream to tell of: {error}") from error

    def _start(self, seed: int | None) -> Stream:
        check_own_parameters(self)
        reference = Reference.of(self.detector)
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        stream = self._new(reference, int(seed))
        self._running = stream, self._parameters()
        return stream

    def _new(self, reference: Reference, seed: int) -> Stream:
        return Stream(reference, float(self.alpha), int(self.n_history), seed)

    def _parameters(self) -> tuple[Any, ...]:
        return self.detector, self.alpha, self.n_history, self.random_state

    def __sklearn_clone__(self) -> Self:
        """Another monitor of the same detector, before its first row."""
        detector, alpha, n_history, random_state = self._parameters()
        return type(self)(detector, alpha=alpha, n_history=n_history, random_state=random_state)

    @property
    def alarm_(self) -> bool:
        """Whether it has rung."""
        return self.alarm_time_ is not None

    @property
    def alarm_time_(self) -> int | None:
        """Number of rows that had been seen when it rang, that row included."""
        return self._seen().alarm_time

    @property
    def alarm_cause_(self) -> str | None:
        """Which watch rang."""
        return self._seen().cause

    @property
    def n_samples_seen_(self) -> int:
        """Number of rows so far."""
        return self._seen().n_samples

    @property
    def statistic_(self) -> float:
        """How near the alarm is, which rings at 1."""
        return max(self._seen().strengths)

    @property
    def martingale_(self) -> float:
        """Capital of the bets against the scores; they ring at 2 / alpha."""
        return float(self._seen().martingale.value)

    @property
    def martingale_limit_(self) -> float:
        """What the martingale has to reach for the alarm to ring, 2 / alpha."""
        return 1 / self._seen().martingale_level

    @property
    def alarm_rate_(self) -> float:
        """Share of the rows so far that the detector rejects."""
        stream = self._seen()
        return stream.n_alarms / stream.n_samples if stream.n_samples else float("nan")

    @property
    def rate_lower_bound_(self) -> float:
        """Lower bound of the highest probability of an alarm in the stream."""
        return self._seen().rate.lower_bound

    @property
    def rate_limit_(self) -> float:
        """The rate that calibration can account for."""
        return self._seen().limit

    @property
    def history_(self) -> dict[str, NDArray]:
        """The last rows."""
        return self._seen().last_rows


def as_batch(X: Any, detector: Any) -> Any:
    """A batch of one row, where ``X`` is a text, or a row of numbers for a detector of tables."""
    if isinstance(X, str):
        return [X]
    n_features = getattr(detector, "n_features_in_", None)
    if n_features is not None and np.ndim(X) == 1 and len(X) == n_features:
        return np.asarray(X)[np.newaxis]
    return X


def _check_same_reference(reference: Reference, saved: dict[str, Any]) -> None:
    if saved["sha256"] != reference.digest:
        raise ValueError(
            "it was saved with a detector that was calibrated otherwise, on "
            f"{saved['n_calibration_samples']} rows; this one has {len(reference.given)} "
            "calibration rows, and other scores, another rate or another guarantee."
        )
