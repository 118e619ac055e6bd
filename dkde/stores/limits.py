"""How many bytes a stored piece may unpack to; checked before it is unpacked.

A few kilobytes can unpack to more than any memory holds. Each decoder therefore learns from a
header what it is about to produce, and compares it with what is stored.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from dkde.errors import DataSetError, InputError

# The environment variable that raises the limit.
VARIABLE = "DKDE_UNPACK_LIMIT"
# Any piece may unpack to this many bytes: more than a chunk of usual size, whatever it holds.
DEFAULT = 2**28
# Larger pieces may unpack to this many times what is stored of them: measurements and pictures are
# compressed less than ten times, and text that is mostly zeros less than fifty times.
RATIO = 64
# Numbers that are mostly zeros are compressed two hundred times. Where it is known beforehand how
# many there are, they may be that many up to a gigabyte.
_OF_ZEROS, _UP_TO = 256, 2**30
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\s*", re.IGNORECASE)


class UnpackError(DataSetError):
    """The refusal of a piece that would unpack to far more than is stored of it."""


def allowed(n_stored: int) -> int:
    """Return the bytes that a piece with so many stored bytes may unpack to."""
    return max(limit(), RATIO * n_stored)


def limit() -> int:
    """Return the bytes that any piece may unpack to, however few are stored of it.

    Raises
    ------
    InputError
        When the environment variable is no size.
    """
    return _parsed(os.environ.get(VARIABLE, ""))


def check_unpacked(where: str | Path, what: str, n_bytes: int, n_stored: int) -> None:
    """Refuse to unpack a piece to far more bytes than are stored of it.

    Parameters
    ----------
    where : str or Path
        The file or array, for messages.
    what : str
        The piece, for messages: "its rows", "chunk c/0/0".
    n_bytes : int
        The bytes that it unpacks to.
    n_stored : int
        The bytes that are stored of it.

    Raises
    ------
    UnpackError
        When these are more than :func:`allowed`, and than numbers of zeros may be.
    """
    if n_bytes > max(allowed(n_stored), min(_OF_ZEROS * n_stored, _UP_TO)):
        raise too_large(where, f"{what} would unpack to {size_text(n_bytes)}", n_stored)


def too_large(where: str | Path, what: str, n_stored: int) -> UnpackError:
    """Return the error for a piece, of which ``what`` says how large it would become."""
    # Nothing is stored of what metadata only declare.
    stored = f", and {size_text(n_stored)} of it are stored" if n_stored else ""
    return UnpackError(
        f"{where}: {what}{stored}; it is damaged, or made to fill the memory; if it is right, "
        f"allow more ({VARIABLE}=8GiB in the environment; now {size_text(limit())})"
    )


def size_text(n_bytes: int) -> str:
    """Return a number of bytes for a message."""
    size = float(n_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{n_bytes} bytes" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


@lru_cache(maxsize=4)
def _parsed(text: str) -> int:
    if not text:
        return DEFAULT
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InputError(f"{VARIABLE}: {text!r} is no size; write 600MB or 4GiB")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " KMGT".index(found[2].upper() or " "))
