"""A child process with a limit of memory, in which a chunk is decoded on trial.

Of some codecs no header says what a chunk becomes. Such a chunk is decoded in the child first. What
does not fit there is refused, and never decoded here. The child gets bytes and the configurations
of codecs of numcodecs, and answers with one number; it is started on first use, and ends with the
pipe that it reads.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from contextlib import suppress
from threading import Lock
from typing import IO, Any, cast

from dkde.errors import DataSetError

# The copies that decoders make of what they produce: as they read it, and as objects.
_COPIES = 3
_MEMORY = "it needs more memory than it may take"
_lock = Lock()
_children: dict[int, subprocess.Popen[bytes]] = {}


class TrialError(DataSetError):
    """A chunk that could not be decoded in the memory that it may take.

    Parameters
    ----------
    reason : str
    is_memory : bool
        Whether memory is the reason, or may be.
    """

    def __init__(self, reason: str, *, is_memory: bool = True) -> None:
        super().__init__(reason)
        self.is_memory = is_memory


def try_decoding(codecs: list[dict[str, Any]], data: bytes, n_bytes: int) -> None:
    """Decode bytes in a child process whose memory is limited.

    Parameters
    ----------
    codecs : list of dict
        The configurations of codecs of numcodecs, in the order of decoding.
    data : bytes
        The stored bytes.
    n_bytes : int
        The bytes that the result may have.

    Raises
    ------
    TrialError
        When decoding fails or needs more memory. Its text is the reason, without a place.
    """
    head = json.dumps({"codecs": codecs, "n_stored": len(data), "n_bytes": n_bytes}).encode()
    with _lock:
        process = _child()
        pipes = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            pipes[0].write(head + b"\n" + data)
            pipes[0].flush()
            answer = pipes[1].readline()
        except OSError:
            answer = b""
        if not answer:  # the system ended it, or a decoder crashed
            _end(process)
            _children.clear()
            raise TrialError("the process that decoded it on trial came to its end")
    if reason := json.loads(answer):
        raise TrialError(reason, is_memory=reason == _MEMORY)


def _child() -> subprocess.Popen[bytes]:
    """Return the child of this process; a fork of it starts its own."""
    found = _children.get(os.getpid())
    if found is None:
        # With -P nothing is imported from the working directory.
        command = [sys.executable, "-P", "-m", "dkde.stores.child"]
        found = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL)
        _children[os.getpid()] = found
        atexit.register(_end, found)
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    if _children.get(os.getpid()) is process:
        process.kill()
        process.communicate()


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests with null, or with the reason why a chunk cannot be decoded."""
    while line := requests.readline():
        request = json.loads(line)
        data: Any = requests.read(request["n_stored"])
        try:
            _limit(_COPIES * request["n_bytes"] + len(data))
            for codec in request["codecs"]:
                data = _decoded(codec, data)
            found = None
        except MemoryError:
            found = _MEMORY
        except Exception as error:
            found = f"{type(error).__name__}: {error}"[:200]
        data = None
        answers.write(json.dumps(found).encode() + b"\n")
        answers.flush()


def _decoded(codec: dict[str, Any], data: Any) -> Any:
    from numcodecs import get_codec  # type: ignore[import-untyped]

    return get_codec(codec).decode(data)


def _limit(n_bytes: int) -> None:
    """Limit the memory of this process to what it has, and some more."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    now = 2**30
    with suppress(OSError, ValueError), open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = now + n_bytes if hard == resource.RLIM_INFINITY else min(hard, now + n_bytes)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    except (ValueError, OSError):  # macOS refuses some limits; the parent's check remains
        return


if __name__ == "__main__":
    import numcodecs  # noqa: F401  (before memory is limited)

    _serve(sys.stdin.buffer, sys.stdout.buffer)
