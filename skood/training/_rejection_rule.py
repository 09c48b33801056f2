"""The thresholds by which a classifier with a decoder rejects samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, logsumexp

Values = NDArray[np.float64]

_N_CANDIDATES = 501
# Accepts every softmax output; finite, so that scores are.
_LOWEST_LOG_ODDS = float(logit(np.finfo(np.float64).tiny))


@dataclass(frozen=True)
class Outputs:
    """Outputs of a network with a classifier and a decoder."""

    logits: Values
    errors: Values
    """Mean squared error of the reconstruction of each sample."""

    @classmethod
    def concatenate(cls, parts: Sequence[Outputs]) -> Outputs:
        """The outputs of all samples of all parts."""
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.errors for part in parts]),
        )

    @property
    def log_odds(self) -> Values:
        """Of the most probable class: unlike probabilities they do not saturate."""
        rows, top = np.arange(len(self.logits)), self.logits.argmax(axis=1)
        others = self.logits.copy()
        others[rows, top] = -np.inf
        return self.logits[rows, top] - logsumexp(others, axis=1)

    @property
    def log_errors(self) -> Values:
        """Logarithms of the errors, finite also for an error of 0."""
        return np.log(np.maximum(self.errors, np.finfo(np.float64).tiny))


@dataclass(frozen=True)
class RejectionRule:
    """Reject where the classifier is not confident or the reconstruction error is too large."""

    log_odds: float
    """Smallest log-odds of the predicted class that are accepted."""
    error: float
    """Largest reconstruction error that is accepted."""
    spread: tuple[float, float]
    """Standard deviations of log-odds and log-errors among known samples: units of the score."""

    @classmethod
    def learn(
        cls,
        known: Outputs,
        unknown: Outputs,
        softmax_threshold: float | str,
        error_quantile: float | str | None,
    ) -> RejectionRule:
        """Learn from known samples and from others that are made to be unlike them.

        A fixed threshold is a probability, or a quantile of the errors of the unknown samples; with
        None every error is accepted. Thresholds "auto" discriminate known from unknown samples
        about as well as any, both taken together.

        Raises
        ------
        ValueError
            If outputs for known samples are not finite.
        """
        if not (np.isfinite(known.logits).all() and np.isfinite(known.errors).all()):
            raise ValueError(
                "The network's outputs for known images are not finite: the training has diverged. "
                "Try a lower learning rate."
            )
        if error_quantile is None:
            errors = np.array([np.inf])
        elif isinstance(error_quantile, str):
            errors = _candidates(known.errors, unknown.errors, np.inf)
        else:
            errors = np.quantile(unknown.errors, [error_quantile])
        if isinstance(softmax_threshold, str):
            log_odds = -_candidates(-known.log_odds, -unknown.log_odds, -_LOWEST_LOG_ODDS)
        else:
            log_odds = np.maximum(logit([softmax_threshold]), _LOWEST_LOG_ODDS)
        spread = _spread(known.log_odds), _spread(known.log_errors)
        return cls(*_best_pair(known, unknown, log_odds, errors), spread)

    def score(self, outputs: Outputs) -> Values:
        """The smaller margin to the two thresholds, negative where the sample is rejected."""
        confidence = (outputs.log_odds - self.log_odds) / self.spread[0]
        fidelity = (np.log(self.error) - outputs.log_errors) / self.spread[1]
        return np.minimum(confidence, fidelity)


def _candidates(known: Values, unknown: Values, last: float) -> Values:
    """Upper bounds to try, ascending up to the one that accepts all."""
    levels = np.linspace(0, 1, _N_CANDIDATES)
    values = np.quantile(np.concatenate([known, unknown]), levels)
    return np.append(np.unique(values), last)


def _best_pair(
    known: Outputs, unknown: Outputs, log_odds: Values, errors: Values
) -> tuple[float, float]:
    """The strictest pair of thresholds that discriminates about as well as the best one.

    "About" is within one standard error of the best pair's gain, the fraction of known samples
    accepted minus that of unknown ones. Where even that is no better than chance, the most lenient
    pair. Both candidates are ordered from the strictest to the most lenient.
    """
    n_known, n_unknown = len(known.errors), len(unknown.errors)
    accepted, missed = (_accepted(outputs, log_odds, errors) for outputs in (known, unknown))
    gain = accepted - missed
    best = np.unravel_index(gain.argmax(), gain.shape)
    if gain[best] <= _standard_error(0.5, n_known, 0.5, n_unknown):
        return float(log_odds[-1]), float(errors[-1])
    tolerance = _standard_error(accepted[best], n_known, missed[best], n_unknown)
    rows, columns = np.nonzero(gain >= gain[best] - tolerance)
    strictest = np.lexsort((-accepted[rows, columns], missed[rows, columns]))[0]
    return float(log_odds[rows[strictest]]), float(errors[columns[strictest]])


def _standard_error(share: float, n: int, other_share: float, n_other: int) -> float:
    """Standard error of the difference between two fractions."""
    return np.sqrt(share * (1 - share) / n + other_share * (1 - other_share) / n_other)


def _accepted(outputs: Outputs, log_odds: Values, errors: Values) -> Values:
    """Fraction of samples that each pair of thresholds accepts, (n_log_odds, n_errors)."""
    first = np.searchsorted(-log_odds, -outputs.log_odds)
    second = np.searchsorted(errors, outputs.errors)
    counts = np.zeros((len(log_odds) + 1, len(errors) + 1))
    np.add.at(counts, (first, second), 1)
    return counts[:-1, :-1].cumsum(axis=0).cumsum(axis=1) / len(outputs.errors)


def _spread(values: Values) -> float:
    return float(np.std(values)) or 1.0
