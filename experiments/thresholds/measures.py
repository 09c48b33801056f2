"""What is kept of each promise, over many sets of calibration rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.datasets import make_blobs
from sklearn.model_selection import KFold

from skood import Activations
from skood.calibration import ConformalDetector, RiskControlledDetector
from skood.detectors import KNNDetector

from .cases import RATES, Case, Sizes, as_activations

Rates = NDArray[np.float64]
RATE = RATES[-1]
CONFIDENCE = 0.95
FDR = 0.1
METHODS = ("bh", "by")
FOLDS: dict[str, Any] = {
    "a fifth held out": 0.2,
    "5 folds": KFold(5, shuffle=True, random_state=0),
    "10 folds": KFold(10, shuffle=True, random_state=0),
}


class StoredScores(OutlierMixin, BaseEstimator):
    """A detector that was asked before: its score is what the samples hold."""

    def fit(self, X: Activations, y: object = None) -> Self:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def score_samples(self, X: Activations) -> NDArray:
        return np.asarray(X["score"])[:, 0]


@dataclass(frozen=True)
class Mean:
    """A mean over repetitions, with its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Any) -> Mean:
        values = np.asarray(values, dtype=float)
        values = values[~np.isnan(values)]
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        return cls(float(values.mean()) if len(values) else np.nan, float(error))

    @classmethod
    def share(cls, is_kept: Any) -> Mean:
        """The standard error that a share has, which is not 0 where all of few are kept."""
        n, share = len(is_kept), float(np.mean(is_kept))
        # One more of each kind (Agresti and Coull), since all or none would leave no error.
        near = (np.sum(is_kept) + 1) / (n + 2)
        return cls(share, float(np.sqrt(near * (1 - near) / n)))


Record = dict[str, Any]
"""A row of a table: texts, numbers and means by the names of the columns."""
Found = dict[str, list[Record]]
"""By the names of the tables."""


def measure_all(cases: Iterable[Case], sizes: Sizes, *, n_jobs: int = 1) -> Found:
    """All promises on all cases, and those of folds."""
    each = Parallel(n_jobs=n_jobs)(delayed(measure)(case, sizes) for case in cases)
    found: Found = {"estimates": []}
    for records in each:
        for name, rows in records.items():
            found.setdefault(name, []).extend(rows)
    return {**found, "folds": list(measure_folds(sizes))}


def measure(case: Case, sizes: Sizes) -> Found:
    """All promises on one case. Too few rows of a class are no news here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        risk = list(measure_risk(case, sizes))
        if not case.outside:
            return {"risk": risk}
        return {
            "estimates": list(list_estimates(case)),
            "marginal": list(measure_marginal(case, sizes)),
            "classes": list(measure_classes(case, sizes)),
            "sets": list(measure_sets(case, sizes)),
            "fdr": list(measure_fdr(case, sizes)),
            "risk": risk,
        }


def _row(case: Case, **cells: Any) -> Record:
    return {"network": case.network, "detector": case.detector, **cells}


def list_estimates(case: Case) -> Iterator[Record]:
    rates = zip(RATES, case.estimates, case.split_rates, strict=False)
    for rate, estimate, split_rate in rates:
        yield _row(case, rate=rate, estimate=estimate, split=split_rate)


def measure_marginal(case: Case, sizes: Sizes) -> Iterator[Record]:
    """The mean rate of false alarms among rows that did not calibrate."""
    for n in sizes.n_calibrating:
        p_values = [
            _calibrated(case, learnt).p_values(case.held_out[tested])
            for learnt, tested in _splits(case, n, sizes)
        ]
        for rate in RATES:
            shares = [np.mean(p <= rate) for p in p_values]
            low, high = np.quantile(shares, (0.05, 0.95))
            exact = _rank(n, rate) / (n + 1)
            found = {"mean": Mean.of(shares), "exact": exact, "low": low, "high": high}
            yield _row(case, n=n, rate=rate, **found)


def _rank(n: int, rate: float) -> int:
    return int(np.floor(rate * (n + 1) + 1e-9))


def _splits(case: Case, n: int, sizes: Sizes) -> Iterator[tuple[NDArray, NDArray]]:
    """Rows that calibrate, and all others."""
    rng = np.random.default_rng(n)
    for _ in range(sizes.repetitions):
        order = rng.permutation(len(case.scores))
        yield order[:n], order[n:]


def _draws(case: Case, n: int, sizes: Sizes) -> Iterator[NDArray]:
    """Rows drawn with replacement: independent draws from the held-out rows as the population."""
    rng = np.random.default_rng(n)
    for _ in range(sizes.repetitions):
        yield rng.integers(len(case.scores), size=n)


def _calibrated(case: Case, rows: NDArray, **settings: Any) -> ConformalDetector:
    detector = ConformalDetector(StoredScores(), false_alarm_rate=RATE, **settings)
    return detector.fit(case.held_out[rows])


def measure_classes(case: Case, sizes: Sizes) -> Iterator[Record]:
    """Rates of false alarms among the rows of each predicted class."""
    if len(np.unique(case.labels)) < 2:
        return
    classes, numbers = np.unique(case.predictions, return_inverse=True)
    for n in sizes.n_by_class:
        common, own, exact = [], [], []
        for learnt, tested in _splits(case, n, sizes):
            A, of_class = case.held_out[tested], numbers[tested]
            by_all = _calibrated(case, learnt)
            by_class = _calibrated(case, learnt, group_by="prediction")
            common.append(_by_class(by_all.predict(A) == -1, of_class, len(classes)))
            own.append(_by_class(by_class.predict(A) == -1, of_class, len(classes)))
            counts = np.bincount(numbers[learnt], minlength=len(classes))
            exact.append([_rank(count, RATE) / (count + 1) for count in counts])
        by_class_means = [Mean.of(rates) for rates in np.transpose(own)]
        above = sum(mean.value - 2 * mean.error > RATE for mean in by_class_means)
        yield _row(
            case,
            n=n,
            n_classes=len(classes),
            common=max((Mean.of(rates) for rates in np.transpose(common)), key=_value),
            mean=Mean.of(np.nanmean(own, axis=1)),
            exact=np.mean(exact),
            worst=max(by_class_means, key=_value),
            above=above,
        )


def _by_class(is_alarm: NDArray, numbers: NDArray, n_classes: int) -> Rates:
    """The share of alarms in each class, NaN where it has no row."""
    counts = np.bincount(numbers, minlength=n_classes)
    alarms = np.bincount(numbers[is_alarm], minlength=n_classes)
    return np.where(counts > 0, alarms / np.maximum(counts, 1), np.nan)


def _value(mean: Mean) -> float:
    return np.nan_to_num(mean.value, nan=-1.0)


def measure_sets(case: Case, sizes: Sizes) -> Iterator[Record]:
    """Of how many sets of calibration rows the rate of false alarms is at most that asked for.

    The held-out rows are the population here, so that the rate of a set is known exactly.
    """
    for n in sizes.n_calibrating:
        rates: dict[str, list[float]] = {"marginal": [], "training-conditional": []}
        for rows in _draws(case, n, sizes):
            for guarantee, some in rates.items():
                settings = {"guarantee": guarantee, "confidence": CONFIDENCE}
                threshold = _calibrated(case, rows, **settings).offset_
                some.append(float(np.mean(case.scores < threshold)))
        marginal, conditional = rates.values()
        k = _rank(n, RATE)
        yield _row(
            case,
            n=n,
            marginal=Mean.share(np.array(marginal) <= RATE),
            exact=float(beta.cdf(RATE, k, n + 1 - k)) if k else 1.0,
            conditional=Mean.share(np.array(conditional) <= RATE),
            rate=Mean.of(conditional),
        )


def measure_fdr(case: Case, sizes: Sizes) -> Iterator[Record]:
    """The share of false alarms in selections from batches with OOD rows, and what they find."""
    n_inside, n_outside = sizes.batch
    rng = np.random.default_rng(0)
    for n in sizes.n_calibrating:
        for name, outside in case.outside.items():
            found: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
            for learnt, tested in _splits(case, n, sizes):
                rows = tested[:n_inside]
                drawn = rng.choice(outside, size=min(n_outside, len(outside)), replace=False)
                batch = np.concatenate([case.scores[rows], drawn])
                A = as_activations(batch, np.zeros(len(batch), dtype=int))
                detector = ConformalDetector(StoredScores()).fit(case.held_out[learnt])
                for method, pairs in found.items():
                    is_selected = detector.select(A, fdr=FDR, method=method)
                    n_false = int(is_selected[: len(rows)].sum())
                    n_true = int(is_selected[len(rows) :].sum())
                    pairs.append((n_false / max(n_false + n_true, 1), n_true / len(drawn)))
            by_method = {
                f"{kind}_{method}": Mean.of(values)
                for method, pairs in found.items()
                for kind, values in zip(("fdr", "power"), np.transpose(pairs), strict=True)
            }
            yield _row(case, n=n, against=name, **by_method)


def measure_risk(case: Case, sizes: Sizes) -> Iterator[Record]:
    """Error rates among accepted samples; the held-out rows are the population."""
    is_wrong = case.predictions != case.labels
    for alpha in case.alphas:
        for n in sizes.n_risk:
            risks, coverages = [], []
            for rows in _draws(case, n, sizes):
                detector = RiskControlledDetector(StoredScores(), alpha=alpha)
                detector.fit(case.held_out[rows], case.labels[rows])
                accepted = case.scores >= detector.offset_
                risks.append(is_wrong[accepted].mean() if accepted.any() else 0.0)
                coverages.append(accepted.mean())
            yield _row(
                case,
                alpha=alpha,
                n=n,
                kept=Mean.share(np.array(risks) <= alpha),
                risk=Mean.of(risks),
                coverage=Mean.of(coverages),
                largest=largest_coverage(case.scores, is_wrong, alpha),
                none=Mean.share(np.array(coverages) == 0),
            )


def largest_coverage(scores: NDArray, is_wrong: NDArray, alpha: float) -> float:
    """That of the lowest threshold whose error rate in the population is at most alpha."""
    order = np.argsort(-scores, kind="stable")
    n_accepted = np.arange(1, len(scores) + 1)
    is_last = np.append(np.diff(scores[order]) != 0, True)
    fits = (np.cumsum(is_wrong[order]) <= alpha * n_accepted) & is_last
    return float(n_accepted[fits].max() / len(scores)) if fits.any() else 0.0


def measure_folds(sizes: Sizes) -> Iterator[Record]:
    """Rates where the same rows, which no network has learnt from, fit and calibrate."""
    n_tested = sizes.n_drawn // 10
    for n in (100, 400):
        for name, cv in FOLDS.items():
            rates = []
            for seed in range(sizes.repetitions):
                X, _ = make_blobs(n + n_tested, 10, centers=5, cluster_std=3, random_state=seed)
                detector = ConformalDetector(KNNDetector(), cv=cv, random_state=seed).fit(X[:n])
                rates.append(np.mean(detector.predict(X[n:]) == -1))
            n_calibrating = detector.n_calibration_samples_
            exact = _rank(n_calibrating, RATE) / (n_calibrating + 1)
            yield {"cv": name, "n": n, "mean": Mean.of(rates), "spread": np.std(rates), "p": exact}
