#!/bin/sh
# Runs the Rust side against the real Python peers. Needs python3 (3.11) with venv and pip; the
# packages are fetched once. Everything stays in this folder and on 127.0.0.1.
# PTN_PEERS names a folder with the conformance peers btauth_axon.py and legacy_axon.py, if you have
# them: they are met as well.
set -eu
cd "$(dirname "$0")"
for peer in legacy btauth wallet; do
    venv=".venv-$peer"
    if [ ! -f "$venv/ready" ] || [ "requirements-$peer.txt" -nt "$venv/ready" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "requirements-$peer.txt"
        touch "$venv/ready"
    fi
done
cd ../..
PTN_INTEROP=1 exec cargo test -p ptn-tests --test interop --test interop_wallet "$@"
