# Everything a developer types. `make help` lists it.
#
# The toolchain (restic, Azurite, Kubernetes, helm, ...) is fetched into $ARARAT_CACHE
# (default ~/.cache/ararat) by the targets that need it, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := ararat agent controller tests tools
# Component tests wait more than they compute: each worker has an API server of its own.
WORKERS ?= 3
# So do those on a cluster, where there are processors for two. What KUBECONFIG names is one.
CLUSTERS ?= $(if $(KUBECONFIG),0,2)
CACHE := $(or $(ARARAT_CACHE),$(HOME)/.cache/ararat)
STAMP := $(VENV)/.installed

# Demo and cluster drive real nodes: root is needed.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Hundreds of short programs are started: none of them should compile everything anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml requirements/dev.txt
	@echo "== Python environment in $(VENV) (about 30 s the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --no-compile --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: venv
venv: $(STAMP) ## The Python environment, with every pinned dependency.

.PHONY: toolchain
toolchain: ## restic, Azurite, helm, kubectl, Prometheus, Kubernetes, in the cache.
	@$(PYTHON) -m tests.cluster.toolchain all

.PHONY: demo
demo: venv toolchain ## The main job, narrated: backup, loss, restore, and again in a second cluster.
	@$(BIN)/python -m tests.demo

.PHONY: cluster
cluster: venv toolchain ## Start a real two-node Kubernetes on this machine.
	@$(BIN)/python -m tests.cluster up

.PHONY: cluster-down
cluster-down: venv ## Stop it; nothing is left behind.
	@$(BIN)/python -m tests.cluster down

.PHONY: test
test: venv toolchain ## Everything: lint, unit, component, harness and e2e, beside each other.
	@$(BIN)/python -m tools.beside lint unit component harness e2e

.PHONY: lint
lint: venv ## Format, lint, types, import contract, CRDs against models.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --cache-dir $(CACHE)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell .
	@$(BIN)/python -m tools.crds --check

.PHONY: format
format: venv ## Put every file into the one format.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: unit
unit: venv ## Tests without I/O: seconds, nothing but Python needed.
	@$(BIN)/pytest -n auto tests/unit

.PHONY: component
component: venv toolchain ## Tests against a real API server, restic and Azurite.
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/component

.PHONY: harness
harness: venv toolchain ## Tests of the test cluster itself.
	@$(BIN)/pytest tests/cluster

.PHONY: versions
versions: venv toolchain ## What an old cluster's objects become in a new one. The first time 10 minutes.
	@$(BIN)/python -m tests.cluster.toolchain newer
	@$(BIN)/pytest tests/versions

.PHONY: torture
torture: venv toolchain ## Backups and restores under random kills and outages. MINUTES=30 SEED=...
	@$(BIN)/python -m tests.component.agent.torture --minutes $(or $(MINUTES),30) \
	  $(if $(SEED),--seed $(SEED))

.PHONY: month
month: venv toolchain ## A month of nightly backups, prunes, deletions and a key rotation. NIGHTS=31 SEED=1
	@ARARAT_NIGHTS=$(or $(NIGHTS),31) ARARAT_SEED=$(or $(SEED),1) \
	  $(BIN)/pytest tests/component/controller/life/test_month.py

.PHONY: month-e2e
month-e2e: venv toolchain ## The same on a real two-node cluster, with agents, gates and Jobs as pods. NIGHTS=31
	@ARARAT_E2E_NIGHTS=$(or $(NIGHTS),31) $(BIN)/pytest tests/e2e/test_a_month.py

.PHONY: dashboard
dashboard: venv toolchain ## The chart's dashboard, drawn in Chromium from a real Prometheus. PICTURE=dashboard.png
	@ARARAT_DASHBOARD=$(abspath $(or $(PICTURE),dashboard.png)) \
	  $(BIN)/pytest -s tests/component/controller/life/test_dashboard.py

.PHONY: hook-kills
hook-kills: venv toolchain ## Controllers killed until KILLS=200 have met a frozen pod. SEED=... About 12 minutes.
	@$(BIN)/python -m tests.component.controller.backup.hook_kills --kills $(or $(KILLS),200) \
	  $(if $(SEED),--seed $(SEED))

.PHONY: e2e
e2e: venv toolchain ## Tests on a real two-node cluster, or on the one KUBECONFIG names.
	@$(BIN)/pytest -n $(CLUSTERS) --dist loadfile --no-loadscope-reorder tests/e2e

.PHONY: bench-engine
bench-engine: venv toolchain ## Our engine beside bare restic, at a tenth of the full size (about 10 minutes).
	@$(BIN)/python -m bench.engine --scale 0.1 --output bench/results/engine

.PHONY: crds
crds: venv ## Write the chart's CRDs from the models.
	@$(BIN)/python -m tools.crds

.PHONY: requirements
requirements: venv ## Pin every dependency anew, with hashes.
	@tools/requirements.sh

.PHONY: clean
clean: ## Remove what was made in this directory (the cache stays).
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
