#!/usr/bin/env bash
# Everything that needs a GPU, in one command of eight minutes: checks, tests, times, looks for bad memory accesses.
#
#   bench/gpu.sh [output folder] [--dry-run]      # default bench/results
#
# Needs no network where pip, pytest, pytest-xdist, pytest-timeout, hypothesis and PyTorch are there. The folder that
# CCMA_WHEELS names, made by bench/gpu_prepare.sh, has a wheel of this package for that machine's Python, the kernels as
# compiled for it (triton-cache.tar.xz), and wheels that are measured beside ours; what is missing there is built and
# compiled here. --dry-run runs all parts at tiny sizes in Triton's interpreter and has each killed once. The exit status
# says whether something failed; gpu.md in the output folder says what.
set -uo pipefail
export CCMA_BENCH_START=${CCMA_BENCH_START:-$(date +%s)}
root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/bench/results
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
  out=$1
  shift
fi
out=$(mkdir -p "$out" && cd "$out" && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Python looks for packages where it is started: there it must find the benchmarks, and not the sources of the package.
ln -s "$root/bench" "$work/bench"
cd "$work" || exit 1
export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}
shopt -s nullglob
install() { "$python" -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "$@"; }
ours=() others=()
if [ -n "${CCMA_WHEELS:-}" ]; then
  for wheel in "$CCMA_WHEELS"/*.whl; do
    case $wheel in */ccma_fast-*) ours+=("$wheel") ;; *) others+=("$wheel") ;; esac
  done
  for archive in "$CCMA_WHEELS"/triton-cache.tar.xz; do
    "$python" -m bench.gpu unpack "$archive" "$work/cache" && export TRITON_CACHE_DIR=$work/cache
  done
fi
# One that is for another Python, or does not load, is as good as none.
if ! { [ ${#ours[@]} -gt 0 ] && install "${ours[@]}" && "$python" -c 'import ccma_fast._core'; }; then
  "$python" -m pip install -q --no-build-isolation --no-deps --upgrade --target "$work/site" "$root" || exit 1
fi
for wheel in ${others[@]+"${others[@]}"}; do
  install "$wheel" || printf 'not measured beside ours: %s\n' "$(basename "$wheel")"
done
"$python" -m bench.gpu run --output "$out" "$@"
