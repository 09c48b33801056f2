"""Every code example of the site's pages runs and prints what the page says."""

import doctest
import importlib
import re
import sys
import warnings
from pathlib import Path
from textwrap import dedent

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
    for library in ("torch", "skorch", "onnx", "pandas"):
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


def block_that_imports(library):
    """The block of "Getting started" that is no doctest and imports a library."""
    text = (DOCS / "getting_started.rst").read_text(encoding="utf-8")
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)", text, re.MULTILINE)
    wanted = re.compile(rf"^(import|from) {re.escape(library)}\b", re.MULTILINE)
    (block,) = (dedent(block) for block in blocks if wanted.search(dedent(block)))
    return block


def names_for_transformers():
    """A tiny model that the library has written to a folder, and texts in its words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i for i in range(2, 30)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=20
    ).save_pretrained("model")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=30, intermediate_size=32, **sizes)
    transformers.BertForSequenceClassification(config).save_pretrained("model")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list(words)[2:], rng.integers(3, 9))) for _ in range(160)]
    parts = {"train": texts[:100], "held_out": texts[100:140], "new": texts[140:]}
    return {"name": "model", **{f"{part}_texts": part_texts for part, part_texts in parts.items()}}


def names_for_lightning():
    pytest.importorskip("lightning")
    from torch import arange, rand
    from torch.utils.data import DataLoader, TensorDataset

    images = rand(160, 1, 8, 8)
    loader = DataLoader(TensorDataset(images[:100], arange(100) % 8), batch_size=32)
    held_out_loader = DataLoader(TensorDataset(images[100:140]), batch_size=40)
    return {"train_loader": loader, "held_out_loader": held_out_loader, "new_images": images[140:]}


def names_for_onnx():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from torch import nn, rand

    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 8)).eval()
    rows = {"train": range(100), "held_out": range(100, 140), "test": range(140, 160)}
    named = {part: list(at) for part, at in rows.items()}
    return {"network": network, "images": rand(160, 1, 8, 8), "path": "network.onnx", **named}


@pytest.mark.parametrize(
    ("library", "make_names"),
    [
        ("transformers", names_for_transformers),
        ("lightning", names_for_lightning),
        ("torch.onnx", names_for_onnx),
    ],
)
def test_blocks_of_other_libraries_run(library, make_names, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries
        names = {"folder": "monitor", **make_names()}
        exec(block_that_imports(library), names)
    assert set(names["verdicts"]) <= {1, -1}
    assert len(names["verdicts"]) == 20


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
    on_batches, on_detectors = (
        (DOCS / "user_guide" / page).read_text(encoding="utf-8")
        for page in ("streams.rst", "detectors.rst")
    )
    assert ".. in-batches::" in on_batches
    tables = set(re.findall(r":class:`~?(?:skood\.)?(\w+Detector)`", on_detectors))
    assert {*in_batches, *others} <= tables
