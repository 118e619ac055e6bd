"""``dkde sample``: new rows from a density."""

from itertools import compress, islice
from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.logs import say
from dkde_cli.options import SELECTOR_HELP, csv_option, density_options, pca_option, seed_option
from dkde_cli.progress import progress
from dkde_cli.runs import check_apart, check_place
from dkde_cli.sides import Training, training_options
from dkde_cli.values import parse_bandwidth


@click.command(cls=Command, epilog=SELECTOR_HELP)
@training_options
@click.option(
    "-n",
    "n_samples",
    type=click.IntRange(min=1),
    default=44,
    metavar="N",
    help="Number of samples.",
)
@click.option(
    "--bandwidth",
    required=True,
    metavar="H",
    help="In units of the data, or of those that --covariance makes; or by a rule: scott, "
    "silverman, isj; or one for each feature, depth=10,time=2.",
)
@density_options("kernel", "covariance", "singular", "nan", "support", "outside", "adaptive")
@click.option(
    "--covariance-scale",
    type=click.FloatRange(min=0),
    default=1.0,
    metavar="K",
    help="Multiply the noise's covariance; 0 gives the training rows themselves.",
)
@click.option(
    "--label", type=int, metavar="N", help="Take only the training rows that have this label."
)
@pca_option
@seed_option("Draw the same samples each time.")
@click.option(
    "-o",
    "--output",
    metavar="STORE|FILE",
    help="Write the samples to this data set, as its split samples; its split sources holds the "
    "training rows that they came from. A name in .npy, .csv or .parquet becomes a file of the "
    "samples alone.",
)
@click.option("--overwrite", is_flag=True, help="Replace the data set or file that is there.")
@csv_option
@click.option(
    "--plot",
    metavar="FILE",
    help="Draw real rows, and the samples below them, as pictures into this .png file.",
)
@click.option(
    "--above",
    type=click.Choice(["first", "sources"]),
    default="first",
    help="The real rows of the picture: the first ones, or those that the samples came from.",
)
@click.option(
    "--columns",
    type=click.IntRange(min=1),
    default=11,
    metavar="N",
    help="Columns of the picture.",
)
def sample(
    training: Training,
    n_samples: int,
    bandwidth: str,
    density: dict[str, Any],
    covariance_scale: float,
    label: int | None,
    pca: int | None,
    seed: int | None,
    output: str | None,
    overwrite: bool,
    plot: str | None,
    above: str,
    columns: int,
) -> None:
    """Draw new rows from a density.

    A training row is picked at random, and noise of the kernel's shape is added to it. The
    samples go to a data set, to a picture, or to both: dkde show and dkde sweep take the data
    set like any other.
    """
    import dkde

    if output is None and plot is None:
        raise click.UsageError("the samples go nowhere; say --output STORE, --plot FILE, or both")
    is_store = check_place(output, "store", is_store=True, written="samples")
    check_apart(training.data, {"--output": output, "--plot": plot})
    h = parse_bandwidth(bandwidth)
    catalog, train = training.catalog, training.selector
    if plot is not None:
        # Before anything is drawn: rows that are no pictures are refused.
        dkde.check_picture(plot, (".png",), pictures=catalog.rows(train))
    # Sampling reports no progress: a terminal shows that it is at work.
    with progress("rows"):
        samples, sources = dkde.sample(
            train,
            h,
            n_samples,
            random_state=seed,
            covariance_scale=covariance_scale,
            return_sources=True,
            label=label,
            pca=pca,
            source=catalog,
            **training.choice,
            weights=training.weights,
            bandwidth_scale=training.bandwidth_scale,
            output=output,
            overwrite=overwrite,
            **density,
        )
    if output is not None:
        say(f"{n_samples} samples in {output}{'::samples' * is_store}")
    if plot is not None:
        rows = catalog.rows(train)
        real = _first(rows, n_samples, label) if above == "first" else sources
        n_shown = dkde.plot_samples(real, samples, plot, columns=columns, like=rows)
        shown = "samples" if n_shown == n_samples else f"of {n_samples} samples"
        say(f"{plot}: real rows above, {n_shown} {shown} below")


def _first(rows: Any, n_rows: int, label: int | None) -> Any:
    """Return the first rows, or the first ones that have the label."""
    if label is None:
        return rows[:n_rows]
    here = rows.coordinates()["label"] == label
    return rows.take(list(islice(compress(range(rows.n_rows), here), n_rows)))
