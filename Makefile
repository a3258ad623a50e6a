# The targets are the whole interface: demo, test, quality, bench. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test quality bench style clean

# torch goes first and by its exact pin, so that every later requirement finds it installed.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(RUN)/pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(RUN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.demo
	$(RUN)/plait demo

test: quality
	$(RUN)/pytest

quality: $(VENV)/.dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/pytest -q tests/test_architecture.py

style: $(VENV)/.dev
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench: $(VENV)/.dev
	$(RUN)/python -m benchmarks

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
