# Everything a user or a developer runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
STACK ?= dev
NODES ?= node-a,node-b,node-c
PYTHON := .venv/bin/python
LOCAL := $(PYTHON) -m local_cluster
DOCTOR := $(LOCAL) run -- $(PYTHON) -m trust.doctor --stack $(STACK)
INSTALLED := .venv/.installed

.PHONY: help up down doctor test test-all check bench clean cluster cluster-node cluster-down shell-env

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | column -t -s $$'\t'

$(INSTALLED): requirements.txt requirements-dev.txt
	@echo 'Installing the Python packages into .venv' >&2
	@python3 -m venv .venv 2>/dev/null || { apt-get update -qq && apt-get install -qq -y python3-venv >&2 && python3 -m venv .venv; }
	@.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt >&2
	@touch $@

up: $(INSTALLED) ## Set up what is missing, start a cluster unless KUBECONFIG has one, and bring up the stack STACK
	@environment="$$($(LOCAL) env --start)" && eval "$$environment" && \
	  pulumi stack select --create $(STACK) >/dev/null && \
	  { pulumi up --yes --skip-preview --suppress-outputs --stack $(STACK) || { $(DOCTOR) --if-deployed; exit 1; }; } && \
	  $(LOCAL) hint $(STACK)

down: $(INSTALLED) ## Destroy the stack STACK
	@environment="$$($(LOCAL) env)" && eval "$$environment" && \
	  pulumi destroy --yes --skip-preview --stack $(STACK) && \
	  pulumi stack rm --yes --preserve-config $(STACK)
	@sed -i '/^encryptionsalt:/d' Pulumi.$(STACK).yaml

doctor: $(INSTALLED) ## Say of every node whether it trusts the registry, and if not, what is broken and how to mend it
	@environment="$$($(LOCAL) env)" && eval "$$environment" && $(DOCTOR)

test: $(INSTALLED) ## Run the unit tests, and the tests on the real cluster
	@$(PYTHON) -m pytest tests/unit -q
	@$(PYTHON) -m pytest tests/cluster -m 'not slow'

test-all: test ## Run `make test`, and what takes longer
	@$(LOCAL) programs --extra >/dev/null
	@$(PYTHON) -m pytest tests/cluster -m slow

check: $(INSTALLED) ## Run the linter and the type checker
	@.venv/bin/ruff check .
	@.venv/bin/pyright

bench: $(INSTALLED) ## Measure how long up, pull and push take
	@$(PYTHON) -m tests.cluster.bench

cluster: $(INSTALLED) ## Start the local cluster (NODES=node-a,node-b,node-c)
	@$(LOCAL) up --nodes $(NODES)

cluster-node: $(INSTALLED) ## Join one more node to the running local cluster (NAME=node-d)
	@$(LOCAL) node $(NAME)

cluster-down: $(INSTALLED) ## Stop the local cluster and leave nothing of it running or mounted
	@$(LOCAL) down

shell-env: $(INSTALLED) ## Print the environment of a shell on the cluster: eval "$$(make -s shell-env)"
	@$(LOCAL) env

clean: ## Remove what the tools left in the tree; binaries and images of the local cluster stay in the cache folder
	@rm -rf .venv .pytest_cache .ruff_cache .hypothesis test-results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@# The salt of a local stack's secrets; the stack's state has its own copy.
	@sed -i '/^encryptionsalt:/d' Pulumi.dev.yaml
