"""``dkde import``, ``dkde info``, ``dkde show``: data sets, before anything is computed."""

from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.options import SELECTOR_HELP, choice_options, data_argument, json_option
from dkde_cli.progress import Lines, progress
from dkde_cli.tables import print_json, print_pairs, print_table, size
from dkde_cli.values import parse_image_shape, parse_names
from dkde_cli.variables import print_advice, print_columns, print_variables

# What splits of one data set often have in common, which is then said once; and not at all
# where it is the usual.
_USUAL = {
    "features": "", "dtype": "", "scale": "1", "offset": "0", "values": "unknown",
    "missing": "0", "infinite": "0", "picture": "-", "classes": "-", "stored": "-",
    "chunk rows": "-", "index": "-",
}  # fmt: skip
# Names that are said of features, classes and columns.
_SHOWN = 20


@click.command("import", cls=Command)
@click.argument("source")
@click.argument("store")
@click.option(
    "--format",
    metavar="NAME",
    help="mnist-pickle, idx, cifar, npy, npz, parquet, pictures, csv or digits, where the content "
    "does not tell.",
)
@click.option(
    "--split",
    metavar="NAME",
    help="Name of the split, for a file that holds one bare array; by default train.",
)
@click.option(
    "--scale", type=float, metavar="X", help="A value is STORED * scale + offset; else the file's."
)
@click.option("--offset", type=float, metavar="X", help="See --scale.")
@click.option(
    "--image-shape",
    metavar="HxW",
    help="Shape of a row as a picture: 28x28, or in colour 3x32x32 or 32x32x3.",
)
@click.option(
    "--layout",
    type=click.Choice(["CHW", "HWC"]),
    help="Whether the channels of colour pictures come first or last.",
)
@click.option(
    "--columns",
    metavar="A,B,...",
    help="The columns of a table that are features, in this order; by default those of numbers. "
    "(Of tables that are not imported, and of data sets, --features of the other commands.)",
)
@click.option(
    "--row-dim",
    metavar="A,B,...",
    callback=lambda _, __, text: parse_names(text),
    help="Of variables of Zarr or NetCDF: the dims along which rows lie; others hold features.",
)
@click.option(
    "--label",
    metavar="COLUMN",
    help="The column of a table that says what each row is: whole numbers, or names.",
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
    help="Sort rows so that those of a chunk lie close together; source_row keeps where they were.",
)
@click.option(
    "--no-index",
    "index",
    flag_value=False,
    default=True,
    help="Do not write where the rows of each chunk lie (see dkde index).",
)
@click.option("--overwrite", is_flag=True, help="Replace the data set that STORE holds already.")
def import_(
    source: str, store: str, image_shape: str | None, columns: str | None, **options: Any
) -> None:
    """Import a file or a folder into a data set.

    SOURCE is an MNIST pickle, an IDX file or folder of them, a CIFAR-10 or CIFAR-100 python
    archive or its folder, a .npy or .npz file, a table (CSV or Parquet, or several by a quoted
    pattern, 'points/*.csv'), a folder of PNG or JPEG pictures, or the word digits; or a Zarr store
    or NetCDF file, with its variables in --columns, or FILE::ARRAY. STORE is the folder to make,
    or a URL, s3://, gs:// or az://; it is there whole or not at all.
    """
    import dkde

    shape = parse_image_shape(image_shape)
    with progress("rows") as update:
        dkde.import_dataset(
            source, store, image_shape=shape, columns=parse_names(columns), progress=update,
            **options,
        )  # fmt: skip
    described = dkde.describe(store, values=False)
    for name, split in described["splits"].items():
        names = f" ({_some(split['feature_names'])})" if split["feature_names"] else ""
        click.echo(f"{store}::{name}: {split['rows']} rows of {split['features']}{names}", err=True)
        if split["missing"]:
            click.echo(f"missing values, which are NaN: {split['missing']}", err=True)
        if split["infinite"]:
            click.echo(f"infinite values, which no density takes: {split['infinite']}", err=True)


@click.command(cls=Command)
@click.argument("store")
@choice_options
@json_option
def info(store: str, choice: dict[str, Any], as_json: bool) -> None:
    """Describe a data set, a file to import, or its variables.

    STORE is a data set, by its path or URL, or what dkde import takes as its SOURCE; or a Zarr
    store or NetCDF file that xarray opens, all of whose values are read, or those of --features.
    STORE::NAME is one of its splits or groups.
    """
    import dkde

    described = dkde.describe(store, **choice, progress=Lines("rows"))
    if as_json:
        print_json(described)
        return
    if "variables" in described:
        print_variables(described)
        return
    splits = described.pop("splits")
    options = described.pop("import_options")
    source_checksum = described.pop("source_checksum")
    names, reasons = described.pop("columns_left_out"), described.pop("left_out")
    converted = described.pop("converted")
    known = {name.replace("_", " "): str(text) for name, text in described.items() if text}
    if names:
        told = [f"{name} ({reasons[name]})" if name in reasons else name for name in names]
        known["columns left out"] = _some(told)
    if converted:
        known["taken as"] = _some([f"{name}: {what}" for name, what in converted.items()])
    for split in splits.values():  # mostly all splits have the same
        if split["feature_names"]:
            known.setdefault("feature names", _some(split["feature_names"]))
        for label, classes in split["classes"].items():
            known.setdefault(f"{label}s", _some([f"{i} {name}" for i, name in enumerate(classes)]))
    if options:
        made = "drawn with" if described["source_format"] == "samples" else "import options"
        known[made] = ", ".join(f"{name} {value}" for name, value in options.items())
    cells = {name: _split_cells(split) for name, split in splits.items()}
    shared = {
        column: text
        for column, text in next(iter(cells.values())).items()
        if column in _USUAL and all(each[column] == text for each in cells.values())
    }
    print_pairs(known | {name: text for name, text in shared.items() if text != _USUAL[name]})
    click.echo()
    columns = [column for column in next(iter(cells.values())) if column not in shared]
    body = [[name, *(each[column] for column in columns)] for name, each in cells.items()]
    print_table(["split", *columns], body, left=1)
    print_columns(splits)
    print_advice(next((each["advice"] for each in splits.values() if each["advice"]), None))
    checksums = {name: split["checksum"] for name, split in splits.items() if split["checksum"]}
    if source_checksum:
        checksums = {"source": source_checksum, **checksums}
    if checksums:
        click.echo("\nchecksums")
        print_pairs(checksums)


def _some(names: list[str]) -> str:
    """Return names in one line, shortened where there are many."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _split_cells(split: dict[str, Any]) -> dict[str, str]:
    """Return the table cells of a split, by column."""
    values = "unknown"
    if split["value_range"] is not None:
        partly = "" if split["value_range_rows"] == split["rows"] else " or more"
        values = "{:.6g} to {:.6g}".format(*split["value_range"]) + partly
    shape = "x".join(map(str, split["image_shape"] or ["-"]))
    return {
        "rows": str(split["rows"]),
        "features": str(split["features"]),
        "dtype": split["dtype"],
        "scale": f"{split['scale']:.6g}",
        "offset": f"{split['offset']:.6g}",
        "values": values,
        "missing": str(split["missing"]),
        "infinite": str(split["infinite"]),
        "picture": f"{shape} {split['layout']}" if split["layout"] else shape,
        "classes": "/".join(str(n) for n in split["labels"].values()) or "-",
        "raw": size(split["bytes_raw"]),
        "stored": "-" if split["bytes_stored"] is None else size(split["bytes_stored"]),
        "chunk rows": "-" if split["chunk_rows"] is None else str(split["chunk_rows"]),
        "index": split["index"] or "-",
    }


@click.command(cls=Command, epilog=SELECTOR_HELP)
@data_argument
@click.option(
    "--split", metavar="SELECTOR", help="The rows; by default the split train, or the first one."
)
@click.option("--rows", default=20, show_default=True, metavar="N", help="Rows of pictures.")
@click.option("--columns", default=20, show_default=True, metavar="N", help="Columns of pictures.")
@click.option("-o", "--output", required=True, metavar="FILE", help="The PNG file to write.")
def show(data: str, split: str | None, rows: int, columns: int, output: str) -> None:
    """Tile the first pictures of a data set in a PNG file."""
    import dkde

    n_shown = dkde.plot_pictures(split, output, rows=rows, columns=columns, source=data)
    click.echo(f"{n_shown} pictures in {output}", err=True)
