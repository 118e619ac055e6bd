"""Commands that are runs: their outputs, and their execution."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shlex import quote
from time import monotonic
from typing import Any, Literal, Self

import click

from dkde_cli.class_figures import is_classification
from dkde_cli.compute import compute
from dkde_cli.deliver import figures, print_end, print_result, test_figures, write_csv
from dkde_cli.group import Refusal
from dkde_cli.logs import say, warn
from dkde_cli.options import Decorator, Where, csv_option, gathered, json_option
from dkde_cli.progress import progress, stages
from dkde_cli.tables import duration


def check_place(
    path: str | None,
    what: str,
    *,
    is_store: bool = False,
    written: Literal["result", "samples"] = "result",
) -> bool:
    """Refuse the path of a file or a store early, before hours of work.

    Returns
    -------
    bool
        Whether it is the path of a store. Stores of what is ``written`` may be files by name.

    Raises
    ------
    Refusal, DataSetError
        When the path of a file is a folder, its folder is missing or may not be written to, or a
        store would lie in another Zarr store. ``dkde`` itself checks what a store holds.
    """
    if path is None:
        return False
    if path == "-":
        way = "it is a folder" if is_store else "for figures on standard output there is --json"
        raise Refusal(f"-: the {what} needs a name; {way}")
    # A file may be the data: check_apart refuses that with a better reason.
    if is_store and os.path.isfile(path):
        return False
    import dkde

    return dkde.check_place(path, what, is_store=is_store, written=written if is_store else None)


def check_apart(data: str, outputs: Mapping[str, str | None]) -> None:
    """Refuse outputs that would replace each other, or the data.

    Parameters
    ----------
    data : str
        Path of the data.
    outputs : mapping of option to path, or None

    Raises
    ------
    Refusal
    """
    given = {role: path for role, path in outputs.items() if path is not None}
    places: dict[str, Path] = {}
    for role, path in {"DATA": data, **given}.items():
        place = Path(os.path.realpath(path))
        for other, taken in places.items():
            nested = place.is_relative_to(taken) or taken.is_relative_to(place)
            # An output may lie in a folder of files that is the data.
            if place == taken or (other != "DATA" and nested):
                raise Refusal(f"{path}: {other} and {role} are one place; give each its own")
        places[role] = place


# The options that go with a store.
_FOR_STORES = ("restart", "retry_failed", "anywhere", "init_only")


@dataclass(frozen=True)
class Output:
    """The places for the results of a run, and the options that resume it.

    Parameters
    ----------
    store : str or None
    restart, retry_failed, anywhere, init_only : bool
        Values of the options of these names, which need a store.
    csv, plot : str or None
        Files for the figures and for the curve.
    as_json : bool
    no_plot : bool
        Whether the curve is not to be drawn even where it is by default.
    """

    store: str | None
    restart: bool
    retry_failed: bool
    anywhere: bool
    init_only: bool
    csv: str | None
    as_json: bool
    plot: str | None = None
    no_plot: bool = False

    def checked(self, data: str, picture: str | None = None) -> Self:
        """Refuse options that do not go together, and places that cannot be written to.

        Parameters
        ----------
        data : str
            Path of the data.
        picture : str, optional
            A file for the curve where none is named.

        Returns
        -------
        Output
            With the file of the curve, if the curve is wanted and can be drawn.

        Raises
        ------
        Refusal, UsageError, DataSetError
        """
        if self.store is None:
            flags = [name for name in _FOR_STORES if getattr(self, name)]
            if flags:
                raise click.UsageError(f"--{flags[0].replace('_', '-')} needs --output")
        check_place(self.store, "store", is_store=True)
        deliveries = {"csv": self.csv, "plot": self.plot, "json": self.as_json}
        given = [f"--{name}" for name, value in deliveries.items() if value]
        if self.init_only and given:
            raise click.UsageError(
                f"--init-only computes nothing; leave out {', '.join(given)} (dkde finish prints "
                "the figures)"
            )
        plot = self._picture(picture)
        check_place(self.csv, "CSV file")
        check_apart(data, {"--csv": self.csv, "--output": self.store, "--plot": plot})
        return replace(self, plot=plot)

    def _picture(self, default: str | None) -> str | None:
        """Return the path of the curve's picture, if it can be written."""
        import dkde

        if self.plot is not None and self.no_plot:
            raise click.UsageError("--plot and --no-plot exclude each other")
        if self.plot is not None:
            dkde.check_picture(self.plot)
            return self.plot
        if default is None or self.no_plot or self.init_only:
            return None
        try:
            dkde.check_picture(default)
        except dkde.DkdeError as error:
            # The user did not ask for the picture, so its lack does not stop the work.
            warn(f"No picture of the curve: {error}")
            return None
        return default

    def deliver(
        self, result: Any, split: str, seconds: float, *, was_complete: bool = False
    ) -> None:
        """Write and print a result.

        Parameters
        ----------
        split : str
            Name, in the CSV, of the rows that were scored at all bandwidths.
        seconds, was_complete
            As for :func:`dkde_cli.deliver.print_end`.
        """
        import dkde

        if self.csv is not None:
            test_row = test_figures(result)
            tested = {} if test_row is None else {"test": [test_row]}
            write_csv(self.csv, {split: figures(result), **tested})
        print_result(result, as_json=self.as_json)
        if self.plot is not None:
            is_classes = is_classification(result)
            (dkde.plot_classes if is_classes else dkde.plot_sweep)(result, path=self.plot)
            say(f"The {'picture' if is_classes else 'curve'} is in {self.plot}")
        print_end(result, seconds, was_complete=was_complete)


retry_failed_option = click.option(
    "--retry-failed",
    is_flag=True,
    help="Try the blocks again that failed twice and were set aside.",
)
anywhere_option = click.option(
    "--anywhere",
    is_flag=True,
    help="Continue the run even with another processor or other libraries than those that began "
    "it; numbers may differ in the last bit.",
)
OUTPUT: dict[str, Decorator] = {
    "store": click.option(
        "--output",
        "store",
        metavar="STORE",
        help="Keep the result, each row's log-density included, in this Zarr store, block by "
        "block. If the command is stopped, the same command again continues there. A name in .nc, "
        "of a score also in .csv or .parquet, becomes that file once the run is complete; until "
        "then the run is beside it, in OUTPUT.run.",
    ),
    "restart": click.option(
        "--restart",
        is_flag=True,
        help="Begin anew and replace the result that is in the output; a file is replaced once the "
        "new one is complete.",
    ),
    "retry_failed": retry_failed_option,
    "init_only": click.option(
        "--init-only",
        is_flag=True,
        help="Compute nothing, only set up the run in the output; dkde run-part then does its "
        "parts.",
    ),
    "anywhere": anywhere_option,
    "csv": click.option(
        "--csv",
        metavar="FILE",
        help="Write the figures to this CSV file, a line for each bandwidth.",
    ),
}


def output_options(**pictures: Decorator) -> Decorator:
    """Add the options that say where results go; the command gets them as ``output``.

    Parameters
    ----------
    pictures : decorators
        ``plot`` and ``no_plot``, of commands that draw.
    """
    options = gathered("output", Output, {**OUTPUT, **pictures, "as_json": json_option})
    return lambda command: options(csv_option(command))


def carry_out(
    call: Callable[..., Any],
    output: Output,
    where: Where,
    split: str,
    *names: str,
) -> None:
    """Run a call and deliver its result; or only set its run up, with ``--init-only``.

    Parameters
    ----------
    call : callable
        A function of dkde; takes ``output``, its options, and ``progress``.
    split : str
        Name of the scored rows in the CSV, as for :meth:`Output.deliver`.
    names : str
        Names of the stages of the work.
    """
    import dkde

    # Asked before the call, which makes the store complete.
    was_complete = not output.restart and _is_complete(output.store)
    call = partial(
        call,
        output=output.store,
        restart=output.restart,
        retry_failed=output.retry_failed,
        anywhere=output.anywhere,
    )
    start = monotonic()
    with compute(where), progress("pairs") as update:
        if output.init_only:
            with dkde.init_only():
                call()
        else:
            result = call(progress=stages(update, *names))
    if was_complete:
        made = "" if output.init_only else f"; it took {duration(float(result.attrs['seconds']))}"
        say(f"{output.store} was complete already{made}")
    elif output.init_only:
        assert output.store is not None
        _say_what_is_next(output.store)
    if not output.init_only:
        output.deliver(result, split, monotonic() - start, was_complete=was_complete)


def _is_complete(store: str | None) -> bool:
    import dkde

    try:
        return store is not None and bool(dkde.status(store)["complete"])
    except dkde.DkdeError:  # the call itself reports what is wrong there
        return False


def _say_what_is_next(store: str) -> None:
    import dkde

    n_blocks = sum(stage["blocks"] for stage in dkde.status(store)["stages"].values())
    say(
        f"{n_blocks} blocks; run dkde run-part {quote(store)} --part I --parts N, then "
        f"dkde finish {quote(store)}"
    )
