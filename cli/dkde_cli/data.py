"""``dkde import``, ``dkde index``, ``dkde show``: data sets, before anything is computed."""

from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.info import shortened
from dkde_cli.logs import say
from dkde_cli.options import SELECTOR_HELP, data_argument, decimal_option, names_option
from dkde_cli.progress import progress
from dkde_cli.values import parse_image_shape


@click.command("import", cls=Command)
@click.argument("source")
@click.argument("store")
@click.option(
    "--format",
    metavar="NAME",
    help="Format of SOURCE: mnist-pickle, idx, cifar, npy, npz, safetensors, parquet, pictures, "
    "csv or digits; by default its content decides.",
)
@click.option(
    "--split",
    metavar="NAME",
    help="Name of the split, for a file that holds one bare array; by default train.",
)
@click.option(
    "--scale",
    type=float,
    metavar="X",
    help="A value is STORED * scale + offset; by default as in SOURCE.",
)
@click.option("--offset", type=float, metavar="X", help="See --scale.")
@click.option(
    "--image-shape",
    metavar="HxW",
    callback=lambda _, __, text: parse_image_shape(text),
    help="Shape of a row as a picture: 28x28, or in colour 3x32x32 or 32x32x3.",
)
@click.option(
    "--layout",
    type=click.Choice(["CHW", "HWC"]),
    help="Whether the channels of colour pictures come first or last.",
)
@names_option(
    "--columns",
    help="The columns of a table that are features, in this order; by default all of numbers. "
    "(Other commands choose columns of tables and data sets by --features.)",
)
@names_option(
    "--row-dim",
    help="The dims of a Zarr or NetCDF variable along which rows lie; others hold features.",
)
@click.option(
    "--label",
    metavar="COLUMN",
    help="The column of a table that holds the label of each row: whole numbers, or names.",
)
@decimal_option
@click.option(
    "--where",
    metavar="CONDITION",
    help="Import only the rows that meet this condition on their columns or labels, such as "
    "'year == 2020 and depth < 50'.",
)
@click.option(
    "--shuffle-seed",
    type=int,
    metavar="N",
    help="Permute the split train by numpy.random.RandomState(N).permutation.",
)
@click.option(
    "--order",
    is_flag=True,
    help="Sort rows so that those of a chunk lie close together; source_row keeps where they were "
    "before.",
)
@click.option(
    "--no-index",
    "index",
    flag_value=False,
    default=True,
    show_default=False,
    help="Do not write the index, which tells where the rows of each chunk lie (see dkde index).",
)
@click.option("--overwrite", is_flag=True, help="Replace the data set that STORE holds already.")
def import_(source: str, store: str, **options: Any) -> None:
    """Import a file or a folder into a data set.

    SOURCE is an MNIST pickle, an IDX file or folder of them, a CIFAR-10 or CIFAR-100 python
    archive or its folder, a .npy, .npz or .safetensors file, a table (CSV or Parquet, or
    several by a quoted pattern, 'points/*.csv'), a folder of PNG or JPEG pictures, or the word
    digits; or a Zarr store or NetCDF file, with its variables in --columns, or FILE::ARRAY. STORE
    is the folder to make, or a URL, s3://, gs:// or az://; it is written whole or not at all.
    """
    import dkde

    with progress("rows") as update:
        dkde.import_dataset(source, store, progress=update, **options)
    described = dkde.describe(store, values=False)
    for name, split in described["splits"].items():
        names = f" ({shortened(split['feature_names'])})" if split["feature_names"] else ""
        say(f"{store}::{name}: {split['rows']} rows of {split['features']}{names}")
        if split["missing"]:
            say(f"missing values, which are NaN: {split['missing']}")
        if split["infinite"]:
            say(f"infinite values, which no density takes: {split['infinite']}")


@click.command(cls=Command)
@click.argument("store")
@click.option(
    "--split",
    multiple=True,
    metavar="NAME",
    help="A split to index, by default all; may be given more than once.",
)
def index(store: str, split: tuple[str, ...]) -> None:
    """Write an index of where the rows of each chunk lie.

    STORE is a data set. With an index, chunks that are too far away to matter are not read. dkde
    import writes it; this command is for data sets that have none, or whose rows have changed.
    """
    import dkde

    with progress("rows") as update:
        done = dkde.index_dataset(store, list(split) or None, progress=update)
    for name, described in dkde.describe(store, values=False)["splits"].items():
        if name in done:
            n_chunks = -(-described["rows"] // described["chunk_rows"])
            say(f"{store}::{name}: index of {n_chunks} chunks")
        elif not split or name in split:
            say(f"{store}::{name}: no index, too few rows in a chunk")


@click.command(cls=Command, epilog=SELECTOR_HELP)
@data_argument
@click.option(
    "--split", metavar="SELECTOR", help="The rows; by default the split train, or the first one."
)
@click.option("--rows", default=20, metavar="N", help="Rows of pictures.")
@click.option("--columns", default=20, metavar="N", help="Columns of pictures.")
@click.option("-o", "--output", required=True, metavar="FILE", help="The PNG file to write.")
def show(data: str, split: str | None, rows: int, columns: int, output: str) -> None:
    """Tile the first pictures of a data set in a PNG file."""
    import dkde

    n_shown = dkde.plot_pictures(split, output, rows=rows, columns=columns, source=data)
    say(f"{n_shown} pictures in {output}")
