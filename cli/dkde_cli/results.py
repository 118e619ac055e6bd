"""``dkde compare``, ``report`` and ``export``: commands that read stored results."""

import math
from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.lines import echo
from dkde_cli.logs import say
from dkde_cli.options import (
    csv_option,
    json_option,
    sources_option,
    store_argument,
    trust_sources_option,
)
from dkde_cli.tables import print_json, print_pairs, print_table

_NUMBERS = (
    "mean_difference", "standard_error", "z", "interval_low", "interval_high",
    "mean_difference_error",
)  # fmt: skip
_SHARES = ("share_a", "share_b", "share_tied")
_FIGURES = ("n", *_NUMBERS, *_SHARES)


@click.command(cls=Command)
@click.argument("stores", metavar="A B...", nargs=-1, required=True)
@click.option(
    "--bandwidth",
    metavar="H",
    help="Compare at this bandwidth (500km on the sphere), or at one for each result, 0.2,0.17; "
    "by default at the best one of each.",
)
@click.option(
    "--by",
    metavar="NAME",
    help="Compare the values of this coordinate one by one as well; by default those of label.",
)
@sources_option
@trust_sources_option
@json_option
def compare(
    stores: tuple[str, ...],
    bandwidth: str | None,
    by: str | None,
    sources: dict[str, str],
    trust_sources: bool,
    as_json: bool,
) -> None:
    """Compare two results or more on the same rows, row by row.

    A, B and so on are outputs of dkde score, sweep or cv that scored the same rows: their test
    rows, where both of a pair have some, else the others. The differences are log-densities of A
    minus those of B, in nats. A row is tied if the difference is no larger than the proven bound
    on its error, or both densities are zero. z is the mean difference over its standard error,
    and the interval is that of 95 %, 1.96 standard errors to either side. Of more than two
    results each pair is compared, and the interval is of that pair alone. In a file for dkde run,
    A, B and so on are the list stores.

    \b
    The JSON is
      {"a": side, "b": side, "n", "mean_difference", "standard_error", "z", "interval_low",
       "interval_high", "mean_difference_error", "share_a", "share_b", "share_tied",
       "by": NAME or null, "classes": [{"class", "name" if it has one, "n", ...}, ...]}
    where a side is
      {"store", "split", "bandwidth", "mean_log_likelihood", "n_zero_density"}
    with null for numbers that are not finite; on the sphere with "bandwidth_unit", "km" or
    "radian". Of more than two results it is
      {"results": [side, ...], "pairs": [{"a": STORE, "b": STORE, "n", ..., "classes"}, ...],
       "by": NAME or null}
    """
    import dkde

    if len(stores) < 2:
        raise click.UsageError("name two results or more to compare")
    found = dkde.compare(
        *stores,
        bandwidth=_parse_pair(bandwidth),
        by=by,
        sources=sources,
        trust_sources=trust_sources,
    )
    if len(stores) > 2:
        _print_many(found, stores, as_json=as_json)
        return
    a, b = stores
    sides = {name: _side(found, name, store) for name, store in (("a", a), ("b", b))}
    every = {name: found[name].item() for name in _FIGURES}
    classes = _classes(found)
    if as_json:
        known = {"by": found.attrs["by"] if classes else None, "classes": classes}
        print_json({**sides, **every, **known})
        return
    print_pairs({name.upper(): _in_words(side) for name, side in sides.items()})
    echo()
    echo(f"{every['n']} rows, A minus B in nats a row")
    echo()
    body = [
        _cells("all", every),
        *(_cells(str(row.get("name", row["class"])), row) for row in classes),
    ]
    heads = ["rows", "mean difference", "standard error", "A higher", "B higher", "tied"]
    print_table([found.attrs["by"] if classes else "", *heads], body, left=1)
    z = "" if math.isnan(every["z"]) else f", z = {every['z']:.2f}"
    echo()
    if math.isfinite(every["interval_low"]):
        low, high = every["interval_low"], every["interval_high"]
        echo(f"95 % interval of the mean difference: {low:.4f} to {high:.4f}{z}")
    echo(f"the mean difference's own error is at most {every[_NUMBERS[-1]]:.1e} nats")


def _print_many(found: Any, stores: tuple[str, ...], *, as_json: bool) -> None:
    """Print the comparison of more than two results."""
    sides = [_side_of_many(found, i, store) for i, store in enumerate(stores)]
    by_name = dict(zip(found["result"].values.tolist(), stores, strict=True))
    pairs = [found.isel(pair=i) for i in range(found.sizes["pair"])]
    classes = [_classes(pair) for pair in pairs]
    figures = [{name: pair[name].item() for name in _FIGURES} for pair in pairs]
    ends = [(str(pair["a"].item()), str(pair["b"].item())) for pair in pairs]
    by = found.attrs["by"] if classes[0] else None
    if as_json:
        print_json(
            {
                "results": sides,
                "pairs": [
                    {"a": by_name[a], "b": by_name[b], **every, "classes": of_class}
                    for (a, b), every, of_class in zip(ends, figures, classes, strict=True)
                ],
                "by": by,
            }
        )
        return
    print_pairs({name: _in_words(side) for name, side in zip(by_name, sides, strict=True)})
    echo()
    echo("the first minus the second, in nats a row")
    echo()
    body = []
    for (a, b), every in zip(ends, figures, strict=True):
        interval = f"{every['interval_low']:.4f} to {every['interval_high']:.4f}"
        name, n, mean, error, *shares = _cells(f"{a} - {b}", every)
        body.append([name, n, mean, error, f"{every['z']:.2f}", interval, *shares])
    print_table(
        ["", "rows", "mean difference", "standard error", "z", "95 % interval", "first higher",
         "second higher", "tied"],
        body, left=1,
    )  # fmt: skip
    if by is None:
        return
    echo()
    echo("mean difference ± standard error")
    echo()
    heads = [by, "rows", *(f"{a} - {b}" for a, b in ends)]
    rows = [
        [
            str(of_class.get("name", of_class["class"])),
            str(of_class["n"]),
            *(
                f"{each[k]['mean_difference']:.4f} ± {each[k]['standard_error']:.4f}"
                for each in classes
            ),
        ]
        for k, of_class in enumerate(classes[0])
    ]
    print_table(heads, rows, left=1)


@click.command(cls=Command)
@click.argument("stores", metavar="STORE...", nargs=-1, required=True)
@click.option(
    "-o", "--output", "page", required=True, metavar="FILE", help="The .html file to write."
)
@click.option(
    "--by",
    metavar="NAME",
    help="Of several results: compare the values of this coordinate one by one as well; by "
    "default those of label.",
)
@sources_option
@trust_sources_option
def report(
    stores: tuple[str, ...], page: str, by: str | None, sources: dict[str, str], trust_sources: bool
) -> None:
    """Write a result, or several, as one page for a browser.

    STORE is the output of a score, a sweep or a cross-validation. The page holds the figures,
    the curve, a map where rows lie on a grid, the rows of highest and lowest density, and what
    the numbers come from; it loads nothing from elsewhere. The rows are read again from the data
    that was scored. Of several results it holds one table, one figure of curves, and the
    differences of each pair, as dkde compare prints them. In a file for dkde run, they are the
    list stores.
    """
    import dkde

    dkde.check_report(page)
    if by is not None and len(stores) == 1:
        raise click.UsageError("--by is for several results; one has no differences")
    given = stores[0] if len(stores) == 1 else list(stores)
    dkde.report(given, page, by=by, sources=sources, trust_sources=trust_sources)
    say(f"The report of {', '.join(stores)} is in {page}")


@click.command(cls=Command)
@store_argument
@click.argument("path", metavar="FILE")
@click.option("--overwrite", is_flag=True, help="Replace the file that is there.")
@csv_option
def export(store: str, path: str, overwrite: bool) -> None:
    """Write a result as CSV, Parquet or NetCDF.

    STORE is the output of a score, a sweep or a cross-validation. FILE ends in .csv, .parquet
    (needs dkde[tables]) or .nc (needs dkde[netcdf]). Samples, where STORE is the output of dkde
    sample, are written as .npy, .csv or .parquet.

    A table has a line for each row and bandwidth. Its columns are split (query, train, or valid
    and test), sample or another number of the row, label, source_row and other coordinates if
    there are any, bandwidth, log_density, log_density_error, pairs_evaluated and rows_read.
    NetCDF holds the whole result as it is.
    """
    import dkde

    dkde.export(store, path, overwrite=overwrite)
    say(f"{store} is in {path}")


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


def _side_of_many(found: Any, i: int, store: str) -> dict[str, Any]:
    at = found.isel(result=i)
    unit = found["bandwidth"].attrs.get("units")
    return {
        "store": store,
        "split": at["split"].item(),
        "bandwidth": at["bandwidth"].item(),
        **({"bandwidth_unit": unit} if unit is not None else {}),
        "mean_log_likelihood": at["mean_log_likelihood"].item(),
        "n_zero_density": at["n_zero_density"].item(),
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
