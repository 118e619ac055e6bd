"""Lines on the terminal: the one place from which commands write text."""

from typing import IO, Any

import click

from dkde.errors import printable


def echo(line: str = "", *, err: bool = False, file: IO[Any] | None = None) -> None:
    """Print one line; what a terminal would not show as it is, line ends included, is escaped.

    Parameters
    ----------
    line : str
    err : bool
        Whether it goes to standard error.
    file : file, optional
        Where it goes in place of both.
    """
    click.echo(printable(line), file=file, err=err)


def echo_text(text: str, *, err: bool = False) -> None:
    """Print a text of several lines."""
    for line in text.removesuffix("\n").split("\n"):
        echo(line, err=err)
