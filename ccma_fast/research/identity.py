"""What the results of a callable or object depend on: its code and the values that it carries, as texts to compare.

A function is identified by its bytecode and not by its file, which may have changed since it was imported and holds
other code too. So comments change nothing, and the bytecode of another version of Python differs.
"""

from __future__ import annotations

import abc
import copyreg
import functools
import hashlib
import importlib
import itertools
import json
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..pool.array_like import as_array
from ..system.qualified_names import module_of, qualified_name
from .bytecode import compiled, globals_in, imports_in, names_in
from .installed import installed_version
from .record import UNKNOWN

__all__ = ["digest_of_array", "identity"]

_LONGEST_TEXT = 60

_Code = (types.FunctionType, types.MethodType, type, types.ModuleType)
_Builtin = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType)
_Cached = type(functools.lru_cache(lambda: None))
_Descriptors = (staticmethod, classmethod, property, functools.cached_property)
_FUNCTIONS_OF_DESCRIPTORS = ("__func__", "fget", "fset", "fdel", "func")
# What describes the layout of a class and not what it does.
_Layout = (types.MemberDescriptorType, types.GetSetDescriptorType, type(vars(abc.ABC)["_abc_impl"]))


def identity(*things: Any, seeded: bool = False) -> dict[str, str]:
    """Every part of callables and objects on which their results depend.

    The parts of a function are its code, its defaults, its closure, and the functions, classes and values that it uses
    from its module and from other modules of the user's, recursively; of a class its methods and attributes; of an
    object its class and what pickle would store; of a student by scikit-learn's convention (`get_params` and
    `set_params`) its parameters, for `fit` resets all else. The part of an installed package is its version; the record
    of the run has the versions of this package, NumPy, PyTorch and Python. What is looked up by a string (``getattr``,
    ``exec``) is not seen.

    Parameters
    ----------
    *things : callable or object
    seeded : bool, default False
        The object is a student, which the run fits: leave out the state of an earlier fit, and the parameter
        ``random_state``, which the run sets.

    Returns
    -------
    dict of str
        A text for each part by its name; it begins with :data:`UNKNOWN` where the part cannot be compared.
    """
    found = _Dependencies()
    try:
        for thing in things:
            found.add(thing, seeded=seeded)
    except Exception as error:  # code can do what is not foreseen here
        found.parts[", ".join(map(qualified_name, things))] = f"{UNKNOWN}{type(error).__name__}: {error}"
    return dict(sorted(found.parts.items()))


def digest_of_array(array: npt.NDArray[Any]) -> str:
    """SHA-256 of the values in their order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


class _Dependencies:
    """The parts of things and of all that they depend on, found by walking from one to the next."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self._names: dict[int, tuple[str, Any]] = {}  # with the object itself, so that its id is not reused
        self._inside: list[int] = []
        self._seen: set[str] = set()  # names of values that were added

    def add(self, thing: Any, *, seeded: bool = False) -> None:
        """Add a callable or object, with a part for each of its values."""
        if isinstance(thing, functools.partial):
            self.add(thing.func)
            self._put("bound arguments", (thing.args, thing.keywords))
        elif isinstance(thing, types.MethodType):
            self._code(thing.__func__)
            self.add(thing.__self__)
        elif isinstance(thing, (*_Code, *_Builtin)):
            self._code(thing)
        elif isinstance(thing, _Cached):
            self.add(thing.__wrapped__)
        else:
            name = self._code(type(thing))
            try:
                state = _state(thing, seeded)
            except Exception as error:  # an object's own methods may raise anything
                self.parts[f"{name}()"] = f"{UNKNOWN}{error}"
                return
            for key, value in state.items():
                self._put(f"{name}().{key}", value)

    def _put(self, name: str, value: Any) -> None:
        try:
            text = json.dumps(self._value(value), ensure_ascii=False)
        except Exception as error:  # as above
            text = f"{UNKNOWN}{error}"
        else:
            text = text if len(text) <= _LONGEST_TEXT else hashlib.sha256(text.encode()).hexdigest()
        self.parts[_free(name, self.parts)] = text

    def _code(self, thing: Any) -> str:
        """The name of a function, class or module, whose own parts are added."""
        if isinstance(thing, types.ModuleType):
            if self._is_installed(thing.__name__):
                return thing.__name__
            source = Path(thing.__file__).read_bytes() if thing.__file__ else None
            self.parts[thing.__name__] = f"{UNKNOWN}no file" if source is None else hashlib.sha256(source).hexdigest()
            return thing.__name__
        if isinstance(thing, type):
            return self._class(thing)
        if isinstance(thing, types.MethodType):
            self._put(f"{qualified_name(thing)} of", thing.__self__)
            return self._code(thing.__func__)
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        owner = getattr(thing, "__self__", None)
        if owner is not None and not isinstance(owner, (types.ModuleType, type)):
            self._put(f"{qualified_name(thing)} of", owner)
        elif isinstance(module := getattr(thing, "__module__", None), str):
            self._is_installed(module)
        return qualified_name(thing)

    def _named(self, thing: Any) -> tuple[str, bool]:
        """A name that no other thing has, and whether it is a new one."""
        if id(thing) in self._names:
            return self._names[id(thing)][0], False
        name = _free(qualified_name(thing), self.parts)
        self.parts[name] = ""  # reserved until it is known
        self._names[id(thing)] = name, thing
        return name, True

    def _function(self, function: types.FunctionType) -> str:
        if self._is_installed(function.__module__):
            return qualified_name(function)
        name, new = self._named(function)
        if not new:
            return name
        code = function.__code__
        digest = hashlib.sha256(json.dumps(compiled(code)).encode()).hexdigest()
        self.parts[name] = f"{sys.implementation.cache_tag} {digest}"
        if function.__defaults__ or function.__kwdefaults__:
            self._put(f"{name}, defaults", (function.__defaults__, function.__kwdefaults__))
        used = names_in(code)
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            self._taken(f"{name}, {variable}", content, used)
        for variable, value in vars(function).items():
            self._taken(f"{name}.{variable}", value, used)
        module = module_of(function)
        for variable in globals_in(code):
            if variable in function.__globals__:
                self._taken(f"{module}.{variable}", function.__globals__[variable], used)
        for imported in imports_in(code, function.__globals__.get("__package__")):
            if not self._is_installed(imported):
                self._imported(imported, used)
        return name

    def _imported(self, name: str, used: frozenset[str]) -> None:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever the module raises
            self.parts[name] = f"{UNKNOWN}{error}"
        else:
            self._taken(name, module, used)

    def _taken(self, name: str, value: Any, used: frozenset[str]) -> None:
        """What a function uses from elsewhere; of a module the names that the function mentions."""
        if not isinstance(value, types.ModuleType):
            if isinstance(value, (*_Code, *_Builtin)):
                self._means(name, self._code(value))
            elif name not in self._seen:
                self._seen.add(name)
                self._put(name, value)
        elif self._is_installed(value.__name__):
            self._means(name, value.__name__)
        else:
            for attribute in sorted(used & vars(value).keys()):
                if (inner := vars(value)[attribute]) is not value:
                    self._taken(f"{value.__name__}.{attribute}", inner, used - {attribute})

    def _means(self, name: str, meant: str) -> None:
        """Note what is used under another name than its own, as after ``from scipy.special import entr as weigh``."""
        if name != meant:
            self.parts[f"{name}, called"] = meant

    def _class(self, kind: type) -> str:
        if self._is_installed(kind.__module__):
            return qualified_name(kind)
        name, new = self._named(kind)
        if not new:
            return name
        self.parts[name] = ", ".join(self._class(base) for base in (*kind.__bases__, type(kind)))
        for attribute, value in vars(kind).items():
            own = f"{name}.{attribute}"
            if isinstance(value, _Descriptors):
                for role in _FUNCTIONS_OF_DESCRIPTORS:
                    if (function := getattr(value, role, None)) is not None:
                        self._taken(f"{own}, {role}", function, frozenset())
            elif callable(value) or not (attribute.startswith("__") or isinstance(value, _Layout)):
                self._taken(own, value, frozenset())
        return name

    def _value(self, value: Any) -> Any:
        """A value as nested lists that differ for different values."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, (*_Code, *_Builtin)):
            return ["code", self._code(value)]
        if id(value) in self._inside:
            return ["cycle", len(self._inside) - self._inside.index(id(value))]
        self._inside.append(id(value))
        try:
            return self._compound(value)
        finally:
            self._inside.pop()

    def _compound(self, value: Any) -> Any:
        kind = type(value)
        if kind in (bytes, bytearray, complex):
            return [kind.__name__, repr(value)]
        if kind in (list, tuple):
            return [kind.__name__, *map(self._value, value)]
        if kind in (set, frozenset):
            return [kind.__name__, *sorted((self._value(item) for item in value), key=json.dumps)]
        if kind is dict:
            return ["dict", *([self._value(key), self._value(item)] for key, item in value.items())]
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
            array = as_array("a value", value)
            known = np.ndarray if isinstance(value, np.memmap) else kind  # other processes may have it in memory
            if array.dtype.names:  # padding between fields is undefined
                fields = [[field, self._value(np.ascontiguousarray(array[field]))] for field in array.dtype.names]
                return ["array", self._code(known), *fields]
            return ["array", self._code(known), array.dtype.str, list(array.shape), digest_of_array(array)]
        if "torch" in sys.modules and isinstance(value, (torch := sys.modules["torch"]).Tensor):
            numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            return ["tensor", str(value.dtype), list(value.shape), digest_of_array(numbers)]
        if isinstance(value, _Cached):
            return ["cached", self._value(value.__wrapped__)]
        reduced = _reduced(value)
        if isinstance(reduced, str):
            return ["global", str(getattr(value, "__module__", None)), reduced]
        make, arguments, *rest = reduced
        items = [list(part) if isinstance(part, Iterator) else part for part in rest]
        return ["object", self._code(kind), self._value(make), self._value(arguments), self._value(items)]

    def _is_installed(self, module: str | None) -> bool:
        """Whether a module is not the user's own; where it is of a package, its version is a part."""
        top = (module or "").partition(".")[0]
        version = installed_version(top)
        if version:
            self.parts[top] = version
        return version is not None


def _free(name: str, parts: Mapping[str, str]) -> str:
    """A name that no part has: a function may lie in an object of its own name, as what ``lru_cache`` makes."""
    names = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
    return next(name for name in names if name not in parts)


def _has_parameters(thing: Any) -> bool:
    return all(callable(getattr(thing, method, None)) for method in ("get_params", "set_params"))


def _reduced(thing: Any) -> Any:
    """How pickle would make an object again."""
    special = copyreg.dispatch_table.get(type(thing))
    return thing.__reduce_ex__(4) if special is None else special(thing)


def _state(thing: Any, seeded: bool) -> dict[Any, Any]:
    """What an object carries, by name."""
    if seeded and _has_parameters(thing):
        parameters = dict(thing.get_params(deep=False))
        if not parameters.get("warm_start"):  # by convention `fit` then forgets all else
            return {name: value for name, value in parameters.items() if name != "random_state"}
    reduced = _reduced(thing)
    if isinstance(reduced, str):
        return {"name": reduced}
    make, arguments, *rest = reduced
    state = rest.pop(0) if rest else None
    found: dict[Any, Any] = state if isinstance(state, dict) else {} if state is None else {"state": state}
    if (make, arguments) != (copyreg.__newobj__, (type(thing),)):  # type: ignore[attr-defined]
        found = {**found, "made by": (make, arguments)}
    items = [list(part) for part in rest if isinstance(part, Iterator)]
    return {**found, "items": items} if any(items) else found
