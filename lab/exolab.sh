#!/bin/sh
# The lab's command line, run by the project's own Python environment (`make venv` makes it).
lab=$(dirname "$(readlink -f "$0")")
PYTHONPATH=$lab exec "$lab/../.venv/bin/python" -m exolab "$@"
