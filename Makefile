# Two commands on a fresh machine: `make demo` and `make test`. Both set up their own environment.
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
ARGS ?=

.PHONY: demo test test-services check bench clean
demo: $(READY)
	$(VENV)/bin/lwd demo $(ARGS)

test: $(READY)
	$(VENV)/bin/pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

# The whole plane on {SQLite, PostgreSQL} x {local, S3}; every server comes from its wheel.
test-services: $(READY)
	$(VENV)/bin/pytest -m "services or not services" tests/system $(ARGS)

check: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

bench: $(READY)
	$(PY) -m benchmarks $(ARGS)

$(READY): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build src/*.egg-info .pytest_cache .ruff_cache
