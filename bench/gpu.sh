#!/usr/bin/env bash
# Everything that needs a GPU, in one command: builds, tests, looks for bad memory accesses and races, and measures.
# Needs no network where the build tools (scikit-build-core, pybind11, cmake, ninja), pytest and PyTorch are there.
#
#   bench/gpu.sh [output folder]        # default bench/results
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-bench/results}" && cd "${1:-bench/results}" && pwd)
python=${PYTHON:-python3}
failed=0
section() { printf '\n=== %s (%ss)\n' "$1" "$SECONDS"; }
must() { "$@" || { failed=1; printf 'FAILED: %s\n' "$*"; }; }

section "build"
"$python" -m pip install --no-build-isolation --no-deps -q . || exit 1

section "tests on the GPU"
must "$python" -m pytest -q tests/test_cuda.py tests/test_cuda_kmeans.py tests/test_errors.py

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    section "compute-sanitizer: $tool"
    must compute-sanitizer --tool "$tool" --error-exitcode 1 "$python" -m bench.gpu --sanitize
  done
else
  printf 'no compute-sanitizer on the path\n'
fi

section "what the compiler made of the kernels"
capability=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
must "$python" -m ccma_fast.kernels.aot --capability "$capability" >"$out/aot-$capability.jsonl"

section "benchmarks"
must "$python" -m bench.gpu --output "$out"
section "done"
exit "$failed"
