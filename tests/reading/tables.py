"""Tables in files, and data sets that are imported from them."""

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from reading.container import CONTAINERS, Place, Side, as_text, container
from reading.frames import arrow_array
from reading.truth import LENGTHS, LISTS, MARKED, NUMBERS, TEXT, TIMES, TRUTHS, Table

import dkde


@container("CSV", is_path=True, holds=(TRUTHS, TIMES, TEXT, MARKED))
def _csv(table: Table, names: Sequence[str], place: Place) -> Side:
    separator = place.pick(",", ";", "\t")
    nothing = "" if len(table.names) > 1 else "NA"
    columns = {}
    for column in table.columns:
        values = column.values
        if column.kind == TIMES:
            texts = [str(pd.Timestamp(value)) for value in values]
        else:
            texts = [as_text(value) for value in values.tolist()]
        columns[column.name] = [
            place.pick(nothing, "NaN", "NA") if gone else quoted(text, separator)
            for text, gone in zip(texts, column.missing, strict=True)
        ]
    lines = [separator.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    text = "\n".join([separator.join(columns), *lines]) + place.pick("\n", "")
    text = text.replace("\n", place.pick("\n", "\r\n"))
    path = place.folder / place.pick("t.csv", "t.csv.gz", "t.tsv")
    with open_text(path) as file:
        file.write(place.pick("", "\ufeff") + text)
    only = {table[name].kind for name in names if name in table.names}
    return Side(str(path), repr(separator), "text" if only & {TIMES, TRUTHS} else "")


def quoted(text: str, separator: str) -> str:
    return f'"{text}"' if separator in text or "," in text else text


def open_text(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "wt", encoding="utf-8", newline="")
    return path.open("w", encoding="utf-8", newline="")


def arrow_table(table: Table, place: Place) -> Any:
    fixed = place.chance()
    arrays = {column.name: arrow_array(column, fixed=fixed) for column in table.columns}
    for name in table.of(TEXT):
        if place.chance(0.3):
            arrays[name] = arrays[name].dictionary_encode()
    return pa.table(arrays)


_PARQUET = (TRUTHS, TIMES, LENGTHS, TEXT, LISTS)


@container("Parquet", is_path=True, holds=_PARQUET)
def _parquet(table: Table, names: Sequence[str], place: Place) -> Side:
    made = arrow_table(table, place)
    path = place.folder / "t.parquet"
    parquet.write_table(made, path, row_group_size=place.pick(2, 100))
    return Side(str(path), str(made.schema).replace("\n", "; "))


@container("Parquet, several files", is_path=True, holds=_PARQUET)
def _several(table: Table, names: Sequence[str], place: Place) -> Side:
    made = arrow_table(table, place)
    cut = int(place.rng.integers(1, len(table)))
    parquet.write_table(made[:cut], place.folder / "1.parquet")
    parquet.write_table(made[cut:], place.folder / "2.parquet")
    halves = (np.arange(len(table)) < cut, np.arange(len(table)) >= cut)
    has_none = any(table[name].missing[half].all() for name in table.of(LISTS) for half in halves)
    note = str(made.schema).replace("\n", "; ")
    return Side(str(place.folder / "*.parquet"), note, "a file without lists" if has_none else "")


@container("data set", is_path=True, is_imported=True)
def _imported(table: Table, names: Sequence[str], place: Place) -> Side:
    source = CONTAINERS[place.pick("CSV", "Parquet")]
    table = table.taking(table.of(NUMBERS))
    made = source.make(table, names, place)
    dkde.import_dataset(made.data, place.folder / "set.zarr", index=place.chance())
    return replace(made, data=f"{place.folder / 'set.zarr'}::train", note=source.name)


@container("data set in xarray", is_imported=True, dtypes=("f8", "f4", "i4", "u1"))
def _split(table: Table, names: Sequence[str], place: Place) -> Side:
    side = _imported(table, names, place)
    tree = dkde.open_dataset(side.data.partition("::")[0])
    return replace(side, data=place.pick(tree["train"], tree["train"].to_dataset()))
