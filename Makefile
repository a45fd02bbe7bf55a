# `make repro` and `make test` need Python >= 3.11, git and make; everything else they install into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= notebooks,cluster,dev
# Notebooks and DVC stages must find this .venv's programs and kernel, and tell nobody about it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1
export DVC_NO_ANALYTICS := 1
export PYTHONHASHSEED := 0
# Every notebook and stage is a process of its own: without Python's caches each compiles torch anew, 3 s and more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: repro test lint clean
repro: $(VENV)/installed
	dvc repro
	@echo "report: results/$$(sed -n 's/^profile: *\([a-z]*\).*/\1/p' params.yaml)/report/index.html"

test: $(VENV)/installed
	ruff check .
	pytest -n 2

lint: $(VENV)/installed
	ruff check --fix .

clean:
	rm -rf $(VENV) build

# uv installs in seconds; plain pip does the same where uv cannot be had or does not find a package.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "carlib needs Python 3.11 to 3.13; call make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q uv || true
	UV_FIND_LINKS="$(PIP_FIND_LINKS)" $(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e ".[$(EXTRAS)]" \
		|| $(BIN)/python -m pip install -q -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@
