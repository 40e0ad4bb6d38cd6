# Everything runs in the virtual environment $(VENV), which `setup` makes and repairs.
# PYTHON=/path/to/python3.11 names the interpreter to make it with; ARGS="..." is handed on to pytest or to the demo.
VENV ?= .venv
PYTHON ?=
ARGS ?=
export VENV PYTHON
# What yapf lays out: all code but the configs.
FORMATTED := setup.py demo projects tests tools

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format clean distclean

help:
	@echo 'make setup      make or repair the virtual environment in $(VENV)'
	@echo 'make demo       train and test on a small generated data set; prints a table, leaves pictures'
	@echo 'make test       run the fast tests'
	@echo 'make test-slow  run the slow tests'
	@echo 'make lint       check layout, style, import rules and types'
	@echo 'make format     lay out the code, sort its imports and mend what can be mended by itself'
	@echo 'make clean      remove caches and build leftovers'
	@echo 'make distclean  the same, and remove $(VENV)'
	@echo 'Variables: PYTHON=python3.11 (interpreter for the environment), VENV=.venv, ARGS="..." (for pytest or the demo)'

setup:
	@bash tools/setup_env.sh

demo: setup
	@'$(VENV)/bin/python' demo/demo.py $(ARGS)

test: setup
	@'$(VENV)/bin/python' -m pytest -m 'not slow' $(ARGS)

test-slow: setup
	@'$(VENV)/bin/python' -m pytest -m slow $(ARGS)

lint: setup
	@'$(VENV)/bin/ruff' check
	@'$(VENV)/bin/yapf' --diff --parallel --recursive $(FORMATTED)
	@PYTHONPATH=projects '$(VENV)/bin/lint-imports'
	@'$(VENV)/bin/mypy'

format: setup
	@'$(VENV)/bin/ruff' check --fix --exit-zero
	@'$(VENV)/bin/yapf' --in-place --parallel --recursive $(FORMATTED)

clean:
	rm -rf build dist projects/*.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find configs demo projects tests tools -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	@[ ! -e '$(VENV)' ] || [ -f '$(VENV)/pyvenv.cfg' ] || { echo '$(VENV) is no virtual environment' >&2; exit 1; }
	rm -rf '$(VENV)'
