"""What the page for users of other libraries says of their names, defaults and scores."""

import ast
import csv
import doctest
import importlib
import inspect
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from _estimators import estimator_classes
from scipy.special import softmax
from scipy.stats import spearmanr
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline

import skood.detectors
import skood.shaping
from skood import ActivationExtractor, PoolingReducer
from skood.calibration import TemperatureScaler
from skood.datasets import load_digits_network
from skood.detectors import (
    EnergyDetector,
    EntropyDetector,
    FDBDDetector,
    GENDetector,
    GradNormDetector,
    KLMatchingDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxLogitDetector,
    MaxSoftmaxDetector,
    NCIDetector,
    NNGuideDetector,
    OpenMaxDetector,
    SHEDetector,
    ViMDetector,
)
from skood.extraction import ODIN, MahalanobisPerturbation
from skood.preprocessing import LayerSelector
from skood.shaping import ASH, DICE, SCALE, ReAct

PAGE = Path(__file__).parents[1] / "docs" / "user_guide" / "coming_from.rst"
if not PAGE.exists():
    pytest.skip("the documentation is not installed", allow_module_level=True)
torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402


def rows_of(table):
    with (PAGE.parent / "coming_from" / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def import_library(name):
    """A library of others with what it needs, or a skip where it is not installed."""
    pytest.importorskip("torch")
    if find_spec(name) is None:
        pytest.skip(f"needs {name}")
    libraries = importlib.import_module("benchmarks.libraries")
    return {"pytorch_ood": libraries.import_pytorch_ood, "oodeel": libraries.import_oodeel}[name]()


SAME = "The same, sign turned"
SAME_ORDER = "The same order"
NEARLY = "Nearly the same order"


def has_claim(row):
    return row[4].startswith((SAME, SAME_ORDER, NEARLY))


def assert_scores_are_as_said(claim, ours, theirs):
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    assert np.std(theirs) > 0
    if claim.startswith(SAME):
        np.testing.assert_allclose(ours, -theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
    else:
        assert spearmanr(ours, -theirs).statistic > (0.9 if claim.startswith(NEARLY) else 0.9999)


# ------------------------------------------------------------------------------------------------
# A network and its digits


@pytest.fixture(scope="module")
def digits():
    found = load_digits_network(channels=(6, 8), hidden=(24,), n_epochs=6)
    found.rows = np.r_[found.test, found.unknown[:100]]
    found.A = ActivationExtractor(found.network).fit_transform(found.data)
    return found


def loader(digits, rows, *, labels=True):
    arrays = (digits.data, digits.target) if labels else (digits.data,)
    tensors = [torch.from_numpy(array[rows]) for array in arrays]
    return DataLoader(TensorDataset(*tensors), batch_size=200)


def score_ours(detector, digits, layer=None):
    A = digits.A if layer is None else LayerSelector(layers=layer).fit_transform(digits.A)
    detector.fit(A[digits.train], digits.target[digits.train])
    return detector.score_samples(A[digits.rows])


# ------------------------------------------------------------------------------------------------
# pytorch-ood


def maps(network):
    """Backbone and head as methods that shape feature maps take them."""
    backbone = nn.Sequential(*network[:-1], nn.Unflatten(1, (-1, 1, 1)))
    return backbone, nn.Sequential(nn.Flatten(), network[-1])


def of_logits(name, **settings):
    return lambda library, net: getattr(library, name)(net, **settings)


def of_features(name, **settings):
    return lambda library, net: getattr(library, name)(net[:-1], **settings)


def of_head(name, **settings):
    return lambda library, net: getattr(library, name)(net[:-1], net[-1], **settings)


def of_maps(name, **settings):
    return lambda library, net: getattr(library, name)(*maps(net), **settings)


def of_weights(name, **settings):
    return lambda library, net: getattr(library, name)(
        net[:-1], w=net[-1].weight, b=net[-1].bias, **settings
    )


def after_perturbation(detector, make_perturbation):
    """A score of inputs that were moved before they were scored."""

    def score(digits):
        extractor = ActivationExtractor(digits.network, perturbation=make_perturbation(digits))
        A = extractor.fit_transform(digits.data[digits.rows])
        detector.fit(digits.A[digits.train], digits.target[digits.train])
        return detector.score_samples(A)

    return score


def with_perturbed_mahalanobis(digits):
    A = LayerSelector(layers=["relu3"]).fit_transform(digits.A)
    detector = MahalanobisDetector().fit(A[digits.train], digits.target[digits.train])
    extractor = ActivationExtractor(
        digits.network, ["relu3"], perturbation=MahalanobisPerturbation(detector, 0.002)
    )
    return detector.score_samples(extractor.fit_transform(digits.data[digits.rows]))


def with_means_of_maps(digits):
    pooled = PoolingReducer(pooling="avg").fit_transform(digits.A[["relu1", "relu2"]])
    detector = MahalanobisDetector().fit(pooled[digits.train], digits.target[digits.train])
    return detector.score_samples(pooled[digits.rows])


def ours(detector, layer=None):
    return lambda digits: score_ours(detector, digits, layer)


LAST = ["relu3"]
PYTORCH_OOD = {
    "MaxSoftmax": (of_logits("MaxSoftmax"), ours(MaxSoftmaxDetector())),
    "MaxLogit": (of_logits("MaxLogit"), ours(MaxLogitDetector())),
    "EnergyBased": (of_logits("EnergyBased"), ours(EnergyDetector())),
    "Entropy": (of_logits("Entropy"), ours(EntropyDetector())),
    "GEN": (of_logits("GEN"), ours(GENDetector())),
    "KLMatching": (of_logits("KLMatching"), ours(KLMatchingDetector())),
    "OpenMax": (
        of_logits("OpenMax", tailsize=20, alpha=3),
        ours(OpenMaxDetector(group_by="label")),
    ),
    "KNN": (of_features("KNN"), ours(KNNDetector(), LAST)),
    "Mahalanobis": (of_features("Mahalanobis"), ours(MahalanobisDetector(), LAST)),
    "RMD": (of_features("RMD"), ours(MahalanobisDetector(relative=True), LAST)),
    "MultiMahalanobis": (
        lambda library, net: library.MultiMahalanobis([net[:2], net[2:4]]),
        with_means_of_maps,
    ),
    "MahalanobisODIN": (of_features("MahalanobisODIN"), with_perturbed_mahalanobis),
    "ViM": (of_weights("ViM", d=12), ours(ViMDetector(n_components=12))),
    "SHE": (of_head("SHE"), ours(SHEDetector(), LAST)),
    "NNGuide": (of_head("NNGuide"), ours(NNGuideDetector())),
    "fDBD": (of_head("fDBD"), ours(FDBDDetector())),
    "NCI": (of_head("NCI", alpha=0.01), ours(NCIDetector(alpha=0.01))),
    "GradNorm": (
        of_logits("GradNorm", param_filter=lambda name: name == "linear4.weight"),
        ours(GradNormDetector()),
    ),
    "ReAct": (of_maps("ReAct"), ours(make_pipeline(ReAct(), EnergyDetector()))),
    "ASH": (of_maps("ASH", percentile=0.9), ours(make_pipeline(ASH(), EnergyDetector()))),
    "SCALE": (of_maps("SCALE", percentile=0.85), ours(make_pipeline(SCALE(), EnergyDetector()))),
    "DICE": (of_weights("DICE", p=0.9), ours(make_pipeline(DICE(), EnergyDetector()))),
    "ODIN": (
        of_logits("ODIN"),
        after_perturbation(MaxSoftmaxDetector(temperature=1000), lambda digits: ODIN()),
    ),
}


def name_of(cell):
    return re.match(r"``([\w=]+)", cell)[1]


@pytest.mark.parametrize(
    "row", [row for row in rows_of("pytorch_ood") if has_claim(row)], ids=lambda row: row[0]
)
def test_scores_of_pytorch_ood_are_as_said(row, digits):
    library = import_library("pytorch_ood")
    make, score = PYTORCH_OOD[name_of(row[0])]
    detector = make(library, digits.network)
    detector.fit(loader(digits, digits.train))
    theirs = detector.predict(torch.from_numpy(digits.data[digits.rows]))
    assert_scores_are_as_said(row[4], score(digits), theirs.detach())


def test_the_temperature_of_pytorch_ood_is_not_the_best(digits):
    detector = import_library("pytorch_ood").TemperatureScaling(digits.network)
    detector.fit(loader(digits, digits.calibration))
    A, y = digits.A[digits.calibration], digits.target[digits.calibration]
    temperature = TemperatureScaler().fit(A, y).temperature_
    theirs, found = (
        log_loss(y, softmax(A.logits / t, 1)) for t in (detector.t.item(), temperature)
    )
    assert found < theirs


def test_every_detector_of_pytorch_ood_has_a_row():
    library = import_library("pytorch_ood")
    listed = {name for row in rows_of("pytorch_ood") for name in re.findall(r"``(\w+)``", row[0])}
    assert listed == set(library.__all__) - {"odin_preprocessing"}


# ------------------------------------------------------------------------------------------------
# oodeel

EXTRA = {"use_react": "Energy", "use_scale": "Energy", "use_ash": "Energy", "aggregator": "DKNN"}
OODEEL = {
    "MLS": ({}, ours(MaxLogitDetector())),
    "MLS(": ({"output_activation": "softmax"}, ours(MaxSoftmaxDetector())),
    "Energy": ({}, ours(EnergyDetector())),
    "Entropy": ({}, ours(EntropyDetector())),
    "GEN": ({}, ours(GENDetector())),
    "ODIN": (
        {},
        after_perturbation(MaxSoftmaxDetector(temperature=1000), lambda digits: ODIN(0.014)),
    ),
    "DKNN": ({}, ours(KNNDetector(), LAST)),
    "Mahalanobis": ({"eps": 0}, ours(MahalanobisDetector(), LAST)),
    "RMDS": ({"eps": 0}, ours(MahalanobisDetector(relative=True), LAST)),
    "use_react": (
        {"use_react": True},
        ours(make_pipeline(ReAct(percentile=80), EnergyDetector())),
    ),
}


@pytest.mark.parametrize(
    "row", [row for row in rows_of("oodeel") if has_claim(row)], ids=lambda row: row[0]
)
def test_scores_of_oodeel_are_as_said(row, digits):
    library = import_library("oodeel")
    name = re.match(r"``(\w+\(?)", row[0])[1]
    settings, score = OODEEL[name]
    detector = getattr(library, EXTRA.get(name, name.rstrip("(")))(**settings)
    # A default that its searches for a threshold of ReAct lengthen.
    type(detector)._load_feature_extractor.__defaults__[0].clear()
    layers = ["relu3"] if detector.requires_internal_features else []
    detector.fit(digits.network, loader(digits, digits.train), feature_layers_id=layers)
    theirs, _ = detector.score(loader(digits, digits.rows))
    assert_scores_are_as_said(row[4], score(digits), theirs)


def test_every_method_of_oodeel_has_a_row():
    library = import_library("oodeel")
    listed = {re.match(r"``(\w+)", row[0])[1] for row in rows_of("oodeel")}
    assert set(library.__all__) <= listed


# ------------------------------------------------------------------------------------------------
# PyOD


def test_the_distances_of_pyod_are_ours(digits):
    pyod = pytest.importorskip("pyod.models.knn")
    features = np.asarray(digits.A["relu3"], dtype=np.float64)
    theirs = pyod.KNN(n_neighbors=7).fit(features[digits.train])
    found = KNNDetector(n_neighbors=7, normalize=False).fit(features[digits.train])
    (row,) = (row for row in rows_of("pyod") if has_claim(row))
    assert name_of(row[0]) == "KNN"
    assert_scores_are_as_said(
        row[4],
        found.score_samples(features[digits.rows]),
        theirs.decision_function(features[digits.rows]),
    )


# ------------------------------------------------------------------------------------------------
# Names and defaults


def their_class(table, row):
    if table == "pyod":
        name = name_of(row[0])
        pytest.importorskip("pyod")
        return getattr(importlib.import_module(f"pyod.models.{name.lower()}"), name)
    library = import_library(table)
    name = name_of(row[0]).partition("=")[0]
    return getattr(library, EXTRA.get(name, name))


def defaults_in(cell):
    """Parameters and values that a cell names, and parameters that it says to have none."""
    found = re.findall(r"``(\w+)=([^`]+)``", cell)
    required = re.findall(r"``(\w+)`` has none", cell)
    return {name: ast.literal_eval(value) for name, value in found}, required


@pytest.mark.parametrize("table", ["pytorch_ood", "oodeel", "pyod"])
def test_defaults_of_theirs_are_those_of_their_code(table):
    for row in rows_of(table):
        given, required = defaults_in(row[2])
        if given or required:
            parameters = inspect.signature(their_class(table, row)).parameters
            for name, value in given.items():
                assert parameters[name].default == value, (row[0], name)
            assert all(parameters[name].default is inspect.Parameter.empty for name in required)


def our_classes(cell):
    paths = re.findall(r":class:`~?([\w.]+)`", cell)
    modules = (skood.detectors, skood.shaping, skood)
    for path in paths:
        module, _, name = path.rpartition(".")
        homes = [importlib.import_module(module)] if module else modules
        yield next(getattr(home, name) for home in homes if hasattr(home, name))


@pytest.mark.parametrize("table", ["pytorch_ood", "oodeel", "openood", "pyod"])
def test_defaults_of_ours_are_those_of_the_code(table):
    for row in rows_of(table):
        given, required = defaults_in(row[3])
        assert not required
        parameters = {}
        for cls in our_classes(row[1]):
            # Where two have it, that of the first one is meant.
            parameters = {**inspect.signature(cls).parameters, **parameters}
        for name, value in given.items():
            assert parameters[name].default == value, (row[1], name)


def test_every_detector_and_shaper_has_a_row_in_the_table_of_names():
    listed = {cls.__name__ for row in rows_of("names") for cls in our_classes(row[0])}
    detectors = {name for name in skood.detectors.__all__ if name in estimator_classes()}
    shapers = {name for name in skood.shaping.__all__ if name in estimator_classes()}
    assert detectors | shapers <= listed


def test_names_in_the_table_are_those_of_the_other_tables():
    for column, table in enumerate(("pytorch_ood", "openood", "oodeel", "pyod"), start=1):
        known = {name for row in rows_of(table) for name in re.findall(r"``(\w+)", row[0])}
        named = {name for row in rows_of("names") for name in re.findall(r"``(\w+)", row[column])}
        assert named <= known, table


# ------------------------------------------------------------------------------------------------
# Code side by side


def blocks_of(library):
    """Their code on the page, in order."""
    text = PAGE.read_text(encoding="utf-8")
    pattern = rf"\.\. code-block:: python\n +:name: {library}-\d\n\n((?:(?: {{9}}.*)?\n)+)"
    return [textwrap.dedent(block) for block in re.findall(pattern, text)]


@pytest.fixture(scope="module")
def names_of_the_page():
    """What the examples of the page name."""
    text = PAGE.read_text(encoding="utf-8")
    examples = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    doctest.DocTestRunner(verbose=False).run(examples, clear_globs=False, out=lambda _: None)
    return examples.globs


@pytest.mark.parametrize("library", ["pytorch_ood", "oodeel", "pyod"])
def test_code_side_by_side_gives_the_same(library, request):
    if library == "pyod":
        pytest.importorskip("pyod")
    else:
        import_library(library)
    names = dict(request.getfixturevalue("names_of_the_page"))
    for block in blocks_of(library):
        exec(block, names)
    theirs = {
        name: torch.as_tensor(names[name]).detach().numpy()
        for name in names
        if name.startswith("theirs_")
    }
    assert theirs
    for name, scores in theirs.items():
        found = names[name.replace("theirs_", "ours_")]
        np.testing.assert_allclose(found, -scores, rtol=1e-3, atol=1e-4)
