#!/usr/bin/env bash
# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
# Makes the virtual environment $VENV (default .venv), or repairs it, or finds in a moment that nothing is to do.
# PYTHON names the interpreter to make it with; without it, the first suitable one on PATH is taken.
set -euo pipefail
CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

VENV=${VENV:-.venv}
PYTHON=${PYTHON:-}
STAMP=$VENV/.mgcda-setup
INPUTS=(requirements.txt requirements-dev.txt constraints.txt setup.py pyproject.toml tools/setup_env.sh
    tools/check_env.py)
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_USER=0 PYTHONNOUSERSITE=1

say() { printf '[setup] %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

# "3 11" of an interpreter; fails where it does not run (a shim without a version behind it, a dangling link).
version_of() { "$1" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null; }

find_python() {
    local candidate major minor
    if [ -n "$PYTHON" ]; then
        read -r major minor <<<"$(version_of "$PYTHON")" || true
        [ -n "${minor:-}" ] || die "PYTHON=$PYTHON does not run"
        [ "$major" -eq 3 ] && [ "$minor" -ge 10 ] || die "PYTHON=$PYTHON is Python $major.$minor; 3.10 to 3.13 is needed"
        [ "$minor" -le 13 ] || say "Python $major.$minor is newer than those tested (3.10 to 3.13)" >&2
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        minor=
        read -r major minor <<<"$(version_of "$candidate")" || true
        if [ "${major:-0}" = 3 ] && [ "${minor:-0}" -ge 10 ] && [ "$minor" -le 13 ]; then
            command -v "$candidate"
            return
        fi
    done
    die 'no Python 3.10 to 3.13 on PATH: install one (Debian, Ubuntu: apt-get install python3 python3-pip python3-venv)' \
        'or name it, as in: make setup PYTHON=/path/to/python3.11'
}

stamp() {
    "$VENV/bin/python" -c 'import sys; print(sys.version)' && pwd && cat "${INPUTS[@]}" | sha256sum
}

has_pip() { "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }

is_ready() {
    [ -f "$STAMP" ] && [ "$(stamp 2>/dev/null)" = "$(cat "$STAMP")" ]
}

make_venv() {
    local python=$1
    if [ -e "$VENV" ] && [ ! -f "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV")" ]; then
        die "VENV=$VENV exists and is no virtual environment (it has no pyvenv.cfg): name another folder, or remove it"
    fi
    say "making $VENV with $python ($("$python" --version 2>&1))"
    rm -rf "$VENV"
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv "$VENV"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv -q "$VENV"
    elif "$python" -c 'import pip, venv' 2>/dev/null; then
        # Debian splits ensurepip off into python3-venv; pip can put a copy of itself into the environment.
        "$python" -m venv --without-pip "$VENV"
        "$python" -m pip install -q --target "$("$VENV/bin/python" -c 'import site; print(site.getsitepackages()[0])')" pip
    else
        die "$python can make no virtual environment: install the Debian package python3-venv (apt-get install python3-venv)"
    fi
}

if is_ready; then
    say "$VENV is up to date"
    exit 0
fi

# One set-up at a time: a second one waits here, and then finds the work done.
if command -v flock >/dev/null 2>&1; then
    exec 9>.setup.lock
    flock -n 9 || { say 'another set-up is running; waiting for it'; flock 9; }
    if is_ready; then
        say "$VENV is up to date"
        exit 0
    fi
fi

rm -f "$STAMP"
# An environment that was made without pip gets it; one that does not run is made anew.
if has_pip || { [ -f "$VENV/pyvenv.cfg" ] && "$VENV/bin/python" -m ensurepip >/dev/null 2>&1 && has_pip; }; then
    say "repairing or updating $VENV"
else
    python=$(find_python)
    make_venv "$python"
fi

broken=$("$VENV/bin/python" tools/check_env.py --list-broken)
if [ -n "$broken" ]; then
    say 'installing anew what an interrupted set-up left incomplete:' $broken
    # shellcheck disable=SC2086
    "$VENV/bin/python" -m pip install --force-reinstall --no-deps $broken
fi
say 'installing requirements.txt and requirements-dev.txt (the first time downloads PyTorch: minutes)'
"$VENV/bin/python" -m pip install -r requirements.txt -r requirements-dev.txt -c constraints.txt
say 'installing mgcda itself'
"$VENV/bin/python" -m pip install -q --no-deps -e .
say 'checking what is installed'
"$VENV/bin/python" -m pip check
"$VENV/bin/python" tools/check_env.py
stamp >"$STAMP.tmp"
mv "$STAMP.tmp" "$STAMP"
say "$VENV is ready"
