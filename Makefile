# make demo       math-hash demo --no-serve: draw a small dataset, train MATH on it, evaluate it, and draw what it
#                 retrieves; run again, it evaluates the trained model, or resumes a run that was interrupted
# make test       all tests and the examples in docstrings; make test-fast leaves out the slow ones and those that
#                 start servers or browsers; JOBS sets how many processes run them
# make lint       ruff, mypy and hadolint; make format repairs what ruff can repair
# make docs       the guides and the reference as a site in site/; needs no network
# make bench      measure, and write docs/benchmarks.md; DATA=FOLDER encodes the images of that dataset folder
# make clean      remove the environment, the demo's dataset and its run
# Each target creates .venv and installs what it needs on a fresh machine; PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
JOBS ?= 2
PY := .venv/bin/python
# threads that wait for work sleep: on few cores, spinning ones would take the time of the other test process
PYTEST := OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile

.PHONY: demo test test-fast lint format docs bench clean

demo: .venv/installed
	@$(PY) -m math_hash demo --no-serve

test: .venv/developed
	$(PYTEST)

test-fast: .venv/developed
	$(PYTEST) -m "not slow and not server and not browser"

lint: .venv/developed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	if [ -x .venv/bin/hadolint ]; then .venv/bin/hadolint Dockerfile; fi

format: .venv/developed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: .venv/developed
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

bench: .venv/developed
	$(PY) benchmarks/run_all.py $(if $(DATA),--data $(DATA))

# the package alone
.venv/installed: pyproject.toml requirements.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --editable .
	@touch $@

# with the tools for tests and linting, and what the tests start; without a Chromium, the tests of the page are skipped
.venv/developed: .venv/installed
	$(PY) -m pip install --quiet --editable ".[test,lint]"
	@command -v chromium || command -v google-chrome || command -v chromium-browser || { apt-get update --quiet && \
	apt-get install --yes --quiet --no-install-recommends chromium; } || echo "tests in a browser need a Chromium"
	@touch $@

clean:
	rm -rf .venv dataset/demo RESULT_MATH_DEMO site
