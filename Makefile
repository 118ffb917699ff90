# Each target sets up what it needs, in .venv, from pyproject.toml and constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install -q -c constraints.txt
ARGS ?=

.PHONY: serve test check bench stubs clean

serve: $(VENV)/.serve
	$(BIN)/certserve serve models $(ARGS)

test: $(VENV)/.test
	$(BIN)/pytest $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m protos.generate --check

# About 12 minutes on two cores; `make bench ARGS=engine` runs one part.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

stubs: $(VENV)/.test
	$(BIN)/python -m protos.generate

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit("certserve needs Python 3.11 or newer; say make PYTHON=...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.serve: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing the server into $(VENV) (about 700 MB; no torch) ..."
	$(PIP) -e '.[cpu]'
	@touch $@

$(VENV)/.test: $(VENV)/.serve pyproject.toml constraints.txt
	@echo "Installing what the tests need into $(VENV) (torch and the official clients among it) ..."
	$(PIP) -e '.[cpu,export,test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test pyproject.toml constraints.txt
	@echo "Installing what the benchmarks compare with into $(VENV) ..."
	$(PIP) -e '.[cpu,export,test,bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
