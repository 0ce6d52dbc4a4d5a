# KAITO in Python. `make demo` shows the main job; `make test` runs every test. GNU Make 3.81 suffices.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test test-models test-vllm test-monitoring test-cluster test-e2e lint format manifests docs constraints check-wheels wheels images test-images bench bench-runtime clean record-differences explore-differences

help: ## Show the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/'

demo: ## Apply a Workspace on this machine and get an answer from /chat
	@hack/venv.sh local
	@.venv/bin/kaito demo

test: ## Run every test
	@hack/venv.sh dev
	@KAITO_TEST_KUBECTLS=$$(hack/kubectls.sh) .venv/bin/python -m pytest -n auto --maxprocesses=4 --dist worksteal $(PYTEST_ARGS)

test-models: ## Run the transformers engine for real, with torch on the CPU (.venv-models, several GB)
	@hack/venv.sh dev
	@hack/models.sh
	@OMP_NUM_THREADS=1 .venv-models/bin/python -m pytest tests/models tests/presets/test_same_questions.py tests/presets/test_no_template.py $(PYTEST_ARGS)

test-vllm: ## Ask vLLM itself what the other engines are asked, on the CPU (.venv-vllm, 2.5 GB; Linux x86-64, gcc, binutils)
	@hack/venv.sh dev
	@hack/vllm.sh
	@OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest tests/presets/test_same_questions.py tests/presets/test_no_template.py -k vllm $(PYTEST_ARGS)

test-monitoring: ## Run what needs a Prometheus: alerts by promtool, the dashboards' queries (Debian: prometheus)
	@hack/venv.sh dev
	@hack/debian-packages.sh prometheus
	@.venv/bin/python -m pytest tests/monitoring -m monitoring $(PYTEST_ARGS)

test-cluster: ## Run what needs a cluster on a real one: etcd, kube-apiserver, kwok, kubectl 1.32 to 1.35 (built with Go once)
	@hack/venv.sh dev
	@KAITO_TEST_KUBECTLS=$$(hack/cluster/kubectls.sh) && export KAITO_TEST_KUBECTLS && \
		KAITO_TEST_BACKEND=real .venv/bin/python -m pytest -m needs $(PYTEST_ARGS) && \
		KAITO_TEST_BACKEND=real .venv/bin/python -m pytest tests/differential $(PYTEST_ARGS)

test-e2e: ## Run KAITO in a real Kubernetes of one node, images and all (Linux, root; docs/e2e.md)
	@hack/venv.sh dev
	@PYTEST_ARGS="$(PYTEST_ARGS)" hack/e2e.sh

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

manifests: ## Write what is made from code in manifests/ (CRDs, rights, webhook, alerts, dashboards, health checks) and the schema of presets/catalog
	@hack/venv.sh dev
	@.venv/bin/python -m kaito.api.generate
	@.venv/bin/python -m kaito.catalog.generate
	@.venv/bin/python -m kaito.cli.rbac.generate
	@.venv/bin/python -m kaito.cli.operator.webhook_manifest
	@.venv/bin/python -m hack.alerts
	@.venv/bin/python -m hack.dashboards
	@.venv/bin/python -m hack.argocd

docs: ## Write docs/metrics.md, docs/runtime/options.md and docs/runtime/metrics.md from the code
	@hack/venv.sh dev
	@.venv/bin/python hack/docs_options.py
	@.venv/bin/python -m hack.families

constraints: ## Resolve constraints.txt and constraints-models.txt anew
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

record-differences: ## Ask the real API server everything in the corpus anew and keep its answers
	@hack/venv.sh dev
	@PYTHONPATH=tests .venv/bin/python -m differential.record

explore-differences: ## Play fresh sequences on both API servers; new differences join the corpus (ARGS=--count=200)
	@hack/venv.sh dev
	@PYTHONPATH=tests .venv/bin/python -m differential.explore $(ARGS)

# REGISTRY, TAG, BASE (image with python3), TOOL (buildah or docker), IMAGES (names), WEIGHTS (directory) and RUNTIME (line) for a preset in IMAGES, PUSH=1
images: ## Build the container images (REGISTRY= TAG= BASE= TOOL= IMAGES= WEIGHTS= RUNTIME= PUSH=1: docs/images.md)
	@hack/venv.sh dev
	@.venv/bin/python -m hack.images.build $(IMAGES) $(if $(REGISTRY),--registry=$(REGISTRY)) $(if $(TAG),--tag=$(TAG)) \
		$(if $(BASE),--base=$(BASE)) $(if $(TOOL),--tool=$(TOOL)) $(if $(WEIGHTS),--weights=$(WEIGHTS)) \
		$(if $(RUNTIME),--runtime=$(RUNTIME)) $(if $(PUSH),--push)

test-images: ## Build the images twice and run them (Linux, root; debootstrap, buildah, runc and docker-registry of Debian)
	@hack/venv.sh dev
	@KAITO_TEST_BASE=$${KAITO_TEST_BASE:-$$(hack/images/debian-base.sh)} && export KAITO_TEST_BASE && \
		.venv/bin/python -m pytest tests/images/built $(PYTEST_ARGS)

bench: ## Measure convergence against the raw floor (JSON on standard output)
	@hack/venv.sh dev
	@.venv/bin/python -m bench.converge

bench-runtime: ## Measure kaito.runtime beside Go and other Python libraries (15 to 20 minutes; ARGS=--quick: 3)
	@hack/venv.sh dev
	@.venv/bin/python -m bench.runtime --out $(if $(findstring --quick,$(ARGS)),bench/results/runtime-quick.local.json,bench/results/runtime-2-cores.json) $(ARGS)

clean: ## Remove what the targets made
	rm -rf .venv .venv-models .venv-vllm .kaito dist
