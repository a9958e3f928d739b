PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help venv

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv:  ## The Python environment .venv (PYTHON=python3.12 for another Python)
	@$(PYTHON) tools/make_venv.py
