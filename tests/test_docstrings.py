"""The examples in docstrings: they run, and whatever a user calls has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pathlib

import pytest

import ccma_fast as cf

ROOT = pathlib.Path(cf.__file__).parent
# Programs of their own, which have their own tests, and the kernels, which need Triton.
PROGRAMS = {"ccma_fast.__main__"}
FILES = {
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in ROOT.rglob("*.py")
    if file.relative_to(ROOT).parts[0] not in ("kernels", "cli")
}
MODULES = sorted(name for name in FILES.keys() - PROGRAMS if ">>>" in FILES[name].read_text("utf-8"))
# What only the package makes has attributes and no parameters.
CALLED = [
    thing
    for thing in (
        *(getattr(cf, name) for name in cf.__all__),
        *(getattr(cf.strategies, n) for n in ("register", "find")),
    )
    if inspect.isfunction(thing) or (inspect.isclass(thing) and "\nParameters\n---" in (inspect.getdoc(thing) or ""))
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_every_module_says_what_it_is_for() -> None:
    assert len(MODULES) > 20
    for name in FILES.keys() - PROGRAMS:
        assert importlib.import_module(name).__doc__, name


@pytest.mark.parametrize("thing", [*CALLED, cf.Answer, cf.Campaign], ids=lambda thing: thing.__name__)
def test_what_a_user_calls_has_an_example(thing: object) -> None:
    text = inspect.getdoc(thing) or ""
    assert "\nExamples\n--------\n" in text
    assert doctest.DocTestParser().get_examples(text)
