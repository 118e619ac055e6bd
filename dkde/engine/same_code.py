"""The check that workers are like this process: same dkde, and libraries with the same bits."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dkde.errors
from dkde.errors import ClusterError, Remedy, warn
from dkde.numerics.machine import blas, target

if TYPE_CHECKING:
    from distributed import Client

# A worker that differs in these is refused: its numbers may be wrong, not only in the last bit.
_HARD = ("sources", "python")
_PACKAGES = ("numpy", "numba", "zarr")
# The treatment of workers that differ in anything else. A run that is kept treats them as it treats
# its own later sessions, by the same option; where nothing is kept there is a warning.
REFUSE, WARN, ALLOW = "refuse", "warn", "allow"


@lru_cache(maxsize=1)
def kind() -> dict[str, str]:
    """Return what identifies processes with the same last bits; computed once a process."""
    return {
        "sources": _sources(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: version(name) for name in _PACKAGES},
        **target(),
        "blas": blas(),
    }


def _sources() -> str:
    """Return a checksum of the package's own modules, as this process imports them."""
    # Not the version: two checkouts of one version may have different code.
    folder, digest = Path(dkde.errors.__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def unlike(ours: Mapping[str, str], theirs: Mapping[str, str], *, hard: bool) -> str:
    """Return the differences between two kinds, in words; empty where there are none.

    Parameters
    ----------
    ours, theirs : mapping
        The kinds of this process and of a worker, from :func:`kind`.
    hard : bool
        True for the differences that are always refused, False for all others.

    Examples
    --------
    >>> unlike({"numpy": "2.4"}, {"numpy": "2.3"}, hard=False)
    'numpy 2.3 there and 2.4 here'
    """
    found = []
    for key in ours:
        if ours[key] == theirs.get(key) or (key in _HARD) != hard:
            continue
        if key == "sources":
            found.append("another dkde, whose sources differ from those here")
        else:
            found.append(f"{key} {_short(theirs.get(key))} there and {_short(ours[key])} here")
    return "; ".join(found)


def _short(value: str | None) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


class UnlikeWorkerError(ClusterError):
    """The error of a worker of another kind, which computed nothing."""

    def __init__(self, address: str, differs: str) -> None:
        # Both arguments, and not a message: the error is pickled on its way from the worker.
        Exception.__init__(self, address, differs)
        self.address, self.differs = address, differs

    def __str__(self) -> str:
        return (
            f"worker {self.address} is of another kind: {self.differs}; start it with the same "
            "dkde and Python as the process that gives it work"
        )


@dataclass(frozen=True)
class Likeness:
    """The kind that workers must be of, sent with each call.

    Parameters
    ----------
    kind : dict
        The kind of the process that submits the calls.
    manner : {"refuse", "warn", "allow"}
        The treatment of workers whose results may differ in the last bits only.
    """

    kind: Mapping[str, str]
    manner: str = WARN

    def check(self) -> str:
        """Return a report of how this worker differs; empty if there is nothing to report.

        Raises
        ------
        UnlikeWorkerError
            When the worker must not take part.
        """
        if self.kind == kind():
            return ""
        soft = unlike(self.kind, kind(), hard=False)
        refused = unlike(self.kind, kind(), hard=True) or (soft if self.manner == REFUSE else "")
        if refused:
            raise UnlikeWorkerError(_address(), refused)
        return f"{_address()}: {soft}" if soft and self.manner == WARN else ""


def _address() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:  # no worker: a lazy result is computed by this process itself
        return "(this process)"


def check_alike(client: Client, manner: str = WARN) -> None:
    """Refuse workers of another kind than this process, before they get any work.

    Raises
    ------
    ClusterError
        That names the first such worker, and how it differs.
    """
    found: dict[str, Any] = client.run(kind, on_error="return")
    for worker, theirs in found.items():
        if isinstance(theirs, OSError):
            continue  # the worker was lost; if it returns, its first call checks it
        # An older dkde has no such function, so the answer is an error: its sources differ.
        if not isinstance(theirs, Mapping):
            theirs = {**kind(), "sources": type(theirs).__name__}
        if differs := unlike(kind(), theirs, hard=True):
            raise ClusterError(
                f"worker {worker} has {differs}, and its numbers may be wrong; start it with the "
                "same dkde and Python as this process"
            )
        if (differs := unlike(kind(), theirs, hard=False)) and manner == REFUSE:
            raise ClusterError(
                f"worker {worker} is of another kind: {differs}; numbers may differ in the last "
                "bits; start it like this process, or allow it ",
                Remedy("anywhere"),
            )
        if differs and manner == WARN:
            say_unlike(f"{worker}: {differs}")


def say_unlike(differs: str) -> None:
    """Warn of a worker whose numbers may differ in the last bits."""
    warn(f"numbers may differ in the last bits from worker {differs}")


def say_left_out(error: UnlikeWorkerError) -> None:
    """Warn of a worker that joined later, and takes no part as it is of another kind."""
    warn(
        f"worker {error.address} is of another kind and gets no work: {error.differs}; the others "
        "go on"
    )
