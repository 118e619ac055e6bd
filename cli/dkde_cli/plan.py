"""``dkde plan``: the cost of a sweep or a score."""

from collections.abc import Mapping
from typing import Any

import click

from dkde_cli.compute import attach
from dkde_cli.group import Command
from dkde_cli.options import (
    SELECTOR_HELP,
    Planned,
    Where,
    bandwidth_scale_option,
    bandwidths_option,
    choice_options,
    decimal_option,
    density_options,
    json_option,
    planned_options,
    train_option,
    weights_option,
)
from dkde_cli.plan_shape import Shape, print_costs, shape_options
from dkde_cli.sides import Training
from dkde_cli.tables import duration, print_json, print_pairs, si, size
from dkde_cli.values import parse_bandwidths


@click.command(cls=Command, epilog=SELECTOR_HELP)
@click.argument("data", metavar="[DATA]", required=False)
@choice_options
@train_option
@click.option(
    "--query",
    "--valid",
    "query",
    metavar="SELECTOR",
    help="The rows to be scored; by default DATA's split valid.",
)
@bandwidths_option
@density_options(of_scores=True)
@weights_option
@bandwidth_scale_option
@decimal_option
@json_option
@planned_options
@shape_options
@click.pass_context
def plan(
    ctx: click.Context,
    data: str | None,
    choice: dict[str, Any],
    train: str | None,
    query: str | None,
    bandwidths: str | None,
    weights: str | None,
    bandwidth_scale: str | None,
    decimal: str | None,
    density: dict[str, Any],
    as_json: bool,
    planned: Planned,
    shape: Shape,
) -> None:
    """Show the cost of a sweep or a score.

    That of a map is shown by dkde map --plan.

    No pair is computed, and no worker is started. Operations, blocks, bytes read and memory of
    a worker are those of all pairs, and follow from the sizes of the data. Method and time follow
    from a sample of the rows and the speed of this machine. With --scheduler or --scheduler-file
    the memory at rest is measured on the workers of that cluster; the other options for a cluster
    only say how large it would be.

    With --shape there need be no data: rows are drawn from a model of their density, for a sample,
    and the plan is shown for several numbers of workers.
    """
    if shape.check(ctx):
        _plan_shape(shape, planned, bandwidths, density, as_json=as_json)
        return
    if data is None:
        raise click.UsageError("Missing argument 'DATA', or --shape of rows that do not exist.")
    if len(planned.n_workers) > 1:
        raise click.UsageError("several numbers of --workers are of use with --shape only")
    import dkde

    grid = parse_bandwidths(bandwidths)
    training = Training(data, choice, train, weights, decimal)
    train, query = training.selector, training.split("valid", query)
    where = planned.where
    with attach(where):
        cost = dkde.plan(
            query=query,
            train=train,
            bandwidths=grid,
            weights=weights,
            bandwidth_scale=bandwidth_scale,
            source=training.catalog,
            **training.choice,
            **workers_of(where),
            **density,
        )
    if as_json:
        print_json(cost)
    else:
        print_pairs(in_words(cost))


def _plan_shape(
    shape: Shape,
    planned: Planned,
    bandwidths: str | None,
    density: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Print the cost of a score of rows that do not exist."""
    import dkde

    options = ("kernel", "metric", "covariance", "precision", "tol", "atol")
    each = planned.where.threads_per_worker
    cost = dkde.plan_shape(
        **shape.keywords,
        **({} if bandwidths is None else {"bandwidths": parse_bandwidths(bandwidths)}),
        n_workers=planned.n_workers or 1,
        threads_per_worker=1 if each is None else each,
        memory_limit=planned.where.memory_limit,
        **{name: density[name] for name in options},
    )
    if as_json:
        print_json(cost)
    else:
        by_workers = {"time", *reads_in_words(cost)}
        words = in_words(cost).items()
        print_costs(cost, {name: text for name, text in words if name not in by_workers})


def workers_of(where: Where) -> dict[str, Any]:
    """Return the workers for which a cost is asked, as ``dkde.plan`` takes them."""
    each = 1 if where.threads_per_worker is None else where.threads_per_worker
    return {
        "n_threads": None if where.workers is None else where.workers * each,
        "threads_per_worker": each,
        "memory_limit": where.memory_limit,
    }


def reads_in_words(cost: Mapping[str, Any]) -> dict[str, str]:
    """Return how much is read of each side, how often that is, and why."""
    if (reads := cost["reads"]) is None:  # lazy sides, of which no sample was read
        return {"read": f"{size(cost['bytes_read'])}, re-reads counted, for all pairs"}
    total = sum(each["bytes"] for each in reads.values())
    if not total:
        return {"read": "nothing; both sides are in memory"}
    shown = {role: _times_in_words(each) for role, each in reads.items()}
    return {"read": f"{size(total)}, of these", **{f"  {role}": s for role, s in shown.items()}}


def _times_in_words(read: Mapping[str, Any]) -> str:
    if not read["times"]:
        return str(read["why"])
    times = "once" if round(read["times"], 2) == 1 else f"{read['times']:.3g} times"
    return ", ".join(filter(None, (size(read["bytes"]), times, read["why"])))


def in_words(cost: Mapping[str, Any]) -> dict[str, str]:
    """Return a cost as names and their texts."""
    several = cost["bandwidths"] != 1
    slow = {} if cost["slow_blas"] is None else {"linear algebra": cost["slow_blas"]}
    return {
        "pairs": f"{si(cost['pairs'])}, at {cost['bandwidths']} bandwidth" + "s" * several,
        "operations": f"{si(cost['flops'])}FLOP",
        "blocks": (
            f"{cost['blocks']}: {cost['query_blocks']} of query rows x {cost['panels']} of "
            "training rows"
        ),
        "rows of a block": f"up to {cost['block_rows']} x {cost['panel_rows']}",
        **reads_in_words(cost),
        "memory of a worker": f"{size(cost['peak_bytes_per_worker'])}, of these",
        "  at rest": size(cost["baseline_bytes"]),
        "  a thread's block": size(cost["block_bytes"]),
        "  shared by blocks": size(cost["resident_bytes"]),
        "method": cost["method"],
        "time": f"about {duration(cost['seconds'])} on {cost['threads']} threads",
        **slow,
    }
