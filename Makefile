# The two commands of the README. Both create .venv when it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CONFIG ?= configs/quickstart.yaml
PIP = $(BIN)/python -m pip --disable-pip-version-check

.PHONY: quickstart test coverage test-faults test-docs test-llama-cpp test-lm-eval test-ray
.PHONY: reference docs lint clean

quickstart: $(VENV)/.installed
	$(BIN)/chatgpt preprocess --config $(CONFIG)
	$(BIN)/chatgpt pretrain --config $(CONFIG)
	$(BIN)/chatgpt finetune --config $(CONFIG)
	$(BIN)/chatgpt evaluate --config $(CONFIG)
	$(BIN)/chatgpt generate --config $(CONFIG) --samples

# One process a core, each with one thread: faster than threads on models this small.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

# The same tests, and which lines they run; fails below 90%.
coverage: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-fail-under=90 $(PYTEST_ARGS)

# Kills, damages, full disks and fuzzing, for as long as that takes; `make test` has a sample.
test-faults: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -m "faults or not faults" -s \
		--hypothesis-profile new $(PYTEST_ARGS)

# Every command block of README and guides, with small models.
test-docs: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto tests/docs -m docs $(PYTEST_ARGS)

# Our .gguf files in llama.cpp itself. Its wheel is built here, which takes many minutes.
test-llama-cpp: $(VENV)/.installed-dev
	$(PIP) install --quiet llama-cpp-python
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/interop/test_gguf.py $(PYTEST_ARGS)

# A checkpoint folder in the Evaluation Harness (lm-eval), whose many packages take a while.
test-lm-eval: $(VENV)/.installed-dev
	$(PIP) install --quiet --constraint constraints.txt lm-eval
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/interop/test_lm_eval.py $(PYTEST_ARGS)

# Preprocessing on Ray, started here; its package is a large one.
test-ray: $(VENV)/.installed-dev
	$(PIP) install --quiet --constraint constraints.txt ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/data/test_parts.py -k ray $(PYTEST_ARGS)

# docs/reference/, from the commands' options and the settings' schema.
reference: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py

# The documentation as a site, in site/; a broken link is an error.
docs: $(VENV)/.installed-dev reference
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# An editable install, so that the commands run the code you are reading.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed, this is %d.%d. Set PYTHON=/path/to/python3.11" % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs build dist site
