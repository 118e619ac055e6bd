"""``dkde score``: rows under a density of given bandwidth."""

from functools import partial
from typing import Any

import click

from dkde_cli.compute import estimated_seconds
from dkde_cli.deliver import print_end, print_result
from dkde_cli.group import Command
from dkde_cli.options import (
    SELECTOR_HELP,
    Where,
    choice_options,
    data_argument,
    density_options,
    json_option,
    scored_weights_option,
    train_option,
    weights_option,
    where_options,
)
from dkde_cli.outputs import check_apart, check_file
from dkde_cli.runs import Output, carry_out, output_options
from dkde_cli.sides import default_split
from dkde_cli.tables import figures, write_csv
from dkde_cli.values import parse_bandwidths


@click.command(cls=Command, epilog=SELECTOR_HELP)
@data_argument
@choice_options
@train_option
@weights_option
@click.option("--query", required=True, metavar="SELECTOR", help="The rows to be scored.")
@scored_weights_option("query")
@click.option(
    "--bandwidth",
    required=True,
    metavar="H",
    help="In units of the data, or of those that --covariance makes; several, 0.1,0.2, come from "
    "one pass; or one by a rule: scott, silverman; with the kernel vonmises_fisher in radians, or "
    "as 250km.",
)
@density_options()
@output_options
@json_option
@where_options
def score(
    data: str,
    choice: dict[str, Any],
    train: str | None,
    weights: str | None,
    query: str,
    query_weights: str | None,
    bandwidth: str,
    density: dict[str, Any],
    csv: str | None,
    output: Output,
    as_json: bool,
    where: Where,
) -> None:
    """Score rows under a density at given bandwidths.

    Each row's log-density goes to --output; the figures of all rows are printed.

    \b
    The JSON is, for one bandwidth,
      {"bandwidth", "n", "mean_log_likelihood", "standard_error",
       "bits_per_dimension", "n_zero_density", "seconds"}
    and for several
      {"seconds": s, "rows": [row, ...]}
    with null for numbers that are not finite; on the sphere with "bandwidth_unit", "km" or
    "radian". In the CSV, split is the query's selector.
    """
    import dkde

    output.check(csv=csv, json=as_json)
    check_file(csv, "CSV file")
    check_apart(data, {"--csv": csv, "--output": output.store})
    bandwidths = parse_bandwidths(bandwidth, "--bandwidth")
    catalog = dkde.Catalog(data, **choice)
    train = default_split(catalog, data, "train", train)

    def estimate() -> float:
        return estimated_seconds(
            catalog,
            query=query,
            train=train,
            bandwidths=bandwidths,
            density=density,
            weights=weights,
        )

    call = partial(
        dkde.score,
        query,
        train,
        bandwidths,
        source=catalog,
        weights=weights,
        query_weights=query_weights,
        **density,
    )
    result = carry_out(call, output, where, estimate, "score")
    if result is None:
        return
    if csv is not None:
        write_csv(csv, {query: figures(result)})
    print_result(result, as_json=as_json)
    print_end(result)
