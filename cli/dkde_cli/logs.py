"""What commands say beside their answers: on standard error, and in a file of JSON lines.

All of it goes through Python's logging, under ``dkde``. This module alone knows how much is wanted.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from dkde_cli.lines import echo

_LOG = logging.getLogger("dkde")
_OWN = logging.getLogger("dkde.cli")
_LEVEL, _FILE = "dkde_cli.level", "dkde_cli.log_file"
# The attribute of a record that holds the values of a line, as dkde notes a block.
_VALUES = "dkde"
# What each line begins with.
_BEGINNING = b'{"time": "'


def say(line: str) -> None:
    """Say something that is no part of a command's answer; ``-q`` leaves it out."""
    _tell(logging.INFO, line)


def warn(line: str) -> None:
    """Say something that may be wrong; ``-q`` shows it too."""
    _tell(logging.WARNING, line)


def _tell(level: int, line: str) -> None:
    if any(isinstance(handler, _Terminal) for handler in _LOG.handlers):
        _OWN.log(level, line)
    else:  # while options are read, and it is not known yet how much is wanted
        echo(line, err=True)


def is_quiet() -> bool:
    """Return whether only warnings and errors are wanted."""
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get(_LEVEL) == logging.WARNING


def log_options() -> list[click.Option]:
    """Return ``-q``, ``-v`` and ``--log-json``, which may stand before a command's name too."""

    def level(wanted: int) -> Any:
        def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
            if value and ctx.meta.setdefault(_LEVEL, wanted) != wanted:
                raise click.UsageError("-q and -v exclude each other")

        return remember

    def keep(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.meta[_FILE] = value

    return [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=level(logging.WARNING),
            help="Show no progress and no notes, only the answer, warnings and errors.",
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=level(logging.DEBUG),
            help="Show a line for each block that is computed.",
        ),
        click.Option(
            ["--log-json"],
            metavar="FILE",
            expose_value=False,
            callback=keep,
            help="Append a line of JSON to this file for each block, and for each message.",
        ),
    ]


@contextmanager
def logging_to(ctx: click.Context) -> Iterator[None]:
    """Show dkde's log as the user wants it, as long as a command runs."""
    shown = ctx.meta.get(_LEVEL, logging.INFO)
    handlers: list[logging.Handler] = [_Terminal(shown)]
    if (path := ctx.meta.get(_FILE)) is not None:
        handlers.append(_JsonLines(path))
    before = _LOG.level
    # Blocks are noted only where somebody reads them.
    _LOG.setLevel(min(shown, logging.DEBUG if path is not None else logging.CRITICAL))
    for handler in handlers:
        _LOG.addHandler(handler)
    try:
        yield
    except click.exceptions.Exit:
        raise
    except BaseException as error:
        event = "error" if isinstance(error, Exception) else "interrupted"
        for handler in handlers:
            if isinstance(handler, _JsonLines):
                handler.write(event, message=" ".join(str(error).split()))
        raise
    finally:
        for handler in handlers:
            _LOG.removeHandler(handler)
            handler.close()
        _LOG.setLevel(before)


class _Terminal(logging.Handler):
    """Lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        # Standard error as it is now: a bar of progress may stand in front of it.
        echo(record.getMessage(), err=True)


def _is_log(path: str) -> bool:
    """Return whether a file may be appended to: a log, one that is empty or none, or a device."""
    if not os.path.isfile(path) or not os.path.getsize(path):
        return True
    with open(path, "rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


class _JsonLines(logging.Handler):
    """Lines of JSON in a file, each written at once."""

    def __init__(self, path: str) -> None:
        # Opened first: logging closes all handlers at exit, also one that was not made whole.
        try:
            if not _is_log(path):
                raise click.UsageError(
                    f"--log-json {path}: is there already, and is no log of dkde; give another name"
                )
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise click.UsageError(f"--log-json {path}: {error.strerror}") from error
        super().__init__(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        values = getattr(record, _VALUES, None)
        if values is not None:
            self.write("moments" if record.name == "dkde.moments" else "block", **values)
        else:
            event = "warning" if record.levelno >= logging.WARNING else "message"
            self.write(event, message=record.getMessage())

    def write(self, event: str, **values: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            self._file.write(json.dumps({"time": now, "event": event, **values}) + "\n")
            self._file.flush()
        except OSError:
            # A full disk must not end the work, whose own files report it.
            print("The log of --log-json could not be written", file=sys.stderr)

    def close(self) -> None:
        self._file.close()
        super().close()
