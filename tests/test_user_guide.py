"""Every code example of the site's pages runs and prints what the page says."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

DOCS = Path(__file__).parents[1] / "docs"
MADE_BY_THE_BUILD = {"_build", "auto_examples", "generated"}
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.rst"))
    if not MADE_BY_THE_BUILD.intersection(page.relative_to(DOCS).parts)
]


def skip_without_libraries_of(text):
    for library in ("torch", "skorch"):
        if re.search(rf"^>>> (from|import) {library}\b", text, re.MULTILINE):
            pytest.importorskip(library)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_of_a_page_print_what_it_says(page, monkeypatch):
    text = page.read_text(encoding="utf-8")
    skip_without_libraries_of(text)
    monkeypatch.syspath_prepend(page.parent)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(test, out=report.append)
    assert not report, "".join(report)


def nearest_mean_module():
    path = DOCS / "user_guide" / "nearest_mean_detector.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@parametrize_with_checks([nearest_mean_module().NearestMeanDetector()])
def test_detector_written_as_the_guide_says_passes_all_checks(estimator, check):
    check(estimator)


def test_example_in_the_docstring_of_that_detector_runs():
    assert doctest.testmod(nearest_mean_module()) == (0, 2)
