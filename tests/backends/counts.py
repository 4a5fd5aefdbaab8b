"""A card that is not there: code runs as on a GPU, in Triton's interpreter, and what the card would do is counted.

Tensors on it are wrappers that say ``cuda:0`` and compute on the processor. As on a real one, operations on tensors of
two devices are refused, a kernel takes tensors of the card alone, and NumPy cannot see them. So a test can say how many
kernels, copies and synchronisations a piece of code costs, none of which depends on the machine it runs on::

    with Card() as card:
        rows = open_rows(card.put(x), "x")
        with card.counted() as counts:
            CUDA.check_rows(rows)
    assert counts.synchronisations.total() == 1

Triton has to interpret its kernels (``TRITON_INTERPRET=1``), which the tests see to where no GPU is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter

from ccma_fast.backends.cuda import device
from ccma_fast.backends.cuda.training import Training

__all__ = ["Card", "Counts"]

_DEVICE = torch.device("cuda", 0)

# They launch nothing; views, which do not either, are told by their schema.
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "_unsafe_view"}
_FREE |= {"lift_fresh", "detach", "_pin_memory", "set_"}

# PyTorch waits for the device in them: the size of the result depends on the values.
_SIZED_BY_VALUES = {"nonzero", "masked_select", "bincount", "_unique2", "unique_dim", "unique_consecutive", "equal"}
_SIZED_BY_VALUES |= {"_local_scalar_dense", "histc"}

_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}


@dataclass
class Counts:
    """What a piece of code cost."""

    launches: Counter[str] = field(default_factory=Counter)
    """Launches of Triton's kernels, by kernel."""
    calls: Counter[str] = field(default_factory=Counter)
    """PyTorch's operations that launch a kernel of its own, by operation."""
    uploads: Counter[str] = field(default_factory=Counter)
    """Copies to the device: from "pinned" memory, asynchronous, or "pageable", for which the host waits."""
    upload_bytes: int = 0
    downloads: Counter[str] = field(default_factory=Counter)
    """Copies to the host, "pinned" or "pageable"."""
    download_bytes: int = 0
    synchronisations: Counter[str] = field(default_factory=Counter)
    """Where the host waits for the device, by what makes it: pageable copies of both directions are among them."""

    def __str__(self) -> str:
        return (
            f"{self.launches.total()} launches {dict(self.launches)}, {self.calls.total()} calls {dict(self.calls)}, "
            f"{self.uploads.total()} uploads of {self.upload_bytes} bytes {dict(self.uploads)}, "
            f"{self.downloads.total()} downloads of {self.download_bytes} bytes, "
            f"{self.synchronisations.total()} synchronisations {dict(self.synchronisations)}"
        )


class _OnCard(torch.Tensor):
    """A tensor that says it is on the card."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> _OnCard:
        made: _OnCard = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=_DEVICE,
        )
        made.inner = inner
        return made

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> Any:  # refused for subclasses
        return self.cpu().tolist()

    def record_stream(self, stream: Any) -> None:
        pass

    def __repr__(self, **_: Any) -> str:
        return f"{self.inner!r} on {_DEVICE}"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("a tensor of a card outside of the card's context")


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, _OnCard) else value


class Card(TorchDispatchMode):
    """A context in which the CUDA backend runs on a card that counts."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: the compiler, which nothing here uses, would be imported to keep out of the mode, for seconds."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self._in_kernel = False
        self._pinned: list[torch.Tensor] = []
        self._patches = ExitStack()

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the card, where it was all along: the copy does not count."""
        return _OnCard(tensor.clone())

    @staticmethod
    def get(tensor: torch.Tensor) -> torch.Tensor:
        """What a tensor of the card holds, which does not count either."""
        return _inner(tensor)

    @contextmanager
    def counted(self) -> Iterator[Counts]:
        """What the block costs."""
        before, self.counts = self.counts, Counts()
        try:
            yield self.counts
        finally:
            self.counts = before

    def __enter__(self) -> Card:
        waits = self._waits
        event = SimpleNamespace(
            record=lambda *_: None, synchronize=lambda: waits("event"), query=lambda: True, wait=lambda *_: None
        )
        stream = SimpleNamespace(
            wait_stream=lambda _: None, wait_event=lambda _: None, synchronize=lambda: waits("stream")
        )
        of_cuda = {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "current_device": lambda: 0,
            "get_device_name": lambda *_: "a card that is not there",
            "get_device_capability": lambda *_: (9, 0),
            "get_device_properties": lambda *_: SimpleNamespace(multi_processor_count=1),
            "mem_get_info": lambda *_: (64 << 30, 80 << 30),
            "synchronize": lambda *_: waits("synchronize"),
            "Stream": lambda *_, **__: stream,
            "Event": lambda *_, **__: event,
            "stream": lambda _: nullcontext(),
            "current_stream": lambda *_: stream,
        }
        for name, of in of_cuda.items():
            self._patches.enter_context(mock.patch.object(torch.cuda, name, of))
        self._patches.enter_context(mock.patch.object(device, "INTERPRETED", False))
        # No graphs there: what would be recorded is launched kernel by kernel.
        self._patches.enter_context(mock.patch.object(Training, "repeated", lambda _, work: work))
        # Views of wrappers need version counters, which tensors of the inference mode do not have.
        self._patches.enter_context(mock.patch.object(torch, "inference_mode", torch.no_grad))
        launch = interpreter.GridExecutor.__call__
        self._patches.enter_context(
            mock.patch.object(interpreter.GridExecutor, "__call__", lambda grid, *a, **k: self._run(launch, grid, a, k))
        )
        if not torch.cuda.is_initialized():  # where there is no driver, guards of its devices are to do nothing
            torch._C._ensureCUDADeviceGuardSet()
        # So that `torch.tensor(…, device="cuda")` is seen as the copy that it is.
        torch._C._set_only_lift_cpu_tensors(True)
        self._patches.callback(torch._C._set_only_lift_cpu_tensors, False)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()

    def _run(self, launch: Any, grid: Any, args: Any, kwargs: Any) -> Any:
        """A kernel, in the interpreter."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor):
                assert isinstance(value, _OnCard), f"{grid.fn.__name__} takes a tensor of the host"
        self.counts.launches[grid.fn.__name__] += 1
        self._in_kernel = True
        try:
            return launch(grid, *map(_inner, args), **{name: _inner(value) for name, value in kwargs.items()})
        finally:
            self._in_kernel = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if self._in_kernel:
            return function(*args, **kwargs)
        name = function.overloadpacket.__name__
        tensors = [value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        on_card = [tensor for tensor in tensors if isinstance(tensor, _OnCard)]
        if name in ("_to_copy", "copy_"):
            return self._copied(function, name, args, kwargs)
        wanted = kwargs.get("device")
        is_made_there = wanted is not None and torch.device(wanted).type == "cuda"
        if is_made_there:
            kwargs["device"] = torch.device("cpu")
        if name == "is_pinned":
            return self._is_pinned(args[0])
        if not on_card and not is_made_there:
            is_pinned = kwargs.pop("pin_memory", None) or name == "_pin_memory"
            made = function(*args, **kwargs) if name != "_pin_memory" else args[0].clone()
            if is_pinned:
                self._pinned.append(made)
            return made
        self._check_devices(name, tensors)
        self._count(name, function, args)
        kwargs.pop("pin_memory", None)
        return self._wrapped(function, args, kwargs, to_host=wanted is not None and not is_made_there)

    def _wrapped(self, function: Any, args: Any, kwargs: Any, *, to_host: bool = False) -> Any:
        """The function's result on what the wrappers hold, wrapped; what is an argument stays that argument."""
        of = {id(value.inner): value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, _OnCard)}
        found = function(*pytree.tree_map(_inner, args), **pytree.tree_map(_inner, kwargs))

        def wrapped(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or to_host:
                return value
            return of.get(id(value)) if id(value) in of else _OnCard(value)

        return pytree.tree_map(wrapped, found)

    def _copied(self, function: Any, name: str, args: Any, kwargs: Any) -> Any:
        """``_to_copy`` and ``copy_``, which may go from one device to the other."""
        source = args[0] if name == "_to_copy" else args[1]
        from_card = isinstance(source, _OnCard)
        if name == "copy_":
            to_card, non_blocking = isinstance(args[0], _OnCard), args[2] if len(args) > 2 else False
        else:
            wanted = kwargs.pop("device", None)
            to_card = from_card if wanted is None else torch.device(wanted).type == "cuda"
            non_blocking = kwargs.get("non_blocking", False)
        kwargs.pop("pin_memory", None)
        if from_card and to_card:
            self.counts.calls[name] += 1
        elif to_card and source.dim() > 0:
            kind = "pinned" if non_blocking and self._is_pinned(source) else "pageable"
            self.counts.uploads[kind] += 1
            self.counts.upload_bytes += source.nbytes
            if kind == "pageable":
                self._waits("upload")
        elif to_card:  # the value of a lone number is a kernel's argument
            self.counts.calls["fill_"] += 1
        elif from_card:
            kind = "pinned" if name == "copy_" and non_blocking and self._is_pinned(args[0]) else "pageable"
            self.counts.downloads[kind] += 1
            self.counts.download_bytes += source.nbytes
            if kind == "pageable":
                self._waits("download")
        found = function(*pytree.tree_map(_inner, args), **kwargs)
        if name == "copy_":
            return args[0]
        return _OnCard(found) if to_card else found

    def _count(self, name: str, function: Any, args: Any) -> None:
        if name in _SIZED_BY_VALUES:
            self._waits(name)
        if name in _INDEXED:
            for index in pytree.tree_leaves(args[1]):
                if isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8):
                    self._waits("mask")
                if isinstance(index, torch.Tensor) and not isinstance(index, _OnCard):
                    self.counts.uploads["pageable"] += 1
                    self.counts.upload_bytes += index.nbytes
                    self._waits("upload")
        returns = function._schema.returns
        is_view = any(of.alias_info is not None and not of.alias_info.is_write for of in returns)
        if not is_view and name not in _FREE and name != "_local_scalar_dense":
            self.counts.calls[name] += 1

    def _waits(self, reason: str) -> None:
        self.counts.synchronisations[reason] += 1

    def _is_pinned(self, tensor: torch.Tensor) -> bool:
        at = tensor.data_ptr()
        return any(of.data_ptr() <= at < of.data_ptr() + max(1, of.nbytes) for of in self._pinned)

    @staticmethod
    def _check_devices(name: str, tensors: list[torch.Tensor]) -> None:
        """As PyTorch does: tensors of the host may take part where they are numbers, or index."""
        on_host = [tensor for tensor in tensors if not isinstance(tensor, _OnCard)]
        assert name in _INDEXED or all(tensor.dim() == 0 for tensor in on_host), f"{name} of tensors on two devices"
