# make demo    the whole job on the embedded model and the demo data, in runs/demo
# make test    lint, notebooks, tests, documentation site, README; without the tests that take
#              minutes: .venv/bin/pytest -m slow
# make lint    ruff over code and notebooks, mypy over the package
# make docs    the site, in _docs, and README.md
# make bench   the measured claims: all, or BENCH="labels substitution"
# make lab     JupyterLab on the notebooks
# Each first sets up .venv from constraints.txt, with PYTHON (3.10 to 3.12), unless it is there.
PYTHON ?= python3
BENCH ?=
BIN := .venv/bin

.PHONY: demo test lint docs bench lab
.DELETE_ON_ERROR:

demo: .venv/.installed
	$(BIN)/selective-unlearning demo

test: .venv/.installed
	$(BIN)/python tools/test_all.py

lint: .venv/.installed
	$(BIN)/ruff check
	$(BIN)/mypy

docs: .venv/.installed
	$(BIN)/python tools/docs.py

bench: .venv/.bench
	$(BIN)/python benchmarks/run.py $(BENCH)

lab: .venv/.installed
	$(BIN)/jupyter trust nbs/*.ipynb nbs/*/*.ipynb >/dev/null  # else their styles are left out
	$(BIN)/jupyter lab --config=tools/jupyter_config.py \
	  --LabApp.default_url=/lab/tree/nbs/tutorials/00_tour.ipynb \
	  $$([ "$$(id -u)" != 0 ] || echo --allow-root)

.venv/.installed: settings.ini setup.py pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# What the benchmarks compare with.
.venv/.bench: .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

# Debian parts ensurepip from Python: without it, the environment gets pip from the pip outside.
$(BIN)/python:
	$(PYTHON) -m venv .venv >/dev/null 2>&1 || { $(PYTHON) -m venv --clear --without-pip .venv && \
	  $(PYTHON) -m pip install --quiet pip --target \
	  "$$($@ -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; } || \
	  { echo "make: $(PYTHON) needs venv and pip (on Debian: apt-get install python3-venv python3-pip)" >&2; exit 1; }
