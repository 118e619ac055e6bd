"""``dkde sweep``: a density at many bandwidths, and the best of them."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.options import (
    SELECTOR_HELP,
    Where,
    bandwidths_option,
    density_options,
    scored_weights_option,
    where_options,
)
from dkde_cli.runs import Output, carry_out, output_options
from dkde_cli.sides import Training, training_options
from dkde_cli.values import parse_bandwidths

# The embedded data set, which users try first: its curve is drawn without --plot.
_EMBEDDED = "digits"
_PROTOCOLS = ("gan2014", "scratch2019")


@click.command(cls=Command, epilog=SELECTOR_HELP)
@training_options
@click.option(
    "--valid",
    metavar="SELECTOR",
    help="The rows that choose the bandwidth; by default DATA's split valid.",
)
@scored_weights_option("valid")
@click.option(
    "--test",
    metavar="SELECTOR",
    help="Rows to score at the best bandwidth; by default DATA's split test, if it has one "
    "that shares no row with the others.",
)
@scored_weights_option("test")
@click.option("--no-test", is_flag=True, help="Score no test rows, even if DATA has some.")
@click.option(
    "--protocol",
    type=click.Choice(_PROTOCOLS),
    help="Protocol of a publication. gan2014: a density of the first 10,000 rows of --train, which "
    "are generated ones; 'valid[:1000]' to choose from the bandwidths logspace:-1:0:10; and test. "
    "scratch2019: 'train[:10000]'; 'train[10000:20000]' to choose from "
    "0.05,0.08,0.1,0.2,0.5,1,1.5,2; and test. Other options that are given take precedence, with a "
    "warning.",
)
@bandwidths_option
@density_options(adapts=True)
@output_options(
    plot=click.option(
        "--plot",
        metavar="FILE",
        help="Draw the curve into this .png, .svg or .pdf file; by default digits-sweep.png for "
        "the embedded digits, none for other data.",
    ),
    no_plot=click.option("--no-plot", is_flag=True, help="Draw nothing, not even for the digits."),
)
@where_options
def sweep(
    training: Training,
    valid: str | None,
    valid_weights: str | None,
    test: str | None,
    test_weights: str | None,
    no_test: bool,
    protocol: str | None,
    bandwidths: str | None,
    density: dict[str, Any],
    output: Output,
    where: Where,
) -> None:
    """Find the best bandwidth, and score test rows at it.

    Validation rows are scored at many bandwidths in one pass, test rows at the best of them.

    \b
    The JSON is
      {"best_bandwidth": b, "seconds": s, "valid": [row, ...], "test": row or null}
    where a row is
      {"bandwidth", "n", "mean_log_likelihood", "standard_error",
       "bits_per_dimension", "n_zero_density"}
    with null for numbers that are not finite; on the sphere with "bandwidth_unit", "km" or
    "radian".
    """
    import dkde

    if test is not None and no_test:
        raise click.UsageError("--test and --no-test exclude each other")
    if protocol is not None and no_test:
        raise click.UsageError("--protocol scores test rows; leave out --no-test")
    is_first_look = training.data == _EMBEDDED and not Path(_EMBEDDED).exists()
    output = output.checked(training.data, f"{_EMBEDDED}-sweep.png" if is_first_look else None)
    grid = parse_bandwidths(bandwidths)
    train = training.train
    # A protocol has defaults of its own, which dkde.sweep fills in.
    if protocol is None:
        train, valid = training.selector, training.split("valid", valid)
        test = None if no_test else training.test_split(test, train=train, valid=valid)
    call = partial(
        dkde.sweep,
        train=train,
        valid=valid,
        test=test,
        bandwidths=grid,
        protocol=protocol,
        source=training.catalog,
        **training.choice,
        weights=training.weights,
        bandwidth_scale=training.bandwidth_scale,
        valid_weights=valid_weights,
        test_weights=test_weights,
        **density,
    )
    carry_out(call, output, where, "valid", "valid", "test")
