"""``dkde compare``, ``report`` and ``export``: commands that read stored results."""

from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.options import json_option, store_argument
from dkde_cli.tables import print_json, print_pairs, print_table

_NUMBERS = ("mean_difference", "standard_error", "mean_difference_error")
_SHARES = ("share_a", "share_b", "share_tied")
_FIGURES = ("n", *_NUMBERS, *_SHARES)


@click.command(cls=Command)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--bandwidth",
    metavar="H",
    help="Compare at this bandwidth (500km on the sphere), or at A's and B's own, 0.2,0.17; by "
    "default at the best one of each.",
)
@click.option(
    "--by",
    metavar="NAME",
    help="Compare the values of this coordinate one by one as well; by default those of label.",
)
@json_option
def compare(a: str, b: str, bandwidth: str | None, by: str | None, as_json: bool) -> None:
    """Compare two results on the same rows, row by row.

    A and B are outputs of dkde score, sweep or cv that scored the same rows: their test rows,
    where both have some, else the others. The differences are log-densities of A minus those
    of B, in nats. A row is tied if the difference is no larger than the proven bound on its
    error, or both densities are zero.

    \b
    The JSON is
      {"a": side, "b": side, "n", "mean_difference", "standard_error",
       "mean_difference_error", "share_a", "share_b", "share_tied",
       "by": NAME or null, "classes": [{"class", "name" if it has one, "n", ...}, ...]}
    where a side is
      {"store", "split", "bandwidth", "mean_log_likelihood", "n_zero_density"}
    with null for numbers that are not finite; on the sphere with "bandwidth_unit", "km" or
    "radian".
    """
    import dkde

    found = dkde.compare(a, b, bandwidth=_parse_pair(bandwidth), by=by)
    sides = {name: _side(found, name, store) for name, store in (("a", a), ("b", b))}
    every = {name: found[name].item() for name in _FIGURES}
    classes = _classes(found)
    if as_json:
        known = {"by": found.attrs["by"] if classes else None, "classes": classes}
        print_json({**sides, **every, **known})
        return
    print_pairs({name.upper(): _in_words(side) for name, side in sides.items()})
    click.echo(f"\n{every['n']} rows, A minus B in nats a row\n")
    body = [
        _cells("all", every),
        *(_cells(str(row.get("name", row["class"])), row) for row in classes),
    ]
    heads = ["rows", "mean difference", "standard error", "A higher", "B higher", "tied"]
    print_table([found.attrs["by"] if classes else "", *heads], body, left=1)
    click.echo(f"\nthe mean difference's own error is at most {every[_NUMBERS[2]]:.1e} nats")


@click.command(cls=Command)
@store_argument
@click.option(
    "-o", "--output", "page", required=True, metavar="FILE", help="The .html file to write."
)
def report(store: str, page: str) -> None:
    """Write a result as one page for a browser.

    STORE is the output of a score, a sweep or a cross-validation. The page holds the figures,
    the curve, the rows of highest and lowest density, and what the numbers come from; it loads
    nothing from elsewhere. The rows are read again from the data that was scored.
    """
    import dkde

    dkde.check_report(page)
    dkde.report(store, page)
    click.echo(f"The report of {store} is in {page}", err=True)


@click.command(cls=Command)
@store_argument
@click.argument("path", metavar="FILE")
@click.option("--overwrite", is_flag=True, help="Replace the file that is there.")
def export(store: str, path: str, overwrite: bool) -> None:
    """Write a result as CSV, Parquet or NetCDF.

    STORE is the output of a score, a sweep or a cross-validation. FILE ends in .csv, .parquet
    (needs dkde[tables]) or .nc (needs dkde[netcdf]).

    A table has a line for each row and bandwidth. Its columns are split (query, train, or valid
    and test), sample or another number of the row, label, source_row and other coordinates if
    there are any, bandwidth, log_density, log_density_error, pairs_evaluated and rows_read.
    NetCDF holds the whole result as it is.
    """
    import dkde

    dkde.check_export(path, overwrite=overwrite)
    dkde.export(store, path, overwrite=overwrite)
    click.echo(f"{store} is in {path}", err=True)


def _parse_pair(text: str | None) -> list[float | str] | None:
    """Return one bandwidth, or two; lengths on the Earth stay texts."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [float(part.removesuffix("km")) for part in parts]
    except ValueError:
        raise click.UsageError(
            f"--bandwidth {text!r} cannot be read; write 0.2, or 0.2,0.17 for A and B, as the "
            "results have them"
        ) from None
    pairs = zip(parts, numbers, strict=True)
    return [part if part.endswith("km") else number for part, number in pairs]


def _side(found: Any, name: str, store: str) -> dict[str, Any]:
    unit = found.attrs.get(f"bandwidth_unit_{name}")
    return {
        "store": store,
        "split": found.attrs[f"split_{name}"],
        "bandwidth": found.attrs[f"bandwidth_{name}"],
        **({"bandwidth_unit": unit} if unit is not None else {}),
        "mean_log_likelihood": found.attrs[f"mean_{name}"],
        "n_zero_density": found.attrs[f"n_zero_density_{name}"],
    }


def _classes(found: Any) -> list[dict[str, Any]]:
    if "class" not in found.coords:
        return []
    columns = {name: found[f"class_{name}"].values.tolist() for name in _FIGURES}
    names = found["class_name"].values.tolist() if "class_name" in found.coords else None
    return [
        {
            "class": value,
            **({"name": names[i]} if names else {}),
            **{name: columns[name][i] for name in _FIGURES},
        }
        for i, value in enumerate(found["class"].values.tolist())
    ]


def _in_words(side: dict[str, Any]) -> str:
    unit = f" {side['bandwidth_unit']}" if "bandwidth_unit" in side else ""
    zero = f", {side['n_zero_density']} of zero density" if side["n_zero_density"] else ""
    return (
        f"{side['store']}: {side['split']} rows at {side['bandwidth']:.6g}{unit}, mean "
        f"{side['mean_log_likelihood']:.4f}{zero}"
    )


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    numbers = [f"{row[figure]:.4f}" for figure in _NUMBERS[:2]]
    return [name, str(row["n"]), *numbers, *(f"{100 * row[share]:.1f} %" for share in _SHARES)]
