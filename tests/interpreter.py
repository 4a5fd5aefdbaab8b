"""Triton's interpreter, made faster, and made to run beside NumPy 2.5. Benchmarks take it from here too."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np


def prepare() -> None:
    """Takes from interpreted kernels more than half of their time."""
    from triton.runtime import interpreter

    patched = set()

    def call(self: interpreter.InterpretedFunction, *args: object, **kwargs: object) -> object:
        # A device function that is called prepares Triton's language again each time; once for each module will do.
        if self.fn.__module__ not in patched:
            interpreter._patch_lang(self.fn)
            patched.add(self.fn.__module__)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call
    # That of Triton 3.6 makes a number of an array of one element as NumPy 2.5 no longer does.
    of_tensors = interpreter._patch_lang_tensor

    def with_index(tensor: type, scope: interpreter._LangPatchScope) -> None:
        of_tensors(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = with_index
    # It makes a table of all types whenever it asks for one of them.
    of_number = functools.cache(interpreter._get_np_dtype)
    interpreter._get_np_dtype = lambda of: np.dtype(np.uint64) if of.scalar.is_ptr() else of_number(of.scalar)
    # It repeats every sum and product of integers in 64 bits, in search of overflow that data as small cannot have.
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
