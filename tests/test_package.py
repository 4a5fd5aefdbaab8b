"""The package as it is installed: what it imports, what it carries, what it says of itself, and how it stops."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import inspect
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import ccma_fast as cf

ROOT = pathlib.Path(cf.__file__).parent
# Whether the sources themselves are imported, which an editable installation and a build in place do.
IN_PLACE = (ROOT.parent / "pyproject.toml").exists()


def test_import_is_light(run_python):
    script = (
        "import time; start = time.process_time(); import numpy; of_numpy = time.process_time() - start\n"
        "import ccma_fast; whole = time.process_time() - start\n"
        "import sys; heavy = 'torch triton sklearn matplotlib open_clip timm h5py pyarrow pandas PIL'.split()\n"
        "print(whole / of_numpy, *(m for m in heavy if m in sys.modules))"
    )
    printed = [run_python(script).split() for _ in range(3)]
    assert all(len(words) == 1 for words in printed), printed[0]
    # The least of several: other programs run on the machine too. About 2.6 where nothing does.
    assert min(float(words[0]) for words in printed) < 5.0


WITHOUT_TORCH = """
import sys
import numpy as np, ccma_fast as cf
rng = np.random.default_rng(0)
y = np.arange(200) % 2
x = rng.standard_normal((200, 8)).astype(np.float32) + 3 * y[:, None].astype(np.float32)
labels = np.where(np.arange(200) < 8, y, -1)
cf.LogisticHead().fit(x[:9], y[:9]), cf.LinearHead(max_epochs=2).fit(x[:9], y[:9])
teacher = cf.Teacher(x, x[:2])
cf.select(x, 3), cf.score(x), cf.weighted_kmeans(x, 3, random_state=0), cf.target_size_threshold(x, 2)
cf.select(x, 3, student_logits=x, teacher=cf.Teacher(x, x[:8]))
configs = {}, {"head": "published"}, {"acquisition": "trust", "head": "published"}
for config in [*(cf.CCMAConfig(max_epochs=3, **of) for of in configs), cf.CCMAConfig.paper()]:
    for call in ({}, {"teacher": teacher}, {"teacher": teacher, "student": cf.LinearHead(max_epochs=2)}):
        given = {"labels": labels, "config": config, **call}
        cf.plan(x, 3, **given)
        cf.select(x, 3, **given)
strategies = ["ccma", "margins", "bald"]
cf.simulate(
    x[:60], y[:60], test_features=x[60:], test_labels=y[60:], strategies=strategies, seeds=[1], rounds=1,
    student=cf.LinearHead(max_epochs=2), jobs=1, progress=False,
)
assert "torch" not in sys.modules
"""


def test_nothing_on_the_host_needs_torch(run_python):
    """It takes seconds and hundreds of megabytes."""
    run_python(WITHOUT_TORCH)


def test_what_is_installed():
    root = importlib.resources.files("ccma_fast")
    assert root.joinpath("py.typed").is_file()
    assert root.joinpath("_core.pyi").is_file()
    assert importlib.import_module("ccma_fast.kernels").__doc__
    assert importlib.import_module("ccma_fast._core").__doc__
    assert cf.__version__ == importlib.metadata.version("ccma-fast")
    assert importlib.metadata.metadata("ccma-fast")["License-Expression"] == "MIT"


@pytest.mark.skipif(IN_PLACE, reason="built in place, with the metadata of an earlier build")
def test_what_the_metadata_says():
    metadata = importlib.metadata.metadata("ccma-fast")
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert {link.split(",")[0] for link in metadata.get_all("Project-URL")} >= {
        "Homepage",
        "Documentation",
        "Changelog",
    }
    requires = importlib.metadata.requires("ccma-fast")
    always = {re.split(r"\W", requirement)[0] for requirement in requires if "extra ==" not in requirement}
    assert always == {"numpy", "torch", "tqdm", "triton"}
    # `.ci/install oldest` tests with these bounds.
    assert all(">=" in requirement or "==" in requirement for requirement in requires if "ccma-fast" not in requirement)


@pytest.mark.skipif(IN_PLACE, reason="built in place, with other files")
def test_nothing_else_is_installed():
    files = [str(file) for file in importlib.metadata.files("ccma-fast") if "__pycache__" not in file.parts]
    (core,) = (file for file in files if file.endswith(".so"))
    # No library beside the core: what auditwheel bundles would lie in ccma_fast.libs.
    assert core == "ccma_fast/" + pathlib.Path(importlib.import_module("ccma_fast._core").__file__).name
    tops = {file.split("/")[0] for file in files}
    (info,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops <= {"ccma_fast", info, ".."}  # the last for the program
    assert [file for file in files if file.startswith("../")] == ["../../../bin/ccma-fast"]
    assert {f"{info}/licenses/LICENSE", f"{info}/METADATA", "ccma_fast/kernels/__init__.py"} <= set(files)
    kinds = {pathlib.PurePath(file).suffix for file in files if file.startswith("ccma_fast/")}
    assert kinds <= {".css", ".html", ".js", ".json", ".md", ".py", ".pyi", ".so", ".svg", ".typed", ""}


def test_the_core_does_not_tell_where_it_was_built():
    core = pathlib.Path(importlib.import_module("ccma_fast._core").__file__).read_bytes()
    assert not re.findall(rb"/[\w./-]*/csrc/[\w./-]*", core)


def test_the_stub_names_what_the_core_has():
    import ast

    from ccma_fast import _core

    tree = ast.parse(importlib.resources.files("ccma_fast").joinpath("_core.pyi").read_text("utf-8"))
    described = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert described == {name for name in dir(_core) if not name.startswith("_")}


def test_every_public_name_is_listed_and_described():
    assert sorted(cf.__all__) == cf.__all__ or set(cf.__all__) <= set(dir(cf))
    public = {name for name in vars(cf) if not name.startswith("_") and not inspect.ismodule(getattr(cf, name))}
    assert public - {"annotations"} <= set(cf.__all__)
    for name in set(cf.__all__) - {"__version__"}:
        thing = getattr(cf, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            for attribute, member in vars(thing).items():
                if callable(getattr(thing, attribute)) and not attribute.startswith("_"):
                    assert getattr(member, "__doc__", None), f"{name}.{attribute}"


CALLS = {
    "weighted_kmeans": "cf.weighted_kmeans(x, 4000, init='random', max_iter=1000, tol=0.0, random_state=0)",
    "select": "cf.select(x, 4000)",
    "score": "[cf.score(x, x, q_student=5.0, q_teacher=5.0) for _ in range(10**6)]",
    "target_size_threshold": "[cf.target_size_threshold(x, 5.0) for _ in range(10**6)]",
}


@pytest.mark.parametrize(
    ("call", "threads"),
    [
        pytest.param(call, threads, marks=pytest.mark.slow if number % 2 == int(threads) - 1 else ())
        for number, call in enumerate(CALLS)
        for threads in ("1", "2")
    ],
)
def test_interrupt(call, threads):
    """Ctrl-C ends a long call of the core within a second, as KeyboardInterrupt."""
    script = (
        "import numpy as np, signal, time, ccma_fast as cf\n"
        # A shell's background jobs, and what they start, are born deaf to Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "x = np.random.default_rng(0).standard_normal((40_000, 256), dtype=np.float32)\n"
        "print('ready', flush=True)\n"
        f"try: {CALLS[call]}\n"
        "except KeyboardInterrupt: print('interrupted', time.time(), flush=True)\n"
    )
    # The plain loops, so that one pass takes many seconds on any machine.
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CCMA_SIMD": "scalar", "CCMA_NUM_THREADS": threads},
    )
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.5)
        assert child.poll() is None
        sent = time.time()
        child.send_signal(signal.SIGINT)
        word, when = child.stdout.readline().split()
        assert word == "interrupted"
        assert float(when) - sent < 1.0
        assert child.wait(timeout=10) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


FORK = """
import os, sys
import numpy as np, ccma_fast as cf
rng = np.random.default_rng(0)
x, y = rng.standard_normal((3000, 32), dtype=np.float32), np.where(np.arange(3000) % 30 == 0, np.arange(3000) % 7, -1)
cf.set_num_threads(4)
run = lambda: cf.select(x, 10, labels=y, config=cf.CCMAConfig(max_epochs=5)).indices.tolist()
expected = run()
child = os.fork()
if child == 0:
    os._exit(0 if run() == expected else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert run() == expected
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_after_use(run_forked):
    """No thread outlives a call, so a child process finds none missing."""
    run_forked("import warnings; warnings.simplefilter('ignore')\n" + FORK)


def test_threads_of_python_may_share_the_core():
    from concurrent.futures import ThreadPoolExecutor

    x = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float32)
    expected = cf.select(x, 10).indices
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: cf.select(x, 10).indices, range(8)):
            np.testing.assert_array_equal(found, expected)
