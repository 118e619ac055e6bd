"""Processes that tests start: their pipes are closed, and nobody waits for their words for ever."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def running(command: list[Any], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process, killed at the end, whose pipes are text."""
    with subprocess.Popen(command, text=True, **options) as process:
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
