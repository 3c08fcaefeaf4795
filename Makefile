# make demo: draw a small dataset, train MATH on it, evaluate, draw what it finds; a second time it evaluates the trained
# model, and a run that was cut off goes on. make test, make lint: as they say. make bench: measure, and write
# docs/benchmarks.md; DATA=FOLDER encodes that dataset's pictures. make clean: forget all of it.
# Each makes .venv and installs what it needs on a fresh machine; PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
PY := .venv/bin/python
DEMO := RESULT_MATH_DEMO/demo_16/first

.PHONY: demo test lint format bench clean

demo: .venv/installed
	@test -f dataset/demo/manifest.json || $(PY) tools/make_datasets/make_demo.py
	@if [ -f $(DEMO)/results.json ]; then $(PY) main.py --dataset demo --k-bits 16 --pretrained $(DEMO); \
	elif [ -f $(DEMO)/config.yaml ]; then $(PY) main.py --resume $(DEMO); \
	else $(PY) main.py --is-train --dataset demo --k-bits 16 --save-dir $(DEMO); fi

test: .venv/installed
	$(PY) -m pytest

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

bench: .venv/installed
	$(PY) benchmarks/run_all.py $(if $(DATA),--data $(DATA))

format: .venv/installed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.venv/installed: pyproject.toml requirements.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --editable ".[test,lint]"
	@touch $@

clean:
	rm -rf .venv dataset/demo RESULT_MATH_DEMO
