# Every target sets up what it needs: Python 3.11 or newer, pip and make are enough.
PYTHON ?= python3
WORKERS ?= 2
# Empty for the newest versions instead of those that are written down.
CONSTRAINTS ?= -c constraints.txt

VENV := .venv
LOWEST := .venv-lowest
ZOO := .venv-zoo
# What a user gets: the wheel in an environment of its own, beside the unpacked source archive.
INSTALLED := build/installed
# With several test workers, one thread each: more only fight for the same cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow test-lowest coverage lint format types docs site-check bench-check zoo dist test-dist \
	clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

venv: $(VENV)/installed  ## set up .venv with the versions of constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet $(CONSTRAINTS) -e ".[all,test,lint,docs,dist]"
	touch $@

$(LOWEST)/installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet -c constraints-lowest.txt -e ".[all,test]"
	touch $@

$(ZOO)/installed: pyproject.toml constraints-zoo.txt
	$(PYTHON) -m venv $(ZOO)
	$(ZOO)/bin/python -m pip install --quiet -c constraints-zoo.txt -e ".[zoo]"
	touch $@

demo: $(VENV)/installed  ## monitor a digits classifier: a table and pictures in demo/output/
	$(VENV)/bin/python demo/digits_monitor.py

test: $(VENV)/installed  ## run the tests and the examples in the docstrings
	$(ONE_THREAD) $(VENV)/bin/python -m pytest -n $(WORKERS) $(TEST_OPTIONS)

coverage: TEST_OPTIONS := --cov
coverage: test  ## run the tests and measure which lines of skood they reach

test-slow: TEST_OPTIONS := --slow -m slow tests/test_results.py
test-slow: test  ## run what takes half a minute or more each: small versions of all experiments

test-lowest: $(LOWEST)/installed  ## run them against the lowest supported versions
	$(ONE_THREAD) $(LOWEST)/bin/python -m pytest -n $(WORKERS)

lint: $(VENV)/installed  ## check style and formatting
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

format: $(VENV)/installed  ## repair what lint can repair by itself
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

types: $(VENV)/installed  ## check the type annotations
	$(VENV)/bin/mypy

docs: $(VENV)/installed  ## build the site in docs/_build/html; a warning is an error
	$(VENV)/bin/sphinx-build -W --keep-going -j auto -b html docs docs/_build/html

site-check: docs  ## walk through the built site in headless Chromium, if that is installed
	SKOOD_SITE=docs/_build/html $(VENV)/bin/python -m pytest -n $(WORKERS) -p no:cacheprovider tests/test_site.py

bench-check: $(VENV)/installed  ## check that the benchmarks run and agree with each other
	$(ONE_THREAD) $(VENV)/bin/python -m benchmarks --check

zoo: $(ZOO)/installed  ## read networks of torchvision, timm, transformers and others, or NETS='timm/res*'
	$(ONE_THREAD) $(ZOO)/bin/python -m zoo --check $(NETS)

dist: $(VENV)/installed  ## build the source archive and the wheel in dist/
	rm -rf build dist skood.egg-info
	$(VENV)/bin/python -m build

test-dist: dist  ## run the tests of the source archive against the installed wheel
	$(PYTHON) -m venv $(INSTALLED)/venv
	$(INSTALLED)/venv/bin/python -m pip install --quiet $(CONSTRAINTS) "$$(echo dist/*.whl)[all,test]"
	tar -xzf dist/*.tar.gz -C $(INSTALLED)
	rm -r $(INSTALLED)/skood-*/skood
	cd $(INSTALLED)/skood-* && $(ONE_THREAD) ../venv/bin/python -m pytest -n $(WORKERS) tests

clean:  ## remove all that the other targets made
	rm -rf $(VENV) $(LOWEST) $(ZOO) build dist demo/output zoo/output docs/_build docs/api/generated docs/auto_examples
	rm -rf skood.egg-info .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
