# The Python of .venv. Empty: the newest supported one of this machine.
PYTHON ?=
CLUSTERS ?= 2

BIN := .venv/bin
LAB := lab/exolab.sh
# Written by lab-up. For a lab of another name give EXOLAB_NAME, and this.
LAB_INVENTORY ?= inventories/lab
# For tools that start other tools by name. Not for all: PYTHON must not be the one of .venv.
WITH_PATH := PATH="$(CURDIR)/$(BIN):$$PATH"

# Tools that ask for the collection by name find it in .venv; mypy does not look there.
TYPES := build/types/ansible_collections/exomesh

# Has Ansible measure the coverage of modules that run in processes of their own, from what it has packed.
COVER_MODULES := _ANSIBLE_ANSIBALLZ_COVERAGE_CONFIG='{"config": "$(CURDIR)/pyproject.toml", "output": "$(CURDIR)/.coverage.module"}'

# Molecule names this inventory also to the play that writes it, and Ansible warns of one that is not there.
MOLECULE := build/molecule/inventory

# Two files of tests at a time, each on a machine of its own within this one.
LAB_TESTS := $(BIN)/pytest -v --tx '2*popen//python=$(LAB) machine $(BIN)/python' --dist loadfile --no-loadscope-reorder -rfEP --durations 20 --durations-min 30

.DEFAULT_GOAL := help
.PHONY: help venv demo site verify status lab-up lab-status lab-down lab-build \
	test lint lint-ansible lint-yaml lint-python lint-workflows lint-changelog lint-docs spec rooms docs findings readme surveys screenshots build importer ee-context changelog release \
	sanity unit matrix molecule lab-test soak bench bench-small scale clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv:  ## The Python environment .venv, with the newest Python at hand (PYTHON=python3.12 for another)
	@python3 tools/make_venv.py $(PYTHON)

demo: lab-up  ## Two clusters on this machine, the mesh, and the tutorial's page (CLUSTERS=3 for more)
	$(BIN)/ansible-playbook -i $(LAB_INVENTORY) site.yml
	@echo
	@echo "The mesh is up. To look around:"
	@echo "  make lab-status                  what runs where"
	@echo "  make verify                      a request for every ordered pair of clusters"
	@echo '  make site ARGS="--check --diff"  what a second run would change: nothing'
	@echo "  $(LAB) kubectl cluster1 get pods --all-namespaces"
	@echo "To take it down: make lab-down"
	@echo
	@echo "curl exo-webtest:3000 in cluster1, answered by the pod in cluster2:"
	@$(LAB) kubectl cluster1 exec -n exodemo deploy/curl -c curl -- curl --silent exo-webtest:3000

site: venv  ## site.yml on the lab again (ARGS="--check --diff")
	$(BIN)/ansible-playbook -i $(LAB_INVENTORY) site.yml $(ARGS)

verify: venv  ## The verification alone, on the lab
	$(BIN)/ansible-playbook -i $(LAB_INVENTORY) playbooks/verify.yml $(ARGS)

status: venv  ## The same without a test workload, in seconds
	$(BIN)/ansible-playbook -i $(LAB_INVENTORY) playbooks/status.yml $(ARGS)

lab-up: venv  ## The lab: real Kubernetes clusters on this machine, as root (CLUSTERS=3)
	$(LAB) up --clusters $(CLUSTERS) --inventory $(LAB_INVENTORY)

lab-status: venv  ## What runs in the lab
	@$(LAB) status

lab-down: venv  ## Take the lab down, with all that belongs to it
	$(LAB) down

lab-build: venv  ## Build what the lab runs, without starting it (about 15 minutes the first time)
	$(LAB) build

test: venv  ## Every test; at the end what each cost
	$(BIN)/python tools/run_tests.py lint spec docs importer sanity lab-build matrix unit molecule lab-test bench-small

lint: lint-ansible lint-yaml lint-python lint-workflows lint-changelog lint-docs  ## Every linter (each alone: make lint-python)

lint-ansible: venv
	$(WITH_PATH) ansible-lint

lint-yaml: venv
	$(BIN)/yamllint --strict .

lint-python: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@mkdir -p $(TYPES) && ln -sfn ../../../.. $(TYPES)/istio
	$(BIN)/mypy -p ansible_collections.exomesh.istio.plugins -p exolab
	$(BIN)/mypy tools bench

lint-workflows: venv
	$(BIN)/python tools/lint_workflows.py

lint-changelog: venv
	$(BIN)/antsibull-changelog lint

lint-docs: venv
	$(WITH_PATH) antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs dependent .

spec: venv  ## Role specs, defaults, dead variables; the action group; commands of documents; what is generated
	$(BIN)/python tools/check_commands.py
	$(BIN)/python tools/check_specs.py
	$(BIN)/python tools/check_variables.py
	$(BIN)/python tools/check_docs.py
	$(BIN)/python tools/make_findings.py --check
	$(BIN)/python tools/make_readme.py --check
	$(BIN)/python tools/make_surveys.py --check
	$(BIN)/python tools/make_rooms.py --check

rooms: venv  ## Which folder of module_utils builds on which, in the guide to the architecture
	$(BIN)/python tools/make_rooms.py

findings: venv  ## The page of findings, from the code
	$(BIN)/python tools/make_findings.py

readme: venv  ## README's tables of playbooks, roles, modules and versions, from the code and `make matrix`
	$(BIN)/python tools/make_readme.py

surveys: venv  ## What AWX asks for, from the role specs
	$(BIN)/python tools/make_surveys.py

screenshots: venv  ## What the page of a verification looks like, in docs/, with Debian's Chromium
	$(BIN)/python tools/make_screenshots.py

docs: venv  ## The documentation site, in build/docs/html; warnings are errors
	$(WITH_PATH) python tools/make_docs.py

build: venv  ## The collection's artifact, in build/
	$(BIN)/ansible-galaxy collection build --force --output-path build

importer: build  ## galaxy-importer on the artifact, with its warnings as failures
	$(WITH_PATH) $(BIN)/python tools/run_importer.py

changelog: venv  ## CHANGELOG.md of the version in galaxy.yml, from the fragments
	$(WITH_PATH) $(BIN)/antsibull-changelog release

release: venv  ## The same archive from the same commit, its SBOM and checksums, in build/release/
	$(BIN)/python tools/make_release.py

ee-context: venv  ## What an image for AWX is built from, in build/ee: podman build build/ee
	@rm -rf build/collection build/ee
	$(BIN)/ansible-galaxy collection build --output-path build/collection
	$(BIN)/ansible-builder create --output-filename Containerfile --context build/ee

sanity: venv  ## ansible-test sanity
	$(BIN)/python tools/sanity.py

# Each file's tests in one process, so that what they share is made once.
unit: venv  ## Unit tests, but for what is in matrix; all of them must run 90 % of the lines of plugins/ (ARGS="-k name")
	$(COVER_MODULES) $(BIN)/pytest -n 2 --dist loadfile --cov --cov-report term $(or $(ARGS),--cov-fail-under=90 --ignore tests/unit/playbooks)

matrix: venv  ## Playbooks and tests with the supported versions of Ansible, Python, kubernetes (ARGS=--record)
	$(BIN)/python tools/run_matrix.py $(ARGS)

molecule: venv  ## A lab of its own: site.yml, idempotence, verification
	@mkdir -p $(MOLECULE) && echo 'mesh:' >$(MOLECULE)/hosts.yml
	$(WITH_PATH) molecule test

lab-test: venv  ## The lab itself, and meshes on it, two at a time: first run, faults, members that come and go
	$(LAB_TESTS) $(or $(ARGS),tests/lab)

soak: venv  ## Again and again what `make test` tries a few times, on the lab: docs/soak.md (hours; SOAK_PART=0.1)
	@rm -rf build/soak
	$(LAB_TESTS) $(wildcard tests/lab/soak/soak_*.py)
	$(BIN)/python tools/make_soak.py

bench: venv  ## How long the mesh takes, beside two scripts: docs/performance.md (hours; ARGS="--clusters 2 --rounds 1")
	PYTHONPATH=lab $(BIN)/python bench/measure.py $(ARGS)
	$(BIN)/python bench/report.py

bench-small: venv  ## The same for two clusters, once: a report, not a test of time
	PYTHONPATH=lab $(BIN)/python bench/measure.py --anew --clusters 2 --rounds 1 --actions --output build/bench-small
	$(BIN)/python bench/report.py --input build/bench-small --output build/bench-small

scale: venv  ## How runs without a change grow, up to 50 clusters: one of the demo's two is recorded and played
	PYTHONPATH=lab:tests/unit/plugins $(BIN)/python bench/scale.py $(ARGS)

clean:  ## Remove what the tools made here: .venv, build, caches
	rm -rf .venv build .ansible .mypy_cache .pytest_cache .ruff_cache .coverage*
