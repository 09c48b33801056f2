"""Smaller trainings that leave out one loss or another."""

from __future__ import annotations

from typing import Any

from .digits import Digits
from .net import Training, make_net
from .rules import Outcome, evaluate

ABLATION: dict[str, dict[str, Any]] = {
    "all losses": {},
    "no reconstruction": {"reconstruction_weight": 0.0},
    "no penalty on overconfidence": {"criterion__penalty_weight": 0.0},
    "no spread": {"spread_weight": 0.0},
    "neither penalty": {"criterion__penalty_weight": 0.0, "spread_weight": 0.0},
    "cross entropy alone": {
        "reconstruction_weight": 0.0,
        "criterion__penalty_weight": 0.0,
        "spread_weight": 0.0,
    },
    "spread times 50": {"spread_weight": 5.0},
    "no image left clean": {"clean_fraction": 0.0},
}


def run_ablation(digits: Digits, training: Training) -> dict[str, Outcome]:
    outcomes = {}
    for name, params in ABLATION.items():
        print(f"\n{name}")
        net = make_net(digits, training, **params).fit(digits.X_train, digits.y_train)
        # A decoder that learnt nothing has no say.
        rule = {"error_quantile": None} if params.get("reconstruction_weight") == 0 else {}
        outcomes[name] = evaluate(net, digits, rule)
    return outcomes
