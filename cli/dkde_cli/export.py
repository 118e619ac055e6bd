"""``dkde export``: a result for other programs."""

import click

from dkde_cli.group import Command
from dkde_cli.options import store_argument


@click.command(cls=Command)
@store_argument
@click.argument("path", metavar="FILE")
@click.option("--overwrite", is_flag=True, help="Replace the file that is there.")
def export(store: str, path: str, overwrite: bool) -> None:
    """Write a result as CSV, Parquet or NetCDF.

    STORE is the output of a score, a sweep or a cross-validation. FILE ends in .csv, .parquet
    (needs dkde[tables]) or .nc (needs dkde[netcdf]).

    A table has a line for each row and bandwidth, with the columns split (query, train, or
    valid and test), sample or whatever else numbers the rows, label, source_row and what other
    coordinates there are, bandwidth, log_density, log_density_error, pairs_evaluated and
    rows_read. NetCDF holds the whole result as it is.
    """
    import dkde

    dkde.check_export(path, overwrite=overwrite)
    dkde.export(store, path, overwrite=overwrite)
    click.echo(f"{store} is in {path}", err=True)
