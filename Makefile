# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard native/*)
PYTHON310 ?= python3.10
NNCASE := .cache/nncase-venv
BUILD_TOOLS := 'scikit-build-core>=0.10' 'nanobind>=2.2' $(if $(shell command -v cmake),,'cmake>=3.20' ninja)
PIP := $(BIN)/pip install -q --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint format examples bench native nncase-env docs clean notebooks

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.all $(VENV)/.native  ## compile two real models, run them on real pictures, compare
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: $(VENV)/.dev $(VENV)/.native  ## all tests
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.dev  ## ruff, strict types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=src:tools $(BIN)/mypy --strict --explicit-package-bases tools
	$(BIN)/python tools/check_imports.py
	$(BIN)/python tools/make_operators_page.py --check

format: $(VENV)/.dev  ## lay out all Python files
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev  ## write the generated pages again (docs/operators.md, the pictures of the README)
	$(BIN)/python tools/make_operators_page.py
	$(BIN)/python tools/make_pictures.py

examples: $(VENV)/.dev $(VENV)/.native  ## compile every example and count its right answers
	$(BIN)/python -m pytest tests/examples

notebooks: $(VENV)/.dev $(VENV)/.native  ## run the notebooks, cell by cell
	$(BIN)/python tools/run_notebooks.py

bench: $(VENV)/.dev $(VENV)/.native  ## speed against onnxruntime int8; with OPENKPU_NNCASE_PYTHON also against nncase 1.9
	$(BIN)/python benchmarks/speed_ort.py
	@if [ -n "$$OPENKPU_NNCASE_PYTHON" ]; then $(BIN)/python benchmarks/compare_nncase.py mobilenet; \
	else echo 'For nncase: make nncase-env, then set OPENKPU_NNCASE_PYTHON as it says.'; fi

native: $(VENV)/.all $(VENV)/.native  ## build the C++ kernels again after a change

nncase-env: $(NNCASE)/.ready  ## an environment with nncase 1.9 for the benchmarks (needs Python 3.10)

clean:  ## remove everything that make has made
	rm -rf $(VENV) build .demo .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

# -- set-up; each stamp says that a step is done ---------------------------------------------------------------------
# pip builds the C++ kernels; it brings cmake and ninja by itself where the system has none.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=/path/to/python3" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.all: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[all]'
	@touch $(VENV)/.native $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $(VENV)/.native $(VENV)/.all $@

$(VENV)/.native: $(NATIVE)
	$(PIP) $(BUILD_TOOLS)
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(NNCASE)/.ready:
	$(PYTHON310) -c 'import sys; sys.exit("nncase 1.9 needs Python 3.10: make nncase-env PYTHON310=/path/to/python3.10" if sys.version_info[:2] != (3, 10) else 0)'
	$(PYTHON310) -m venv $(NNCASE)
	$(NNCASE)/bin/pip install -q nncase==1.9.0.20230322 numpy==1.26.4 onnx==1.14.1 onnxruntime==1.23.2
	$(NNCASE)/bin/python -c 'import onnxruntime, nncase'
	@touch $@
	@echo 'export OPENKPU_NNCASE_PYTHON=$(NNCASE)/bin/python'
