# Two commands do everything: `make demo` (the main job) and `make test` (all of it). `make check` is the fast inner loop.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test check lint types unit integration versions helm proxies kube test-cluster bench compare docs clean help
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

helm: $(STAMP)  ## the charts, with a real helm
	$(BIN)/python -m pytest -q tests/helm

proxies: $(STAMP)  ## behind a real Envoy, HAProxy, Traefik, nginx
	$(BIN)/python -m pytest -q tests/proxies

test-cluster: $(STAMP)  ## a real Kubernetes node on this machine, as root; or yours: KUBECONFIG=... IMAGE=... make test-cluster
	$(BIN)/python -m pytest -q tests/cluster $(if $(KUBECONFIG),--kubeconfig=$(KUBECONFIG) --image=$(IMAGE))

# Most tests wait more than they work, so several run at once; not those that share one machine-wide thing, or count calls under load.
test: lint types  ## everything
	$(BIN)/python -m tests.kube
	$(BIN)/python -m tests.cluster
	$(BIN)/python -m pytest -n 3 --dist loadfile tests/unit tests/integration tests/helm tests/versions
	$(BIN)/python -m pytest tests/proxies tests/kube tests/cluster

bench: $(STAMP)  ## the measures of docs/measured.md, by hand; an hour, or ARGS=--quick
	$(BIN)/python -m tests.bench $(ARGS)

compare: $(STAMP)  ## every known way side by side in a real cluster, as root, by hand; two hours, or ARGS=--quick
	$(BIN)/python -m tests.bench.compare $(ARGS)

docs: $(STAMP)  ## the API reference, in site/
	$(BIN)/pdoc --docformat google --output-directory site drain drain.config drain.errors drain.events drain.prestop drain.report drain.status drain.testing drain.workers

clean:  ## remove what make made
	rm -rf site $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis drain-demo.html drain-rehearsal.html compare.json compare.html
