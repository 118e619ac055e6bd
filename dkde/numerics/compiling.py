"""Compilation of the loops, and the cache of compiled code."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit


def compiled(
    *fastmath: str, counts_references: bool = True, inlined: bool = False
) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function without the GIL, and caches it on disk.

    The compiled code is kept in the user's cache folder, or in ``NUMBA_CACHE_DIR``. numba would
    keep it beside the source: but files that pip does not know remain after an uninstallation,
    and Python takes the folder that they are in for a package.

    Parameters
    ----------
    *fastmath : str
        The liberties that LLVM may take with floating-point arithmetic, as numba names them.
    counts_references : bool
        False for a short function that others call very often and that makes no array: as numba
        enters and leaves a function it counts references to each of its arrays, and a dozen
        atomic additions take longer than a hundred pairs.
    inlined : bool
        Whether LLVM writes the function into its callers. Of a function that is called, and whose
        sums LLVM may take in another order, there would be two machine codes: its own, and that in
        its caller's module. A process that compiles them uses the first, and one that loads the
        caller from the cache the second, so that their last bits would differ.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        # numba reads the folder as it decorates a function: the user's setting is put back, so
        # that other packages' functions are cached where they would be without dkde.
        given = config.CACHE_DIR
        config.CACHE_DIR = given or _cache_folder()
        try:
            return njit(
                nogil=True, cache=True, error_model="numpy", fastmath=set(fastmath),
                **({} if counts_references else {"_nrt": False}),
                **({"forceinline": True} if inlined else {}),
            )(function)  # fmt: skip
        finally:
            config.CACHE_DIR = given

    return decorate


def _cache_folder() -> str:
    """Return the folder for compiled code; empty where the user has no home."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no home folder: with an empty setting numba chooses a place
        return ""
    return str(Path(base) / "dkde")
