#!/usr/bin/env bash
# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
# Train under slurm, one process a GPU: GPUS in all, GPUS_PER_NODE, CPUS_PER_TASK; SRUN_ARGS is handed on to srun.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch_env.sh"
[ $# -ge 3 ] || usage "$0 PARTITION JOB_NAME CONFIG [arguments of train.py]"

GPUS_PER_NODE=${GPUS_PER_NODE:-4}
# shellcheck disable=SC2086
exec srun -p "$1" \
    --job-name="$2" \
    --gres=gpu:"$GPUS_PER_NODE" \
    --ntasks="${GPUS:-4}" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "$PYTHON" -u "$ROOT/tools/train.py" "$3" --launcher slurm "${@:4}"
