#!/usr/bin/env bash
# Times one kernel of two variants of this package in turn, on one card, in one call.
#
#   bench/gpu_ab.sh KERNEL A B [options]     # python -m bench.gpu ab --help
#
# A and B are source folders, commits, or a setting of the tiles on top of the folder this is in, such as
# 'UPDATE_TILE=UPDATE_TILE._replace(ahead=16)'. A commit needs git; on a machine without it, carry a folder.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
exec "${PYTHON:-python3}" -m bench.gpu ab "$@"
