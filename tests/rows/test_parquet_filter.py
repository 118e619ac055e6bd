"""Row filters of Parquet files, against comparisons written out in Python."""

import operator
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dkde
from dkde import Catalog, DataSetError, InputError
from dkde.inputs.sides import operand

SIGNS = {"<": operator.lt, "==": operator.eq, "!=": operator.ne, ">=": operator.ge}
DECIMALS = [Decimal("1.5"), Decimal("2.25"), None, Decimal("0.1"), Decimal("7"), Decimal("3.33")]
HOUR = 3600 * 10**9
COLUMNS = {
    "int": pa.array([1, None, 3, 4, 5, 20_000_000], pa.int64()),
    "byte": pa.array([1, 2, 3, None, 7, 6], pa.int8()),
    "uint": pa.array([1, 3, 2, 4, 2**63 + 5, None], pa.uint64()),
    "half": pa.array(np.array([1, 2, 2.5, 5, np.nan, 6], np.float16)),
    "float": pa.array([0.5, 2, np.nan, None, 5, 7], pa.float32()),
    "double": pa.array([0.1, 2.5, 3, 4, 5, np.nan]),
    "decimal": pa.array(DECIMALS),
    "long": pa.array(DECIMALS, pa.decimal128(38, 12)),
    "bool": pa.array([True, False, None, True, False, True]),
    "codes": pa.array([1, 2, 3, 1, 2, None]).dictionary_encode(),
}
DAYS = {
    "seconds": pa.array([86400, 0, 43200, 0, 1, None], pa.duration("s")),
    "nanoseconds": pa.array([86400 * 10**9, 1, 0, 0, 10**9, None], pa.duration("ns")),
}
TEXTS = {
    "text": pa.array(["x", "y", "x", None, "z", "x"]),
    "large": pa.array(["x", "z", "a", "b", "z", "x"], pa.large_string()),
    "view": pa.array(["x", "z", "a", "b", "z", "x"], pa.string_view()),
    "bytes": pa.array([b"x", b"z", b"a", b"b", None, b"x"]),
    "kinds": pa.array(["x", "y", "x", None, "z", "x"]).dictionary_encode(),
}
TIMES = {
    "zone": pa.array([0, 30 * HOUR, 60 * HOUR, 3, None, 5], pa.timestamp("ns", "Europe/Berlin")),
    "utc": pa.array([0, 30 * 3600, 1, 3, None, 5], pa.timestamp("s", "UTC")),
    "plain": pa.array([1, 30 * HOUR, 60 * HOUR, 4, None, 5], pa.timestamp("ns")),
    "date": pa.array([0, 1, 2, None, 4, 0], pa.date32()),
}
LITERALS = {
    "2": 2, "2.5": 2.5, "0.1": 0.1, "-1": -1, "1e30": 1e30, "3.0": 3, "-0.5": -0.5,
}  # fmt: skip
MOMENTS = {"'1970-01-02T06:00'": 30 * HOUR, "'1970-01-01T01:00+01:00'": 0}


def numbers(column: Any) -> list[Any]:
    """Return values as Python compares them: times in nanoseconds, lengths of time in days."""
    unit = {"s": 10**9, "ns": 1}.get(getattr(column.type, "unit", ""), 86400 * 10**9)
    found: list[Any] = []
    for each in column:
        value = each.value if pa.types.is_temporal(column.type) else each.as_py()
        if pa.types.is_temporal(column.type) and value is not None:
            value *= unit
            value = value / (86400 * 10**9) if pa.types.is_duration(column.type) else value
        value = float(value) if isinstance(value, Decimal | np.floating) else value
        value = value.decode() if isinstance(value, bytes) else value
        found.append(None if value != value else value)
    return found


def kept(path: Path, where: str) -> list[int]:
    try:
        side = operand(str(path), "train", Catalog(features=["row"], where=where))
    except InputError as error:
        if "none of its 6 rows" not in str(error):
            raise
        return []
    assert side.kept is not None
    return [int(i) for i in np.flatnonzero(np.concatenate(list(side.kept.masks())))]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("filter") / "t.parquet"
    made = {**COLUMNS, **DAYS, **TEXTS, **TIMES, "row": pa.array(np.arange(6.0))}
    pq.write_table(pa.table(made), path, row_group_size=2)
    return path


@pytest.mark.sampled(21)
@pytest.mark.parametrize("name", [*COLUMNS, *DAYS, *TEXTS, *TIMES])
def test_columns_of_every_type_are_compared_with_literals_and_with_each_other(
    table: Path, name: str
) -> None:
    group = next(g for g in ({**COLUMNS, **DAYS}, TEXTS, TIMES) if name in g)
    values = numbers(group[name])
    literals: dict[str, Any] = LITERALS if name in {**COLUMNS, **DAYS} else MOMENTS
    literals = {"'x'": "x", "''": ""} if name in TEXTS else literals
    if name == "bool":
        literals = {"True": True, "0": 0}
    if name in ("half", "float"):  # as NumPy does: the literal takes the column's type
        short = np.float16 if name == "half" else np.float32
        with np.errstate(over="ignore"):
            literals = {text: short(value) for text, value in literals.items()}
    others = {each: numbers(group[each]) for each in group if each != name}
    others |= {text: [value] * 6 for text, value in literals.items()}
    for (text, right), (sign, apply) in product(others.items(), SIGNS.items()):
        if text not in literals and sign != "<":  # one comparison of columns will do
            continue
        there = [i for i in range(6) if values[i] is not None and right[i] is not None]
        wanted = [i for i in there if apply(values[i], right[i])]
        assert kept(table, f"{name} {sign} {text}") == wanted, (name, sign, text)
    listed = ", ".join(literals)
    among = [i for i in range(6) if values[i] in list(literals.values())]
    assert kept(table, f"{name} in [{listed}]") == among
    assert kept(table, f"{name} is None") == [i for i in range(6) if values[i] is None]


def folder_of(path: Path, *columns: Any) -> str:
    path.mkdir()
    for i, column in enumerate(columns):
        made = {"row": pa.array([3.0 * i, 3.0 * i + 1, 3.0 * i + 2])}
        made |= {} if column is None else {"k": column}
        pq.write_table(pa.table(made), path / f"{i}.parquet")
    return str(path)


def test_files_whose_columns_have_other_types_are_filtered_by_their_own(tmp_path: Path) -> None:
    whole, halves = pa.array([1, 2, 3]), pa.array([1.5, 2.0, 3.0])
    path = Path(folder_of(tmp_path / "a", whole, halves))
    assert kept(path, "k == 1.5") == [3]
    assert kept(path, "k > 1") == [1, 2, 3, 4, 5]
    assert kept(Path(folder_of(tmp_path / "b", pa.nulls(3), halves)), "k > 1.7") == [4, 5]
    mixed = folder_of(
        tmp_path / "c", pa.array(list("abc")), pa.array(list("cba")).dictionary_encode()
    )
    assert kept(Path(mixed), "k == 'a'") == [0, 5]


def test_a_file_to_which_a_filter_cannot_be_applied_is_named(tmp_path: Path) -> None:
    whole = pa.array([1, 2, 3])
    lacking = folder_of(tmp_path / "a", whole, None)
    with pytest.raises(DataSetError, match=r"1\.parquet: has no column 'k' for where, unlike"):
        dkde.log_density(lacking, lacking, 1.0, features=["row"], where="k > 1")
    text = folder_of(tmp_path / "b", whole, pa.array(["1", "2", "3"]))
    with pytest.raises(InputError, match=r"1\.parquet: where: column 'k' holds text, and is"):
        dkde.log_density(text, text, 1.0, features=["row"], where="k > 1")


@pytest.mark.parametrize("words", [("True", "False"), ("true", "false")])
def test_a_partition_of_true_and_false_is_one_of_truths(tmp_path: Path, words: Any) -> None:
    for i, word in enumerate(words):
        (tmp_path / f"flag={word}").mkdir()
        rows = pa.table({"row": np.arange(3.0) + 3 * i})
        pq.write_table(rows, tmp_path / f"flag={word}" / "a.parquet")
    side = operand(str(tmp_path), "train", Catalog(features=["row"]))
    rows = np.concatenate([part.source.read(part.start, part.stop) for part in side.rows.parts])
    for where, wanted in {"flag": [0, 1, 2], "flag == False": [3, 4, 5]}.items():
        assert sorted(rows[kept(tmp_path, where), 0].tolist()) == wanted
