# Everything a person or CI runs.  `make help` lists it.
PYTHON ?= python3
VENV := .venv
TOOLS := .venv-tools
BIN := $(VENV)/bin
# On Linux a bare `torch` is several GB of CUDA; TORCH_INDEX=URL takes the CPU build from there.
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo test check slow fuzz simulate chaos browser monitoring trackers containers locks sbom bench protos clean

help: ## Show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.user ## Make .venv with unisono and what the demo needs
$(VENV)/.user: pyproject.toml
	@printf '  installing into .venv ...\n'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)' 2>&1 | grep -v '^WARNING' || true
	@$(PIP) -e '.[demo]' 2>&1 | grep -v '^WARNING' || true
	@$(BIN)/python -c 'import unisono.cli, torch, sklearn'
	@touch $@

$(VENV)/.dev: $(VENV)/.user
	@$(PIP) -e '.[demo,dev]' 2>&1 | grep -v '^WARNING' || true
	@$(BIN)/python -c 'import pytest, hypothesis, mypy, ruff, importlinter'
	@touch $@

demo: $(VENV)/.user ## A whole federation on this machine, with real data, in under a minute
	@$(BIN)/unisono demo

test: $(VENV)/.dev ## All tests but the long ones
	$(BIN)/python -m pytest -q -rs -m 'not slow and not containers and not browser and not monitoring and not trackers'

check: $(VENV)/.dev $(TOOLS)/.ready ## Lint, types, import rules, images and compose file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TOOLS)/bin/hadolint deploy/images/*.Dockerfile
	$(TOOLS)/compose --profile '*' config --quiet

slow: $(VENV)/.dev ## The long suites
	$(BIN)/python -m pytest -q -rs -m slow

chaos: $(VENV)/.dev ## Hurt real processes at random (SECONDS=300 SEED=n): the model must not notice
	$(BIN)/python tests/chaos/chaos.py --seconds $(or $(SECONDS),300) $(if $(SEED),--seed $(SEED))

# atheris lies in a folder of its own: few machines can install it, and the other environments need not.
.venv-fuzz/.ready: $(VENV)/.dev
	@$(PIP) --target .venv-fuzz 'atheris>=3.0' 2>/dev/null && touch $@ || echo 'make fuzz: NOT RUN, atheris cannot be installed here (Linux, Python 3.11 to 3.13)'

fuzz: .venv-fuzz/.ready ## Fuzz every parser of outside bytes for SECONDS=60 each (TARGETS="token csr", or all: in one process)
	@test ! -e .venv-fuzz/.ready || PYTHONPATH=.venv-fuzz $(BIN)/python tests/fuzz/fuzz_run.py --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(TARGETS)

simulate: $(VENV)/.dev ## Simulated worlds full of faults, in two tiers, for SECONDS= (60) or WORLDS= of each: how many a minute, and what broke
	$(BIN)/python tests/simulation/simulate.py $(if $(WORLDS),--worlds $(WORLDS),--seconds $(or $(SECONDS),60)) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.dev ## The table of docs/PERFORMANCE.md, measured here
	$(BIN)/python benchmarks/rounds.py --table
	$(BIN)/python benchmarks/secagg.py

# Where apt-get is ours to use, what is missing is installed; elsewhere the tests skip and say so.
APT = command -v $(1) >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
	&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null; } || true

$(VENV)/.browser: $(VENV)/.dev
	@$(PIP) -e '.[demo,dev,browser]' 2>&1 | grep -v '^WARNING' || true
	@touch $@

browser: $(VENV)/.browser ## The dashboard in a real Chromium while a federation trains; pictures go to docs/images
	@$(call APT,chromium,chromium fonts-dejavu-core)
	$(BIN)/python -m pytest -q -rs -s -m browser tests/browser

monitoring: $(VENV)/.dev ## Alerts and Grafana's board against a real Prometheus that scrapes a coordinator
	@$(call APT,promtool,prometheus)
	$(BIN)/python -m pytest -q -rs -s -m monitoring tests/monitoring

trackers: .venv-trackers/.ready ## TensorBoard, MLflow and W&B as they are installed: what they wrote is read back
	.venv-trackers/bin/python -m pytest -v -rs -m trackers tests/trackers

# An environment of their own: they pin what they like.
.venv-trackers/.ready: pyproject.toml
	@test -x .venv-trackers/bin/python || $(PYTHON) -m venv .venv-trackers
	@.venv-trackers/bin/python -m pip install --quiet --disable-pip-version-check -e '.[tensorboard,mlflow,wandb]' pytest hypothesis 2>&1 | grep -v '^WARNING' || true
	@.venv-trackers/bin/python -c 'import pytest, unisono.server.tracking'
	@touch $@

containers: $(VENV)/.dev $(TOOLS)/.ready ## Images and docker-compose.yml on a real engine, started here if there is none
	$(BIN)/python -m pytest -v -rs -m containers tests/containers

# Programs of their own, so an environment of their own.  Compose's wrapper in its wheel hides the exit code.
$(TOOLS)/.ready: deploy/tools.txt
	@test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r $< 2>&1 | grep -v '^WARNING' || true
	@ln -sf lib/$$(ls $(TOOLS)/lib)/site-packages/compose/docker-compose $(TOOLS)/compose
	@touch $@

locks: $(TOOLS)/.ready ## Write deploy/images/requirements*.lock anew (TORCH_INDEX=URL or WHEELS=DIR for PyTorch's CPU build)
	UV=$(TOOLS)/bin/uv deploy/images/lock.sh

sbom: $(VENV)/.dev $(TOOLS)/.ready ## dist/: the wheel, and for it and each image what is inside (CycloneDX) and under which licence
	$(BIN)/python deploy/sbom.py --tools $(TOOLS)

# The generator's packages hold protobuf below 7, so they get an environment of their own.
.venv-protos/.ready: pyproject.toml
	@test -x .venv-protos/bin/python || $(PYTHON) -m venv .venv-protos
	@.venv-protos/bin/python -m pip install --quiet 'grpcio-tools==1.74.0' 'mypy-protobuf==5.1.0' 'setuptools<81'
	@touch $@

protos: .venv-protos/.ready ## Generate unisono.wire from protos/ (CHECK=1 only compares)
	.venv-protos/bin/python protos/generate.py $(if $(CHECK),--check)

clean: ## Remove what make made
	rm -rf $(VENV) $(TOOLS) .venv-protos .venv-trackers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
