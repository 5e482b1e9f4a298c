# Everything below needs Python 3.11 to 3.14 and a package registry, nothing else.
## PYTHON: the Python that .venv is made of
PYTHON ?= python3
## PYTHON312: version or path of the Python of the lowest versions; uv looks for it
PYTHON312 ?= 3.12
BIN := .venv/bin
LOWEST := .venv-lowest/bin
# Compiled once, since each of the many processes of a run imports torch or Ray: without, and where
# PYTHONDONTWRITEBYTECODE is set, every one of them would compile them anew, for seconds.
INSTALL = $(BIN)/uv pip install --quiet --compile-bytecode
# what needs neither a Ray cluster nor much time
QUICK := not soak and not ray
# Threads of torch that wait for each other take the CPU away from those they wait for, where more
# of them are than CPUs.
THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
# a file at once on each CPU; what is killed at a certain time comes one after the other
SPREAD := --numprocesses logical --maxprocesses 4 --dist loadfile

.PHONY: help demo test test-quick test-lowest lint format bench bench-pipeline soak audit clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@awk -F ': ' '/^## / {printf "  %-21s%s\n", substr($$1, 4) "=...", $$2}' $(MAKEFILE_LIST)

demo: .venv/installed ## detects objects in the photographs of scikit-image, and writes a report
	$(BIN)/python -m jobs.demo

test: .venv/installed ## all tests but the long ones
	$(THREADS) $(BIN)/python -m pytest -m "not soak and not alone" $(SPREAD)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "alone and not soak" tests/whole

test-quick: .venv/installed ## the tests that need no Ray cluster
	$(THREADS) $(BIN)/python -m pytest -m "$(QUICK)" $(SPREAD)

test-lowest: .venv-lowest/installed ## the same with the lowest versions that pyproject.toml allows
	$(THREADS) $(LOWEST)/python -m pytest -m "$(QUICK)" $(SPREAD)

lint: .venv/installed ## style, types, and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed ## puts into order what can be put into order without a person
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed ## the engine and a whole run, beside what a user of torchvision would write
	$(BIN)/python -m jobs.bench

bench-pipeline: .venv/installed ## the pipeline without the network, beside Ray Data's read_images
	$(BIN)/python -m benchmarks.pipeline

soak: .venv/installed ## the long tests of faults and of scale: hours
	$(BIN)/python -m pytest -m soak -s

audit: .venv/installed ## known weaknesses of the installed packages
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > .venv/installed.txt
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv/installed.txt

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt uv
	$(INSTALL) --python $(BIN)/python --constraint constraints.txt --editable '.[test]'
	touch $@

.venv-lowest/installed: pyproject.toml .venv/installed
	$(BIN)/uv venv --quiet --clear --seed --python $(PYTHON312) .venv-lowest
	$(INSTALL) --python $(LOWEST)/python --resolution lowest-direct --editable '.[test]'
	touch $@

clean: ## removes both environments and the demo
	rm -rf .venv .venv-lowest demo
