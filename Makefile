# Two commands do everything: `make demo` (the main job) and `make test` (all of it). `make check` is the fast inner loop.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test check lint types unit integration versions kube bench clean help
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "drain needs Python 3.11 or newer: make PYTHON=python3.13 ..."; exit 1; }
	@echo "Setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $(STAMP)

demo: $(STAMP)  ## restart real servers under load: plain stop(grace) beside drain
	$(BIN)/drain demo $(ARGS)

check: lint types unit  ## the inner loop: lint, types, unit tests; under a minute

lint: $(STAMP)
	$(BIN)/ruff check drain examples tests
	$(BIN)/ruff format --check drain examples tests
	$(BIN)/lint-imports --no-logo

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)  ## pure tests
	$(BIN)/python -m pytest -q tests/unit

integration: $(STAMP)  ## real processes, real signals
	$(BIN)/python -m pytest -q tests/integration

versions: $(STAMP)  ## every ending of a call at live servers, on each supported grpcio
	$(BIN)/python -m pytest -q tests/versions

kube: $(STAMP)  ## a real Kubernetes API server, as root; builds it the first time: ten minutes
	$(BIN)/python -m tests.kube
	$(BIN)/python -m pytest -q tests/kube

test: lint types  ## everything
	$(BIN)/python -m tests.kube
	$(BIN)/python -m pytest tests/unit tests/integration tests/versions tests/kube

bench: $(STAMP)  ## the measures of README, by hand; an hour, or ARGS=--quick
	$(BIN)/python -m tests.bench $(ARGS)

clean:  ## remove what make made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis drain-demo.html
