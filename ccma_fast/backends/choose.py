"""The only chooser of a backend.

The order is: the argument, then the environment variable ``CCMA_BACKEND``, then what can run. A backend that was asked
for by name and cannot run raises; only "auto" falls back.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib import import_module
from typing import cast

from ..checks import check_choice
from ..errors import BackendUnavailableError
from ..pool.rows import Rows
from ..pool.tensors import TensorRows
from .core import load_core
from .protocol import Backend, DeviceBackend

__all__ = ["BACKENDS", "backend_for_small", "choose_backend", "host_backend"]

# The module of each backend, imported when it is first asked for: PyTorch and Triton are optional, and the C++ core
# may not be built.
_MODULES = {"cuda": ".cuda", "cpu": ".cpu", "reference": ".of_reference"}

BACKENDS = ("auto", *_MODULES)
"""What may be asked for."""


def choose_backend(backend: str = "auto", *read: Rows | None) -> Backend:
    """The backend for a call.

    Parameters
    ----------
    backend : {"auto", "cuda", "cpu", "reference"}
        "auto" asks ``CCMA_BACKEND`` and then takes CUDA where that is where the rows lie; else the C++ core where it
        was built, and otherwise, with a RuntimeWarning, the reference.
    *read : Rows
        What the call reads.

    Raises
    ------
    BackendUnavailableError
        The backend was asked for by name and cannot run here.
    """
    check_choice("backend", backend, BACKENDS)
    name = backend
    if name == "auto":
        name = os.environ.get("CCMA_BACKEND", "auto")
        check_choice("CCMA_BACKEND", name, BACKENDS)
    if name == "auto" and any(_is_on_gpu(rows) for rows in read) and _why_no_cuda() is None:
        name = "cuda"
    if name == "cuda" and (reason := _why_no_cuda()) is not None:
        raise BackendUnavailableError(
            f"backend 'cuda' cannot run: {reason}; expected an NVIDIA GPU, or backend='cpu' or 'reference'"
        )
    if name in ("auto", "cpu"):
        try:
            load_core()
        except ImportError as error:
            if name == "cpu":
                raise BackendUnavailableError(
                    f"backend 'cpu' cannot run: the C++ extension ccma_fast._core was not built ({error}); "
                    "expected an installation by `pip install .`, or backend='reference'"
                ) from error
            warnings.warn(
                f"the C++ extension ccma_fast._core was not found ({error}); running the NumPy reference, which is far "
                "slower. Was Python started in the source tree of an installed package?",
                RuntimeWarning,
                stacklevel=3,
            )
            name = "reference"
        else:
            name = "cpu"
    return _load(name)


def backend_for_small(backend: Backend) -> Backend:
    """The backend for what is too little work for the device of `backend`: the C++ core where it was built."""
    return backend if backend.ON_HOST else _built_core() or backend


def host_backend() -> Backend:
    """The backend for what is always done on the host: the C++ core, or the reference where there is none.

    Also where ``CCMA_BACKEND`` is "reference".
    """
    core = None if os.environ.get("CCMA_BACKEND") == "reference" else _built_core()
    return core or _load("reference")


def _built_core() -> Backend | None:
    try:
        load_core()
    except ImportError:
        return None
    return _load("cpu")


def _load(name: str) -> Backend:
    # A module has the methods of the protocol as functions.
    return cast(Backend, import_module(_MODULES[name], __package__))


@cache
def _why_no_cuda() -> str | None:
    """What keeps the CUDA backend from running here, or None."""
    try:
        backend = cast(DeviceBackend, _load("cuda"))
    except ImportError as error:
        return f"its kernels cannot be loaded ({error})"
    return backend.why_unavailable()


def _is_on_gpu(rows: Rows | None) -> bool:
    return isinstance(rows, TensorRows) and rows.tensor.is_cuda
