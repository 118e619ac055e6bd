"""Processes that tests start: their pipes are closed, and nobody waits for their words for ever."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The process asks for it itself, as code between fork and exec is unsafe beside threads. Where the
# system has no such call, only what is killed at the end of a test is.
_TIE = """
import ctypes, os, signal, sys
library = ctypes.CDLL(None)
if hasattr(library, "prctl"):
    library.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def tied(command: list[Any]) -> list[str]:
    """A command whose process is killed when this process ends, however that ends."""
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *map(str, command)]


@contextmanager
def running(command: list[Any], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process, killed at the end, whose pipes are text."""
    with subprocess.Popen(tied(command), text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def next_error_line(process: "subprocess.Popen[str]", seconds: float = 60.0) -> str:
    """The next line of its standard error; nothing where none comes, and it is killed."""
    assert process.stderr is not None
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        return process.stderr.readline()
    finally:
        timer.cancel()
