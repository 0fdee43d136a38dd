# Everything a user or a developer runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
STACK ?= dev
NODES ?= node-a,node-b,node-c
PYTHON := .venv/bin/python
LOCAL := $(PYTHON) -m local_cluster
DOCTOR := $(LOCAL) run -- $(PYTHON) -m trust.doctor --stack $(STACK)
INSTALLED := .venv/.installed
# A .venv with an older Python is removed, or it would stay in the way of the right one.
check_python := .venv/bin/python -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.version_info < (3, 11) and \
  sys.exit("Python 3.11 or newer is needed, and .venv was made with " + v + ": put a newer python3 first on PATH")'
WORKERS ?= 4
# What of the tree a release is.
PRODUCT := Pulumi.yaml __main__.py requirements.txt registry trust
# What the user may give with `make up NAME=value` as well as in the environment.
export CONTEXT BUILD DEBIAN_MIRROR
# Pulumi writes the salt of a stack's secrets into the stack's settings file, which is a tracked file here. It cannot be
# told to use another one: `pulumi stack init` and `pulumi stack select --create`, which write the salt, know no
# --config-file. So the line is taken out again, since the stack's state has its own copy; but not where the file has a
# secret setting (`pulumi config set --secret`), which nothing else can decrypt. A file that held nothing else goes.
# macOS's sed wants a suffix for the copy that it keeps, and GNU's takes one.
without_salt = [ ! -f $(1) ] || grep -q 'secure:' $(1) || \
  { sed -i.bak '/^encryptionsalt:/d' $(1) && rm $(1).bak && { [ -s $(1) ] || rm $(1); }; }

.PHONY: help up down demo doctor gc leftovers check unit test test-all bench lock release docs recording clean cluster cluster-node cluster-down shell-env

help: ## List the targets
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { gsub(/\$$\$$/, "$$", $$2); printf "%-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(INSTALLED): requirements-dev.lock
	@echo 'Installing the Python packages into .venv' >&2
	@error="$$(python3 -m venv .venv 2>&1)" || { \
	  ! python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "python3 cannot make the folder .venv: $$error" >&2; exit 1; }; \
	  [ "$$(id -u)" = 0 ] || { echo 'python3 cannot make the folder .venv: install its module venv (on Debian: sudo apt-get install python3-venv), and run this again' >&2; exit 1; }; \
	  apt-get update -qq && apt-get install -qq -y python3-venv >&2 && python3 -m venv .venv; }
	@$(check_python) || { rm -rf .venv; exit 1; }
	@.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock >&2
	@touch $@

up: $(INSTALLED) ## Set up what is missing, start a cluster unless KUBECONFIG or CONTEXT names one, and bring up STACK
	@environment="$$($(LOCAL) env --start)" && eval "$$environment" && \
	  pulumi stack select --create $(STACK) >/dev/null && \
	  { pulumi up --yes --skip-preview --suppress-outputs --stack $(STACK) || { $(DOCTOR) --if-deployed; exit 1; }; } && \
	  $(LOCAL) hint $(STACK)

down: $(INSTALLED) ## Destroy the stack STACK
	@environment="$$($(LOCAL) env)" && eval "$$environment" && \
	  pulumi destroy --yes --skip-preview --stack $(STACK) && \
	  pulumi stack rm --yes --preserve-config $(STACK)
	@$(call without_salt,Pulumi.$(notdir $(STACK)).yaml)

demo: $(INSTALLED) ## Push an image to the registry of the stack STACK, run it on every node, and print what it says
	@environment="$$($(LOCAL) env)" && eval "$$environment" && $(LOCAL) demo $(STACK)

doctor: $(INSTALLED) ## Say of every node whether it trusts the registry, and if not, what is broken and how to mend it
	@environment="$$($(LOCAL) env)" && eval "$$environment" && $(DOCTOR)

gc: $(INSTALLED) ## Free the space of images that were deleted (UNTAGGED=1: and of manifests without a tag) in the stack STACK
	@environment="$$($(LOCAL) env)" && eval "$$environment" && \
	  $(LOCAL) run -- $(PYTHON) -m registry.stack.gc --stack $(STACK) $(if $(filter 1,$(UNTAGGED)),--untagged)

leftovers: $(INSTALLED) ## List the namespaces of all stacks on the cluster, also of lost ones, and what keeps any from going
	@environment="$$($(LOCAL) env --without-pulumi)" && eval "$$environment" && \
	  kubectl get namespaces -l private-registry/instance -o custom-columns='NAMESPACE:.metadata.name,PROJECT:.metadata.annotations.private-registry/project,STACK:.metadata.annotations.private-registry/stack,INSTANCE:.metadata.labels.private-registry/instance,VERSION:.metadata.labels.app\.kubernetes\.io/version,CREATED:.metadata.creationTimestamp,STATUS:.status.phase,WAITS FOR:.status.conditions[?(@.status=="True")].message'

check: $(INSTALLED) ## Check the layout, the lint rules and the types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/pyright

unit: $(INSTALLED) ## Run the unit tests, which need neither root nor a cluster
	@$(PYTHON) -m pytest tests/unit -q -n auto

test: unit ## Run the unit tests, and the tests on the real cluster
	@trap 'exit 130' INT; failed=0; \
	  $(PYTHON) -m pytest tests/cluster -m 'not slow and not alone' -n $(WORKERS) || failed=1; \
	  $(PYTHON) -m pytest tests/cluster -m 'not slow and alone' || failed=1; \
	  exit $$failed

test-all: test ## Run `make test`, and what takes longer
	@$(LOCAL) programs --extra >/dev/null
	@$(PYTHON) -m pytest tests/cluster -m slow
	@PRIVATE_REGISTRY_PROVIDER=unchanged $(PYTHON) -m pytest tests/cluster -m provider

bench: $(INSTALLED) ## Measure a stack and its throughput into bench/results.md (BENCH=--help: how to do less)
	@$(PYTHON) -m bench $(BENCH)

lock: $(INSTALLED) ## Write requirements-dev.lock anew from requirements-dev.txt
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command 'make lock' --output-file requirements-dev.lock requirements-dev.txt

release: $(INSTALLED) ## Keep the program as it is committed as the release of its version, for the tests of upgrades
	@version="$$($(PYTHON) -c 'from registry.names import VERSION; print(VERSION)')" && \
	  git archive HEAD $(PRODUCT) | xz -9 >"tests/cluster/support/releases/$$version.tar.xz"

docs: $(INSTALLED) ## Write the generated tables of README.md and docs/ anew
	@$(PYTHON) -m tests.docs

recording: $(INSTALLED) ## Record the run in README.md anew, on the local cluster
	@$(PYTHON) -m tests.cluster.support.recording

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
	@$(call without_salt,Pulumi.dev.yaml)
