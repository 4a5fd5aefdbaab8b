"""Optional libraries, and the extra of this package that installs each."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["optional"]


def optional(module: str, what: str, extra: str = "data") -> Any:
    """The module of an optional library.

    Parameters
    ----------
    module : str
        Its full name; the library is what stands before the first dot.
    what : str
        What needs it, for the error message.
    extra : str, default "data"
        The extra of this package that installs it.

    Raises
    ------
    ImportError
        It cannot be imported; the text names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise ImportError(
            f"{what} needs {library} ({error}); expected an installation by `pip install 'ccma-fast[{extra}]'`"
        ) from error
