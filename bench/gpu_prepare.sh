#!/usr/bin/env bash
# Makes, without a GPU, the folder that bench/gpu.sh takes along as CCMA_WHEELS: a wheel of this package, the kernels
# compiled for compute capability 9.0, and wheels of what is measured beside ours.
#
#   PYTHON=python3.12 bench/gpu_prepare.sh FOLDER
#
# The Python, the PyTorch and the Triton must be those of the machine with the GPU, for a wheel is for one Python and
# Triton knows compiled kernels by its own files. Takes some ten minutes on two cores: what a card launches is found by
# running all parts and tests at tiny sizes in Triton's interpreter. The last line printed says whether a second process
# finds all of it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mkdir -p "${1:?the folder to fill}" && cd "$1" && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m pip wheel -q --no-build-isolation --no-deps -w "$folder" "$root"
for rival in flash-kmeans flashlib quack-kernels; do
  "$python" -m pip download -q --no-deps --only-binary=:all: -d "$folder" "$rival" || printf 'without %s\n' "$rival"
done

ln -s "$root/bench" "$work/bench"
cd "$work"
"$python" -m pip install -q --no-index --no-deps --target "$work/site" "$folder"/ccma_fast-*.whl
export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}
export CCMA_BENCH_LAUNCHES=$work/launches.jsonl TRITON_CACHE_DIR=$work/cache
"$python" -m bench.gpu run --output "$work/dry" --dry-run --no-hang --all-tests >"$work/printed" || cat "$work/dry/gpu.md"
"$python" -m bench.gpu warm "$CCMA_BENCH_LAUNCHES"
"$python" -m bench.gpu pack "$TRITON_CACHE_DIR" "$folder/triton-cache.tar.xz"
# As it will be found: in another place, by another process.
export TRITON_CACHE_DIR=$work/carried
"$python" -m bench.gpu unpack "$folder/triton-cache.tar.xz" "$TRITON_CACHE_DIR"
"$python" -m bench.gpu warm "$CCMA_BENCH_LAUNCHES" --expect-all
"$python" -m bench.gpu verify --output "$work/dry"
ls -l "$folder"
