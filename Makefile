# The one task runner. Every target does its own set-up on a fresh machine; nothing is installed
# outside $(VENV). See `make help`.

PYTHON ?= python3
VENV ?= .venv
# What the environment gets as torch; on a machine with an NVIDIA GPU for instance
#   make setup TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu126"
TORCH_GIVEN := $(filter-out file undefined,$(origin TORCH))
TORCH ?= $(shell grep '^torch==' constraints.txt)
# More arguments for the program that a target starts: make test ARGS="-m slow -x"
ARGS ?=
# Processes that share the tests, a thread and up to 3 GB each.
JOBS ?= 2

PROSE := $(wildcard *.md docs) callbacks datamodules experiments lightning_trackers measurements tests
TABLES ?= $(basename $(patsubst experiments/conf/table/%,%,$(wildcard experiments/conf/table/*/*.yaml)))
# Measurements that draw their own input.
BENCHMARKS := measurements.procedural_throughput measurements.tracking_speed

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test lint bench tables setup clean FORCE
.DELETE_ON_ERROR:

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-7s %s\n", $$1, $$2}'
	@echo '  variables: PYTHON=python3.12  VENV=.venv  ARGS="more arguments"  TORCH="torch==2.13.0 --index-url ..."  JOBS=4'

run: $(VENV)/.base  ## train, evaluate and report the laptop-sized tracker; ARGS="seed=1" changes the run
	$(BIN)/python -m experiments.run +exp=siamrpn_sl $(ARGS)

test: $(VENV)/.test  ## run the tests; ARGS="-m slow" runs the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=worksteal $(ARGS)

lint: $(VENV)/.dev  ## check style, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell $(PROSE)

bench: $(VENV)/.base  ## measure speeds that need no external data
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python -m $$script $(ARGS) || exit 1; done

tables: $(VENV)/.base  ## make the papers' tables on drawn video; TABLES=gradnet/table3 ARGS="seeds=[0]" makes less
	@failed=0; for table in $(TABLES); do echo "== $$table"; \
	  $(BIN)/python -m experiments.tables table=$$table mode=run $(ARGS) || failed=1; done; exit $$failed

setup: $(VENV)/.base  ## make the environment only; TORCH="..." chooses the torch build

clean:  ## remove the environment
	rm -rf $(VENV)

# --- the environment: each step leaves a stamp, and is done again when what it depends on changes ---

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
	  echo "       Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# A torch named by hand that is not the one installed replaces it.
$(VENV)/.torch: $(VENV)/.made $(if $(TORCH_GIVEN),$(if $(filter-out $(shell cat $(VENV)/.torch 2>/dev/null),$(TORCH)),FORCE))
	@echo "== installing $(TORCH)"
	@if [ -e $@ ]; then $(BIN)/python -m pip uninstall --quiet --yes torch; fi
	@$(PIP_INSTALL) $(TORCH)
	@echo '$(TORCH)' > $@

$(VENV)/.base: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "== installing the package and what it needs"
	@$(PIP_INSTALL) --editable .
	@$(BIN)/python -c 'import cv2' || { \
	  echo "error: OpenCV does not load. On a bare Linux its libraries are missing; install them with"; \
	  echo "       sudo apt-get install libgl1 libglib2.0-0     (Fedora: mesa-libGL glib2)"; exit 1; }
	@touch $@

$(VENV)/.test $(VENV)/.dev: $(VENV)/.%: $(VENV)/.base
	@echo "== installing what 'make $(if $(filter test,$*),test,lint)' needs"
	@$(PIP_INSTALL) --editable '.[$*]'
	@touch $@
