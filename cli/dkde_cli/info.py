"""``dkde info``: a description of data sets, files to import, Zarr stores and NetCDF files."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.lines import echo, echo_text
from dkde_cli.options import choice_options, decimal_option, json_option
from dkde_cli.progress import Lines
from dkde_cli.tables import print_json, print_pairs, print_table, size

# The columns that splits of a data set often have in common, with their usual values. A common
# value is printed once, above the table; a usual one is not printed.
_USUAL = {
    "features": "", "dtype": "", "scale": "1", "offset": "0", "values": "unknown",
    "missing": "0", "infinite": "0", "picture": "-", "classes": "-", "stored": "-",
    "chunk rows": "-", "index": "-",
}  # fmt: skip
# Keys of a description that hold for the data set as a whole, printed as they are.
_KNOWN = ("name", "where", "kind", "source", "source_format", "dkde_version")
# How many names of features, classes and columns are printed.
_SHOWN = 20
_WIDTH = 80


@click.command(cls=Command)
@click.argument("store")
@choice_options
@decimal_option
@json_option
def info(store: str, choice: dict[str, Any], decimal: str | None, as_json: bool) -> None:
    """Describe a data set, a file to import, or its variables.

    STORE is the path or URL of a data set, or what dkde import takes as its SOURCE; or a Zarr
    store or NetCDF file that xarray opens. Of these all values are read, or those of --features.
    STORE::NAME is one of its splits or groups. With --where, only the rows are described that
    meet the condition.
    """
    import dkde

    described = dkde.describe(store, **choice, decimal=decimal, progress=Lines("rows"))
    if as_json:
        print_json(described)
    elif "variables" in described:
        _print_variables(described)
    else:
        _print_splits(described)


def shortened(names: Sequence[str]) -> str:
    """Return names in one line, shortened where there are many."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _print_splits(described: dict[str, Any]) -> None:
    """Print what splits have in common, a table of them, and one of their features."""
    splits = described["splits"]
    cells = [{"split": name, **_split_cells(split)} for name, split in splits.items()]
    shared = {
        column: text for column, text in cells[0].items()
        if column in _USUAL and all(each[column] == text for each in cells)
    }  # fmt: skip
    print_pairs(
        _known(described)
        | {column: text for column, text in shared.items() if text != _USUAL[column]}
    )
    echo()
    columns = [column for column in cells[0] if column not in shared]
    print_table(columns, [[each[column] for column in columns] for each in cells], left=1)
    _print_columns(splits)
    _print_advice(next((each["advice"] for each in splits.values() if each["advice"]), None))
    checksums = {"source": described["source_checksum"]}
    checksums |= {name: split["checksum"] for name, split in splits.items()}
    checksums = {name: checksum for name, checksum in checksums.items() if checksum}
    if checksums:
        echo()
        echo("checksums")
        print_pairs(checksums)


def _known(described: dict[str, Any]) -> dict[str, str]:
    """Return what is known of a data set as a whole."""
    known = {name.replace("_", " "): str(described[name]) for name in _KNOWN if described.get(name)}
    reasons, options = described["left_out"], described["import_options"]
    names = {
        "columns left out": [
            f"{name} ({reasons[name]})" if name in reasons else name
            for name in described["columns_left_out"]
        ],
        "taken as": [f"{name}: {what}" for name, what in described["converted"].items()],
    }
    for split in described["splits"].values():  # most data sets have the same in all splits
        if split["feature_names"]:
            names.setdefault("feature names", split["feature_names"])
        for label, classes in split["classes"].items():
            names.setdefault(f"{label}s", [f"{i} {name}" for i, name in enumerate(classes)])
    known |= {name: shortened(each) for name, each in names.items() if each}
    if options:
        made = "drawn with" if described["source_format"] == "samples" else "import options"
        known[made] = ", ".join(f"{name} {value}" for name, value in options.items())
    return known


def _rows(described: Mapping[str, Any]) -> str:
    """Return the number of rows, and of how many a condition chose them."""
    known = str(described["rows"])
    return f"{known} of {described['rows_in_all']}" if "rows_in_all" in described else known


def _split_cells(split: dict[str, Any]) -> dict[str, str]:
    """Return the table cells of a split, by column."""
    values = "unknown"
    if split["value_range"] is not None:
        partly = "" if split["value_range_rows"] == split["rows"] else " or more"
        values = _span(split["value_range"]) + partly
    shape = "x".join(map(str, split["image_shape"] or ["-"]))
    return {
        "rows": _rows(split),
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
        "chunk rows": _or_dash(split["chunk_rows"]),
        "index": split["index"] or "-",
    }


def _print_columns(splits: Mapping[str, Any]) -> None:
    """Print a table of the features of splits that were looked at one by one."""
    looked = [(name, split) for name, split in splits.items() if split["columns"]]
    if not looked:
        return
    echo()
    counts = [s["value_range_rows"] for _, s in looked if s["value_range_rows"] < s["rows"]]
    if counts:
        echo(f"of the first {max(counts)} rows")
    first = 0 if len(splits) > 1 else 1
    _print_figures(
        ("split", "feature")[first:],
        [(name, feature)[first:] for name, split in looked for feature in split["columns"]],
        [figures for _, split in looked for figures in split["columns"].values()],
    )


def _print_variables(described: dict[str, Any]) -> None:
    """Print a table of the variables, and what their scales mean."""
    features, groups = described["features"], described["groups"]
    known = {name: str(described[name]) for name in _KNOWN if described.get(name)}
    if groups:
        known["groups"] = ", ".join(groups)
    if features:
        known["features"] = ", ".join(features)
        known["rows"] = "not known" if described["rows"] is None else _rows(described)
        dims = described["row_dims"]
        if dims and described["columns"] != len(features):
            known["rows"] += f" of {described['columns']}, along {', '.join(dims)}"
        elif dims and len(dims) > 1:
            known["rows"] += f", along {', '.join(dims)}"
    print_pairs(known)
    echo()
    variables = described["variables"]
    decoded = {name: each for name, each in variables.items() if "undecodable" not in each}
    if decoded:
        _print_figures(
            ("variable", "dims", "dtype", "stored", "chunks", "units"),
            [_form(name, each) for name, each in decoded.items()],
            list(decoded.values()),
        )
    elif not variables:
        name = described["name"]
        mark = "/" if "::" in name else "::"
        echo("no variables here" + (f"; dkde info {name}{mark}{groups[0]}" * bool(groups)))
    for name, each in variables.items():
        if name not in decoded:
            echo(f"{name} cannot be decoded: {each['undecodable']}")
    _print_advice(described["advice"])
    _print_advice(described["undecided"])


def _form(name: str, variable: dict[str, Any]) -> list[str]:
    return [
        name,
        ", ".join(f"{dim} {n}" for dim, n in variable["dims"].items()) or "-",
        variable["dtype"],
        variable["stored_dtype"] or "-",
        "x".join(map(str, (variable["chunks"] or {}).values())) or "-",
        variable["units"] or "-",
    ]


def _print_figures(
    heads: Sequence[str], names: Sequence[Sequence[str]], columns: Sequence[Mapping[str, Any]]
) -> None:
    """Print a table of the figures of columns, after the cells that name and describe each."""
    # There is a column of infinite values only if there are any.
    counts = ["missing", "infinite"][: 1 + any(each["infinite"] for each in columns)]
    body = []
    for said, each in zip(names, columns, strict=True):
        span, deviation = each["value_range"], each["standard_deviation"]
        body.append([
            *said,
            "-" if span is None else _span(span),
            "-" if deviation is None else f"{deviation:.4g}",
            *(_or_dash(each[count]) for count in counts),
        ])  # fmt: skip
    print_table([*heads, "values", "sd", *counts], body, left=len(heads))


def _print_advice(advice: str | None) -> None:
    """Print what scales mean as a paragraph, if they mean anything."""
    if advice is not None:
        echo()
        echo_text(fill(advice, _WIDTH, break_on_hyphens=False))


def _span(ends: Sequence[float]) -> str:
    return "{:.6g} to {:.6g}".format(*ends)


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)
