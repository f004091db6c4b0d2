# Commands of the checkout. Every target sets up the environment that it needs; `make` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test check soak format proto docs bench up docker-test

# The first Python 3.11 or newer on the path; choose another with `make PYTHON=…`.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

BIN := .venv/bin
INSTALLED := .venv/.installed

# The constraints also apply in the isolated build environment, where newer pip reads the second variable.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without this variable at its import, onnxruntime reports sessions and models to its vendor.
export ORT_DISABLE_TELEMETRY := 1

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(INSTALLED) ## create the virtual environment .venv with all dependencies

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { \
		echo "statewise needs Python 3.11 or newer and finds none on the path: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "statewise needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there)" >&2; exit 1; }
	@echo "installing about seventy packages into .venv; this takes one to three minutes"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install $(shell test -t 2 || echo -qq) -e '.[dev,manifests]'
	@touch $@

demo: $(INSTALLED) ## train, export, serve and stream on real data
	@$(BIN)/statewise demo

# Files run side by side, a process a core; fixtures of a file are made once.
MARKED ?= not long
# Processes of tests find compiled modules in .venv, also where Python is told to write none beside the code.
test: export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache
test: export PYTHONDONTWRITEBYTECODE :=
test: $(INSTALLED) ## run the tests but the long ones; ARGS="tests/wire -x" narrows them
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile --max-worker-restart 0 -m "$(MARKED)" $(ARGS)

check: $(INSTALLED) ## check format, lint, types and all tests; must pass before a change lands
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff --quiet .; echo "run: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(MAKE) --no-print-directory test MARKED=

SOAK_STEPS ?= 1000000
SOAK_EXITS ?= 300
soak: $(INSTALLED) ## take a million steps with random sessions, end programs 300 times; SOAK_STEPS=, SOAK_SEED=, SOAK_EXITS=
	@SOAK_STEPS=$(SOAK_STEPS) SOAK_EXITS=$(SOAK_EXITS) $(BIN)/python -m pytest -q -s -o faulthandler_timeout=0 tests/soak $(ARGS)

format: $(INSTALLED) ## format the code and fix lint errors where possible
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

proto: $(INSTALLED) ## generate statewise.v1 from the .proto files
	@$(BIN)/python proto/generate.py

docs: $(INSTALLED) ## write the tables of settings and of folders into the pages
	@$(BIN)/python docs/configuration.py
	@$(BIN)/python tests/project/house.py --write

BENCH ?= serving
bench: $(INSTALLED) ## run a benchmark beside a comparable program; BENCH=training, ARGS="--rounds 2"
	@$(BIN)/python -m bench.$(BENCH) $(ARGS)

COMPOSE ?= docker compose -f docker/compose.yaml
# Compose takes a path without a slash for the name of a volume.
up: export STATEWISE_REPOSITORY := $(if $(STATEWISE_REPOSITORY),$(abspath $(STATEWISE_REPOSITORY)))
up: ## serve sample models, or the folder $STATEWISE_REPOSITORY, from a container
	@$(COMPOSE) up --build --detach --wait

docker-test: $(INSTALLED) ## build the image and start the compose files on a Docker engine that the tests run
	@$(BIN)/python -m pytest -q -o faulthandler_timeout=1200 tests/docker $(ARGS)
