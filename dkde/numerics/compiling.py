"""Compilation of the loops, and the cache of compiled code."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit


def compiled(*fastmath: str) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function without the GIL, and caches it on disk.

    Kept in the user's cache folder (or where ``NUMBA_CACHE_DIR`` says), and not beside the
    source as numba would: files that pip does not know of outlive an uninstallation, and
    Python takes the folder that is left for a package.

    Parameters
    ----------
    *fastmath : str
        What LLVM may do to floating point arithmetic.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        given = config.CACHE_DIR
        config.CACHE_DIR = given or _cache_folder()
        try:
            return njit(nogil=True, cache=True, error_model="numpy", fastmath=set(fastmath))(
                function
            )
        finally:
            config.CACHE_DIR = given

    return decorate


def _cache_folder() -> str:
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no home: numba finds a place itself
        return ""
    return str(Path(base) / "dkde")
