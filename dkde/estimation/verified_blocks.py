"""The blocks of a result that were verified before, in the user's cache.

The result itself is never written to. Its fingerprint names a folder; each call adds one file,
which names the blocks that it verified, and holds the log-densities of those that the result does
not keep. Whatever cannot be read or written is left out: the blocks are then verified again.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import numpy as np

from dkde.engine.work import Work
from dkde.numerics.cache_folder import user_cache
from dkde.numerics.logsum import Densities, n_density_rows
from dkde.stores.scratch import room
from dkde.typing import FloatArray

# How often what is new is written, so that a process that is killed loses little.
_SECONDS = 10.0
# What reading a file that is damaged may raise.
_DAMAGED = (
    OSError, ValueError, LookupError, TypeError, EOFError, SyntaxError, NotImplementedError,
    MemoryError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
Block = tuple[str, int]


def fingerprint(content: str, circumstances: Mapping[str, Any]) -> str:
    """Return a name for the content of a result, and for what computes its blocks again.

    Parameters
    ----------
    content : str
        A checksum of the result.
    circumstances : mapping
        The machine and the options of the verification, ready for JSON.
    """
    of_both = [content, circumstances]
    return sha256(json.dumps(of_both, sort_keys=True).encode()).hexdigest()[:32]


def cache_folder() -> Path | None:
    """Return the folder of the user's cache; None where there is none."""
    base = user_cache()
    return None if base is None else base / "dkde" / "verified"


class VerifiedBlocks:
    """The verified blocks of a result, of this call and of those before.

    Parameters
    ----------
    name : str
        The result's fingerprint.
    """

    def __init__(self, name: str) -> None:
        base = cache_folder()
        self._folder = None if base is None else base / name
        # Where log-densities are: a file, and their name in it; or themselves; None for none.
        self._known: dict[Block, tuple[Path, str] | FloatArray | None] = {}
        self._new: list[Block] = []
        self._saved = monotonic()
        for path in self._files():
            with suppress(*_DAMAGED):
                self._read(path)

    def __contains__(self, block: object) -> bool:
        return block in self._known

    def add(self, name: str, number: int, values: FloatArray | None) -> None:
        """Add a block of a piece of work, with its log-densities where the result has none."""
        self._known[name, number] = values
        self._new.append((name, number))
        if monotonic() - self._saved > _SECONDS:
            self.save()

    def densities(self, name: str, work: Work) -> Densities | None:
        """Return the log-densities of a piece of work; None where a block is not there."""
        plan = work.plan
        n_blocks = plan.n_query_blocks
        if not all((name, q) in self._known for q in range(n_blocks)):
            return None
        whole = room((n_density_rows(plan.n_bandwidths), plan.query.rows))
        for q in range(n_blocks):
            start, stop = plan.query_block(q)
            values = self._values(name, q)
            if values is None or values.shape != (len(whole), stop - start):
                # Damaged, or of other work: to be computed again.
                self._known.pop((name, q), None)
                return None
            whole[:, start:stop] = values
        return Densities.of(whole)

    def save(self) -> None:
        """Write what is new; what cannot be written stays in memory."""
        self._saved = monotonic()
        if not self._new or self._folder is None:
            return
        path = self._folder / f"{uuid4().hex}.npz"
        partial = path.with_suffix(".partial")
        held = {f"v{i}": self._known[block] for i, block in enumerate(self._new)}
        values: dict[str, Any] = {n: v for n, v in held.items() if isinstance(v, np.ndarray)}
        text = json.dumps([[name, q, f"v{i}"] for i, (name, q) in enumerate(self._new)])
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(partial, "wb") as file:
                np.savez(file, blocks=np.frombuffer(text.encode(), np.uint8), **values)
            os.replace(partial, path)
            for i, block in enumerate(self._new):
                if f"v{i}" in values:
                    self._known[block] = path, f"v{i}"
            self._new = []
        with suppress(OSError):
            partial.unlink()

    def _values(self, name: str, number: int) -> FloatArray | None:
        found = self._known[name, number]
        if not isinstance(found, tuple):
            return found
        path, key = found
        with (
            suppress(*_DAMAGED),
            open(path, "rb") as file,
            np.load(file, allow_pickle=False) as held,
        ):
            values: FloatArray = held[key]
            if values.dtype == np.float64:
                return values
        return None

    def _files(self) -> Iterable[Path]:
        """Return the files of former calls; none of a folder that belongs to another user."""
        if self._folder is None:
            return []
        with suppress(OSError):
            if not hasattr(os, "geteuid") or self._folder.stat().st_uid == os.geteuid():
                return sorted(self._folder.glob("*.npz"))
        return []

    def _read(self, path: Path) -> None:
        # Opened here: NumPy leaves a damaged file open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as held:
            listed = json.loads(held["blocks"].tobytes())
            names = set(held.files)
        for name, number, key in listed:
            if isinstance(name, str) and isinstance(number, int):
                self._known[name, number] = (path, key) if key in names else None
