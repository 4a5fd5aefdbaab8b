"""What the compiler makes of every kernel in every configuration, without a GPU::

    python -m ccma_fast.kernels.aot --capability 90

Compiles for a compute capability, reads the machine code with the disassembler that Triton brings, and prints one JSON
object a kernel: registers, stack (what spilled), shared memory, and how often each instruction stands in the code.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import (
    adamw,
    conformal_score,
    conformal_sets,
    coverage,
    cross_entropy,
    dropout,
    halves,
    kmeans_assign,
    kmeans_centroids,
    kmeans_exact,
    kmeans_outcome,
    kmeans_update,
    linear,
    threshold,
)
from ._configs import (
    ADAMW_BLOCK,
    CENTROID_TILE,
    CHOICE_BLOCK,
    COVER_BLOCK,
    CROSS_ENTROPY_BLOCK,
    DROPOUT_TILE,
    EXACT_TILE,
    GAINS_TILE,
    KEPT_COLUMNS,
    KEPT_TILE,
    LONGEST_ROW,
    OUTCOME_BLOCK,
    PLAN_BLOCK,
    RANGE_TILE,
    SUMS_TILE,
    UPDATE_TILE,
    careful_tile,
    column_width,
    fast_tile,
    launch,
    linear_tile,
    row_classes,
    row_tile,
    shared_bytes,
    stages_of,
)

__all__ = ["Variant", "measure", "newest", "variants"]

_BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}

# Types of arguments by their names; numbers are int32 where nothing else is said.
_POINTERS = {
    "fp64": (
        "q", "q_student", "q_teacher", "low", "high", "values", "sums", "gains", "inside_bounds", "factors",
        "scalars", "powers",
    ),
    "fp32": (
        "delta", "divergence", "margin", "confidence", "unit", "bias", "scale", "lengths", "limits", "centroids",
        "squared", "weights", "scores", "factor", "similarity", "near", "lost", "parameters", "gradient", "second",
        "losses", "origin", "means",
    ),
    "i64": (
        "bad", "counts", "sizes", "first", "state", "n_listed", "n_open", "order", "ends", "streams", "blocks", "draws",
        "clusters", "members", "following", "picks", "numbers", "targets", "found", "mass", "owned", "n_empty",
    ),
    "i32": (
        "student_top1", "teacher_top1", "student_size", "teacher_size", "overlap", "bins", "labels", "others", "listed",
        "open_rows", "places",
    ),
    "u8": ("sets",),
}  # fmt: skip
_STEP = {"first": "*fp32", "n_rows": "fp32", "decay": "fp32"}
_TYPES = {name: f"*{kind}" for kind, names in _POINTERS.items() for name in names} | dict.fromkeys(
    ("row_share", "careful_row_share", "score_share", "careful_score_share"), "fp32"
)


class Variant(NamedTuple):
    """A kernel as one launch compiles it."""

    kernel: Any
    types: dict[str, str]
    """Types of the arguments that are passed in several types."""
    constants: dict[str, Any]
    warps: int
    stages: int = 3
    is_wide: bool = False
    """Whether rows allow loads of 16 bytes."""
    is_product: bool = False
    """Whether matrix instructions are meant."""

    @property
    def name(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in (self.types | self.constants).items())
        return f"{self.kernel.__name__}[{values}]"


def variants(capability: tuple[int, int]) -> Iterator[Variant]:
    """Every kernel in every configuration, types of rows in turn."""
    narrow, wide = torch.bfloat16, torch.float32
    kinds = (wide, narrow, torch.float16)
    for i, n in enumerate([*row_classes(), 2 * LONGEST_ROW]):
        for j, n_columns in enumerate((n, n - 4, n - 1)):  # of which threads read 8, 4 and 1 at once
            yield _scores(n_columns, kinds[(i + j) % 3])
        yield _of_rows(threshold._keep_kernel, n, kinds[i % 2], COLUMNS=min(row_tile(n).J, KEPT_COLUMNS))
    yield _scores(1024, torch.float16, with_teacher=False)
    for n, dtype in ((100, wide), (1000, torch.float16), (2 * LONGEST_ROW, narrow)):
        yield _of_rows(conformal_sets._prediction_sets_kernel, n, dtype)
        yield _of_rows(conformal_sets._log_normalizers_kernel, n, dtype, {"out": "*fp64"})
        yield _of_rows(linear._row_lengths_kernel, n, dtype, {"out": "*fp64"}, name="x")
        yield _of_rows(kmeans_exact._squared_kernel, n, dtype, name="x")
    for n, dtype, n_parts in ((64, narrow, 1), (768, torch.float16, 1), (768, wide, 2), (2 * LONGEST_ROW, wide, 1)):
        of_parts = {"PARTS": n_parts, "HIGH": 1.0 / halves.LOW_PART, "PAD": halves.PAD}
        yield _of_rows(halves._halves_kernel, n, dtype, {"lengths": "*fp64", "parts": "*fp16"}, name="x", **of_parts)
    block, cells = {"BLOCK": KEPT_TILE.block}, {"CELLS": threshold.N_CELLS}
    yield Variant(threshold._keep_scores_kernel, {"scores": "*fp64"}, block, KEPT_TILE.warps)
    yield Variant(threshold._count_kernel, {}, {**cells, **block}, KEPT_TILE.warps)
    yield Variant(threshold._list_kernel, {}, {**cells, "LIST": threshold.ROOM, **block}, KEPT_TILE.warps)
    for kind in ("similarity", "gaussian", "ball"):
        of_gains = {"KIND": kind, "SIZE": coverage.SEGMENT, "M": GAINS_TILE.M, "N": GAINS_TILE.N}
        yield Variant(coverage._segment_gains_kernel, {"parameter": "fp32"}, of_gains, GAINS_TILE.warps)
    yield Variant(coverage._gain_sums_kernel, {}, {"M": SUMS_TILE.M, "N": SUMS_TILE.N}, SUMS_TILE.warps)
    yield Variant(coverage._cover_kernel, {}, {"B": COVER_BLOCK.block}, COVER_BLOCK.warps)
    yield Variant(coverage._choose_kernel, {"bounds": "*fp64"}, {"B": CHOICE_BLOCK.block}, CHOICE_BLOCK.warps)
    dropped = {"KEEP": 1 << 14, "B": DROPOUT_TILE.block}
    yield Variant(dropout._dropout_kernel, {"x": "*fp32", "out": "*fp32"}, dropped, DROPOUT_TILE.warps)
    yield Variant(adamw._adamw_kernel, _STEP, {"B": ADAMW_BLOCK.block}, ADAMW_BLOCK.warps)
    entropy = {"B": CROSS_ENTROPY_BLOCK.block}
    yield Variant(cross_entropy._cross_entropy_kernel, {"logits": "*fp32"}, entropy, CROSS_ENTROPY_BLOCK.warps)
    plan = {"LENGTH": UPDATE_TILE.length, "B": PLAN_BLOCK.block}
    yield Variant(kmeans_update._plan_kernel, {}, plan, PLAN_BLOCK.warps)
    yield Variant(kmeans_update._means_kernel, {"sums": "*i64"}, {"D": UPDATE_TILE.D}, UPDATE_TILE.warps)
    outcome = {"B": OUTCOME_BLOCK.block}
    exactly = {"N_LIMBS": kmeans_outcome.LIMBS, **outcome}
    yield Variant(kmeans_outcome._objective_kernel, {}, exactly, OUTCOME_BLOCK.warps)
    yield Variant(kmeans_outcome._empty_kernel, {}, outcome, OUTCOME_BLOCK.warps)
    tile = fast_tile(capability)
    fast = {"M": tile.M, "N": tile.N, "D": tile.D}
    ahead = stages_of(capability, kmeans_assign.fast_stage_bytes(tile))
    halved = {"x": "*fp16", "parts": "*fp16"}
    yield Variant(kmeans_assign._assign_kernel, halved, fast, tile.warps, ahead, is_wide=True, is_product=True)
    of_parts = {"WIDTH": 8, "LOW": halves.LOW_PART, "R": CENTROID_TILE.M, "D": CENTROID_TILE.N}
    of_centroids = {"parts": "*fp16", "lost": "*fp64", "lengths": "*fp64", "h": "*fp64"}
    yield Variant(kmeans_centroids._centroid_parts_kernel, of_centroids, of_parts, CENTROID_TILE.warps, is_wide=True)
    sums = _of_rows(
        kmeans_centroids._centroid_sums_kernel, 768, wide, {"lengths": "*fp64", "h": "*fp64"}, name="centroids"
    )
    sums.constants.pop("ALIGN")
    yield sums
    of_range = {"B": RANGE_TILE.block}
    yield Variant(kmeans_centroids._range_kernel, of_centroids, of_range, RANGE_TILE.warps)
    yield Variant(kmeans_centroids._limits_kernel, of_centroids, of_range, RANGE_TILE.warps)
    least = {"N": EXACT_TILE.N, "R": EXACT_TILE.rows}
    yield Variant(kmeans_exact._least_kernel, {"least": "*fp64"}, least, EXACT_TILE.warps)
    for n_parts in (1, 2):
        yield _product(n_parts, capability)
    for dtype in _NAMES:
        yield _assignment(dtype, capability)
        of_rows = {"ALIGN": 16 // dtype.itemsize, "WIDTH": 8}
        types = {"x": f"*{_NAMES[dtype]}"}
        exact = {**of_rows, "N": EXACT_TILE.N, "D": EXACT_TILE.D}
        yield Variant(kmeans_exact._scan_kernel, {**types, "least": "*fp64"}, exact, EXACT_TILE.warps)
        update = {
            **of_rows,
            "WITH_SCALE": True,
            "D": UPDATE_TILE.D,
            "AHEAD": UPDATE_TILE.ahead,
            "LENGTH": UPDATE_TILE.length,
        }
        yield Variant(kmeans_update._segments_kernel, {**types, "sums": "*i64"}, update, UPDATE_TILE.warps)


def _of_rows(
    kernel: Any, n: int, dtype: torch.dtype, types: dict[str, str] | None = None, *, name: str = "logits", **more: Any
) -> Variant:
    width, tile = column_width(n), row_tile(n)
    align = min(width, 16 // dtype.itemsize)
    constants = {"ALIGN": align, "WIDTH": width, "K": tile.K, "R": tile.R, "J": tile.J, **more}
    is_wide = align * dtype.itemsize == 16
    return Variant(kernel, {name: f"*{_NAMES[dtype]}", **(types or {})}, constants, tile.warps, is_wide=is_wide)


def _scores(n: int, dtype: torch.dtype, *, with_teacher: bool = True) -> Variant:
    kind = f"*{_NAMES[dtype]}"
    of_one = _of_rows(conformal_score.kernel_for(n), n, dtype)
    align = of_one.constants.pop("ALIGN")
    constants = {
        "WITH_TEACHER": with_teacher,
        "S_ALIGN": align,
        "T_ALIGN": align,
        "WORD": min(align, 32 // of_one.constants["K"]),
        **of_one.constants,
    }
    return of_one._replace(types={"student": kind, "teacher": kind}, constants=constants)


def _product(n_parts: int, capability: tuple[int, int]) -> Variant:
    tile = linear_tile(n_parts, capability)
    constants = {
        "PARTS": n_parts, "PAD": halves.PAD, "ALIGN": 4, "M": tile.M, "N": tile.N, "D": tile.D, "GROUP": tile.group
    }  # fmt: skip
    stages = stages_of(capability, linear.stage_bytes(tile, n_parts))
    types = {"x": "*fp16", "parts": "*fp16", "out": "*fp32"}
    return Variant(linear._linear_kernel, types, constants, tile.warps, stages, is_wide=True, is_product=True)


def _assignment(dtype: torch.dtype, capability: tuple[int, int]) -> Variant:
    tile = careful_tile(capability)
    constants = {
        "ALIGN": 16 // dtype.itemsize, "ROW_PARTS": kmeans_assign.row_parts(dtype), "LOW": halves.LOW_PART,
        "M": tile.M, "N": tile.N, "D": tile.D,
    }  # fmt: skip
    stages = stages_of(capability, kmeans_assign.careful_stage_bytes(tile, dtype))
    types = {"x": f"*{_NAMES[dtype]}", "parts": "*fp16"}
    kernel = kmeans_assign._assign_careful_kernel
    return Variant(kernel, types, constants, tile.warps, stages, is_wide=True, is_product=True)


def measure(variant: Variant, capability: tuple[int, int]) -> dict[str, Any]:
    """Compiles a variant and reads what came of it."""
    kernel = variant.kernel
    types = _TYPES | variant.types | dict.fromkeys(variant.constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    aligned = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name, kind in signature.items() if kind[0] == "*"
    }
    compiled = triton.compile(
        ASTSource(kernel, signature, variant.constants, aligned),
        target=GPUTarget("cuda", 10 * capability[0] + capability[1], 32),
        options={**launch(variant.warps), "num_stages": variant.stages},
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, code = (_cuobjdump(option, file.name) for option in ("-res-usage", "-sass"))
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    instructions = Counter(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z][A-Z0-9_.]*)", code, re.M))
    return {
        "kernel": variant.name,
        "registers": int(found[1]),
        "stack": int(found[2]),
        "shared": compiled.metadata.shared,
        "shared_limit": shared_bytes(capability),
        "is_wide": variant.is_wide,
        "is_product": variant.is_product,
        "instructions": dict(instructions),
    }


def newest() -> tuple[int, int]:
    """The newest compute capability that this Triton compiles for."""
    for capability in ((12, 1), (12, 0), (10, 3), (10, 0), (9, 0)):
        try:
            measure(next(v for v in variants(capability) if v.kernel is threshold._list_kernel), capability)
        except (RuntimeError, ValueError, subprocess.CalledProcessError):
            continue
        return capability
    raise RuntimeError("this Triton compiles for no known compute capability")


def _cuobjdump(option: str, file: str) -> str:
    done = subprocess.run([str(_BIN / "cuobjdump"), option, file], capture_output=True, text=True, check=True)
    return done.stdout


def _measured(index: int, capability: tuple[int, int]) -> dict[str, Any]:
    return measure(list(variants(capability))[index], capability)


def main() -> None:
    """Prints a line for each variant."""
    parser = argparse.ArgumentParser(
        prog="python -m ccma_fast.kernels.aot", description="What the compiler makes of every kernel."
    )
    parser.add_argument("--capability", default="90", help='such as 90, or "newest"')
    arguments = parser.parse_args()
    number = int(arguments.capability) if arguments.capability != "newest" else None
    capability = newest() if number is None else divmod(number, 10)
    indices = range(len(list(variants(capability))))
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "triton.compiler"])  # which take seconds, once for all processes
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        for line in pool.map(_measured, indices, [capability] * len(indices)):
            print(json.dumps({"capability": capability, **line}), flush=True)


if __name__ == "__main__":
    main()
