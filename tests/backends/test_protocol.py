"""What every backend promises: the names of the protocol, called in the same way, and the same checks of rows."""

from __future__ import annotations

import inspect

import pytest
import torch

from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.protocol import BracketingBackend, DeviceBackend, HostBackend
from ccma_fast.backends.unit_rows import ListingBackend
from ccma_fast.pool.open import open_rows

PROTOCOLS = {"reference": [HostBackend], "cpu": [BracketingBackend, ListingBackend], "cuda": [DeviceBackend]}


def names_of(protocol: type) -> set[str]:
    """The public members of a protocol."""
    own = {name for of in protocol.__mro__ for name in (*vars(of), *vars(of).get("__annotations__", ()))}
    return {name for name in own if not name.startswith("_")}


@pytest.mark.parametrize("backend", PROTOCOLS)
def test_a_backend_hands_on_the_names_of_the_protocol(backend):
    chosen = choose_backend(backend)
    assert set(chosen.__all__) == set().union(*map(names_of, PROTOCOLS[backend]))
    assert all(hasattr(chosen, name) for name in chosen.__all__)
    assert backend == chosen.NAME
    assert chosen.ON_HOST is (backend != "cuda")


@pytest.mark.parametrize(("backend", "protocol"), [(name, of) for name, some in PROTOCOLS.items() for of in some])
def test_a_backend_is_called_as_the_protocol_says(backend, protocol):
    chosen = choose_backend(backend)
    for name in sorted(names_of(protocol) - {"NAME", "ON_HOST"}):
        expected = list(inspect.signature(getattr(protocol, name)).parameters.values())[1:]
        found = inspect.signature(getattr(chosen, name)).parameters.values()
        if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in found):
            continue  # takes whatever it is given
        assert [(of.name, of.kind) for of in found] == [(of.name, of.kind) for of in expected], name
        for of_backend, of_protocol in zip(found, expected, strict=True):
            has_default = of_backend.default is not inspect.Parameter.empty
            assert has_default == (of_protocol.default is not inspect.Parameter.empty), (name, of_backend.name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", PROTOCOLS)
def test_rows_that_are_not_finite_or_have_no_direction_are_refused(backend, dtype):
    chosen, x = choose_backend(backend), torch.ones((4, 3), dtype=dtype)
    chosen.check_rows(open_rows(x, "x"), directions=True)
    x[1] = -0.0
    with pytest.raises(ValueError, match=r"zero-length vector at row 1$"):
        chosen.check_rows(open_rows(x, "x"), directions=True)
    x[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"x must be finite, got NaN or infinity at row 2$"):
        chosen.check_rows(open_rows(x, "x"))
