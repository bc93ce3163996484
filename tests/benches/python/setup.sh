#!/bin/sh
# Makes the Python environment that the benchmarks compare with. Everything stays in this folder.
set -eu
cd "$(dirname "$0")"
rm -rf .venv
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
touch .venv/ready
echo "ready: cargo bench -p ptn-tests"
