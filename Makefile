# One command each; every target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: native

# The virtual environment, with the package in editable mode.
$(BIN)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q 'scikit-build-core>=0.10' 'nanobind>=2.2'
	$(BIN)/pip install -q --no-build-isolation -e '.[dev]'
	touch $@

# Build the native kernels in place (editable mode keeps Python files in src/).
native: $(BIN)/.ready
	$(BIN)/pip install -q --no-build-isolation --no-deps -e .
