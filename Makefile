# Everything that is done here, by name. `make` alone says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

BIN := .venv/bin
RUN := $(BIN)/python -m
TENANTS ?= 300
EXAMPLES ?= 20
SIZE_MB ?= 2000
# At least three test processes, for most tests wait for servers; at most eight, for all share the same servers.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$(( n < 3 ? 3 : n > 8 ? 8 : n )))
# More arguments for pytest: make test ARGS="-k deletion"
ARGS ?=
# So many tests that failed are tried once more, alone, and named if they hold: see tools/again.py.
AGAIN ?= 0

ifdef PYTHON
export PYTHON
endif

.PHONY: help
help: ## Say what there is
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nSettings: PYTHON=python3.12  CHECK=1 (demo)  TENANTS=300 SIZE_MB=2000 (bench)  EXAMPLES=20 (model)  WORKERS=3 ARGS="-k word" (tests)\n'
	@printf 'From nothing but Python 3.11 or newer, make and git: every command makes what it needs.\n'

##@ See it work
.PHONY: demo
demo: clusters ## Two clusters, a database server, the operator, three tenants; CHECK=1 asserts and ends
	@$(RUN) tests.demo $(if $(CHECK),--check)

.PHONY: bench
bench: clusters ## TENANTS=300 through the operator against the raw floor; one line of JSON at the end
	@$(RUN) tests.bench --tenants $(TENANTS)

.PHONY: bench-latency
bench-latency: clusters ## How soon drift is repaired, and what one hanging target costs the others
	@$(RUN) tests.bench.latency --tenants $(TENANTS)

.PHONY: bench-backup
bench-backup: clusters ## SIZE_MB=2000 backed up and restored against pg_dump and pg_restore; memory; 1,000 schedules
	@$(RUN) tests.bench.backup --size $(SIZE_MB)

##@ Work on it
.PHONY: test
test: clusters ## The tests, on real servers
	@tools/postgres.sh
	@$(RUN) tests.controlplane parts
	@$(RUN) pytest -n $(WORKERS) tests/unit tests/integration $(ARGS) || $(BIN)/python tools/again.py $$? --most $(AGAIN)

.PHONY: crash
crash: clusters ## SIGKILL before and after every single write; hours, one line of JSON at the end
	@tools/postgres.sh
	@$(RUN) tests.crash $(ARGS)

.PHONY: model
model: clusters ## EXAMPLES=20 random lives of tenants on real servers, against a model of how they must end
	@$(RUN) tests.model --examples $(EXAMPLES) $(ARGS)

.PHONY: image
image: ## The operator's image, by podman, docker or buildah; IMAGE=name BASE=image FORMER_BASE=image
	@tools/image.sh

.PHONY: image-check
image-check: clusters ## Build the image with buildah and run it: a tenant, a backup, a restore; as root
	@tools/postgres.sh
	@tools/image_check.sh

.PHONY: fast
fast: venv ## Unit tests only: no server, no network
	@$(RUN) pytest -n $(WORKERS) tests/unit $(ARGS)

.PHONY: check
check: venv ## Format, lint, types, layers, generated files, the tree itself
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy -p tenantry -p tests -p tools
	$(BIN)/lint-imports
	$(BIN)/python tools/generate.py --check
	$(BIN)/python tools/check_tree.py
	@for script in tools/*.sh .ci/run; do bash -n "$$script"; done

.PHONY: format
format: venv ## Put format and imports in order
	$(BIN)/ruff check --quiet --select I --fix
	$(BIN)/ruff format --quiet

.PHONY: generate
generate: venv ## Write crds/, docs/reference/api.md and the generated files of deploy/
	@$(BIN)/python tools/generate.py

.PHONY: operator-manifest
operator-manifest: venv ## Write deploy/operator.yaml out of the Helm chart; builds helm, once
	@$(RUN) tests.scene.chart
	@$(BIN)/python tools/generate.py

.PHONY: lock
lock: venv ## Pin requirements/ anew; UPGRADE=1 takes newer versions
	@tools/lock.sh

##@ What the others need
.PHONY: venv
venv: ## .venv with everything, pinned by hash; instant when nothing changed
	@tools/venv.sh

.PHONY: clusters
clusters: venv ## The test clusters' binary: built once, some minutes, then cached
	@$(if $(KUBEBUILDER_ASSETS),true,$(RUN) tests.controlplane build >/dev/null)

.PHONY: clean
clean: ## Remove .venv and all caches of this folder; the binary in the user's cache folder stays
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .demo .bench
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
