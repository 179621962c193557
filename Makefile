# `make help` tells what there is. Everything lives in .venv; nothing is installed
# outside it but system libraries that a window needs (see .ci/window).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Set TORCH_INDEX to a package index to choose the build of PyTorch, e.g.
# make test TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
TORCH := torch==2.13.0
EXTRAS := all,test,convert,dicom,itk,pretrain,track
TOOLS := build mypy ruff setuptools

DEMO_DIR ?= demo
# More for pytest, e.g. make test PYTEST_ARGS="-k freeze"
PYTEST_ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup window demo test lint clean

help: ## Tell what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 8

setup: $(STAMP) ## Make .venv and install into it; done once, until the requirements change

# torch goes first and alone: what follows then finds it there and takes no other build.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than Python 3.11. Name a newer one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || bash .ci/window venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/pip install -q -c constraints.txt -e ".[$(EXTRAS)]" $(TOOLS)
	@touch $@

window: ## Make sure that the system has what a napari window needs
	@bash .ci/window

demo: setup ## Run the main job on the bundled model and sample; napari opens at the end
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; then bash .ci/window; fi
	$(BIN)/hydraseg demo --overwrite -o $(DEMO_DIR)

test: setup window ## Run every test, with a real window on a virtual screen
	bash .ci/window run $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## Remove what was made here: environment, caches, builds, the demo's folder
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist $(DEMO_DIR)
	rm -rf src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
