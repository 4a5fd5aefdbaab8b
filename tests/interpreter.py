"""Triton's interpreter, made faster, and made to run beside NumPy 2.5. Benchmarks take it from here too."""

from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace
from typing import Any

import numpy as np


def prepare() -> None:
    """Takes from interpreted kernels most of their time."""
    from triton.runtime import interpreter

    _prepare_language_once(interpreter)
    _remember_types(interpreter.tl.core, interpreter.TritonSemantic)
    # It makes a table of all types whenever it asks for one of them.
    of_number = functools.cache(interpreter._get_np_dtype)
    interpreter._get_np_dtype = lambda of: np.dtype(np.uint64) if of.scalar.is_ptr() else of_number(of.scalar)
    # It repeats every sum and product of integers in 64 bits, in search of overflow that data as small cannot have.
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)


def _prepare_language_once(interpreter: Any) -> None:
    """Every launch, and every device function that is called, prepares Triton's language: once for a module will do."""
    of_tensors = interpreter._patch_lang_tensor

    # That of Triton 3.6 makes a number of an array of one element as NumPy 2.5 no longer does.
    def with_index(tensor: type, scope: Any) -> None:
        of_tensors(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = with_index
    of_module, patched = interpreter._patch_lang, set()

    def once(function: Any) -> Any:
        if function.__module__ not in patched:
            of_module(function)
            patched.add(function.__module__)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = once


def _remember_types(core: Any, semantic: Any) -> None:
    """What a type of blocks, and a tensor of it, says of its shape is worked out for the first of them alone."""
    of_block, of_tensor, known = core.block_type.__init__, core.tensor.__init__, {}

    def block(self: Any, element_ty: Any, shape: Any) -> None:
        key = (element_ty.name, *(of.value if isinstance(of, core.constexpr) else of for of in shape))
        if key not in known:
            of_block(self, element_ty, shape)
            known[key] = {**vars(self), "of_tensors": {}}
        self.__dict__.update(known[key], element_ty=element_ty)

    def tensor(self: Any, handle: Any, type: Any) -> None:
        of_type = vars(type).setdefault("of_tensors", {})
        if not of_type:
            of_tensor(self, handle, type)
            of_type.update(vars(self))
        self.__dict__.update(of_type, handle=handle, type=type)

    core.block_type.__init__, core.tensor.__init__ = block, tensor
    of_values = semantic.broadcast_impl_value

    def broadcast(self: Any, left: Any, right: Any) -> tuple[Any, Any]:
        are_alike = left.shape is right.shape or left.shape.values == right.shape.values
        return (left, right) if are_alike else of_values(self, left, right)

    semantic.broadcast_impl_value = broadcast
