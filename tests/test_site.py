"""The built site as a reader sees it: every page in headless Chromium, links, and the search.

``make site-check`` builds the site and runs this file on it; other runs skip it, since the site may
be an old one. Without Chromium, it is skipped as well.
"""

import csv
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from _site_browser import NARROW, WIDE, Reader, anchors_of, chromium, served

SITE = os.environ.get("SKOOD_SITE")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), "")
if not SITE:
    pytest.skip("no site to look at: run `make site-check`", allow_module_level=True)
if not BROWSER:
    pytest.skip("Chromium is not installed", allow_module_level=True)
pytest.importorskip("playwright")

FOLDER = Path(SITE).resolve()
PAGES = sorted(
    name
    for path in FOLDER.rglob("*.html")
    if not (name := str(path.relative_to(FOLDER))).startswith("_static/")
)
# One of each kind.
KINDS = [
    "index.html",
    "getting_started.html",
    "user_guide/index.html",
    "user_guide/feature_detectors.html",
    "user_guide/deploy.html",
    "user_guide/defaults.html",
    "auto_examples/index.html",
    "auto_examples/first_steps/plot_quickstart.html",
    "api/index.html",
    "api/generated/skood.Monitor.html",
    "api/generated/skood.detectors.KNNDetector.html",
    "results/tokens.html",
    "_modules/skood/_monitor.html",
    "glossary.html",
    "search.html",
    "genindex.html",
]


@pytest.fixture(scope="module")
def address():
    with served(FOLDER) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium(BROWSER) as browser:
        yield browser


@pytest.fixture
def reader(browser, address):
    reader = Reader(browser, address)
    yield reader
    reader.close()


def none_of(faults):
    """Whether nothing was found; what was, one in each line."""
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)


def test_pages_of_every_kind_are_there():
    assert set(KINDS) <= set(PAGES)


PICTURES_THAT_DO_NOT_SHOW = """() => {
    const shown = image => image.complete && image.naturalWidth > 0;
    return [...document.images].filter(image => !shown(image)).map(image => image.src);
}"""
PICTURES_WITHOUT_WORDS = """() =>
    [...document.images].filter(image => !image.hasAttribute("alt")).map(image => image.src)
"""
# Text to the right of the window that no box with a scroll bar of its own holds. The theme hides
# what is wider than the page, so that the document itself is never wider than the window.
CUT_OFF = """() => {
    const width = document.documentElement.clientWidth;
    const scrolls = box => ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
    const isReached = text => {
        for (let box = text; !box.matches(".bd-article-container"); box = box.parentElement)
            if (scrolls(box)) return true;
        return false;
    };
    const kinds = "h1, h2, h3, p, dt, dd, li, td, pre, code, img";
    return [...document.querySelectorAll(`.bd-article-container :is(${kinds})`)]
        .filter(text => text.getBoundingClientRect().right > width + 1 && !isReached(text))
        .map(text => `${text.tagName} ${text.textContent.trim().slice(0, 40)}`);
}"""


@pytest.mark.parametrize("first", [0, 1])
def test_every_page_shows_all_it_has_wide_and_narrow(reader, first):
    faults = reader.faults
    for page in PAGES[first::2]:  # halves, for two workers
        reader.resize(WIDE)
        reader.open(page)
        # Pictures further down are fetched when they are near.
        reader.run("() => [...document.images].forEach(image => image.loading = 'eager')")
        reader.tab.wait_for_function("() => [...document.images].every(image => image.complete)")
        faults += [f"{page}: does not show: {p}" for p in reader.run(PICTURES_THAT_DO_NOT_SHOW)]
        faults += [f"{page}: without alt: {p}" for p in reader.run(PICTURES_WITHOUT_WORDS)]
        reader.resize(NARROW)
        faults += [f"{page}: cut off: {text}" for text in reader.run(CUT_OFF)[:3]]
    none_of(faults)


def test_no_link_inside_the_site_is_broken():
    anchors = {page: anchors_of(FOLDER / page) for page in PAGES}
    broken = []
    for page, (_, links) in anchors.items():
        for link in links:
            target, fragment = urldefrag(link)
            if urlsplit(target).scheme or target.startswith("//"):
                continue
            path = (FOLDER / page).parent / unquote(target) if target else FOLDER / page
            name = os.path.relpath(path.resolve(), FOLDER)
            is_there = path.exists() and not name.startswith("..")
            ids = anchors[name][0] if name in anchors else None
            if not is_there or (fragment and ids is not None and unquote(fragment) not in ids):
                broken.append(f"{page}: {link}")
    none_of(broken)


def fonts_of(reader, selector):
    """Names of the fonts in which the first few elements are drawn."""
    session = reader.tab.context.new_cdp_session(reader.tab)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    nodes = session.send("DOM.querySelectorAll", {"nodeId": root, "selector": selector})["nodeIds"]
    fonts = [
        session.send("CSS.getPlatformFontsForNode", {"nodeId": n})["fonts"] for n in nodes[:40]
    ]
    return {font["familyName"] for found in fonts for font in found}


def test_formulas_are_drawn_in_the_font_that_the_site_ships(reader):
    reader.open("user_guide/feature_detectors.html", wait="networkidle")
    reader.run("() => document.fonts.ready.then(() => true)")
    assert fonts_of(reader, "math mi, math mo, math mn") == {"Latin Modern Math"}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_pages_of_every_kind_are_accessible(browser, address, width, theme):
    """Rules of WCAG 2 A and AA that axe-core can tell: contrast, names, order, keyboard."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    reader = Reader(browser, address, width=width, theme=theme)
    rules = {
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
        "resultTypes": ["violations"],
        "preload": False,  # or it asks for style sheets at wrong addresses
    }
    faults = reader.faults
    for page in KINDS:
        reader.open(page)
        reader.tab.wait_for_function(f"() => document.documentElement.dataset.theme == '{theme}'")
        for found in axe.run(reader.tab, options=rules).response["violations"]:
            where = [" ".join(map(str, node["target"])) for node in found["nodes"]]
            faults.append(f"{page}: {found['id']} ({found['help']}): {where[:5]} of {len(where)}")
    reader.close()
    none_of(faults)


def test_keys_alone_lead_to_the_content_the_search_and_the_theme(reader):
    reader.open("index.html")
    reader.tab.keyboard.press("Tab")
    assert "skip" in reader.run("() => document.activeElement.textContent").lower()
    reader.tab.keyboard.press("Enter")
    assert reader.run("() => location.hash") == "#main-content"
    reader.tab.keyboard.press("Control+k")
    reader.tab.keyboard.type("threshold")
    reader.tab.keyboard.press("Enter")
    reader.tab.wait_for_url("**/search.html?q=threshold*")
    none_of(reader.faults)


# What people type, and a page that is to be among the first three.
SEARCHES = {
    "deploy": "user_guide/deploy.html",
    "deployment": "user_guide/deploy.html",
    "production": "user_guide/deploy.html",
    "save": "user_guide/deploy.html",
    "save model": "user_guide/deploy.html",
    "load": "user_guide/deploy.html",
    "load model": "user_guide/deploy.html",
    "pickle": "user_guide/pickles.html",
    "ONNX": "user_guide/deploy.html",
    "MLflow": "user_guide/pickles.html",
    "latency": "user_guide/deploy.html",
    "REST API": "user_guide/deploy.html",
    "docker": "user_guide/serve.html",
    "GPU": "user_guide/gpu.html",
    "cuda": "user_guide/gpu.html",
    "threshold": "user_guide/choosing_a_threshold.html",
    "false alarm": "user_guide/choosing_a_threshold.html",
    "false positive rate": "user_guide/choosing_a_threshold.html",
    "conformal": "user_guide/choosing_a_threshold.html",
    "p-value": "user_guide/choosing_a_threshold.html",
    "DataLoader": "getting_started.html",
    "quickstart": "getting_started.html",
    "pytorch": "getting_started.html",
    "lightning": "getting_started.html",
    "Hugging Face": "getting_started.html",
    "skorch": "getting_started.html",
    "BERT": "user_guide/text_and_tokens.html",
    "transformer": "user_guide/text_and_tokens.html",
    "text": "user_guide/text_and_tokens.html",
    "NLP": "user_guide/text_and_tokens.html",
    "tabular": "user_guide/tabular.html",
    "pandas": "user_guide/tabular.html",
    "regression": "user_guide/tabular.html",
    "drift": "user_guide/monitoring.html",
    "distribution shift": "user_guide/monitoring.html",
    "compare": "user_guide/comparing_methods.html",
    "benchmark": "user_guide/comparing_methods.html",
    "AUROC": "user_guide/metrics.html",
    "FPR95": "user_guide/metrics.html",
    "which method": "user_guide/choosing.html",
    "best method": "user_guide/choosing.html",
    "out of memory": "user_guide/larger_than_memory.html",
    "larger than memory": "user_guide/larger_than_memory.html",
    "dask": "user_guide/clusters.html",
    "ray": "user_guide/clusters.html",
    "spark": "user_guide/clusters.html",
    "partial_fit": "user_guide/streams.html",
    "stream": "user_guide/monitoring.html",
    "pytorch-ood": "user_guide/coming_from.html",
    "OpenOOD": "user_guide/coming_from.html",
    "oodeel": "user_guide/coming_from.html",
    "PyOD": "user_guide/coming_from.html",
    "defaults": "user_guide/defaults.html",
    "error": "user_guide/troubleshooting.html",
    "troubleshooting": "user_guide/troubleshooting.html",
    "FAQ": "user_guide/faq.html",
    "anomaly detection": "glossary.html",
    "outlier exposure": "user_guide/decoy_class.html",
    "reject option": "user_guide/decoy_class.html",
    "Mahalanobis": "user_guide/feature_detectors.html",
    "KNN": "user_guide/feature_detectors.html",
    "ViM": "user_guide/head_detectors.html",
    "energy": "user_guide/output_detectors.html",
    "MSP": "user_guide/output_detectors.html",
    "ODIN": "user_guide/gradients_and_dropout.html",
    "ReAct": "user_guide/shaping.html",
    "neuron activation patterns": "user_guide/layer_patterns.html",
    "grid search": "user_guide/model_selection.html",
    "cross-validation": "user_guide/model_selection.html",
    "dropout": "user_guide/mc_dropout.html",
    "temperature scaling": "user_guide/calibration.html",
    "explain": "user_guide/explaining_an_alarm.html",
    "ensemble": "user_guide/ensemble.html",
    "own detector": "user_guide/adding_a_detector.html",
    "verbose": "user_guide/progress.html",
    "progress bar": "user_guide/progress.html",
    "install": "install.html",
    "changelog": "changelog.html",
    "OOD detection": "user_guide/detectors.html",
    "novelty detection": "glossary.html",
    "uncertainty": "user_guide/mc_dropout.html",
    "embeddings": "user_guide/extraction.html",
    "which layer": "user_guide/ensemble.html",
    "hooks": "user_guide/extraction.html",
    "LLM": "user_guide/text_and_tokens.html",
    "huggingface": "getting_started.html",
    "keras": "user_guide/onnx_networks.html",
    "tensorflow": "user_guide/onnx_networks.html",
    "fastapi": "user_guide/serve.html",
    "kubernetes": "user_guide/deploy.html",
    "slow": "user_guide/troubleshooting.html",
    "speed": "user_guide/costs_and_measurements.html",
    "memory": "user_guide/larger_than_memory.html",
    "multi gpu": "user_guide/gpu.html",
    "CUDA out of memory": "user_guide/gpu.html",
    "time series": "auto_examples/kinds_of_data/plot_time_series.html",
    "images": "getting_started.html",
    "concept drift": "user_guide/monitoring.html",
    "alert": "user_guide/choosing_a_threshold.html",
    "ECE": "user_guide/calibration.html",
    "abstain": "user_guide/decoy_class.html",
    "risk control": "user_guide/risk_control.html",
    "selective classification": "user_guide/risk_control.html",
    "model card": "user_guide/report.html",
    "report": "user_guide/report.html",
    "AutoNAP": "user_guide/auto_nap.html",
    "OD-test": "user_guide/od_test.html",
    "online learning": "user_guide/streams.html",
    "calibration set": "user_guide/held_out_rows.html",
    "thread safety": "user_guide/network_changes.html",
    "logging": "user_guide/progress.html",
    "selective prediction": "user_guide/risk_control.html",
    "AUC": "user_guide/metrics.html",
    "true positive rate": "user_guide/metrics.html",
    "visualize": "user_guide/seeing_activations.html",
    "NotFittedError": "user_guide/troubleshooting.html",
    "ValueError": "user_guide/troubleshooting.html",
    "nan": "user_guide/troubleshooting.html",
    "random seed": "conventions.html",
    "license": "about.html",
    "cite": "about.html",
    "dependencies": "install.html",
    "adversarial": "user_guide/faq.html",
    "isolation forest": "user_guide/other_detectors.html",
    "one-class SVM": "user_guide/other_detectors.html",
    "gram matrices": "user_guide/unit_detectors.html",
    "OpenMax": "user_guide/output_detectors.html",
    "number of samples": "user_guide/faq.html",
    "validation set": "user_guide/model_selection.html",
    "hyperparameter tuning": "user_guide/model_selection.html",
    "missing values": "user_guide/tabular.html",
    "faiss": "user_guide/many_patterns.html",
    "custom network": "user_guide/adding_a_framework.html",
    "higher is better": "conventions.html",
    "make_monitor": "user_guide/monitor.html",
    "Monitor": "api/generated/skood.Monitor.html",
    "KNNDetector": "api/generated/skood.detectors.KNNDetector.html",
    "skood.detectors.KNNDetector": "api/generated/skood.detectors.KNNDetector.html",
    "data loader": "getting_started.html",
    "how to choose a threshold": "user_guide/choosing_a_threshold.html",
    "how do I save a monitor": "user_guide/deploy.html",
    "too many false alarms": "user_guide/troubleshooting.html",
    "calibartion": "user_guide/calibration.html",
    "mahalonobis": "user_guide/feature_detectors.html",
}


def found_by(reader, words):
    """Pages that the search lists first, each once."""
    links = reader.run(
        """async words => {
            document.getElementById("search-results").replaceChildren();
            Search.performSearch(words);
            while (!Search.status.innerText) await new Promise(done => setTimeout(done, 5));
            return [...document.querySelectorAll("#search-results li > a")].map(a => a.pathname);
        }""",
        words,
    )
    return list(dict.fromkeys(link.removeprefix("/") for link in links))


def test_the_search_shows_the_page_among_the_first_three(reader):
    reader.open("search.html")
    # The lines below the results are fetched from their pages: once, in the test of the keys.
    reader.run("() => { DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false }")
    faults = []
    for words, page in SEARCHES.items():
        found = found_by(reader, words)[:3]
        if page not in found:
            faults.append(f"{words}: {page} is not among {found}")
    none_of(faults + reader.faults)


def test_the_search_knows_the_words_of_many_readers(reader):
    """A thousand more, asked of the search itself rather than of its page."""
    with (Path(__file__).parent / "data" / "searches.csv").open(encoding="utf-8") as file:
        wanted = {row["Words"]: row["Page"] for row in csv.DictReader(file)}
    reader.open("search.html")
    found = reader.run(
        "all => all.map(words => Search._performSearch(words).slice(-3).map(result => result[0]))",
        list(wanted),
    )
    assert len(wanted) > 1000
    pages = zip(wanted.items(), found, strict=True)
    none_of(
        [
            f"{words}: {page} is not among {first}"
            for (words, page), first in pages
            if page.removesuffix(".html") not in first
        ]
    )


def test_a_short_stem_finds_no_words_that_begin_with_it(reader):
    reader.open("search.html")
    assert found_by(reader, "ads") == []  # whose stem is "ad", and not "adaptive"
    assert found_by(reader, "adapt")


def test_a_result_shows_the_place_that_is_about_the_words(reader):
    reader.open("search.html?q=k8s")  # an entry at an answer that does not name it
    reader.tab.wait_for_selector("#search-results li .context")
    assert "ASGI" in reader.tab.locator("#search-results li .context").first.inner_text()


def test_the_search_finds_each_page_once(reader):
    reader.open("search.html?q=threshold")
    reader.tab.wait_for_selector("#search-results li .context")
    links = reader.run("() => [...document.querySelectorAll('#search-results li > a')].map(String)")
    pages = [urldefrag(link).url for link in links]
    assert len(set(pages)) == len(pages) > 5


def test_a_table_of_results_is_sorted_by_keys(reader):
    reader.open("results/tokens.html")
    table = reader.tab.locator("table.sortable").last
    button = table.locator("th button").last
    before = table.locator("tbody tr td:last-child").all_inner_texts()
    button.press("Enter")
    assert table.locator("th").last.get_attribute("aria-sort") == "descending"
    numbers = list(map(float, table.locator("tbody tr td:last-child").all_inner_texts()))
    assert numbers == sorted(map(float, before), reverse=True)
    button.press("Enter")
    assert table.locator("th").last.get_attribute("aria-sort") == "ascending"
    numbers = list(map(float, table.locator("tbody tr td:last-child").all_inner_texts()))
    assert numbers == sorted(map(float, before))
    assert "python -m experiments.tokens" in reader.tab.locator("p.origin").last.inner_text()


def test_numbers_with_units_are_compared_by_their_values(reader):
    reader.open("results/tokens.html")
    texts = [
        "2.97 s",
        "52.9 ms",
        "270 µs",
        "1,234",
        "2 layers, 0.8 MiB",
        "0.5 ± 0.1",
        "\N{MINUS SIGN}3",
        "text",
    ]
    values = reader.run("texts => texts.map(text => String(valueOf(text)))", texts)
    expected = ["2.97", "0.0529", "0.00027", "1234", "2", "0.5", "-3", "NaN"]
    assert [f"{float(v):g}" for v in values] == [f"{float(v):g}" for v in expected]


def test_llms_txt_lists_pages_in_markdown():
    text = (FOLDER / "llms.txt").read_text(encoding="utf-8")
    assert text.startswith("# skood\n\n> ")
    pages = re.findall(r"^- \[[^]]+\]\(([^)]+)\): \S", text, flags=re.MULTILINE)
    guide = {f"{page.removesuffix('.html')}.md" for page in PAGES if page.startswith("user_guide/")}
    assert guide <= set(pages)
    assert all((FOLDER / page).is_file() for page in pages)


def test_markdown_lists_the_names_of_the_reference():
    text = (FOLDER / "api" / "index.md").read_text(encoding="utf-8")
    names = [page.removeprefix("api/generated/").removesuffix(".html") for page in PAGES]
    names = [name for name in names if name.startswith("skood.") and "/" not in name]
    assert len(names) > 100
    assert [name for name in names if f"](generated/{name}.html#{name})" not in text] == []


def test_tables_in_markdown_have_as_many_cells_in_each_row():
    faults = []
    for path in FOLDER.rglob("*.md"):
        tables = re.findall(r"(?:^\|.*\|$\n?)+", path.read_text(encoding="utf-8"), re.MULTILINE)
        for table in tables:
            sizes = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            if len(sizes) > 1:
                faults.append(f"{path.relative_to(FOLDER)}: {sizes} in {table[:80]!r}")
    none_of(faults)


def test_every_page_says_what_it_is_about():
    """For search engines, and in its own words."""
    said = {}
    for page in PAGES:
        if not page.startswith(("_modules/", "search", "genindex")):
            text = (FOLDER / page).read_text(encoding="utf-8")
            found = re.search(r'<meta name="description" content="([^"]+)"', text)
            said[page] = found[1] if found else ""
    none_of([f"{page}: {text!r}" for page, text in said.items() if len(text) < 10])
    guide = [text for page, text in said.items() if page.startswith("user_guide/")]
    assert len(set(guide)) == len(guide)


def test_code_and_formulas_are_whole_in_markdown():
    text = (FOLDER / "user_guide/feature_detectors.md").read_text(encoding="utf-8")
    assert text.startswith("# Distance detectors on features\n")
    assert re.search(r"^```python\n", text, flags=re.MULTILINE) or "```pycon\n" in text
    assert text.count("```") % 2 == 0
    assert re.search(r"\$\$\n[^$]*\\[^$]*\n\$\$", text)
