"""Commands that are runs: their options, and their execution."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from shlex import quote
from typing import Any, TypeVar

import click

from dkde_cli.compute import compute
from dkde_cli.options import Where
from dkde_cli.outputs import check_store
from dkde_cli.progress import progress, stages

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Output:
    """The store of a run, if any, and how the run is resumed."""

    store: str | None
    restart: bool
    retry_failed: bool
    anywhere: bool
    init_only: bool

    def check(self, **deliveries: Any) -> None:
        """Refuse what goes with a store where there is none, and what goes with results.

        Parameters
        ----------
        deliveries
            By the names of their options, in which results go out beside the store.

        Raises
        ------
        UsageError, DataSetError
        """
        flags = {name: value for name, value in vars(self).items() if name != "store" and value}
        if self.store is None:
            if flags:
                raise click.UsageError(
                    f"--{next(iter(flags)).replace('_', '-')} is for --output, which is not there"
                )
            return
        check_store(self.store)
        given = [f"--{name}" for name, value in deliveries.items() if value]
        if self.init_only and given:
            raise click.UsageError(
                f"--init-only computes nothing; leave out {', '.join(given)} (dkde finish prints "
                "the figures)"
            )


_RETRY_FAILED = click.option(
    "--retry-failed",
    is_flag=True,
    help="Take up again the blocks that failed twice and were set aside.",
)
_OUTPUT = (
    click.option(
        "--output",
        metavar="STORE",
        help="Keep the result, each row's log-density included, in this Zarr store, block by "
        "block: the same command again goes on where it stopped.",
    ),
    click.option("--restart", is_flag=True, help="Begin anew, whatever result is in the output."),
    _RETRY_FAILED,
    click.option(
        "--init-only",
        is_flag=True,
        help="Only set the run up in the output, to be done in parts by dkde run-part.",
    ),
)
_ANYWHERE = click.option(
    "--anywhere",
    is_flag=True,
    help="Go on also with another processor or other libraries than the run was begun with; "
    "numbers may differ in the last bit.",
)
_CSV = click.option(
    "--csv",
    metavar="FILE",
    help="Write the figures to this CSV file, a line for each bandwidth.",
)


def output_options(command: Command) -> Command:
    """Add ``--output``, what goes with it, which the command gets as ``output``, and ``--csv``."""

    @wraps(command)
    def gathered(**values: Any) -> Any:
        flags = {name: values.pop(name) for name in Output.__dataclass_fields__ if name != "store"}
        return command(output=Output(values.pop("output"), **flags), **values)

    for option in (_CSV, _ANYWHERE, *reversed(_OUTPUT)):
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]


def anywhere_option(command: Command) -> Command:
    """Add ``--anywhere``."""
    return _ANYWHERE(command)


def retry_failed_option(command: Command) -> Command:
    """Add ``--retry-failed``."""
    return _RETRY_FAILED(command)


def carry_out(
    call: Callable[..., Any],
    output: Output,
    where: Where,
    estimate: Callable[[], float],
    *names: str,
) -> Any:
    """Run a call, or only set its run up with ``--init-only``.

    Parameters
    ----------
    call : callable
        Of dkde; takes ``output``, what goes with it, and ``progress``.
    estimate : callable
        Seconds that the work would take here.
    names : str
        Of the stages of the work.

    Returns
    -------
    xarray.Dataset, or None where there is none yet
    """
    import dkde

    was_complete = not output.restart and _is_complete(output.store)
    nothing_to_do = output.init_only or was_complete
    arguments = {
        "output": output.store,
        "restart": output.restart,
        "retry_failed": output.retry_failed,
        "anywhere": output.anywhere,
    }
    with (
        compute(where, None if nothing_to_do else estimate),
        progress("pairs") as update,
    ):
        if not output.init_only:
            result = call(progress=stages(update, *names), **arguments)
        else:
            result = None
            with dkde.init_only():
                call(**arguments)
    if was_complete:
        click.echo(f"{output.store} was complete already", err=True)
    elif output.init_only:
        assert output.store is not None
        _say_what_is_next(output.store)
    return result


def _is_complete(store: str | None) -> bool:
    import dkde

    try:
        return store is not None and bool(dkde.status(store)["complete"])
    except dkde.DkdeError:  # of what is there, if anything, the call itself says more
        return False


def _say_what_is_next(store: str) -> None:
    import dkde

    n_blocks = sum(stage["blocks"] for stage in dkde.status(store)["stages"].values())
    click.echo(
        f"{n_blocks} blocks; run dkde run-part {quote(store)} --part I --parts N, then "
        f"dkde finish {quote(store)}",
        err=True,
    )
