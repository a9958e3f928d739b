#!/bin/sh
# Make a mesh of two empty clusters of the lab, and check that a second run of site.yml changes nothing.
# `make lab-test` makes its own environment. So nothing of ansible-test's own stays: variables, Pythons, settings.
set -eu

cd "${OUTPUT_DIR%%/tests/output/*}"
PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v -e '/ansible-test-[^/]*$' -e '/python-[^/]*-ansible$' | paste -s -d ':')
for name in PYTHONPATH $(env | sed -n 's/^\(ANSIBLE_[A-Z_]*\)=.*/\1/p'); do
  unset "$name"
done

export CI=true  # a test that cannot run fails
exec make lab-test ARGS="tests/lab/test_install.py -k 'first_run or second_run'"
