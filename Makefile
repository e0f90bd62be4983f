# Each target makes its own .venv from requirements.lock first; requirements-runtime.lock leaves out what develops it.
LOCK ?= requirements.lock
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-fast test-short test-all check chaos bench bench-check docs wheel setup lock clean

demo: $(INSTALLED)  ## Everything once, on this machine: sample data, a VTN, an upload that is killed and resumed, a verification
	$(BIN)/bulk-upload demo

test: $(INSTALLED)  ## The tests without the long ones (a quarter of an hour on two cores)
	$(BIN)/python -m pytest

test-fast: $(INSTALLED)  ## Those that start no server and no command (a minute)
	$(BIN)/python -m pytest --fast -n 2

test-short: $(INSTALLED)  ## Those and the flow on a real Prefect server: what `.ci/run-other-pythons` runs
	$(BIN)/python -m pytest --fast -n 2
	$(BIN)/python -m pytest -n 2 tests/test_flow.py tests/test_prefect_names.py

test-all: $(INSTALLED)  ## Every test, including the long ones: before a release
	$(BIN)/python -m pytest -m "long or not long"

check: $(INSTALLED)  ## Style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(INSTALLED)  ## 200 rounds of faults, kills, stops and full disks (an hour; as root, on Debian): docs/reliability.md
	$(BIN)/python -m tests.chaos --rounds 200

bench: $(INSTALLED)  ## Everything measured, each beside a peer in the same run (as root, 75 minutes): docs/performance.md
	$(BIN)/python -m benchmarks

bench-check: $(INSTALLED)  ## What got worse since: ratios beside those recorded last (as root, 20 minutes)
	BENCHMARK_ROUNDS=3 $(BIN)/python -m benchmarks --check

docs: $(INSTALLED)  ## The pages of docs/ as HTML, in docs/_build
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build

wheel: $(INSTALLED)  ## What an installation without a checkout takes, in dist/
	$(BIN)/python -m hatchling build -t wheel

setup: $(INSTALLED)  ## Only install

PIP_COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --no-strip-extras --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate

lock: $(INSTALLED)  ## Pin the dependencies of pyproject.toml again: all, and of these what runs and installs the project
	$(PIP_COMPILE) --upgrade --extra dev --output-file requirements.lock pyproject.toml
	cp requirements.lock requirements-runtime.lock
	$(PIP_COMPILE) --build-deps-for editable --output-file requirements-runtime.lock pyproject.toml

clean:
	rm -rf .venv .venv-*

# --without-pip: Debian's python3 has no ensurepip; the outer pip installs into the .venv instead. --no-deps: the lock is
# complete, and pip's resolver would look past it where a dependency has extras.
$(INSTALLED): $(LOCK) pyproject.toml
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --require-hashes -r $(LOCK)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --no-build-isolation --editable .
	touch $@
