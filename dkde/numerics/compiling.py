"""Compilation of the loops, and the cache of compiled code."""

import os
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.extending import register_jitable

from dkde.errors import warn
from dkde.numerics.cache_folder import make_private, user_cache


def compiled(*fastmath: str) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function without the GIL, and caches it on disk.

    The compiled code is kept in the user's cache folder, or in ``NUMBA_CACHE_DIR``; nowhere if
    another user may write there. numba would
    keep it beside the source: but files that pip does not know remain after an uninstallation,
    and Python takes the folder that they are in for a package.

    Parameters
    ----------
    *fastmath : str
        The liberties that LLVM may take with floating-point arithmetic, as numba names them.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        # numba reads the folder as it decorates a function: the user's setting is put back, so
        # that other packages' functions are cached where they would be without dkde.
        given = config.CACHE_DIR
        folder = cache_folder(given)
        config.CACHE_DIR = folder
        try:
            return njit(
                nogil=True, cache=bool(folder), error_model="numpy", fastmath=set(fastmath),
                no_cfunc_wrapper=True,  # nothing calls it from C
            )(function)  # fmt: skip
        finally:
            config.CACHE_DIR = given

    return decorate


def compiled_within(
    *fastmath: str, counts_references: bool = True, inlined: bool = False
) -> Callable[[Any], Any]:
    """Return a decorator for a function that only compiled ones call.

    It takes less time to compile than another: there is no code for calls from Python, which run
    the function as Python does, and no file of its own in the cache, as its callers' have it.

    Parameters
    ----------
    *fastmath : str
        As for :func:`compiled`.
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
    decorator: Callable[[Any], Any] = register_jitable(
        error_model="numpy", fastmath=set(fastmath), no_cfunc_wrapper=True,
        **({} if counts_references else {"_nrt": False}),
        **({"forceinline": True} if inlined else {}),
    )  # fmt: skip
    return decorator


@cache
def cache_folder(given: str) -> str:
    """Return the folder for compiled code, in a given one or the user's; empty if there is none.

    numba looks at the age of a function's own file alone, though its code has that of functions
    from other files in it. So there is a folder for each state of all sources. One that another
    user may write to is not used, as code in it is run; a warning says so.
    """
    base = Path(given) if given else user_cache()
    if base is None:
        reason = "there is no home folder"
    else:
        folder = base / "dkde" / digest_of(Path(__file__).parent)
        reason = make_private(folder)
        if not reason:
            return os.path.abspath(folder)
    warn(
        f"compiled code is not kept, so that each process compiles anew: {reason}; set "
        "NUMBA_CACHE_DIR to a folder that is yours alone"
    )
    return ""


@cache
def digest_of(folder: Path) -> str:
    """Return a name for the state of a folder's sources."""
    found = sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]
