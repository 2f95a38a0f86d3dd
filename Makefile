# Every habit of the project. On a new machine each target installs what it needs first: uv, or Python >= 3.11
# to get it; nothing needs root.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

UV := $(shell command -v uv || echo .uv/bin/uv)
PYTHON := .venv/bin/python
RUN := .venv/bin
WORKDIR ?= runs/demo
DATA ?= ../shared/data/msd-hippocampus

# Importing torch and MONAI without their bytecode takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.uv/bin/uv:
	@command -v python3 >/dev/null || { echo "make: needs uv or Python >= 3.11 (python3)"; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: python3 is older than 3.11"; exit 1; }
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv

# The environment is the lock file's, hash by hash.
.venv/installed: $(if $(filter .uv/bin/uv,$(UV)),.uv/bin/uv) requirements.lock pyproject.toml
	@echo "installing packages (the first time takes a minute or two)"
	$(UV) venv --quiet --allow-existing --python '>=3.11' .venv
	$(UV) pip sync --quiet --python $(PYTHON) --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: .venv/installed ## Install everything into .venv

.PHONY: lock
lock: ## Write requirements.lock anew from pyproject.toml
	$(UV) pip compile --quiet --universal --all-extras --group dev --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --no-emit-index-url pyproject.toml --output-file requirements.lock

.PHONY: tools
tools: .venv/installed ## Build the servers and clients that tests run (etcd, kube-apiserver, MinIO, versitygw, Helm)
	$(PYTHON) tools/build.py etcd kube-apiserver kube-controller-manager minio prometheus promtool versitygw \
	  helm kubectl kubeconform toxiproxy

.PHONY: charts
charts: .venv/installed ## Copy crds/ into the chart, and write the tables of values
	$(PYTHON) tools/charts.py

.PHONY: demo
demo: .venv/installed ## Run the paper in miniature on a phantom data set: each site alone, and the federation
	@test -d $(WORKDIR)/data || $(RUN)/segviz data phantom $(WORKDIR)/data
	$(RUN)/segviz study examples/demo examples/phantom/federation.yaml --data $(WORKDIR)/data --workdir $(WORKDIR)/study

.PHONY: study
study: .venv/installed ## Compare every method on the phantom data set: both tables, tests and a report
	@test -d $(WORKDIR)/data || $(RUN)/segviz data phantom $(WORKDIR)/data
	$(RUN)/segviz study examples/phantom --data $(WORKDIR)/data --workdir $(WORKDIR)/study

.PHONY: hippocampus
hippocampus: .venv/installed ## Compare the methods on real images (DATA=folder of MSD Task04)
	$(RUN)/segviz study examples/hippocampus --data $(DATA) --workdir runs/hippocampus

# Two processes of different tests, and not two workers: each worker would collect all tests, and import torch for it.
TORCHLESS := $(filter-out %/trainer %/__pycache__ %.py,$(wildcard tests/unit/*)) tests/unit/trainer/dicom
# Lines are counted by the interpreter itself where it can: from Python 3.12 on, at a fraction of the time.
CORE = $(shell $(PYTHON) -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')
UNIT = COVERAGE_CORE=$(CORE) COVERAGE_FILE=.coverage.$@ $(RUN)/pytest -q --hypothesis-profile=quick --cov --cov-report= --cov-fail-under=0

.PHONY: unit unit-torchless unit-torch
unit: export OMP_NUM_THREADS := 1  # a process for each core
unit: .venv/installed ## Run the unit tests alone (no servers), with their coverage
	$(MAKE) --no-print-directory --jobs=2 --output-sync unit-torchless unit-torch
	$(RUN)/coverage combine --quiet .coverage.unit-torchless .coverage.unit-torch
	$(RUN)/coverage report --skip-covered

unit-torchless:
	$(UNIT) $(TORCHLESS)

unit-torch:
	$(UNIT) --ignore=tests/unit/trainer/dicom tests/unit/trainer

.PHONY: mutants
mutants: .venv/installed ## Count which small faults of the pure core its tests see (ONLY=end of a module, such as closing)
	$(PYTHON) tools/mutants.py $(ONLY)

.PHONY: test
test: .venv/installed tools ## Run unit, property and integration tests
	$(RUN)/pytest -n 2 --dist loadfile

.PHONY: simulate
simulate: export OMP_NUM_THREADS := 1
simulate: .venv/installed ## Simulate whole federations over a bad store for MINUTES (30), or the one of a SEED
	PYTHONPATH=tests $(PYTHON) -m simulator $(if $(SEED),--seed $(SEED),--minutes $(or $(MINUTES),30))

.PHONY: gpu
gpu: .venv/installed ## Run what needs a GPU (without one every test says so)
	$(RUN)/pytest -m gpu tests/integration/test_gpu.py

.PHONY: lint
lint: .venv/installed ## ruff, mypy --strict, import-linter, yamllint, copies in the charts, links in the docs
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	MYPYPATH=tools:bench $(RUN)/mypy tools/build.py tools/bump.py tools/charts.py tools/links.py tools/minutes.py tools/mutants.py bench
	MYPYPATH=tools $(RUN)/mypy tools/cluster tools/release
	$(RUN)/lint-imports
	$(RUN)/yamllint --strict .
	$(PYTHON) tools/charts.py --check
	$(PYTHON) tools/links.py

# Peers of the benches, which must not share our environment.
.flwr/installed: .venv/installed
	$(UV) venv --quiet --allow-existing --python '>=3.11' .flwr
	$(UV) pip install --quiet --python .flwr/bin/python 'flwr[simulation]==1.41.0' safetensors
	@touch $@

.nvflare/installed: .venv/installed
	$(UV) venv --quiet --allow-existing --python '>=3.11' .nvflare
	$(UV) pip install --quiet --python .nvflare/bin/python nvflare==2.9.0
	@touch $@

.surface/installed: .venv/installed
	$(UV) venv --quiet --allow-existing --python '>=3.11' .surface
	$(UV) pip install --quiet --python .surface/bin/python surface-distance==0.1
	@touch $@

.PHONY: bench
bench: .flwr/installed .nvflare/installed .surface/installed ## Measure beside peers: aggregation, a round, training, metrics, a scrape
	$(PYTHON) bench/aggregate.py --sites 4 --sites 16 --sites 64 --flwr-python .flwr/bin/python
	$(PYTHON) bench/round.py --flwr-python .flwr/bin/python --nvflare-python .nvflare/bin/python
	$(PYTHON) bench/train.py
	$(PYTHON) bench/metrics.py --surface-distance-python .surface/bin/python
	$(PYTHON) bench/metrics_page.py
	$(PYTHON) bench/signing.py

CLUSTER := PYTHONPATH=tools $(PYTHON) -m cluster

.PHONY: cluster
cluster: .venv/installed ## Boot a Kubernetes cluster of one node on this machine (root), and print its KUBECONFIG
	$(CLUSTER) up

.PHONY: cluster-down
cluster-down: .venv/installed ## Stop that cluster and remove all that it made
	$(CLUSTER) down

.PHONY: e2e
e2e: .venv/installed ## Test everything on a real cluster: one on this machine (root), or KUBECONFIG's with SEGVIZ_*_IMAGE
	$(CLUSTER) exec -- $(PYTHON) -m pytest --timeout=1200 tests/e2e $(E2E)

.PHONY: e2e-full
e2e-full: .venv/installed tools ## Run what takes too long for CI, on the same cluster
	$(CLUSTER) exec -- $(PYTHON) -m pytest -m full --timeout=3600 tests/integration tests/e2e $(E2E)

.PHONY: images
images: .venv/installed ## Build the images (BASE_IMAGE=…, PYTHON_VERSION=of that base, TAG=…)
	$(CLUSTER) build --base $(or $(BASE_IMAGE),python:3.13-slim) --python-version $(or $(PYTHON_VERSION),3.13) --tag $(or $(TAG),latest)

.PHONY: release
release: .venv/installed ## Push images, charts, SBOM and provenance, signed (REGISTRY=HOST/PATH KEY=segviz.pem; as root)
	@test -n "$(REGISTRY)" -a -n "$(KEY)" || { echo "make release: needs REGISTRY=HOST/PATH and KEY=FILE, a key on P-256 (docs/how-to/release.md)"; exit 2; }
	PYTHONPATH=tools $(PYTHON) -m release --registry $(REGISTRY) --key $(KEY) \
	  --base $(or $(BASE_IMAGE),python:3.13-slim) --python-version $(or $(PYTHON_VERSION),3.13) $(RELEASE)

.PHONY: bump
bump: .venv/installed ## Raise the version everywhere (VERSION=0.2.0)
	$(PYTHON) tools/bump.py $(or $(VERSION),'')

.PHONY: sbom
sbom: .venv/installed ## Write each image's bill of materials to dist/sbom
	$(CLUSTER) bom dist/sbom

.PHONY: clean
clean: ## Remove what make has made; other runs under runs/ stay
	rm -rf .venv .uv .flwr .nvflare .surface runs/demo dist .mutants .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@rmdir runs 2>/dev/null || true
