"""Diagrams of estimators in notebooks show what they are made of, and link to its pages."""

import re
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest
from _estimators import construct, estimator_classes
from sklearn import config_context
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_html_repr

from skood import (
    Activations,
    GroupProgressionDetector,
    HammingNAPDetector,
    PercentileBinarizer,
    make_monitor,
)
from skood.calibration import ConformalDetector, RiskControlledDetector
from skood.detectors import EnergyDetector, KNNDetector, MahalanobisDetector
from skood.ensemble import AdaptiveEnsembleDetector, AnyAlarmDetector, LayerEnsembleDetector
from skood.extraction import ODIN
from skood.model_selection import DetectorSearchCV
from skood.training import DecoyClassClassifier

pytestmark = pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning")

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 3))
A = Activations({name: ROWS + i for i, name in enumerate("abcd")}, predictions=np.arange(60) % 2)
Y = np.repeat([0, -1], [40, 20])
KNN = KNNDetector(n_neighbors=3)
NAP = make_pipeline(PercentileBinarizer(), HammingNAPDetector())


def boxes(estimator):
    """Names of the boxes and their headings, in order, and whether they are said to be fitted."""
    html = estimator_html_repr(estimator)
    return re.findall(r"<label[^>]*><div><div>([^<]*)</div>", html) or re.findall(
        r'class="sk-toggleable__label[^>]*>([^<&]*)', html
    )


def names(estimator):
    return [box.strip() for box in boxes(estimator)]


def test_members_of_a_list_are_shown_before_and_after_fit():
    ensemble = LayerEnsembleDetector([NAP, KNN])
    for state in (ensemble, ensemble.fit(A)):
        found = names(state)
        assert found[0] == "LayerEnsembleDetector"
        assert found[1:] == [
            "member 0",
            "PercentileBinarizer",
            "HammingNAPDetector",
            "member 1",
            "KNNDetector",
        ]


def test_copies_for_each_layer_are_shown_by_their_layers():
    few = LayerEnsembleDetector(KNN, layers=["a", "c"])
    assert names(few) == ["LayerEnsembleDetector", "detector", "KNNDetector"]
    assert names(few.fit(A))[1:] == ["a", "KNNDetector", "c", "KNNDetector"]
    many = LayerEnsembleDetector(KNN).fit(A)
    assert names(many)[1:] == ["4 layers, a to d", "KNNDetector"]


def test_a_monitor_shows_binarizers_and_patterns():
    net = MLPClassifier((6, 5), random_state=0, max_iter=30, tol=1).fit(ROWS, np.arange(60) % 2)
    monitor = make_monitor(net)
    for state in (monitor, monitor.fit(ROWS)):
        found = names(state)
        assert found[:2] == ["Monitor", "extract: ActivationExtractor"]
        assert {"MLPClassifier", "PoolingReducer"} < set(found)
        assert "distances: LayerEnsembleDetector" in found
        assert found.count("PercentileBinarizer") == found.count("HammingNAPDetector") >= 3
        assert found.count("MahalanobisDetector") >= 2
        assert {"boundaries", "FDBDDetector", "energy", "EnergyDetector"} < set(found)
    searching = names(make_monitor(net, search=True))
    assert {"default: AdaptiveEnsembleDetector", "vim", "ViMDetector", "LayerSelector"} < set(
        searching
    )


@pytest.mark.parametrize(
    ("estimator", "data", "before", "after"),
    [
        (
            AnyAlarmDetector([("far", KNN), ("odd", NAP)]),
            (A,),
            ["far", "KNNDetector", "odd", "PercentileBinarizer", "HammingNAPDetector"],
            ["far", "KNNDetector", "odd", "PercentileBinarizer", "HammingNAPDetector"],
        ),
        (
            DetectorSearchCV([("far", KNN), ("odd", NAP)], beside_default=False),
            (A, Y),
            ["far", "KNNDetector", "odd", "PercentileBinarizer", "HammingNAPDetector"],
            ["best_estimator_", "KNNDetector"],
        ),
        (
            ConformalDetector(KNN, cv=5),
            (A,),
            ["detector", "KNNDetector"],
            ["5 splits, split 0 to split 4", "KNNDetector"],
        ),
        (
            ConformalDetector(KNN, cv=0.5, random_state=0),
            (A,),
            ["detector", "KNNDetector"],
            ["estimator_", "KNNDetector"],
        ),
        (
            GroupProgressionDetector(n_neighbors=5, estimator=LogisticRegression()),
            (A, Y),
            ["estimator", "LogisticRegression"],
            ["estimator_", "LogisticRegression"],
        ),
        (
            DecoyClassClassifier(LogisticRegression(), random_state=0),
            (ROWS, np.arange(60) % 2),
            ["estimator", "LogisticRegression"],
            ["estimator_", "LogisticRegression"],
        ),
        (
            AdaptiveEnsembleDetector(
                layer_detectors=[("all", KNN)],
                head_detectors=[],
                joint_detectors=[],
                feature_detectors=[],
            ),
            (A,),
            ["all: LayerEnsembleDetector", "detector", "KNNDetector"],
            ["all: LayerEnsembleDetector", "4 layers, a to d", "KNNDetector"],
        ),
    ],
)
def test_what_others_are_made_of(estimator, data, before, after):
    assert names(estimator) == [type(estimator).__name__, *before]
    assert names(estimator.fit(*data)) == [type(estimator).__name__, *after]


def test_what_is_no_ensemble_is_one_box():
    assert names(GroupProgressionDetector()) == ["GroupProgressionDetector"]
    assert names(KNN) == ["KNNDetector"]


def nested_in(value):
    """Names of all estimators in the parameters of one."""
    if isinstance(value, (list, tuple)):
        return {name for part in value for name in nested_in(part)}
    if not hasattr(value, "get_params") or isinstance(value, type):
        return set()
    parts = value.get_params(deep=False).values()
    is_box = hasattr(value, "fit") and type(value).__name__ != "Pipeline"
    return ({type(value).__name__} if is_box else set()) | nested_in(list(parts))


def constructed(cls):
    return cls([("a", KNN), ("b", NAP)]) if cls is DetectorSearchCV else construct(cls)


@pytest.mark.parametrize("cls", estimator_classes().values())
def test_every_estimator_shows_all_that_it_was_given(cls):
    estimator = constructed(cls)
    html = estimator_html_repr(estimator)
    for name in nested_in(estimator):
        assert name in html
    assert f">?<span>Documentation for {cls.__name__}</span></a>" in html


# Links


@pytest.fixture(scope="module")
def listed_paths():
    """Paths that the API reference has a page for."""
    index = (Path(__file__).parent.parent / "docs" / "api" / "index.rst").read_text()
    module, paths = "", set()
    for line in index.splitlines():
        if match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif match := re.match(r"   ~?([\w.]+)$", line):
            paths.add(f"{module}.{match[1]}")
    return paths


@pytest.mark.parametrize("cls", estimator_classes().values())
def test_every_estimator_links_to_its_page(cls, listed_paths):
    urls = dict(url.split(", ") for url in metadata("skood").get_all("Project-URL"))
    path = constructed(cls)._get_doc_link().removeprefix(urls["Documentation"])
    assert path.startswith("/api/generated/")
    assert path.removeprefix("/api/generated/").removesuffix(".html") in listed_paths


def test_the_links_can_lead_elsewhere(monkeypatch):
    monkeypatch.setenv("SKOOD_DOCS", "../../")
    expected = "../../api/generated/skood.HammingNAPDetector.html"
    assert HammingNAPDetector()._get_doc_link() == expected
    assert f'href="{expected}"' in estimator_html_repr(HammingNAPDetector())
    assert ODIN(epsilon=0.1)._get_doc_link().endswith("skood.extraction.ODIN.html")
    monkeypatch.setenv("SKOOD_DOCS", "")
    assert EnergyDetector()._get_doc_link() == ""
    assert "<a" not in estimator_html_repr(EnergyDetector()).split("</style>")[1]


def test_classes_without_a_page_have_no_link():
    class Mine(MahalanobisDetector):
        pass

    assert Mine()._get_doc_link() == ""
    Mine.__module__ = "skood.detectors._mine"
    assert Mine()._get_doc_link() == ""
    assert "sklearn.ensemble.IsolationForest" in IsolationForest()._get_doc_link()


def test_text_in_place_of_a_diagram_is_as_before():
    with config_context(display="text"):
        assert not hasattr(LayerEnsembleDetector(KNN), "_repr_html_")
    risk = RiskControlledDetector(KNN, alpha=0.1)
    assert names(risk) == ["RiskControlledDetector", "detector", "KNNDetector"]
