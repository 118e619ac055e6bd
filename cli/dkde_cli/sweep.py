"""``dkde sweep``: a density at many bandwidths, and the best of them."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from dkde_cli.compute import estimated_seconds
from dkde_cli.deliver import print_end, print_result
from dkde_cli.group import Command
from dkde_cli.options import (
    SELECTOR_HELP,
    Where,
    bandwidths_option,
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
from dkde_cli.sides import default_split, default_test
from dkde_cli.tables import figures, test_figures, write_csv
from dkde_cli.values import parse_bandwidths

# The embedded data set: what a first look is taken with, so it comes with a picture.
_EMBEDDED = "digits"
_PROTOCOLS = ("gan2014", "scratch2019")


@click.command(cls=Command, epilog=SELECTOR_HELP)
@data_argument
@choice_options
@train_option
@weights_option
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
@click.option("--no-test", is_flag=True, help="Score no test rows, whatever DATA has.")
@click.option(
    "--protocol",
    type=click.Choice(_PROTOCOLS),
    help="Of a publication: gan2014 takes the first 10,000 generated rows, which --train names, "
    "bandwidths logspace:-1:0:10 by 'valid[:1000]', and test; scratch2019 'train[:10000]', "
    "'train[10000:20000]', bandwidths 0.05,0.08,0.1,0.2,0.5,1,1.5,2, and test. Other options "
    "that are given win, and it is said.",
)
@bandwidths_option
@density_options()
@output_options
@click.option(
    "--plot",
    metavar="FILE",
    help="Draw the curve into this .png, .svg or .pdf file; by default digits-sweep.png for the "
    "embedded digits, none for other data.",
)
@click.option("--no-plot", is_flag=True, help="Draw nothing, not even for the digits.")
@json_option
@where_options
def sweep(
    data: str,
    choice: dict[str, Any],
    train: str | None,
    weights: str | None,
    valid: str | None,
    valid_weights: str | None,
    test: str | None,
    test_weights: str | None,
    no_test: bool,
    protocol: str | None,
    bandwidths: str | None,
    density: dict[str, Any],
    csv: str | None,
    output: Output,
    plot: str | None,
    no_plot: bool,
    as_json: bool,
    where: Where,
) -> None:
    """Find the best bandwidth, and score at it.

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
    output.check(csv=csv, plot=plot, json=as_json)
    plot = _picture(data, plot, no_plot or output.init_only)
    check_file(csv, "CSV file")
    check_apart(data, {"--csv": csv, "--output": output.store, "--plot": plot})
    grid = parse_bandwidths(bandwidths)
    catalog = dkde.Catalog(data, **choice)
    if protocol is None:
        train = default_split(catalog, data, "train", train)
        valid = default_split(catalog, data, "valid", valid)
        test = None if no_test else default_test(catalog, test, train=train, valid=valid)
    sides = {"train": train, "valid": valid, "test": test, "bandwidths": grid}
    taken = dict(sides)
    if protocol is not None:
        taken |= dkde.follow_protocol(protocol, **sides, source=catalog, **density)

    def estimate() -> float:
        return estimated_seconds(
            catalog,
            query=taken["valid"],
            train=taken["train"],
            bandwidths=taken["bandwidths"],
            density=density,
            weights=weights,
        )

    call = partial(
        dkde.sweep,
        **sides,
        protocol=protocol,
        source=catalog,
        weights=weights,
        valid_weights=valid_weights,
        test_weights=test_weights,
        **density,
    )
    result = carry_out(call, output, where, estimate, "valid", "test")
    if result is None:
        return
    if csv is not None:
        test_row = test_figures(result)
        write_csv(csv, {"valid": figures(result), "test": [] if test_row is None else [test_row]})
    print_result(result, as_json=as_json)
    if plot is not None:
        dkde.plot_sweep(result, plot)
        click.echo(f"The curve is in {plot}", err=True)
    print_end(result)


def _picture(data: str, plot: str | None, no_plot: bool) -> str | None:
    """Return the path of the curve's picture, if it can be written."""
    import dkde

    if plot is not None and no_plot:
        raise click.UsageError("--plot and --no-plot exclude each other")
    if plot is not None:
        dkde.check_picture(plot)
        return plot
    if no_plot or data != _EMBEDDED or Path(data).exists():
        return None
    default = f"{_EMBEDDED}-sweep.png"
    try:
        dkde.check_picture(default)
    except dkde.DkdeError as error:
        # Nobody asked for it: no reason to refuse the work.
        click.echo(f"No picture of the curve: {error}", err=True)
        return None
    return default
