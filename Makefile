# make train, make test, make lint, make pictures: each first creates its virtual environment if it is missing or older
# than setup.cfg. PYTHON selects the interpreter, which determines the stack: Python 3.10 and 3.11 use TensorFlow 2.15,
# later versions the newest TensorFlow.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(VERSION)
BIN := $(VENV)/bin

.PHONY: train test lint pictures clean

train: $(VENV)/.installed
	$(BIN)/cyclegan train --preset=demo

pictures: $(VENV)/.installed
	$(BIN)/python experiments/pictures.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# The stamp is written last, so that an interrupted installation starts over.
$(VENV)/.installed: setup.cfg setup.py
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv-* build *.egg-info .pytest_cache .ruff_cache .hypothesis
