"""Results as people and programs read them: tables, JSON, CSV."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

FIGURES = ("mean_log_likelihood", "standard_error", "bits_per_dimension", "n_zero_density")
CSV_COLUMNS = ("split", "bandwidth", "n", *FIGURES)

Row = dict[str, Any]


def figures(result: Any) -> list[Row]:
    """A row of figures for each bandwidth of a result of ``dkde.sweep`` or ``dkde.score``."""
    columns = {name: result[name].values.tolist() for name in ("bandwidth", *FIGURES)}
    n_rows = int(result.sizes["sample"])
    return [
        {"bandwidth": bandwidth, "n": n_rows, **{name: columns[name][i] for name in FIGURES}}
        for i, bandwidth in enumerate(columns["bandwidth"])
    ]


def test_figures(result: Any) -> Row | None:
    """The row of figures of a sweep's test rows, if it had any."""
    if "test_sample" not in result.sizes:
        return None
    return {
        "bandwidth": float(result["best_bandwidth"]),
        "n": int(result.sizes["test_sample"]),
        **{name: result[f"test_{name}"].item() for name in FIGURES},
    }


def print_json(value: Any) -> None:
    """Print a value as JSON: floats with all their digits, those that are not finite as null."""
    click.echo(json.dumps(_finite(value), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: str, splits: Mapping[str, Iterable[Row]]) -> None:
    """Write rows of figures, those of each split under its name; all of the file or nothing.

    Raises
    ------
    DataSetError
        When it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for split, rows in splits.items():
        # repr keeps every digit of a float.
        writer.writerows(
            [split, *(str(row[name]) for name in CSV_COLUMNS if name != "split")] for row in rows
        )
    target = Path(path).absolute()
    draft = target.with_name(f".{target.name}-{uuid4().hex}")
    try:
        draft.write_text(text.getvalue(), encoding="utf-8")
        os.replace(draft, target)
    except OSError as error:
        raise _data_set_error(f"{path}: could not be written ({error})") from error
    finally:
        draft.unlink(missing_ok=True)


def check_file(path: str | None, what: str) -> None:
    """Refuse a file's path early, before hours of work.

    Raises
    ------
    DataSetError
        When it is a folder, or its own folder is missing or may not be written to.
    """
    if path is None:
        return
    target = Path(path)
    if target.is_dir():
        raise _data_set_error(f"{path}: is a folder; give the {what} a name in it")
    check_parent(path)


def check_store(path: str | None, *, overwrite: bool) -> None:
    """Refuse a result store's path early; ``dkde`` itself looks more closely.

    Raises
    ------
    DataSetError
        When something is there that is not to be overwritten, or the folder above is not.
    """
    if path is None:
        return
    if Path(path).exists() and not overwrite:
        raise _data_set_error(f"{path}: is there already; give another name, or --overwrite")
    check_parent(path)


def check_parent(path: str) -> None:
    """Refuse a path whose folder is missing or may not be written to.

    Raises
    ------
    DataSetError
    """
    parent = Path(path).absolute().parent
    if not parent.is_dir():
        raise _data_set_error(f"{path}: there is no folder {parent} to write it into")
    if not os.access(parent, os.W_OK):
        raise _data_set_error(f"{path}: the folder {parent} may not be written to")


def _data_set_error(message: str) -> Exception:
    from dkde import DataSetError

    return DataSetError(message)


def print_figures(rows: Sequence[Row], *, best: float | None = None) -> None:
    """Print rows of figures as a table, the best bandwidth marked."""
    with_zeros = any(row["n_zero_density"] for row in rows)
    heads = ["bandwidth", "mean log-likelihood", "standard error", "bits/dimension"]
    heads += ["zero density"] if with_zeros else []
    body = []
    for row in rows:
        cells = [
            f"{row['bandwidth']:.6g}",
            f"{row['mean_log_likelihood']:.4f}",
            f"{row['standard_error']:.4f}",
            f"{row['bits_per_dimension']:.4f}",
        ]
        cells += [f"{row['n_zero_density']}"] if with_zeros else []
        body.append([*cells, "*" if row["bandwidth"] == best else ""])
    print_table([*heads, ""], body)


def print_table(heads: Sequence[str], body: Iterable[Sequence[str]], *, left: int = 0) -> None:
    """Print a table: numbers to the right, the first ``left`` columns to the left."""
    cells = [list(heads), *(list(row) for row in body)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    for row in cells:
        aligned = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(aligned).rstrip())


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print names and what belongs to each, in two columns."""
    width = max(len(name) for name in pairs)
    for name, text in pairs.items():
        click.echo(f"{name.ljust(width)}  {text}")


def size(n_bytes: float) -> str:
    """Bytes in the unit that suits.

    Examples
    --------
    >>> size(512), size(39_200_000), size(3 * 2**30)
    ('512 B', '37.4 MiB', '3.0 GiB')
    """
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    step = 0
    while n_bytes >= 1024 and step < len(units) - 1:
        n_bytes, step = n_bytes / 1024, step + 1
    return f"{n_bytes:.0f} B" if step == 0 else f"{n_bytes:.1f} {units[step]}"
