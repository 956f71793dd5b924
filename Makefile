# make repro   run the benchmark with params.yaml on all cores, then print the leaderboard
# make test    run the tests
# make test-gpu  run the tests that need a GPU; fails on a machine without one
# make check   run lint, types and tests
# make chaos   hours of kills, failing disks, hostile files, threads, leaks and long runs; `make test` has short versions
# make schedule  run `make repro` every night from Prefect's server and UI (CRON, PORT, COMMIT_TO, WORKERS, INSECURE)
# make vulnerabilities  look up the packages of requirements.lock in PyPI and OSV with pip-audit
# make lock    renew requirements.lock from pyproject.toml, with hashes (needs uv); UPGRADE=NAME upgrades one package
# make full    switch params.yaml to the Kaggle data and full budgets, then run the benchmark (one GPU)
# make result RUN=NAME  repeat a full run on archives (CPU cores) and keep it in results/; results/README.md lists them
# make noise   retrain each cell five times with other seeds: how far retraining moves a result (metrics/noise.csv)
# make images-needed RUN=NAME  train the cells of a full run on fewer images: would more help? (results/NAME.images.csv)
# make setup   only create the environment, .venv
# make clean   remove outputs and environment, but not DVC's cache

# Recipes use relative paths and $$PYTHON, so that any character is allowed in the path of the clone and of Python.
PYTHON ?= $(shell command -v python3)
export PYTHON := $(PYTHON)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Messages and sort order must not depend on the locale of the machine.
export LC_ALL := C.UTF-8

.PHONY: repository repro schedule full result noise images-needed test test-gpu lint types check vulnerabilities chaos setup lock clean
.DEFAULT_GOAL := repro

setup: .venv/.complete

.venv/.complete: requirements.lock pyproject.toml
	@case "$$PWD" in *:*) echo "error: $$PWD: PATH cannot hold a folder with a colon; move the clone"; exit 1;; esac
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$PYTHON is older than 3.11; run: make PYTHON=/path/to/python3.11 setup"; exit 1; }
	@if command -v uv >/dev/null; then \
		echo "making .venv with uv"; \
		uv venv --quiet --allow-existing --python "$$PYTHON" .venv && \
		uv pip install --quiet --python .venv/bin/python --compile-bytecode --require-hashes -r requirements.lock && \
		uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable . ; \
	else \
		echo "making .venv with pip (two minutes or so)"; \
		"$$PYTHON" -m venv .venv && \
		.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
		.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . ; \
	fi
	@# The plots of `dvc plots show` then need no network. Elsewhere DVC uses its own template, which does.
	@python -m captchabench.report.plots_template
	@! git rev-parse --git-dir >/dev/null 2>&1 || python -m dvc config --local plots.html_template tmp/plots.html
	@touch $@

# Before `setup`, which installs 6 GB. DVC needs a repository, and the zip file of one has none.
repository:
	@case "$$(git rev-parse --git-dir 2>&1)" in *"not a git repository"*) \
		echo "error: this folder is not in a Git repository, which DVC needs; run git init, or use git clone" >&2; \
		exit 1;; esac

repro: repository setup
	@python -m flows.local
	@python -m captchabench leaderboard

schedule: repository setup
	@python -m flows.serve $(if $(CRON),--cron "$(CRON)") $(if $(PORT),--port "$(PORT)") \
		$(if $(COMMIT_TO),--commit-to "$(COMMIT_TO)") $(if $(WORKERS),--workers "$(WORKERS)") \
		$(if $(INSECURE),--insecure)

full: repository setup
	@python -m captchabench apply params.full.yaml
	@$(MAKE) --no-print-directory repro

result: repository setup
	@python -m captchabench apply params.cpu.yaml "results/$(RUN).yaml"
	@python -m flows.local
	@python -m captchabench publish "$(RUN)"
	@python -m dvc repro --quiet report

# Opt-in, since it takes five times as long as the trainings of `make repro`. Killed, it continues.
noise: repository setup
	@python -m stages.noise

# Opt-in: each cell of the run is trained again on 100, 300, 1,000 and 3,000 images. Killed, it continues.
images-needed: repository setup
	@python -m captchabench apply params.cpu.yaml "results/$(RUN).yaml"
	@python -m flows.local
	@python -m stages.images_needed "$(RUN)"
	@python -m dvc repro --quiet report

test: setup
	@python -m pytest

# One process, since the tests share the GPU.
test-gpu: setup
	@python -m pytest -n 0 -m gpu

lint: setup
	@python -m ruff check .
	@python -m ruff format --check .

types: setup
	@python -m mypy

check: lint types test

# Needs a network but no .venv: pip-audit gets an environment of its own.
vulnerabilities:
	@"$$PYTHON" .ci/vulnerabilities.py

lock:
	@"$$PYTHON" .ci/lock.py $(if $(UPGRADE),--upgrade-package "$(UPGRADE)")

# Each has --help and prints how long it takes.
chaos: setup
	@python -m tests.chaos.kills --kills 100
	@python -m tests.chaos.kills --kills 15 --flow
	@python -m tests.chaos.full_disk --faults 100
	@python -m tests.chaos.fuzz_inputs
	@python -m tests.chaos.threads
	@python -m tests.chaos.leaks
	@python -m tests.chaos.long_life

clean:
	@rm -rf .venv .peers reports trained data/raw data/shards data/rejects data/models data/timings data/predictions data/probes data/latency data/scratch
