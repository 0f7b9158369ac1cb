# `make run`, `make test`, `make demo`: nothing is needed but Python >= 3.11 and a package index.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test demo lint install install-tests

run: install
	$(BIN)/flask prepare
	exec $(BIN)/gunicorn

test: install-tests
	$(BIN)/python -m pytest

demo: install
	$(BIN)/python -m tests.demo

lint: install-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/installed
install-tests: .venv/installed-tests

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.venv/installed-tests: .venv/installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@
