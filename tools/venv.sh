#!/usr/bin/env bash
# `make venv`: .venv with everything from requirements/, by hash, and this package editable. Instant when nothing changed.
#
# PYTHON chooses the interpreter; without it python3, or the newest python3.x on PATH that will do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=.venv
STAMP=$VENV/.tenantry-stamp
INPUTS=(requirements/uv.txt requirements/dev.txt requirements/build.txt pyproject.toml tools/venv.sh)

fail() {
    printf 'make venv: %s\n' "$@" >&2
    exit 1
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

good_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    if [[ -n ${PYTHON:-} ]]; then
        good_enough "$PYTHON" || fail "PYTHON=$PYTHON is not there or is older than Python 3.11"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if good_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer on PATH; install one, or name it: make venv PYTHON=/path/to/python3.12"
}

# The installer goes into the environment itself: nothing is changed outside of this folder.
# Debian's python3 comes without ensurepip (package python3-venv); pip or uv from elsewhere will do as well.
make_venv() {
    local python=$1 requirements=(--require-hashes -r requirements/uv.txt) quiet=(--quiet --disable-pip-version-check)
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv --clear "$VENV"
        "$VENV/bin/python" -m pip install "${quiet[@]}" "${requirements[@]}"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear --without-pip "$VENV"
        "$python" -m pip --python "$VENV/bin/python" install "${quiet[@]}" "${requirements[@]}"
    elif command -v uv >/dev/null; then
        uv venv --quiet --clear --python "$python" "$VENV"
        uv pip install --quiet --python "$VENV/bin/python" "${requirements[@]}"
    else
        fail "$python has neither ensurepip nor pip, and there is no uv. Install one of them, on Debian or Ubuntu:" \
            "    apt-get install python3-venv"
    fi
}

current() { echo "$PWD $(cat "${INPUTS[@]}" | cksum)"; }

unchanged() {
    [[ -x $VENV/bin/python && -f $STAMP && $(<"$STAMP") == "$(current)" ]] || return 1
    [[ -z ${PYTHON:-} || $(version_of "$PYTHON") == "$(version_of "$VENV/bin/python")" ]]
}

# An environment of another Python, one whose Python was upgraded away, or one that was moved is made anew.
usable() {
    [[ -x $VENV/bin/uv ]] && good_enough "$VENV/bin/python" || return 1
    [[ ! -f $STAMP || $(<"$STAMP") == "$PWD "* ]] || return 1
    [[ -z ${PYTHON:-} || $(version_of "$PYTHON") == "$(version_of "$VENV/bin/python")" ]]
}

if unchanged; then
    exit 0
fi
python=$(find_python)
started=$SECONDS
if ! usable; then
    echo "making $VENV with $("$python" --version 2>&1)" >&2
    make_venv "$python"
fi
install=("$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python")
"${install[@]}" --require-hashes -r requirements/uv.txt -r requirements/dev.txt -r requirements/build.txt
"${install[@]}" --no-deps --no-build-isolation --editable .
current >"$STAMP"
echo "$VENV is ready: $(version_of "$VENV/bin/python"), $((SECONDS - started)) s" >&2
