# Everything below needs Python 3.11 or newer and a package registry, nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench bench-pipeline soak audit clean

demo: .venv/installed
	$(BIN)/python -m jobs.demo

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m jobs.bench

bench-pipeline: .venv/installed
	$(BIN)/python -m benchmarks.pipeline

soak: .venv/installed
	$(BIN)/python -m pytest -m soak -s

audit: .venv/installed
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > .venv/installed.txt
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv/installed.txt

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python \
		--constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv demo
