"""Runs a command as on another processor: ``python .ci/processor.py avx2 pytest -n 2``.

NumPy, its OpenBLAS, PyTorch, its MKL and the core choose their code by what the processor can do, and their threads by
its cores. Each kind below holds all of them to what they would do on such a processor. This one has to have the
instruction sets of that.
"""

from __future__ import annotations

import os
import subprocess
import sys

from numpy._core import _multiarray_umath as numpy_core

KINDS = {
    "baseline": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "CCMA_SIMD": "scalar",
        "CCMA_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_DYNAMIC": "FALSE",
    },
    "avx2": {
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_CBWR": "AVX2",  # where the processor is not Intel's, MKL takes this for "the fastest that is repeatable"
        "CCMA_SIMD": "avx2",
        "CCMA_NUM_THREADS": "3",
        "OMP_NUM_THREADS": "3",
        "MKL_DYNAMIC": "FALSE",
    },
    "avx512": {
        "OPENBLAS_CORETYPE": "SkylakeX",
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_CBWR": "AVX512",
        "CCMA_SIMD": "avx512",
        "CCMA_NUM_THREADS": "2",
        "OMP_NUM_THREADS": "2",
        "MKL_DYNAMIC": "FALSE",
    },
}

# What a new interpreter finds itself on, in the words of the variables. MKL cannot be asked.
FOUND = """
import threadpoolctl, torch
import ccma_fast as cf
for library in threadpoolctl.threadpool_info():
    if library["internal_api"] == "openblas":
        print("OPENBLAS_CORETYPE", library["architecture"])
print("ATEN_CPU_CAPABILITY", torch.backends.cpu.get_cpu_capability().lower())
print("OMP_NUM_THREADS", torch.get_num_threads())
print("CCMA_NUM_THREADS", cf.get_num_threads())
from ccma_fast import _core
print("CCMA_SIMD", _core.simd_level())
"""


def environment(kind: str) -> dict[str, str]:
    """The variables of a kind, and the name of every code path of NumPy's that it does not have."""
    above = {"baseline": ("",), "avx2": ("AVX512", "X86_V4"), "avx512": ("AVX512_SPR",)}[kind]
    names = [name for name in numpy_core.__cpu_dispatch__ if name.startswith(above)]
    return {**KINDS[kind], "NPY_DISABLE_CPU_FEATURES": " ".join(names)}


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: processor.py {{{','.join(KINDS)}}} command ...")
    asked = environment(sys.argv[1])
    os.environ.update(asked)
    # -I: not the sources here, but what is installed.
    printed = subprocess.run([sys.executable, "-I", "-c", FOUND], stdout=subprocess.PIPE, text=True, check=True).stdout
    for name, value in map(str.split, printed.splitlines()):
        if value != asked[name]:
            sys.exit(f"{name}={asked[name]} has no effect: it is {value}")
    print(*(f"{name}={value!r}" for name, value in asked.items()), flush=True)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
