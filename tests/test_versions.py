"""What ``show_versions`` prints for a bug report."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np

import skood
from skood import _versions


def printed(capsys):
    skood.show_versions()
    return capsys.readouterr().out


def test_versions_of_skood_python_and_its_packages_are_shown(capsys):
    text = printed(capsys)
    for name, value in {
        "skood": skood.__version__,
        "numpy": np.__version__,
        "scikit-learn": version("scikit-learn"),
        "executable": sys.executable,
    }.items():
        assert re.search(rf"^  {name} +{re.escape(value)}$", text, flags=re.MULTILINE)
    assert " ".join(sys.version.split()) in text


def test_what_is_missing_or_has_another_name_is_said(capsys, monkeypatch):
    def installed(name):
        if name in {"faiss-gpu", "numpy"}:
            return "9.8.7"
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_versions, "version", installed)
    text = printed(capsys)
    assert re.search(r"^  torch +not installed$", text, flags=re.MULTILINE)
    assert re.search(r"^  faiss-cpu +9\.8\.7 \(faiss-gpu\)$", text, flags=re.MULTILINE)
    assert re.search(r"^  numpy +9\.8\.7$", text, flags=re.MULTILINE)


def test_loaded_thread_pools_are_shown_also_without_a_version(capsys, monkeypatch):
    pools = [
        {"internal_api": "openblas", "version": "0.3", "num_threads": 4, "filepath": "/blas.so"},
        {"internal_api": "openmp", "version": None, "num_threads": 1, "filepath": "/omp.so"},
    ]
    monkeypatch.setattr(_versions, "threadpool_info", lambda: pools)
    lines = printed(capsys).splitlines()
    assert lines[-3:] == [
        "Thread pools",
        "  openblas 0.3, 4 threads /blas.so",
        "  openmp, 1 threads       /omp.so",
    ]


def test_no_thread_pools_are_no_error(capsys, monkeypatch):
    monkeypatch.setattr(_versions, "threadpool_info", list)
    assert printed(capsys).endswith("Thread pools\n")


def test_no_optional_package_is_imported():
    code = """
import sys, skood
before = set(sys.modules)
skood.show_versions()
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(run.stdout.splitlines()[-1].split())
    assert not imported & {"torch", "skorch", "faiss", "matplotlib", "pandas"}
