"""A command group whose errors and warnings are one line each."""

import ast
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from inspect import getsource, unwrap
from shlex import quote
from textwrap import dedent
from typing import IO, Any, NoReturn

import click

from dkde.errors import printable
from dkde_cli.compute import quieten_dask
from dkde_cli.lines import echo, echo_text
from dkde_cli.logs import log_options, logging_to, warn

INTERRUPTED = 130
INCOMPLETE = 3
PIPE_CLOSED = 141  # as shells report SIGPIPE

_DEBUG = "dkde_cli.debug"
# The options of arguments that have another name in Python.
_OPTIONS = {"sources": "source", "contamination": "flag"}
# The key of the store that a command works on, which the hint below an error names.
_STORE = "dkde_cli.store"


class Refusal(click.ClickException):
    """An error that users can mend: one line on standard error, status 2.

    Parameters
    ----------
    more : str
        Lines to print below the message.
    """

    exit_code = 2

    def __init__(self, message: str, *more: str) -> None:
        super().__init__(printable(" ".join(message.split())))
        self._more = more

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the error."""
        super().show(file)
        for line in self._more:
            echo(line, file=file, err=file is None)


class Failure(Refusal):
    """An error of the machine, such as a full disk, or of dkde itself: one line too, status 1."""

    exit_code = 1


class Incomplete(Refusal):
    """A run some of whose blocks are missing: status 3."""

    exit_code = INCOMPLETE


def _with_help(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command with its help, which ``python -OO`` leaves out."""
    if given.get("help") is None and given.get("callback") is not None and sys.flags.optimize > 1:
        with suppress(OSError):  # the source is not there
            source = dedent(getsource(unwrap(given["callback"])))
            return {**given, "help": ast.get_docstring(ast.parse(source).body[0])}  # type: ignore[arg-type]
    return given


class Command(click.Command):
    """A command that takes ``--debug``; without it, Dask's log is not shown."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_with_help(kwargs))
        self.params.extend([*log_options(), debug_option()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        if not _debug(ctx):
            quieten_dask()
        # Runs and commands that read a result have a store, dkde sample has an output.
        ctx.meta[_STORE] = ctx.params.get("store") or ctx.params.get("output")
        # Of this command alone: those of a file of dkde run share the rest of their contexts.
        as_is = ctx.params.pop("csv_as_is", False)
        with logging_to(ctx), _csv_as_is() if as_is else nullcontext():
            return super().invoke(ctx)


class Group(click.Group):
    """Commands whose errors and warnings are lines; tracebacks only with ``--debug``.

    All of it is here and not in ``main``, which ``dask kde`` does not go through.
    """

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_with_help(kwargs))

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Make the context, with errors in one line."""
        with _failures_in_a_line():
            return super().make_context(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return names in the order of a workflow, in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command, with errors and warnings in one line each."""
        with _failures_in_a_line(), _warnings_in_a_line():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except KeyboardInterrupt as error:
                echo("Interrupted", err=True)
                for line in _notes(error):
                    echo(line, err=True)
                ctx.exit(INTERRUPTED)
            except Exception as error:
                # A closed pipe is no error: the reader wanted no more.
                if _debug(ctx) and not _is_closed_pipe(error):
                    for part in traceback.format_exception(error):
                        echo_text(part, err=True)
                _fail(error, ctx)


def _csv_as_is() -> AbstractContextManager[None]:
    import dkde

    return dkde.csv_as_is()


def debug_option() -> click.Option:
    """Return the option ``--debug``, which may stand before or after the command's name."""

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
    # The context of a command shares its meta with those of the groups that it is in.
    return bool(ctx.meta.get(_DEBUG))


def _fail(error: Exception, ctx: click.Context) -> NoReturn:
    from dkde import ClusterError, DkdeError, IncompleteError

    if isinstance(error, IncompleteError):
        store, line, more = ctx.meta.get(_STORE), error.message, []
        if store is not None:
            way = "says how far it is"
            if error.remedy is not None:
                way = f"names them; {_spelled(error.remedy)}"
            line, more = error.missing, [f"dkde status {quote(store)} {way}"]
        raise Incomplete(_spelled(line), *more) from error
    if isinstance(error, DkdeError):
        # When a cluster is lost, the blocks that are done are kept, and a note says so.
        more = _notes(error) if isinstance(error, ClusterError) else []
        raise Refusal(_spelled(error.message), *more) from error
    if isinstance(error, OSError):
        raise error  # _failures_in_a_line reports it
    raise Failure(
        f"{type(error).__name__}: {error} (a defect of dkde; --debug shows where)", *_notes(error)
    ) from error


def _notes(error: BaseException) -> list[str]:
    """Return notes on the blocks of an unfinished run."""
    return [_spelled(note) for note in getattr(error, "__notes__", ())]


def _spelled(message: str) -> str:
    """Return a message with its advice in options of the command line, not in Python.

    Examples
    --------
    >>> from dkde.errors import Argument, Call, Command, Message, Remedy
    >>> _spelled(Message("use ", Argument("singular", "drop"), " to leave them out"))
    'use --singular drop to leave them out'
    >>> _spelled(Message(Argument("covariance_scale"), " is inf; it must be finite"))
    '--covariance-scale is inf; it must be finite'
    >>> _spelled(Message("give another name, or begin it anew ", Remedy("restart")))
    'give another name, or begin it anew with --restart'
    >>> _spelled(Message(Call.MAKE_SAME, " again"))
    'give the same command again'
    >>> _spelled(Message("run: ", Command("run_part('r.zarr', 0, 2)", "dkde run-part r.zarr")))
    'run: dkde run-part r.zarr'
    """
    from dkde.errors import Argument, Call, Command, Message, Remedy

    def spell(part: str | Argument | Remedy | Call | Command) -> str:
        if isinstance(part, Command):
            return part.shell
        if isinstance(part, Call):
            return {Call.SAME: "the same command", Call.MAKE_SAME: "give the same command"}[part]
        if isinstance(part, str):
            return part
        option = f"--{_OPTIONS.get(part.name, part.name).replace('_', '-')}"
        if isinstance(part, Remedy):
            return f"with {option}"
        return option if part.value is None else f"{option} {part.value}"

    return message.spelled(spell) if isinstance(message, Message) else message


def _is_closed_pipe(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


@contextmanager
def _failures_in_a_line() -> Iterator[None]:
    """Report wrong usage, and a failure of standard output; dkde's own failures are DkdeErrors."""
    try:
        yield
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "dkde"
        text = error.format_message().rstrip(".")
        raise Refusal(f"{text}; see {path} --help") from error
    except OSError as error:
        _abandon_stdout()
        if _is_closed_pipe(error):  # the reader has closed it: dkde ... | head
            raise click.exceptions.Exit(PIPE_CLOSED) from error
        text = f"the output could not be written ({error})"
        if error.filename is not None:
            text = f"{error.filename}: {error.strerror}"
        else:
            text = _current_folder_is_gone() or text
        raise Failure(text) from error


def _current_folder_is_gone() -> str | None:
    """Return the words that say that the current folder was deleted; None where it is there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return "the current folder was deleted, in which relative paths begin; change to another"
    return None


def _abandon_stdout() -> None:
    """Drop output that cannot be written, or Python tries again and reports it at exit."""
    with suppress(OSError, ValueError):
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    seen: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        # Several steps of a command may look at the same rows, and warn of the same thing.
        if text not in seen:
            seen.add(text)
            warn(f"Warning: {text}")

    with warnings.catch_warnings():
        if not os.environ.get("PYTHONWARNINGS"):
            warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
