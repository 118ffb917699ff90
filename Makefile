# Each target sets up what it needs, in .venv, from pyproject.toml and constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install -q -c constraints.txt
ARGS ?=

.PHONY: serve test simulate check cover mutate fuzz bench hostile gpu stubs docs clean

serve: $(VENV)/.serve
	$(BIN)/certserve serve models $(ARGS)

# By two workers at once; ARGS='-n 0' is one after the other. Whatever the environment says, Python keeps what it has compiled:
# the tests start a hundred processes, and each would compile all modules anew. Nor has any of them threads for its sums, which
# would wait for each other on processors that are taken.
test: export PYTHONDONTWRITEBYTECODE =
test: export OMP_NUM_THREADS = 1
test: $(VENV)/.test
	$(BIN)/pytest -m 'not slow' -n 2 $(ARGS)

# The long forms of the simulations: 1e5 schedules of the server, 5e4 answers to adaptive clients, 1e5 runs and more of each claim.
simulate: $(VENV)/.test
	$(BIN)/pytest -m slow $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m protos.generate --check

# Every line and branch of certify, by its own fast tests.
cover: $(VENV)/.test
	$(BIN)/coverage run --branch --source=certify -m pytest -m 'not slow' tests/certify
	$(BIN)/coverage report --skip-covered -m --fail-under=100

# About 12 minutes on two cores; `make bench ARGS=engine` runs one part.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

# Strangers who send what costs most, beside eight good clients: some four minutes; ARGS=gzip is one part of it.
hostile: $(VENV)/.test
	$(BIN)/python -m benchmarks.hostile $(ARGS)

# What has to be seen on a GPU, under eight minutes; without one it says so. ARGS=kernel is one part of it.
gpu: $(VENV)/.test
	$(BIN)/python -m benchmarks.gpu $(ARGS)

# Do the tests of certify notice a change of it? Most of an hour on two cores; ARGS='certify.bounds.binomial*' is one module.
mutate: $(VENV)/.mutate
	rm -rf mutants
	$(BIN)/mutmut run $(ARGS)
	$(BIN)/mutmut results --all true | $(BIN)/python -m benchmarks.mutation

# Every parser of what strangers send, ten minutes each, guided by coverage; ARGS='--seconds 60 token' is one of them for a minute.
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz $(ARGS)

stubs: $(VENV)/.test
	$(BIN)/python -m protos.generate

# The reference from the code, and all pages of docs/ as a site in site/.
docs: $(VENV)/.docs
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build -q -W --keep-going docs site
	@echo "Open site/index.html"

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
	$(PIP) -e '.[cpu,data,plot,export,sklearn,torch,test,docs]'
	@touch $@

$(VENV)/.docs: $(VENV)/.serve pyproject.toml constraints.txt
	$(PIP) -e '.[cpu,docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test pyproject.toml constraints.txt
	@echo "Installing what the benchmarks compare with into $(VENV) ..."
	$(PIP) -e '.[cpu,data,export,sklearn,torch,test,bench]'
	@touch $@

$(VENV)/.fuzz: $(VENV)/.test pyproject.toml constraints.txt
	$(PIP) -e '.[cpu,data,export,test,fuzz]'
	@touch $@

$(VENV)/.mutate: $(VENV)/.test pyproject.toml constraints.txt
	$(PIP) -e '.[cpu,data,export,sklearn,torch,test,mutate]'
	@touch $@

clean:
	rm -rf $(VENV) fuzz-corpus fuzz-findings mutants site build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
