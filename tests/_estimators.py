"""Every public estimator of skood, found by looking for it."""

import importlib
import inspect
import pkgutil

from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils import get_tags

import skood
from skood import ActivationExtractor, GroupProgressionDetector, HammingNAPDetector, Monitor
from skood.calibration import ConformalDetector, RiskControlledDetector
from skood.detectors import BaseDetector, KNNDetector, NNGuideDetector, OpenMaxDetector
from skood.ensemble import AnyAlarmDetector, LayerEnsembleDetector
from skood.model_selection import DetectorSearchCV
from skood.training import DecoyClassClassifier


def public_modules():
    """The package and its subpackages."""
    subpackages = [
        importlib.import_module(f"skood.{m.name}")
        for m in pkgutil.iter_modules(skood.__path__)
        if not m.name.startswith("_")
    ]
    return [skood, *subpackages]


def estimator_classes():
    """Public, concrete estimator classes, by name."""
    found = {
        name: member
        for module in public_modules()
        for name, member in inspect.getmembers(module, inspect.isclass)
        if name in module.__all__
        and issubclass(member, BaseEstimator)
        and hasattr(member, "fit")
        and not inspect.isabstract(member)
    }
    return dict(sorted(found.items()))


def identity_network():
    """A trained network that passes inputs of any width through, as the estimator checks need."""
    from torch import nn

    return nn.Sequential(nn.Identity())


ARGUMENTS = {
    ActivationExtractor: lambda: {"network": identity_network(), "layers": ["0"]},
    AnyAlarmDetector: lambda: {
        "detectors": [("nap", HammingNAPDetector()), ("knn", KNNDetector(n_neighbors=20))]
    },
    ConformalDetector: lambda: {"detector": KNNDetector(n_neighbors=3), "cv": 0.5},
    DecoyClassClassifier: lambda: {"estimator": LogisticRegression()},
    # Neighbours of the default number would be all of the samples of a test.
    GroupProgressionDetector: lambda: {"n_neighbors": 20},
    KNNDetector: lambda: {"n_neighbors": 20},
    NNGuideDetector: lambda: {"n_neighbors": 5},
    # Tails of the default size are a quarter of a class there.
    OpenMaxDetector: lambda: {"tail_size": 5},
    LayerEnsembleDetector: lambda: {"detector": HammingNAPDetector()},
    # Any error rate: the checks give random labels.
    RiskControlledDetector: lambda: {"detector": construct(Monitor), "cv": 0.5, "alpha": 0.999},
    Monitor: lambda: {
        "steps": [("extract", construct(ActivationExtractor)), ("detect", HammingNAPDetector())]
    },
}


def construct(cls, **params):
    """An instance with default parameters, and those that have no default or none for tests."""
    arguments = ARGUMENTS.get(cls, dict)()
    if "random_state" in inspect.signature(cls).parameters:
        params.setdefault("random_state", 0)
    return cls(**{**arguments, **params})


def detectors():
    """An instance of every detector."""
    return [construct(cls) for cls in estimator_classes().values() if issubclass(cls, BaseDetector)]


def classifiers():
    """An instance of every classifier of ordinary arrays; those of images are none."""
    found = [
        construct(cls) for cls in estimator_classes().values() if hasattr(cls, "predict_proba")
    ]
    return [classifier for classifier in found if get_tags(classifier).input_tags.two_d_array]


# scikit-learn's checks know no rows marked -1.
NEED_OOD_ROWS = (DetectorSearchCV,)


def transformers():
    """An instance of every other estimator: the transformers, and what is fitted like them."""
    return [
        construct(cls)
        for cls in estimator_classes().values()
        if not issubclass(cls, (BaseDetector, *NEED_OOD_ROWS)) and not hasattr(cls, "predict_proba")
    ]
