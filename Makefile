# `make run`, `make test`, `make demo`: nothing is needed but Python >= 3.11 and a package index.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test demo lint lock audit bench-log bench-query bench-page bench-serve bench-loader fuzz install install-tests

run: install
	$(BIN)/flask prepare
	exec $(BIN)/gunicorn

# One process for each core; but the tests that start services need the cores themselves.
# The second time, only what uses a database: the rest would do the same again.
test: SPREAD := -n auto --dist loadfile
test: install-tests
	env -u TEST_DATABASE_URL $(BIN)/python -m pytest $(SPREAD) --ignore tests/process
	env -u TEST_DATABASE_URL $(BIN)/python -m pytest tests/process
	@if [ -n "$$TEST_DATABASE_URL" ]; then \
		echo "The tests that use a database, once more, on PostgreSQL:"; \
		$(BIN)/python -m pytest $(SPREAD) tests/api tests/cli tests/unit/db tests/unit/services \
			tests/process/test_network.py; \
	else \
		echo "Nothing was tested on PostgreSQL: TEST_DATABASE_URL is not set."; \
	fi

demo: install-tests
	$(BIN)/python -m tests.demo

lint: install-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# After a change of requirements.txt: the same, with the hash of every file that an index may give.
lock: .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip compile --quiet --no-deps --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --output-file requirements.lock requirements.txt

# Asks PyPI for known vulnerabilities, and fails if it does not answer.
audit: .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

bench-log: install-tests
	$(BIN)/python -m benchmarks.bench_log

bench-query: install-tests
	$(BIN)/python -m benchmarks.bench_query

bench-page: install-tests
	$(BIN)/python -m benchmarks.bench_page

bench-serve: install-tests
	$(BIN)/python -m benchmarks.bench_serve

# One thread, as a worker has; and OpenMP's threads would not outlive the fork of the fuzzer.
bench-loader fuzz: export OMP_NUM_THREADS = 1
bench-loader fuzz: export OPENBLAS_NUM_THREADS = 1

bench-loader: install-tests
	$(BIN)/python -m benchmarks.bench_loader

# The number of a file makes it: another FIRST makes others.
fuzz: SECONDS ?= 60
fuzz: FIRST ?= 0
fuzz: install-tests
	$(BIN)/python -m benchmarks.fuzz_loader --seconds $(SECONDS) --first $(FIRST)

install: .venv/installed
install-tests: .venv/installed-tests

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.venv/installed-tests: .venv/installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@
