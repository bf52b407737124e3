# Everything that a fresh machine needs is set up in .venv by the targets themselves.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/installed

.PHONY: demo test lint docs dist clean

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(INSTALLED)
	rm -rf demo
	$(VENV)/bin/python scripts/demo.py --output demo

test: $(INSTALLED) lint
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

# The documentation, in build/site.
docs: $(INSTALLED)
	$(VENV)/bin/mkdocs build --strict

# The files of a release, checked, and the wheel tried in a new environment.
dist: $(INSTALLED)
	rm -rf dist build/release
	$(VENV)/bin/python -m build
	$(VENV)/bin/twine check --strict dist/*
	$(PYTHON) -m venv build/release
	build/release/bin/pip install --quiet --disable-pip-version-check dist/*.whl
	build/release/bin/hf-gar --version
	build/release/bin/python scripts/demo.py --output build/release/demo

clean:
	rm -rf $(VENV) demo build dist
