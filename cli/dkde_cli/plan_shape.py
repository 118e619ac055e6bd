"""``dkde plan --shape``: the cost of a score of rows that do not exist, by numbers of workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from dkde_cli.lines import echo
from dkde_cli.options import gathered
from dkde_cli.tables import duration, print_pairs, print_table, size
from dkde_cli.values import parse_shape

MODELS = ("normal", "mixture")
# What the time is, where this takes longest.
_LIMITS = {
    "computing": "computing", "reading": "reading", "collecting": "collecting results",
    "handing out": "handing out blocks",
}  # fmt: skip
# Options that mean the same with and without --shape.
_SHARED = {
    "bandwidths", "workers", "threads_per_worker", "memory_limit", "kernel", "metric",
    "covariance", "precision", "tol", "atol", "as_json",
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """The options about rows that need not exist; None where one was not given."""

    shape: tuple[int, int] | None
    n_query: int | None
    model: str | None
    read_rate: str | None
    store_rate: str | None
    result_rate: str | None

    def check(self, ctx: click.Context) -> bool:
        """Return whether there is a shape; refuse options that do not go with it, or without it.

        Raises
        ------
        click.UsageError
        """
        given = [each for each in ctx.command.params if _is_given(ctx, each)]
        with_shape = set(vars(self)) | _SHARED
        if self.shape is None:
            alone = [each for each in given if each.name in vars(self)]
            if alone:
                raise click.UsageError(f"{_named(alone[0])} is of use with --shape only")
            return False
        others = [each for each in given if each.name not in with_shape]
        if others:
            raise click.UsageError(
                f"{_named(others[0])} is about rows that exist, and is of no use with --shape"
            )
        if self.n_query is None:
            raise click.UsageError("--shape needs --queries, the number of query rows")
        return True

    @property
    def keywords(self) -> dict[str, Any]:
        """Return the arguments of ``dkde.plan_shape`` that were given."""
        return {name: value for name, value in vars(self).items() if value is not None}


def _is_given(ctx: click.Context, parameter: click.Parameter) -> bool:
    source = ctx.get_parameter_source(parameter.name or "")
    return parameter.expose_value and source is click.core.ParameterSource.COMMANDLINE


def _named(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option):
        return parameter.opts[0]
    return str(parameter.metavar).strip("[]")


def _rate_option(name: str, default: str, what: str) -> Any:
    return click.option(
        f"--{name}-rate",
        metavar="SIZE",
        help=f"With --shape, bytes a second {what}, before compression; {default} by default.",
    )


shape_options = gathered(
    "shape",
    Shape,
    {
        "shape": click.option(
            "--shape",
            metavar="ROWSxFEATURES",
            callback=lambda _, __, text: parse_shape(text),
            help="Plan a score of so many training rows that do not exist, in place of DATA: "
            "10000000000x3. They are float64 in a store, in random order. The bandwidth is by "
            "Scott's rule, unless --bandwidths is given.",
        ),
        "n_query": click.option(
            "--queries",
            "n_query",
            type=click.IntRange(min=1),
            metavar="N",
            help="With --shape, the number of query rows.",
        ),
        "model": click.option(
            "--model",
            type=click.Choice(MODELS),
            help="With --shape, the density of the rows: one standard normal, the default; or a "
            "mixture of 20 Gaussians, 0.2 to 1.2 wide, about centres that are spread 3 wide.",
        ),
        "read_rate": _rate_option("read", "200MB", "that a worker reads"),
        "store_rate": _rate_option("store", "5GB", "that the store gives to all workers together"),
        "result_rate": click.option(
            "--result-rate",
            metavar="SIZE",
            help="With --shape, bytes a second of partial results that the process which hands "
            "out the blocks receives and keeps; 500MB by default.",
        ),
    },
)


def print_costs(cost: Mapping[str, Any], in_words: dict[str, str]) -> None:
    """Print what a score costs on each of some numbers of workers.

    Parameters
    ----------
    cost : mapping
        From ``dkde.plan_shape``.
    in_words : dict
        The same as names and their texts, as for rows that exist; without what follows from the
        numbers of workers.
    """
    rates = cost["rates"]
    values = ", ".join(f"{h:.3g}" for h in cost["bandwidth_values"][:4])
    more = ", ..." if len(cost["bandwidth_values"]) > 4 else ""
    print_pairs({
        "rows": f"model {cost['model']}, in random order; bandwidth {values}{more}",
        **in_words,
        "time of a thread": f"about {duration(cost['seconds'])}, as fast as one of this machine",
        "a worker reads": f"{size(rates['read'])}/s; all together {size(rates['store'])}/s",
        "results": f"{size(rates['results'])}/s; {rates['tasks']:g} tasks/s, of one or more blocks",
        "answer": f"{size(cost['answer_bytes'])} in the calling process, without an output",
    })  # fmt: skip
    echo()
    print_table(
        ["workers", "time", "x workers", "read", "limited by"],
        [
            [
                str(on["workers"]), duration(on["seconds"]),
                duration(on["seconds"] * on["workers"]), size(on["bytes_read"]), _limit(on),
            ]
            for on in cost["workers"]
        ],
    )  # fmt: skip


def _limit(on: Mapping[str, Any]) -> str:
    limit = _LIMITS[on["limit"]]
    if on["busy_threads"] < on["threads"]:
        limit += f"; work for {on['busy_threads']} of {on['threads']} threads"
    return limit
