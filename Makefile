# Two commands on a fresh machine: `make demo` and `make test`. Both set up their own environment.
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
ARGS ?=
SUITES := metaworld ogbench libero

.PHONY: demo test test-services suites test-suites check bench reference clean
demo: $(READY)
	$(VENV)/bin/lwd demo $(ARGS)

test: $(READY)
	$(VENV)/bin/pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

# The whole plane on {SQLite, PostgreSQL} x {local, S3}; every server comes from its wheel.
test-services: $(READY)
	$(VENV)/bin/pytest -m "services or not services" tests/system $(ARGS)

# Other people's simulators, each in an environment of its own; a real episode of each.
suites: $(SUITES:%=.suites/%/.ready)
test-suites: $(READY) suites
	MUJOCO_GL=egl $(VENV)/bin/pytest -m suites tests/suites $(ARGS)

.suites/%/.ready: tests/suites/%.txt pyproject.toml
	python3 -m venv .suites/$*
	.suites/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $< -e '.[serve]'
	touch $@

check: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

bench: $(READY)
	$(PY) -m benchmarks $(ARGS)

# The pages of docs/reference, from the code; a test compares.
reference: $(READY)
	$(PY) scripts/reference.py

$(READY): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .suites build src/*.egg-info .pytest_cache .ruff_cache
