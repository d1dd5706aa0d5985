# make train, make test, make lint: each makes its virtual environment first, when it is missing or older than setup.cfg.
# PYTHON chooses the interpreter and with it the stack: 3.10 and 3.11 bring TensorFlow 2.15, 3.12 and later the newest.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(VERSION)
BIN := $(VENV)/bin

.PHONY: train test lint clean

train: $(VENV)/.installed
	$(BIN)/python -m cyclegan_tf.train --flagfile=experiments/demo.flags

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# The stamp is written last, so that an interrupted installation is made anew.
$(VENV)/.installed: setup.cfg setup.py
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv-* build *.egg-info .pytest_cache .ruff_cache .hypothesis
