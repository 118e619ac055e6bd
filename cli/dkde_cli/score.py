"""``dkde score``: rows under a density of given bandwidth."""

from functools import partial
from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.options import (
    SELECTOR_HELP,
    Where,
    density_options,
    groups_options,
    scored_weights_option,
    where_options,
)
from dkde_cli.runs import Output, carry_out, output_options
from dkde_cli.sides import Training, training_options
from dkde_cli.values import parse_bandwidths, parse_share


@click.command(cls=Command, epilog=SELECTOR_HELP)
@training_options
@click.option("--query", required=True, metavar="SELECTOR", help="The rows to be scored.")
@scored_weights_option("query")
@click.option(
    "--bandwidth",
    required=True,
    metavar="H",
    help="One bandwidth; several, 0.1,0.2, which take one pass; rules: scott, silverman, isj; or "
    "one for each feature, depth=10,time=2. It is in units of the data, or of those that "
    "--covariance makes; with the kernel vonmises_fisher in radians, or as 250km.",
)
@groups_options
@click.option(
    "--flag",
    "contamination",
    metavar="SHARE",
    callback=lambda _, __, text: parse_share(text, "--flag"),
    help="Flag unusual rows: those of a lower density than this share of the training rows has, "
    "each under all others, 1% or 0.01. The training rows are scored too.",
)
@density_options(of_scores=True, adapts=True)
@output_options()
@where_options
def score(
    training: Training,
    query: str,
    query_weights: str | None,
    bandwidth: str,
    groups: dict[str, Any],
    contamination: float | None,
    density: dict[str, Any],
    output: Output,
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
    with null for numbers that are not finite, with --atol "n_rows_at_atol", with --flag
    "unusual_below" and "n_unusual", and on the sphere "bandwidth_unit", "km" or "radian". With
    --by it is
      {"by": NAME, "seconds": s, "rows": [row, ...]}
    and each row, there and in the CSV, has the value under that name. In the CSV, split is the
    query's selector.
    """
    import dkde

    output = output.checked(training.data)
    bandwidths = parse_bandwidths(bandwidth, "--bandwidth")
    train = training.selector
    call = partial(
        dkde.score,
        query,
        train,
        bandwidths,
        source=training.catalog,
        **training.choice,
        weights=training.weights,
        bandwidth_scale=training.bandwidth_scale,
        query_weights=query_weights,
        **groups,
        contamination=contamination,
        **density,
    )
    carry_out(call, output, where, query, "score", "training rows")
