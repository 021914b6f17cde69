# `make demo` and `make test` set everything up by themselves, in .venv.
# PYTHON=/path/to/python chooses the interpreter (3.10 to 3.12);
# PACKAGES=original takes OpenMMLab's own packages, in .venv-original.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-all gpu lint format clean

PACKAGES := current
VENV := $(if $(filter current,$(PACKAGES)),.venv,.venv-$(PACKAGES))
BIN := $(VENV)/bin
READY := $(VENV)/.installed

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(READY)  ## Pre-train a small ResNet-18, compare it with random weights
	@"$(BIN)/python" tools/demo.py

# Up to four processes share the files of tests. `python -m pytest` alone runs
# all in one, which debuggers need.
TESTS := -m pytest -n logical --maxprocesses 4 --dist loadfile

test: $(READY)  ## Run the tests
	@"$(BIN)/python" $(TESTS)

test-all: $(READY)  ## Run all tests except faults (an hour) and gpu
	@"$(BIN)/python" $(TESTS) -m 'not gpu and not faults'

# A wheelhouse (tools/make_wheelhouse.sh) takes the place of .venv, beside the
# PyTorch of PYTHON.
OUT := work_dirs/gpu
PART := a b c
WHEELS := $(wildcard .wheelhouse/*.whl)
GPU := tools/benchmark.py gpu --out "$(OUT)" --part $(PART) \
    $(if $(DATA),--data "$(DATA)") $(if $(SMALL),--small) \
    $(if $(RESUME),--resume)

gpu: $(if $(WHEELS),,$(READY))  ## Test, measure and train on one GPU, at most 25 minutes
ifneq ($(WHEELS),)
	@site=$$(mktemp -d) && trap 'rm -rf "$$site"' EXIT && \
	    export PYTHON="$${PYTHON:-python3}" && \
	    bash tools/install_wheelhouse.sh .wheelhouse "$$site" && \
	    PYTHONPATH="$$PWD:$$site" "$$PYTHON" $(GPU)
else
	@"$(BIN)/python" $(GPU)
endif

lint: $(READY)  ## Check style and types
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"

format: $(READY)  ## Correct style
	@"$(BIN)/ruff" check --fix .
	@"$(BIN)/ruff" format .

clean:  ## Remove the environments and the demo's files
	rm -rf .venv .venv-original build data/demo work_dirs/demo

# The stamp is written last: an interrupted install starts again.
$(READY): pyproject.toml setup.py $(wildcard requirements/*.txt) tools/install.sh
	@bash tools/install.sh "$(VENV)" "$(PACKAGES)"
	@touch "$@"
