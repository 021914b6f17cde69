# `make demo` and `make test` set everything up by themselves, in .venv.
# PYTHON=/path/to/python chooses the interpreter (3.10 to 3.12).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: $(READY)  ## Make scenes, pre-train a ResNet-18 on them, transfer it
	@"$(BIN)/python" tools/demo.py

test: $(READY)  ## Run the tests (README: `python -m pytest`)
	@"$(BIN)/python" -m pytest

test-all: $(READY)  ## Run the slow tests too; faults (an hour) and gpu apart
	@"$(BIN)/python" -m pytest -m 'not gpu and not faults'

lint: $(READY)  ## Check style
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .

format: $(READY)  ## Correct style
	@"$(BIN)/ruff" check --fix .
	@"$(BIN)/ruff" format .

clean:  ## Remove .venv and the demo's files
	rm -rf "$(VENV)" data/demo work_dirs/demo work_dirs/plan_demo

# The stamp is written last: an install that broke off is begun anew.
$(READY): setup.py requirements/constraints.txt tools/install.sh
	@bash tools/install.sh "$(VENV)"
	@touch "$@"
