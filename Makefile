# make train | test | lint | bench | faults | docs: each makes .venv first where it is missing or older than what it is made of
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: train test lint bench faults docs clean

train: $(READY)
	$(BIN)/hadamem showcase

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/hadamem bench ops
	$(BIN)/hadamem bench train

faults: $(READY)
	$(BIN)/python tests/faults/campaign.py

docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("hadamem needs Python 3.11 or newer, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[games,mazes,minigrid,pictures,video]" --group dev
	touch $@

clean:
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
