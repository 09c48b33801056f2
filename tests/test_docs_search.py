"""The search of the site shows the pages on some tasks first for the words of users.

It gives the highest score to the main entries of the index, which the terms of the glossary are
too, and orders pages of equal scores by their titles. test_site.py asks it in a browser.
"""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [*DOCS.glob("*.rst"), *DOCS.glob("user_guide/*.rst"), *DOCS.glob("results/*.rst")]
if not PAGES:
    pytest.skip("the documentation is not installed", allow_module_level=True)

WORDS = {
    "Choosing a threshold": [
        "threshold",
        "thresholds",
        "false alarm",
        "false alarms",
        "false alarm rate",
        "calibration",
    ],
    "Coming from pytorch-ood, OpenOOD, oodeel, PyOD": [
        "pytorch-ood",
        "OpenOOD",
        "oodeel",
        "PyOD",
        "migrate",
        "sign of scores",
    ],
    "Defaults and where they come from": [
        "default",
        "default parameters",
        "hyperparameters",
        "recommended settings",
    ],
    "FAQ": [
        "FAQ",
        "frequently asked questions",
        "questions",
        "help",
        "Keras",
        "XGBoost",
        "object detection",
        "hallucination",
        "Prometheus",
        "TensorRT",
        "MPS",
        "SHAP",
        "deep ensembles",
        "roadmap",
        "telemetry",
    ],
    "Installation": ["install", "conda", "Windows"],
    "Glossary": [
        "TPR",
        "p-value",
        "semantic shift",
        "ROC curve",
        "confidence",
        "Hamming distance",
        "anomaly detection",
        "open-set recognition",
        "failure prediction",
        "uncertainty",
        "ECE",
    ],
    "Troubleshooting": [
        "troubleshooting",
        "error",
        "error message",
        "exception",
        "warning",
        "traceback",
        "nan",
        "too many false alarms",
        "slow",
    ],
    "Deploy: save, load, serve, export": [
        "deploy",
        "deployment",
        "production",
        "load model",
        "save model",
        "ONNX",
        "latency",
        "serve",
    ],
    "Pickle, joblib, skops and MLflow": ["pickle", "joblib", "MLflow"],
    "Report of a monitor": ["report", "model card"],
    "Risk control and selective classification": [
        "risk control",
        "selective prediction",
        "abstain",
    ],
    "AutoNAP: the published auto-configuration": ["AutoNAP", "auto-configuration"],
    "Learning in batches: partial_fit and merge": ["partial_fit", "merge", "online learning"],
    "Progress bars, logging and callbacks": ["verbose", "tqdm", "logging"],
    "Held-out rows for calibration": ["calibration set", "how many samples"],
    "Choosing a method": ["choose", "which method", "best method"],
    "Comparing methods on your data": ["compare", "od_test", "AUROC", "FPR95", "benchmark"],
    "Activation shaping": ["ReAct", "DICE", "LINe"],
    "Detectors on logits: softmax, energy and others": ["MSP", "softmax", "energy score"],
    "Explaining an alarm": ["explain", "interpretability"],
    "Extraction": ["hooks", "intermediate layers"],
    "Getting started": ["DataLoader", "Lightning", "Hugging Face", "skorch", "quickstart"],
    "Model selection": ["GridSearchCV", "cross-validation"],
    "Drift": ["drift", "data drift", "distribution shift", "stream"],
    "GPU": ["GPU", "CUDA", "mixed precision", "DataParallel"],
    "Larger than memory": ["out of memory", "memory-mapped"],
    "Clusters: Dask, Ray and Spark": ["Dask", "Ray", "Spark", "distributed"],
    "Tabular data": ["tabular", "pandas", "regression", "MLPClassifier", "categories"],
    "Text and tokens": ["BERT", "transformer", "bag of words", "text"],
}


def title_of(text):
    return re.search(r"^(=+)\n(.+)\n\1$", text, flags=re.MULTILINE)[2]


def main_entries(text):
    directives = re.findall(r"^\.\. index::((?:.+\n)+)", text, flags=re.MULTILINE)
    marked = [entry.strip() for found in directives for entry in found.split(",")]
    terms = re.findall(r"^ {3}(\w.*)$", text, flags=re.MULTILINE) if ".. glossary::" in text else []
    return {entry.removeprefix("! ") for entry in marked if entry.startswith("! ")} | set(terms)


@pytest.mark.parametrize(
    ("page", "word"), [(page, word) for page, words in WORDS.items() for word in words]
)
def test_the_page_on_a_task_is_among_the_first_three(page, word):
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    found = [title_of(text) for text in texts if word in main_entries(text)]
    assert page in sorted(found, key=str.lower)[:3]
