"""What a strategy or student is, as far as results depend on it: every change is seen, and called by its name."""

from __future__ import annotations

import functools
import importlib
import logging
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.query.environment import package_digest
from ccma_fast.research.identity import identity
from ccma_fast.research.record import UNKNOWN
from ccma_fast.strategies.registry import built_in

# A module of the user's, with each way in which a strategy comes to its answer.
HELPERS = """
SHARE = 0.5

def ranked(values):
    return sorted(values)

def unused(values):
    return values
"""
STRATEGIES = """
import functools
import math
import helpers
import helpers as renamed
from helpers import ranked
from functools import reduce as combined
from operator import add as joined

LIMIT = 10
TABLE = {"a": [1, 2], "b": (3,)}

def first(values):
    return values[0]

def plain(state):
    return state.unlabelled[: state.budget]

def by_helper(state):
    return first([x for x in state.unlabelled])

def by_module(state):
    return helpers.ranked(state.unlabelled)

def by_name(state):
    return ranked(state.unlabelled)

def renames(state):
    return renamed.ranked(state.unlabelled)

def imports_inside(state):
    from helpers import SHARE
    return SHARE

def constants(state):
    return LIMIT, TABLE["a"], math.pi

def with_defaults(state, k=3, *, share=0.5):
    return k, share

def by_alias(state):
    return combined(joined, state.unlabelled)

@functools.lru_cache
def remembered(x):
    return x * 5

def by_cached(state):
    return remembered(state.budget)

def closure(k):
    def inner(state):
        return k, first(state)
    return inner

closed = closure(2)
over_a_function = closure(plain)
bound = functools.partial(with_defaults, k=4)
shortest = lambda state: state.unlabelled[:1]

def decorated(function):
    @functools.wraps(function)
    def wrapper(state):
        return function(state)
    return wrapper

wrapped = decorated(by_helper)
cached = functools.lru_cache(by_helper)

class Base:
    scale = 1.0

    def weigh(self, x):
        return self.scale * x

class Chooser(Base):
    def __init__(self, k, then=None):
        self.k, self.then = k, then

    @property
    def doubled(self):
        return 2 * self.k

    @functools.cached_property
    def tripled(self):
        return 3 * self.k

    @staticmethod
    def shifted(x):
        return x + 1

    def __call__(self, state):
        return self.weigh(self.doubled)

chooser = Chooser(3)
nested = Chooser(3, then=Chooser(4, then=by_helper))
method = Chooser(5).weigh
"""


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, dict[str, str]]]:
    """The identity of everything in those modules with some of their text changed, imported anew."""
    folder = tmp_path_factory.mktemp("identities")

    @functools.cache
    def of(*changes: tuple[str, str]) -> dict[str, dict[str, str]]:
        texts = {"helpers.py": HELPERS, "own_strategies.py": STRATEGIES}
        for before, after in changes:
            assert any(before in text for text in texts.values())
            texts = {name: text.replace(before, after) for name, text in texts.items()}
        for name, text in texts.items():
            (folder / name).write_text(text)
            sys.modules.pop(name.removesuffix(".py"), None)
        sys.path.insert(0, str(folder))
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        importlib.invalidate_caches()
        try:
            module = importlib.import_module("own_strategies")
            return {name: identity(thing) for name, thing in vars(module).items() if callable(thing)}
        finally:
            sys.dont_write_bytecode = before
            sys.path.remove(str(folder))
            for name in texts:
                sys.modules.pop(name.removesuffix(".py"), None)

    return of


@pytest.mark.parametrize(
    ("change", "strategy", "part"),
    [
        (("[: state.budget]", "[-state.budget :]"), "plain", "own_strategies.plain"),
        (("values[0]", "values[-1]"), "by_helper", "own_strategies.first"),
        (("values[0]", "values[-1]"), "closed", "own_strategies.first"),
        (("values[0]", "values[-1]"), "wrapped", "own_strategies.first"),
        (("values[0]", "values[-1]"), "cached", "own_strategies.first"),
        (("values[0]", "values[-1]"), "nested", "own_strategies.first"),
        (("sorted(values)", "sorted(values)[::-1]"), "by_module", "helpers.ranked"),
        (("sorted(values)", "sorted(values)[::-1]"), "by_name", "helpers.ranked"),
        (("SHARE = 0.5", "SHARE = 0.6"), "imports_inside", "helpers.SHARE"),
        (("import add as", "import mul as"), "by_alias", "own_strategies.joined, called"),
        (("import reduce as", "import partial as"), "by_alias", "own_strategies.combined, called"),
        (("import helpers as renamed", "import math as renamed"), "renames", "own_strategies.renamed, called"),
        (("x * 5", "x * 6"), "by_cached", "own_strategies.remembered"),
        (("LIMIT = 10", "LIMIT = 10.0"), "constants", "own_strategies.LIMIT"),
        (('"b": (3,)', '"b": [3]'), "constants", "own_strategies.TABLE"),
        (("k=3", "k=4"), "with_defaults", "own_strategies.with_defaults, defaults"),
        (("share=0.5)", "share=0.6)"), "bound", "own_strategies.with_defaults, defaults"),
        (("k=4)", "k=5)"), "bound", "bound arguments"),
        (("closure(2)", "closure(3)"), "closed", "own_strategies.closure.<locals>.inner, k"),
        (("[: state.budget]", "[-state.budget :]"), "over_a_function", "own_strategies.plain"),
        (("unlabelled[:1]", "unlabelled[:2]"), "shortest", "own_strategies.<lambda>"),
        (("scale = 1.0", "scale = 2.0"), "chooser", "own_strategies.Base.scale"),
        (("2 * self.k", "4 * self.k"), "chooser", "own_strategies.Chooser.doubled"),
        (("3 * self.k", "4 * self.k"), "chooser", "own_strategies.Chooser.tripled"),
        (("x + 1", "x + 2"), "chooser", "own_strategies.Chooser.shifted"),
        (("Chooser(3)", "Chooser(4)"), "chooser", "own_strategies.Chooser().k"),
        (("Chooser(4, ", "Chooser(5, "), "nested", "own_strategies.Chooser().then"),
        (("Chooser(5)", "Chooser(6)"), "method", "own_strategies.Chooser().k"),
        (("* x", "/ x"), "method", "own_strategies.Base.weigh"),
        (("class Chooser(Base)", "class Chooser(Base, dict)"), "chooser", "own_strategies.Chooser"),
    ],
)
def test_a_change_is_seen_and_called_by_its_name(
    identities: Any, change: tuple[str, str], strategy: str, part: str
) -> None:
    before, after = identities()[strategy], identities(change)[strategy]
    assert part in {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert not any(text.startswith(UNKNOWN) for text in before.values())


@pytest.mark.parametrize(
    "change",
    [
        ("LIMIT = 10", "# a comment\n\n\nLIMIT = 10  # and another"),
        ("return values[0]", "return values[\n        0\n    ]"),
        ("def unused(values):\n    return values", "def unused(values):\n    return None"),
    ],
)
def test_what_changes_no_result_is_no_change(identities: Any, change: tuple[str, str]) -> None:
    assert identities() == identities(change)


def test_a_file_that_was_changed_after_it_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs counts, not what the file says by now."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_meanwhile.py").write_text("def choose(state):\n    return 1\n")
    module = importlib.import_module("edited_meanwhile")
    before = identity(module.choose)
    (tmp_path / "edited_meanwhile.py").write_text("def choose(state):\n    return 2\n")
    assert identity(module.choose) == before


SCRIPT = """
import enum, json, sys, numpy as np
from ccma_fast.research.identity import identity

class Way(enum.Enum):
    UP = 1

class Chooser:
    def __init__(self):
        self.words, self.rng, self.itself = {"x", "y", "z"}, np.random.default_rng(3), self
        self.way, self.dtype = Way.UP, np.dtype("f4")

    def __call__(self, state):
        return state in {"a", "b", "c"}

print(json.dumps(identity(Chooser(), lambda state: len(state))))
"""


def test_it_is_the_same_in_every_process(run_python: Callable[..., str]) -> None:
    """Whatever the seed of hashes, by which sets of strings are ordered, and wherever objects lie."""
    first, second = (run_python(SCRIPT, PYTHONHASHSEED=seed) for seed in "12")
    assert first == second
    assert UNKNOWN not in first


def of(thing: Any) -> dict[str, str]:
    found = identity(thing)
    assert not any(text.startswith(UNKNOWN) for text in found.values()), found
    return found


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value


def ones(layer: torch.nn.Linear) -> torch.nn.Linear:
    torch.nn.init.ones_(layer.weight)
    return layer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ("1", 1),
        (b"a", "a"),
        ([1, 2], (1, 2)),
        ([[1], 2], [1, [2]]),
        ({1: 2}, {2: 1}),
        ({1, 2}, frozenset({1, 2})),
        (np.arange(3), np.arange(3.0)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.float32(0.1), np.float64(0.1)),
        (np.ones((1, 2)), np.ones((1, 2)).view(np.matrix)),
        (np.zeros(2, [("a", "f4")]), np.zeros(2, [("b", "f4")])),
        (np.ones(2, [("a", "f4"), ("b", "i8")]), np.zeros(2, [("a", "f4"), ("b", "i8")])),
        (np.random.default_rng(1), np.random.default_rng(2)),
        (np.random.SeedSequence(1), np.random.SeedSequence(1, spawn_key=(1,))),
        (Path("a"), Path("b")),
        (len, max),
        (str.upper, str.lower),
        ([].append, [1].append),
        (re.compile("a"), re.compile("b")),
        (logging.getLogger("a"), logging.getLogger("b")),
        (np.argsort, np.argmax),
        (Holder(1), Holder(2)),
        (functools.partial(max, 1), functools.partial(max, 2)),
        (cf.CCMAConfig(), cf.CCMAConfig(kappa=3)),
        (None, "null"),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.tensor(1.0), torch.tensor(2.0)),
        (ones(torch.nn.Linear(2, 1, bias=False)), ones(torch.nn.Linear(3, 1, bias=False))),
    ],
)
def test_values(one: Any, other: Any) -> None:
    assert of(Holder(one)) == of(Holder(one))
    assert of(Holder(one)) != of(Holder(other))


def test_what_cannot_be_compared_says_why() -> None:
    found = identity(Holder(threading.Lock()))
    (text,) = [text for name, text in found.items() if name.endswith(".Holder().value")]
    assert text.startswith(UNKNOWN)
    assert "cannot pickle" in text
    with open("/dev/null") as file:
        assert any(text.startswith(UNKNOWN) for text in identity(Holder(file)).values())
    strange = types.FunctionType(compile("LOCK", "", "eval"), {"LOCK": threading.Lock()}, "strange")
    strange.__module__ = None  # type: ignore[assignment]
    assert any(text.startswith(UNKNOWN) for text in identity(strange).values())
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert any(text.startswith(UNKNOWN) for text in identity(Holder(deep)).values())
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    assert any(text.startswith(UNKNOWN) and "masked" in text for text in identity(Holder(masked)).values())


def test_an_installed_package_is_its_version() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn, of the extra demo, is missing")
    import sklearn

    found = of(linear_model.LogisticRegression(C=2.0))
    assert found["sklearn"].startswith(f"{sklearn.__version__} (")
    assert found["sklearn.linear_model._logistic.LogisticRegression().C"] == "2.0"
    fitted = linear_model.LogisticRegression(C=2.0).fit([[0.0], [1.0]], [0, 1])
    assert of(fitted) != found  # what a strategy has learnt before
    assert of(Holder(fitted)) != of(Holder(linear_model.LogisticRegression(C=2.0).fit([[0.0], [1.0]], [1, 0])))
    student = linear_model.LogisticRegression(C=2.0)
    assert identity(fitted, seeded=True) == identity(student, seeded=True)  # fit forgets
    warm = linear_model.LogisticRegression(warm_start=True)
    warm_fitted = linear_model.LogisticRegression(warm_start=True).fit([[0.0], [1.0]], [0, 1])
    assert identity(warm, seeded=True) != identity(warm_fitted, seeded=True)


def test_the_package_stands_for_its_own_strategies() -> None:
    assert built_in
    assert all(identity(strategy) == {} for strategy in built_in.values())
    assert len(package_digest()) == 64
    assert "ccma_fast.steps.linear_head.LinearHead().dropout" in identity(cf.LinearHead(), seeded=True)
    assert identity(cf.LinearHead(random_state=1), seeded=True) == identity(cf.LinearHead(), seeded=True)
    assert identity(cf.LinearHead(random_state=1)) != identity(cf.LinearHead())


def test_a_strategy_that_is_typed_in() -> None:
    """No file is needed, and what else is typed in does not count."""
    script = "from ccma_fast.research.identity import identity\ndef f(s):\n  return {}\nprint(identity(f)); x = {}\n"

    def typed(body: str, other: str) -> str:
        command = [sys.executable, "-"]
        done = subprocess.run(command, input=script.format(body, other), capture_output=True, text=True, check=True)
        return done.stdout

    assert typed("1", "1") == typed("1", "2") != typed("2", "1")


def test_things_of_one_class_do_not_hide_each_other() -> None:
    assert identity(Holder(1), Holder(2)) != identity(Holder(3), Holder(2))
