"""Triton's interpreter, made faster, and made to run beside NumPy 2.5. Benchmarks take it from here too."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


def prepare() -> None:
    """Takes from interpreted kernels most of their time."""
    from ccma_fast.kernels import _configs, kmeans_centroids
    from triton.runtime import interpreter

    _prepare_language_once(interpreter)
    _remember_types(interpreter.tl.core, interpreter.TritonSemantic)
    of_number = functools.cache(interpreter._get_np_dtype)  # it makes a table of all types for each of them
    interpreter._get_np_dtype = lambda of: np.dtype(np.uint64) if of.scalar.is_ptr() else of_number(of.scalar)
    # Of each value it asks twice whether it is too wide for its type.
    interpreter.TensorHandle.__post_init__ = lambda _: None
    # It repeats every sum and product of integers in 64 bits, in search of overflow that data as small cannot have.
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
    _remember_operations(interpreter)
    # Its programs run one after the other: two for the centroids that are padded to a tile of products, not sixteen.
    kmeans_centroids.CENTROID_TILE = _configs.CENTROID_TILE._replace(M=_configs.FAST_TILE.N // 2)


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


# ---------------------------------------------------------------------------------------------------------------------
# Operations of Triton's language: types, shapes and constants decide which functions of the builder compute one.

# Functions of the builder that do not give the same for the same arguments, or are called for what they do.
_OF_PROGRAMS = ("program", "load", "store", "atomic", "descriptor", "print", "assert", "assume", "barrier")

_MISSING = object()
_MOST_PLANS = 1000  # of an operation: numbers that loops count may be among its constants


class _CannotRemember(Exception):
    """An argument or a result is of another kind than tensors, types, numbers and strings."""


class _Recorder:
    """Stands for the builder, and keeps what it was asked to create."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        self.calls: list[tuple[str, Callable[..., Any], tuple[Any, ...], Any]] = []
        self.constants: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        of = getattr(self._builder, name)
        if not name.startswith(("create_", "get_")):
            return of

        def create(*args: Any, **kwargs: Any) -> Any:
            found = of(*args, **kwargs)
            if name.startswith("create_"):
                self.calls.append((name, functools.partial(of, **kwargs) if kwargs else of, args, found))
            else:
                self.constants.append(found)
            return found

        return create

    def cannot_repeat(self) -> None:
        """What follows depends on numbers."""
        self.calls.append(("numbers", tuple, (), ()))


def _remember_operations(interpreter: Any) -> None:
    """What an operation asks of the builder is found out once for the same types and constants, and repeated then.

    So are those of a function that kernels call, unless it looks at numbers to decide.
    """
    semantic, builder, plans = interpreter.interpreter_semantic, interpreter.interpreter_builder, {}
    key_of, members = _keys(interpreter), {}

    def recorded(key: Any, handles: list[Any], call: Callable[[], Any]) -> Any:
        recorder = semantic.builder = _Recorder(builder)
        try:
            found = call()
        finally:
            semantic.builder = builder
        plan = _Plan(interpreter, handles, recorder.constants)
        try:
            for created in recorder.calls:
                plan.add(*created)
            plans[key] = plan.function(found)
        except _CannotRemember:
            plans[key] = None
        return found

    def remembered(member: Callable[..., Any]) -> Callable[..., Any]:
        n_plans = 0

        def operation(*args: Any, _semantic: Any = None, **kwargs: Any) -> Any:
            nonlocal n_plans
            if semantic.builder is not builder:  # part of an operation that is being recorded
                return member(*args, **kwargs)
            handles: list[Any] = []
            try:
                key = (member, *[key_of(arg, handles) for arg in args])
                if kwargs:
                    key += tuple([(name, key_of(arg, handles)) for name, arg in kwargs.items()])
            except _CannotRemember:
                return member(*args, **kwargs)
            if len(handles) > 1:
                at = [*map(id, handles)]
                if len(set(at)) < len(at):
                    key += (tuple([at.index(of) for of in at]),)
            plan = plans.get(key, _MISSING)
            if plan is _MISSING and n_plans < _MOST_PLANS:
                n_plans += 1
                return recorded(key, handles, lambda: member(*args, **kwargs))
            return plan(*handles) if plan and plan is not _MISSING else member(*args, **kwargs)

        return operation

    def patch(of: Any, name: str, member: Callable[..., Any], _: Any, scope: Any) -> None:
        scope.set_attr(of, name, remembered(functools.partial(member, _semantic=semantic)))

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        if function not in members:
            interpreter._patch_lang(function.fn)
            members[function] = remembered(function.rewrite())
        try:
            return members[function](*args, **kwargs)
        except Exception as error:
            raise interpreter.InterpreterError(repr(error)) from error

    interpreter._patch_attr, interpreter.InterpretedFunction.__call__ = patch, call
    _record_numbers(interpreter)


def _record_numbers(interpreter: Any) -> None:
    """Sums and the like are computed beside the builder, and a tensor's number may be asked for."""
    semantic, builder, core = interpreter.interpreter_semantic, interpreter.interpreter_builder, interpreter.tl.core
    of_tensors, of_reductions = interpreter._patch_lang_tensor, interpreter._patch_reduce_scan

    def patch_tensor(tensor: Any, scope: Any) -> None:
        of_tensors(tensor, scope)
        for name in ("__bool__", "__index__"):
            scope.set_attr(tensor, name, functools.partialmethod(number, getattr(tensor, name)))

    def number(tensor: Any, of: Callable[[Any], Any]) -> Any:
        if semantic.builder is not builder and tensor.handle.data.size == 1:  # blocks are true whatever they hold
            semantic.builder.cannot_repeat()
        return of(tensor)

    def patch_reductions(scope: Any) -> None:
        of_reductions(scope)
        for name in ("reduce", "associative_scan"):
            reduction = functools.partial(reduced, getattr(interpreter.tl, name))
            scope.set_attr(interpreter.tl, name, reduction)
            scope.set_attr(core, name, reduction)

    def reduced(of: Callable[..., Any], values: Any, *args: Any, **kwargs: Any) -> Any:
        found, recorder = of(values, *args, **kwargs), semantic.builder
        if recorder is builder:
            return found
        if type(values) is not core.tensor or type(found) is not core.tensor:
            recorder.cannot_repeat()
            return found

        def again(handle: Any, type: Any = values.type) -> Any:
            return of(core.tensor(handle, type), *args, **kwargs).handle

        recorder.calls.append(("reduce", again, (values.handle,), found.handle))
        return found

    interpreter._patch_lang_tensor, interpreter._patch_reduce_scan = patch_tensor, patch_reductions


def _keys(interpreter: Any) -> Callable[[Any, list[Any]], Any]:
    """The function that says what of an argument decides about the calls, and appends the handles of tensors."""
    language, numbers = interpreter.tl, {}
    tensor, constexpr, tuples = language.core.tensor, language.constexpr, (tuple, list, language.core.tuple)

    def key_of(value: Any, handles: list[Any]) -> Any:
        of = type(value)
        if of is tensor:
            handles.append(value.handle)
            known = vars(value.type)
            if "number" not in known:
                element = value.type.scalar
                key = element.name, getattr(element, "address_space", None), known.get("shape")
                known["number"] = numbers.setdefault(key, len(numbers))
            return known["number"]
        if of is constexpr:
            return of, key_of(value.value, handles)
        if of is int or of is bool or of is str or value is None:
            return of, value
        if of is float:
            return of, value.hex()
        if of in tuples:
            return of, tuple([key_of(part, handles) for part in value])
        if of is slice:
            return of, key_of((value.start, value.stop, value.step), handles)
        if isinstance(value, language.core.dtype):
            return of, value.name, getattr(value, "address_space", None)
        raise _CannotRemember

    return key_of


class _Plan:
    """Writes an operation as a function of its tensors' handles. Calls on constants alone are not repeated."""

    def __init__(self, interpreter: Any, handles: list[Any], constants: list[Any]) -> None:
        self._tensor, self._tuple = interpreter.tl.core.tensor, interpreter.tl.core.tuple
        self._handle, self._known = interpreter.TensorHandle, set(map(id, constants))
        self._variables = {id(of): f"v{i}" for i, of in enumerate(handles)}
        self._constants: dict[str, Any] = {"Tensor": self._tensor, "new": object.__new__}
        self._lines = [f"def run({', '.join(f'v{i}' for i in range(len(handles)))}):"]

    def add(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], created: Any) -> None:
        inside = [part for arg in args if isinstance(arg, (list, tuple)) for part in arg]
        if isinstance(created, tuple) or not self._variables.keys().isdisjoint(map(id, inside)):
            raise _CannotRemember
        if any(word in name for word in _OF_PROGRAMS) or not self._variables.keys().isdisjoint(map(id, args)):
            call = f"{self._name(function)}({', '.join(map(self._name, args))})"
            variable = f"r{len(self._lines)}"
            self._lines.append(f" {variable} = {call}")
            if created is not None:
                self._variables[id(created)] = variable
        elif all(id(arg) in self._known for arg in args if isinstance(arg, self._handle)):
            self._known.add(id(created))

    def function(self, found: Any) -> Callable[..., Any]:
        result = self._result(found)
        exec("\n".join([*self._lines, f" return {result}"]), self._constants)
        return self._constants["run"]

    def _result(self, found: Any) -> str:
        of = type(found)
        if of is self._tensor:
            made = f"t{len(self._lines)}"
            self._lines.append(f" {made} = new(Tensor)")
            self._lines.append(f" {made}.__dict__.update({self._name(vars(found))}, handle={self._name(found.handle)})")
            return made
        if of is tuple or of is self._tuple:
            return f"{self._name(of)}([{', '.join(map(self._result, found))}])"
        if found is None or of in (int, float, bool, str):
            return self._name(found)
        raise _CannotRemember

    def _name(self, of: Any) -> str:
        if id(of) in self._variables:
            return self._variables[id(of)]
        if isinstance(of, self._handle) and id(of) not in self._known:  # it came from elsewhere
            raise _CannotRemember
        name = f"c{id(of)}"
        self._constants[name] = of
        return name
