"""The output of ``dkde info`` for columns, and for foreign Zarr stores and NetCDF files."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import click

from dkde_cli.tables import print_pairs, print_table

_COLUMNS = ("variable", "dims", "dtype", "stored", "chunks", "units")
_WIDTH = 80


def print_variables(described: dict[str, Any]) -> None:
    """Print a table of the variables, and what their scales mean."""
    features, groups = described["features"], described["groups"]
    known = {"name": described["name"], "kind": described["kind"]}
    if groups:
        known["groups"] = ", ".join(groups)
    if features:
        known["features"] = ", ".join(features)
        known["rows"] = "not known" if described["rows"] is None else str(described["rows"])
        dims = described["row_dims"]
        if dims and described["columns"] != len(features):
            known["rows"] += f" of {described['columns']}, along {', '.join(dims)}"
        elif dims and len(dims) > 1:
            known["rows"] += f", along {', '.join(dims)}"
    print_pairs(known)
    click.echo()
    variables = described["variables"]
    decoded = {name: each for name, each in variables.items() if "undecodable" not in each}
    if decoded:
        heads, body = _figures(decoded)
        rows = [
            [*_form(name, each), *figures]
            for (name, each), figures in zip(decoded.items(), body, strict=True)
        ]
        print_table([*_COLUMNS, *heads], rows, left=len(_COLUMNS))
    elif not variables:
        way = f"; dkde info {_below(described['name'], groups[0])}" if groups else ""
        click.echo(f"no variables here{way}")
    for name, each in variables.items():
        if name not in decoded:
            click.echo(f"{name} cannot be decoded: {each['undecodable']}")
    print_advice(described["advice"])
    print_advice(described["undecided"])


def print_columns(splits: Mapping[str, Any]) -> None:
    """Print a table of the features of splits that were looked at one by one."""
    named = {name: split for name, split in splits.items() if split["columns"]}
    if not named:
        return
    flat = {
        (name, feature): figures
        for name, split in named.items()
        for feature, figures in split["columns"].items()
    }
    heads, body = _figures(flat)
    first = 0 if len(splits) > 1 else 1
    rows = [[*key[first:], *cells] for key, cells in zip(flat, body, strict=True)]
    click.echo()
    counts = [s["value_range_rows"] for s in named.values() if s["value_range_rows"] < s["rows"]]
    if counts:
        click.echo(f"of the first {max(counts)} rows")
    print_table([*("split", "feature")[first:], *heads], rows, left=2 - first)


def print_advice(advice: str | None) -> None:
    """Print what scales mean as a paragraph, if they mean anything."""
    if advice is not None:
        click.echo(f"\n{fill(advice, _WIDTH, break_on_hyphens=False)}")


def _form(name: str, variable: dict[str, Any]) -> list[str]:
    dims = ", ".join(f"{dim} {n}" for dim, n in variable["dims"].items())
    chunks = variable["chunks"] or {}
    return [
        name,
        dims or "-",
        variable["dtype"],
        variable["stored_dtype"] or "-",
        "x".join(map(str, chunks.values())) or "-",
        variable["units"] or "-",
    ]


def _figures(columns: Mapping[Any, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the figures of columns; infinite values have one where there are some."""
    counts = ["missing"]
    if any(each["infinite"] for each in columns.values()):
        counts.append("infinite")
    body = []
    for each in columns.values():
        span, deviation = each["value_range"], each["standard_deviation"]
        body.append([
            "-" if span is None else "{:.6g} to {:.6g}".format(*span),
            "-" if deviation is None else f"{deviation:.4g}",
            *("-" if each[count] is None else str(each[count]) for count in counts),
        ])  # fmt: skip
    return ["values", "sd", *counts], body


def _below(name: str, group: str) -> str:
    return f"{name}/{group}" if "::" in name else f"{name}::{group}"
