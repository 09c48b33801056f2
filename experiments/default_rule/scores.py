"""AUROCs of all rules and methods on one network."""

from __future__ import annotations

import gc
from typing import Any, NamedTuple

import numpy as np
import torch

from skood import Activations
from skood.metrics import ood_roc_auc_score

from .networks import CHOSEN, CONFIRMING, Case, Samples
from .remembered import forget
from .variants import (
    NEED_HEAD,
    NEED_LAYERS_ONLY,
    OF_FEATURES,
    RELATIVE_ADDED,
    RELATIVE_ALONE,
    features_of,
    knowledge_kept,
    rules_for_errors,
    rules_for_ood,
    single_methods,
)

N_ERRORS = 10
"""With fewer errors, or right test samples, a network says nothing about them."""


class Cell(NamedTuple):
    """The AUROC of a rule or method, in percent, against one OOD set of one network."""

    kind: str
    family: str
    seed: int
    part: str
    """Whether the rule was chosen on it."""
    against: str
    """The OOD set, or "errors"."""
    is_near: bool
    method: str
    is_single: bool
    auroc: float
    data: str = ""
    """What a network of a further kind has learnt."""


ERRORS = "errors"


def score_case(case: Case) -> tuple[list[Cell], dict[str, float]]:
    """AUROCs, and the share of the layers in the score of the whole rule."""
    torch.set_num_threads(1)
    samples = case.load()
    print(", ".join(filter(None, (case.kind, case.data, f"seed {case.seed}"))), flush=True)
    with knowledge_kept():
        cells, share = _score_rules(case, samples)
    cells += _score_singles(case, samples)
    is_correct = samples.is_correct
    if is_correct is not None and min(is_correct.sum(), (~is_correct).sum()) >= N_ERRORS:
        with knowledge_kept():
            cells += _score_errors(case, samples)
    forget()
    gc.collect()
    return cells, {case.kind: share}


def _score_rules(case: Case, samples: Samples) -> tuple[list[Cell], float]:
    have_classes = _has_many_of_each_class(samples.train)
    rules = rules_for_ood(have_classes=have_classes)
    cells: list[Cell] = []
    share = 1.0
    for name, rule in rules.items():
        if (name in NEED_HEAD and not case.has_head) or (
            name == RELATIVE_ADDED and not have_classes
        ):
            continue
        fitted = rule.fit(samples.train)
        share = fitted.layer_share_ if not cells else share
        cells += _cells(case, samples, name, fitted)
    return cells, share


def _has_many_of_each_class(X: Activations) -> bool:
    """Whether the rule compares layers class by class, as relative distances have to."""
    n_classes = _n_predicted(X)
    return n_classes > 1 and len(X) >= 10 * n_classes


def _n_predicted(X: Activations) -> int:
    return 1 if X.predictions is None else len(np.unique(X.predictions))


def _cells(case: Case, samples: Samples, name: str, fitted: Any, view: Any = None) -> list[Cell]:
    inside = fitted.score_samples(_seen(samples.test, view))
    return [
        _cell(case, set_name, name, _auroc(inside, fitted.score_samples(_seen(A, view))),
              is_single=view is not None)
        for set_name, A in samples.outside.items()
    ]  # fmt: skip


def _seen(A: Activations, view: Any) -> Activations:
    return A if view is None else view(A)


def _cell(case: Case, against: str, method: str, auroc: float, *, is_single: bool) -> Cell:
    is_near = against in case.near
    part = case.part(against)
    return Cell(case.kind, case.family, case.seed, part, against, is_near, method, is_single, auroc,
                case.data)  # fmt: skip


def _score_singles(case: Case, samples: Samples) -> list[Cell]:
    cells = []
    for name, method, view in _singles_of(samples.train, has_head=case.has_head):
        cells += _cells(case, samples, name, method.fit(view(samples.train)), view)
    return cells


def _singles_of(X: Activations, *, has_head: bool) -> list[tuple[str, Any, Any]]:
    """Those that run with what there is: name, detector, and what it reads."""
    return [
        (name, method, features_of if name in OF_FEATURES else _as_it_is)
        for name, method in single_methods().items()
        if (has_head or name in NEED_LAYERS_ONLY)
        and (name != RELATIVE_ALONE or _n_predicted(X) > 1)
    ]


def _as_it_is(A: Activations) -> Activations:
    return A


def _score_errors(case: Case, samples: Samples) -> list[Cell]:
    is_correct = samples.is_correct
    part = CHOSEN if case.errors_chosen_on else CONFIRMING
    assert is_correct is not None
    rules = rules_for_errors(have_classes=_has_many_of_each_class(samples.train))
    rows: list[tuple[str, Any, Any]] = [(n, rule, None) for n, rule in rules.items()]
    rows += _singles_of(samples.train, has_head=True)
    cells = []
    for name, method, view in rows:
        scores = method.fit(_seen(samples.train, view)).score_samples(_seen(samples.test, view))
        auroc = _auroc(scores[is_correct], scores[~is_correct])
        cells.append(
            Cell(case.kind, case.family, case.seed, part, ERRORS, False, name,
                 view is not None, auroc, case.data)
        )  # fmt: skip
    return cells


def _auroc(inside: Any, outside: Any) -> float:
    y = np.repeat([1, -1], [len(inside), len(outside)])
    return 100 * float(ood_roc_auc_score(y, np.concatenate([inside, outside])))
