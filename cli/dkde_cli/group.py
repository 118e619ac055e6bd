"""A command group whose errors and warnings are one line each."""

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from dkde_cli.compute import quieten_dask

INTERRUPTED = 130

_DEBUG = "dkde_cli.debug"


class Refusal(click.ClickException):
    """An error that users can mend: one line on standard error, status 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Defect(Refusal):
    """An error that is dkde's own: one line too, status 1."""

    exit_code = 1


class Command(click.Command):
    """A command that takes ``--debug``, and keeps Dask's log to itself without it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(debug_option())

    def invoke(self, ctx: click.Context) -> Any:
        if not _debug(ctx):
            quieten_dask()
        return super().invoke(ctx)


class Group(click.Group):
    """Commands whose errors and warnings are lines; tracebacks only with ``--debug``.

    All of it is here and not in ``main``, which ``dask kde`` does not go through.
    """

    command_class = Command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _usage_in_a_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _usage_in_a_line(), _warnings_in_a_line():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except KeyboardInterrupt:
                click.echo("Interrupted", err=True)
                ctx.exit(INTERRUPTED)
            except Exception as error:
                pipe_closed = isinstance(error, OSError) and error.errno == errno.EPIPE
                if pipe_closed or _debug(ctx):  # of a closed pipe, click says nothing
                    raise
                _fail(error)


def debug_option() -> click.Option:
    """``--debug``, which may stand before or after the command's name."""

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[_DEBUG] = True

    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show tracebacks and Dask's log.",
    )


def _debug(ctx: click.Context) -> bool:
    # What contexts keep in meta is shared by a command and the groups that it is in.
    return bool(ctx.meta.get(_DEBUG))


def _fail(error: Exception) -> NoReturn:
    from dkde import DkdeError

    if isinstance(error, DkdeError):
        raise Refusal(str(error)) from error
    raise Defect(
        f"{type(error).__name__}: {error} (a defect of dkde; --debug shows where)"
    ) from error


@contextmanager
def _usage_in_a_line() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "dkde"
        text = error.format_message().rstrip(".")
        raise Refusal(f"{text}; see {path} --help") from error


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    seen: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        # The plan and the work itself look at the same rows, and find the same things odd.
        if text not in seen:
            seen.add(text)
            click.echo(f"Warning: {text}", err=True)

    with warnings.catch_warnings():
        if not os.environ.get("PYTHONWARNINGS"):
            warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
