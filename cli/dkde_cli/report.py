"""``dkde report``: a result as a page for a browser."""

import click

from dkde_cli.group import Command
from dkde_cli.options import store_argument


@click.command(cls=Command)
@store_argument
@click.option(
    "-o", "--output", "page", required=True, metavar="FILE", help="The .html file to write."
)
def report(store: str, page: str) -> None:
    """Write a result as one page for a browser.

    STORE is the output of a score, a sweep or a cross-validation. The page holds the figures,
    the curve, the rows of highest and lowest density, and what the numbers come from; it loads
    nothing from anywhere. The rows are read back from where they were scored.
    """
    import dkde

    dkde.check_report(page)
    dkde.report(store, page)
    click.echo(f"The report of {store} is in {page}", err=True)
