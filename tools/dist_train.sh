#!/usr/bin/env bash
# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
# Train with one process a GPU. For several machines run it on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch_env.sh"
[ $# -ge 2 ] || usage "$0 CONFIG GPUS [arguments of train.py]"

exec "$PYTHON" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$2" \
    "$ROOT/tools/train.py" "$1" --launcher pytorch "${@:3}"
