# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
# Sourced by the launchers: sets PYTHON and PYTHONPATH, and usage(). An active environment goes before .venv.
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$ROOT/.venv/bin/python" ]; then
        PYTHON=$ROOT/.venv/bin/python
    elif command -v python >/dev/null 2>&1; then
        PYTHON=python
    else
        PYTHON=python3
    fi
fi
export PYTHONPATH="$ROOT/projects:$ROOT${PYTHONPATH:+:$PYTHONPATH}"

usage() {
    printf 'usage: %s\n' "$*" >&2
    exit 2
}
