# KAITO in Python. `make demo` shows the main job; `make test` runs every test. GNU Make 3.81 suffices.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test lint format manifests docs constraints check-wheels wheels bench clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/'

demo: ## Apply a Workspace on this machine and get an answer from /chat
	@hack/venv.sh local
	@.venv/bin/kaito demo

test: ## Run every test
	@hack/venv.sh dev
	@KAITO_TEST_KUBECTLS=$$(hack/kubectls.sh) .venv/bin/python -m pytest $(PYTEST_ARGS)

lint: ## Format check, lint, strict types, layers
	@hack/venv.sh dev
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: ## Format the code
	@hack/venv.sh dev
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

manifests: ## Write manifests/crd from the models
	@hack/venv.sh dev
	@.venv/bin/python -m kaito.api.generate

docs: ## Write docs/runtime/options.md and metrics.md from the code
	@hack/venv.sh dev
	@.venv/bin/python hack/docs_options.py

constraints: ## Resolve constraints.txt anew
	@hack/venv.sh dev
	@hack/constraints.sh

check-wheels: ## Prove that constraints.txt installs from wheels on every platform and Python
	@hack/venv.sh dev
	@hack/check-wheels.sh

wheels: ## Build both distributions into dist/
	@hack/venv.sh dev
	@rm -rf dist
	@.venv/bin/python -m build --quiet --wheel --no-isolation --outdir dist presets
	@.venv/bin/python -m build --quiet --wheel --no-isolation --outdir dist .

bench: ## Measure convergence against the raw floor (JSON on standard output)
	@hack/venv.sh dev
	@.venv/bin/python -m bench.converge

clean: ## Remove what the targets made
	rm -rf .venv .kaito dist
