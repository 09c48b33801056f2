"""Forms of what is made of several estimators of scikit-learn's own."""

from __future__ import annotations

from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from ..model_selection import DetectorSearchCV
from ._registry import form, form_of


class ChainForm(nn.Module):
    """Forms one after the other."""

    def __init__(self, steps: list[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, A: Any) -> Any:
        """What the last one makes of what those before make of activations."""
        for step in self.steps:
            A = step(A)
        return A


@form_of(Pipeline)
def form_of_pipeline(pipeline: Pipeline) -> nn.Module:
    """The forms of all steps that do something."""
    steps = [step for _, step in pipeline.steps if step not in (None, "passthrough")]
    forms = [form(step) for step in steps]
    return forms[0] if len(forms) == 1 else ChainForm(forms)


@form_of(FrozenEstimator)
def form_of_frozen(frozen: FrozenEstimator) -> nn.Module:
    """That of what is frozen."""
    return form(frozen.estimator)


@form_of(GridSearchCV)
@form_of(RandomizedSearchCV)
@form_of(DetectorSearchCV)
def form_of_search(search: Any) -> nn.Module:
    """That of what the search has found."""
    return form(search.best_estimator_)
