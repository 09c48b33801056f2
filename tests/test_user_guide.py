"""Every code example of the site's pages runs and prints what the page says."""

import doctest
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skood import ActivationExtractor
from skood.networks import adapt, check_adapter

DOCS = Path(__file__).parents[1] / "docs"
MADE_BY_THE_BUILD = {"_build", "auto_examples", "generated"}
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.rst"))
    if not MADE_BY_THE_BUILD.intersection(page.relative_to(DOCS).parts)
]
sys.path.insert(0, str(DOCS / "user_guide"))
nearest_mean = importlib.import_module("nearest_mean_detector")
batch_mean = importlib.import_module("batch_mean_detector")
chain = importlib.import_module("chain_adapter")

# Training is not the same to the last digit on every machine, and no more are its results.
TOLERANCE = 0.05


class AboutAsPrinted(doctest.OutputChecker):
    """Accepts output whose fractions differ a little from those of the page."""

    fraction = re.compile(r"-?\d+\.\d+")

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):  # as of digits that a page leaves open
            return True
        expected, found = (map(float, self.fraction.findall(text)) for text in (want, got))
        same_words = super().check_output(
            self.fraction.sub("#", want), self.fraction.sub("#", got), optionflags
        )
        return same_words and all(
            abs(e - f) <= TOLERANCE for e, f in zip(expected, found, strict=True)
        )


def skip_without_libraries_of(text):
    for library in ("torch", "skorch", "onnx"):
        if re.search(rf"^>>> (from|import) {library}\b", text, re.MULTILINE):
            pytest.importorskip(library)
    if "load_digits_network" in text:
        pytest.importorskip("torch")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_of_a_page_print_what_it_says(page):
    text = page.read_text(encoding="utf-8")
    skip_without_libraries_of(text)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report = []
    runner = doctest.DocTestRunner(
        checker=AboutAsPrinted(), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    runner.run(test, out=report.append)
    assert not report, "".join(report)


@parametrize_with_checks([nearest_mean.NearestMeanDetector(), batch_mean.BatchMeanDetector()])
def test_detector_written_as_the_guide_says_passes_all_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "module", [nearest_mean, batch_mean, chain], ids=lambda module: module.__name__
)
def test_examples_in_the_docstrings_of_what_the_guide_builds_run(module):
    n_failed, n_run = doctest.testmod(module)
    assert n_failed == 0
    assert n_run > 0


def test_adapter_written_as_the_guide_says_gives_what_the_network_computes():
    rng = np.random.default_rng(0)
    network = chain.Chain(rng.normal(size=(4, 6)), rng.normal(size=(6, 3)))
    X = rng.normal(size=(9, 4))
    check_adapter(adapt(network), X)
    A = ActivationExtractor(network, batch_size=4).fit_transform(X)
    np.testing.assert_allclose(A.logits, network(X))
    np.testing.assert_allclose(A["rectified_0"], np.maximum(X @ network.weights[0], 0))
    np.testing.assert_allclose(A.head.logits(A["rectified_0"]), network(X))


def test_the_lists_of_detectors_that_learn_in_batches_are_those_of_the_code(monkeypatch):
    pytest.importorskip("docutils")
    monkeypatch.syspath_prepend(DOCS / "_ext")
    in_batches, others = importlib.import_module("in_batches").by_learning()
    assert {"EnergyDetector", "FDBDDetector", "HammingNAPDetector"} <= set(in_batches)
    assert {"COREDetector", "GroupProgressionDetector", "ViMDetector"} <= set(others)
    assert set(in_batches).isdisjoint(others)
    page = (DOCS / "user_guide" / "detectors.rst").read_text(encoding="utf-8")
    assert ".. in-batches::" in page
    tables = set(re.findall(r":class:`~?(?:skood\.)?(\w+Detector)`", page))
    assert {*in_batches, *others} <= tables
