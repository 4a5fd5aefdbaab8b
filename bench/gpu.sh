#!/usr/bin/env bash
# Everything that needs a GPU, in one command: builds, tests, looks for bad memory accesses and races, and measures.
#
#   bench/gpu.sh [output folder]        # default bench/results
#
# Needs no network where pip, pytest, hypothesis, PyTorch, cmake and ninja are there, and scikit-build-core and pybind11
# too or as wheels in the folder that CCMA_WHEELS names. Wheels of flash-kmeans and flashlib there are measured beside ours.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mkdir -p "${1:-$root/bench/results}" && cd "${1:-$root/bench/results}" && pwd)
python=${PYTHON:-python3}
failed=0
section() { printf '\n=== %s (%ss)\n' "$1" "$SECONDS"; }
must() { "$@" || { failed=1; printf 'FAILED: %s\n' "$*"; }; }

section "build"
if [ -n "${CCMA_WHEELS:-}" ]; then
  "$python" -m pip install -q --no-index --no-deps "$CCMA_WHEELS"/*.whl || exit 1
fi
"$python" -m pip install -q --no-build-isolation --no-deps "$root" || exit 1

# Python looks for packages where it is started: there it must find the benchmarks, and not the sources of the package.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$root/bench" "$work/bench"
cd "$work" || exit 1

section "tests on the GPU"
must "$python" -m pytest -q -c "$root/pyproject.toml" --rootdir "$root" \
  "$root"/tests/backends/test_cuda*.py "$root"/tests/backends/test_choose.py "$root"/tests/backends/test_protocol.py \
  "$root"/tests/test_errors.py

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
