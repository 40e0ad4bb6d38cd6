#!/usr/bin/env bash
# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
# Test with one process a GPU. For several machines run it on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch_env.sh"
[ $# -ge 3 ] || usage "$0 CONFIG CHECKPOINT GPUS [arguments of test.py]"

exec "$PYTHON" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$3" \
    "$ROOT/tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"
