"""Where thresholds come from and what that promises, in words that promise no more than is known.

Each function takes the facts of a threshold, as a report holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.stats import beta

from .._conformal import conformal_rank
from .._monitor_view import listed
from ._report_shares import between, exact_percent

Facts = Mapping[str, Any]

_NOT_LEARNT = ", if the network has not learnt from them"


def count(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"


def rows_of(threshold: Facts) -> str:
    """How many rows set the threshold, of several detectors each."""
    numbers = list(threshold["n_rows_each"].values())
    if None in numbers:
        return "not known"
    return " and ".join(count(number) for number in sorted(set(numbers), reverse=True))


def rows_by_name(threshold: Facts) -> str:
    """The same with the names of the detectors."""
    each = threshold["n_rows_each"]
    return ", ".join(f"{name} {count(number)}".strip() for name, number in each.items())


def asked(threshold: Facts) -> str:
    """The rates of false alarms that were asked for."""
    return ", ".join(
        f"{name} {'none' if rate is None else exact_percent(rate)}".strip()
        for name, rate in threshold["false_alarm_rate"].items()
    )


def origin_of(threshold: Facts) -> str:
    """Where a threshold comes from."""
    origin = threshold["origin"]
    if origin == "estimate":
        return "an estimate from the rows of fit, which are no guarantee for new ones"
    if origin == "own":
        return "chosen by the detector in fit, without a rate of false alarms that was asked for"
    if origin == "risk-controlled":
        return _of_risk(threshold)
    rows = f"calibrated on {rows_of(threshold)} held-out rows"
    if origin == "held-out":
        rows = f"set by {rows_of(threshold)} rows of fit that the detector has not learnt from"
    if threshold["n_folds"] > 1:
        rows = (
            f"set by {rows_of(threshold)} rows of fit, each scored by the one of "
            f"{threshold['n_folds']} detectors that has not learnt from it"
        )
    if _rejects_nothing(threshold):
        return f"{rows}, which are too few to reject anything"
    condition = _NOT_LEARNT if origin == "held-out" else ""
    return f"{rows}, so that {_promise(threshold)}{condition}"


def _of_risk(threshold: Facts) -> str:
    rows = f"set by {rows_of(threshold)} held-out rows"
    if _rejects_all(threshold):
        return f"{rows}, which certify none, so that everything is rejected"
    return (
        f"{rows}, so that at most {exact_percent(threshold['alpha'])} of the rows accepted are "
        f"misclassified, with a confidence of {100 * threshold['confidence']:g} %{_NOT_LEARNT}"
    )


def _promise(threshold: Facts) -> str:
    by_class = " in each predicted class" if threshold["group_by"] else ""
    if _never_rejecting(threshold):
        by_class += ", some of which are never rejected"
    if threshold["n_folds"] > 1:
        return (
            f"the rate{by_class} is near the one asked for; what is proven is about twice that one"
        )
    if threshold["guarantee"] == "marginal":
        return f"the rate holds on average over draws of these rows{by_class}"
    confidence = f"{100 * threshold['confidence']:g} %"
    return f"the rate holds for {confidence} of draws of these rows{by_class}"


def impossible(threshold: Facts) -> Iterator[str]:
    """What has to be said first, of thresholds that reject everything or nothing."""
    if _rejects_all(threshold):
        yield _why_all(threshold)
    elif _rejects_nothing(threshold):
        why = _why_nothing(threshold)
        yield f"Nothing can be rejected, whatever the inputs{why}."
    elif names := _never_rejecting(threshold):
        which = "predicted classes" if threshold["group_by"] else "thresholds"
        yield (
            f"Of {len(names)} of {len(threshold['offsets'])} {which} nothing can be rejected: "
            f"{listed(names, 10)}{_why_nothing(threshold)}."
        )


def decides_nothing(threshold: Facts) -> bool:
    """Whether the verdict is the same for all inputs."""
    return _rejects_all(threshold) or _rejects_nothing(threshold)


def _why_all(threshold: Facts) -> str:
    if threshold["origin"] != "risk-controlled":
        return "Everything is rejected, whatever the inputs: the threshold is infinite."
    return (
        f"Everything is rejected, whatever the inputs: {rows_of(threshold)} held-out rows certify "
        f"no threshold for at most {exact_percent(threshold['alpha'])} of misclassified rows among "
        f"those accepted, with a confidence of {100 * threshold['confidence']:g} %."
    )


def _why_nothing(threshold: Facts) -> str:
    if threshold["guarantee"] is None:
        return ""
    return f", since too few rows set the threshold for a rate of {asked(threshold)}"


def _rejects_all(threshold: Facts) -> bool:
    return np.inf in threshold["offsets"].values()


def _rejects_nothing(threshold: Facts) -> bool:
    return bool(threshold["offsets"]) and set(threshold["offsets"].values()) == {-np.inf}


def _never_rejecting(threshold: Facts) -> list[str]:
    return [name for name, offset in threshold["offsets"].items() if offset == -np.inf]


def realised(threshold: Facts) -> Iterator[list[str]]:
    """Between which rates a threshold of so many rows mostly lies, where that is known."""
    rates, n_rows = list(threshold["false_alarm_rate"].values()), threshold["n_rows"]
    if not _is_one_quantile(threshold) or rates[0] is None or n_rows is None:
        return
    rank = conformal_rank(
        n_rows,
        rates[0],
        guarantee=threshold["guarantee"],
        confidence=threshold["confidence"] or 0.95,
    )
    if rank:
        low, high = beta.interval(0.9, rank, n_rows + 1 - rank)
        yield [
            "rate that such a threshold has",
            f"between {between(low, high, 'and')} for 90 % of draws of {n_rows:,} rows",
        ]


def _is_one_quantile(threshold: Facts) -> bool:
    """Whether one detector has one threshold that is a quantile of the scores of held-out rows."""
    is_one = len(threshold["false_alarm_rate"]) == 1 and threshold["n_folds"] == 1
    return is_one and threshold["guarantee"] is not None and threshold["group_by"] is None
