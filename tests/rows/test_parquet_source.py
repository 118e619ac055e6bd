"""Parquet where it lies: any layout of files gives the same rows, and what is wrong is one line."""

from __future__ import annotations

import io
import os
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import from_url

import dkde
from dkde.errors import DataSetError, InputError
from dkde.inputs.selectors import Catalog
from dkde.rows import kept_readers
from dkde.rows.parquet_source import ParquetSource
from dkde.rows.partitions import partitions_of
from dkde.stores.listed_files import TRAFFIC

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

rng = np.random.default_rng(5)
N = 5000
X = rng.normal(size=(N, 3))
TABLE = pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "t": ["text"] * N})


def source_of(path: Any, **options: Any) -> ParquetSource:
    (part,) = Catalog(**options).rows(str(path)).parts
    assert isinstance(part.source, ParquetSource)
    return part.source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows in files of many lengths, named as Dask names them, beside notes of writers."""
    folder = tmp_path_factory.mktemp("rows") / "t"
    folder.mkdir()
    cuts = [0, 1, 2, 2, 700, 703, 1500, 1501, 1600, 1700, 1800, 2600, N]
    for k, (a, b) in enumerate(pairwise(cuts)):
        pq.write_table(TABLE.slice(a, b - a), folder / f"part.{k}.parquet", row_group_size=300)
    (folder / "_SUCCESS").touch()
    (folder / "_metadata").write_bytes(b"PAR1 none")
    (folder / ".part.0.parquet.crc").touch()
    return folder


@pytest.mark.sampled(3)
@pytest.mark.parametrize("row_group_size", [7, 1000, N])
def test_any_range_is_those_rows(tmp_path: Path, row_group_size: int) -> None:
    pq.write_table(TABLE, tmp_path / "x.parquet", row_group_size=row_group_size)
    source = source_of(tmp_path / "x.parquet")
    assert source.shape == (N, 3)
    for start, stop in [(0, N), (990, 1010), (5, 6), (4000, 4500), (4500, N), (0, 3), (N - 1, N)]:
        np.testing.assert_array_equal(source.read(start, stop), X[start:stop])
    np.testing.assert_array_equal(source.read_columns(8, 30, (2, 0)), X[8:30][:, [2, 0]])


@pytest.mark.slow
@settings(max_examples=20)
@given(st.lists(st.integers(0, N), min_size=2, max_size=12))
def test_files_are_one_table_however_it_is_read(folder: Path, borders: list[int]) -> None:
    source = source_of(folder)
    for start, stop in map(sorted, pairwise(borders)):
        np.testing.assert_array_equal(source.read(start, stop), X[start:stop])


def test_files_do_not_change_numbers_nor_pieces(folder: Path, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "x.parquet")
    one, many = source_of(tmp_path / "x.parquet"), source_of(folder)
    assert one.cuts(0, N) == many.cuts(0, N)
    frame = TABLE.to_pandas()[["a", "b", "c"]]
    expected = dkde.log_density(frame[:50], frame, 0.3)
    named = Catalog(features=["a", "b", "c"])
    for train in (tmp_path / "x.parquet", folder):
        query = f"{tmp_path / 'x.parquet'}[:50]"
        found = dkde.log_density(query, str(train), 0.3, source=named)
        np.testing.assert_array_equal(found.values, expected)


def test_a_source_is_small_and_reads_in_another_process(folder: Path) -> None:
    source = source_of(folder)
    packed = pickle.dumps(source)
    assert len(packed) < 2000
    np.testing.assert_array_equal(pickle.loads(packed).read(600, 1600), X[600:1600])
    assert pickle.loads(packed).stamp() == source.stamp()


def test_readers_that_wait_are_few(folder: Path) -> None:
    source = source_of(folder)
    kept_readers.close_readers()
    for row in range(0, N, 100):
        source.read(row, row + 1)
        assert len(kept_readers._waiting) <= 1
    kept_readers.close_readers()


def test_columns_that_are_no_features_are_not_read(tmp_path: Path) -> None:
    wide = pa.table({"x": rng.normal(size=N), "y": rng.normal(size=N), "w": rng.normal(size=N)})
    pq.write_table(wide, tmp_path / "x.parquet", use_dictionary=False, compression=None)
    source = source_of(tmp_path / "x.parquet")
    kept_readers.close_readers()
    before = TRAFFIC.n_bytes
    source.read_columns(0, N, (1,))
    assert TRAFFIC.n_bytes - before < 1.1 * 8 * N + 2**16
    weights = source.beside("w", "weights")
    np.testing.assert_array_equal(weights.read(3, 60), wide["w"].to_numpy()[3:60])


# ---- partitions ----


@pytest.fixture
def hive(tmp_path: Path) -> Path:
    frame = pd.DataFrame(
        {"x": np.arange(12.0), "y": np.arange(12) % 5, "year": 2018 + np.arange(12) // 4}
    )
    frame["kind"] = np.where(frame.x % 2 == 0, "even one", "odd")
    frame.to_parquet(tmp_path / "h", partition_cols=["year", "kind"])
    return tmp_path / "h"


def test_partitions_are_columns_that_are_features_when_named(hive: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"features are x, y; left out: year \(a partition\), kind"
    ):
        dkde.log_density(str(hive), str(hive), 1.0)
    source = source_of(hive, features=["x", "year"])
    rows = source.read(0, 12)
    order = np.argsort(rows[:, 0])
    np.testing.assert_array_equal(
        rows[order], np.column_stack([range(12), [2018] * 4 + [2019] * 4 + [2020] * 4])
    )
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(0, 12), rows)
    years = source.beside("year", "groups")
    np.testing.assert_array_equal(years.read(0, 12), rows[:, 1])
    assert years.dtype == np.int64
    with pytest.raises(InputError, match="column 'kind' holds a partition of text"):
        source_of(hive, features=["x", "kind"])


def test_partitions_serve_as_weights_and_groups(hive: Path) -> None:
    found = dkde.log_density(
        str(hive), str(hive), 1.0, weights="year", source=Catalog(features=["x", "y"])
    )
    source = source_of(hive, features=["x", "y", "year"])
    rows = source.read(0, 12)
    expected = dkde.log_density(rows[:, :2], rows[:, :2], 1.0, weights=rows[:, 2])
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)


def test_labels_of_an_import_may_be_a_partition(hive: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="left out"):
        dkde.import_dataset(hive, tmp_path / "z", label="kind")
    tree = dkde.open_dataset(tmp_path / "z")
    labels = np.asarray(tree["train"]["label"])
    np.testing.assert_array_equal(labels, np.asarray(tree["train"]["x"])[:, 0] % 2)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["01", "12"], [1, 12]),
        (["0.5", "1"], [0.5, 1.0]),
        (["__HIVE_DEFAULT_PARTITION__", "3"], [None, 3]),
        (["a%2Fb", "1"], ["a/b", "1"]),
        (["2020-01-02", "2021-01-02"], [pd.Timestamp("2020-01-02"), pd.Timestamp("2021-01-02")]),
    ],
)
def test_values_of_partitions(values: list[str], expected: list[Any]) -> None:
    found = partitions_of("/t", [f"k={value}/x.parquet" for value in values])
    assert found["k"].to_pylist() == expected
    assert partitions_of("/t/k=1", ["x.parquet"])["k"].to_pylist() == [1]
    assert partitions_of("/t", ["k=1/x.parquet", "x.parquet"]) == {}


def test_row_groups_that_cannot_match_are_known_from_footers(tmp_path: Path) -> None:
    import pyarrow.compute as pc

    for year in (2019, 2020):
        (tmp_path / f"year={year}").mkdir()
        depth = np.arange(1000.0)
        made = pa.table({"depth": depth, "x": depth})
        pq.write_table(made, tmp_path / f"year={year}" / "a.parquet", row_group_size=100)
    source = source_of(tmp_path, features=["x"])
    before = TRAFFIC.n_bytes
    condition = (pc.field("year") == 2020) & (pc.field("depth") < 250)
    assert source.matching(lambda _: condition) == [(1000, 1300)]
    assert source.matching(lambda _: condition, 1250, 2000) == [(1250, 1300)]
    assert source.matching(lambda _: pc.field("depth") > 5000) == []
    assert source.matching(lambda _: pc.field("depth") >= 0) == [(0, 2000)]
    assert TRAFFIC.n_bytes - before <= 8 * 2**15  # the ends of two files, four times


# ---- kinds of columns ----


def test_lists_are_features(tmp_path: Path) -> None:
    rows = rng.normal(size=(40, 4)).astype("f4")
    for name, kind in (("l", pa.list_(pa.float32())), ("f", pa.list_(pa.float32(), 4))):
        folder = tmp_path / name
        folder.mkdir()
        for k in range(2):
            half = pa.array(rows[20 * k : 20 * k + 20].tolist(), kind)
            pq.write_table(pa.table({"id": ["a"] * 20, "emb": half}), folder / f"{k}.parquet")
        source = source_of(folder)
        assert source.dtype == np.float32
        np.testing.assert_array_equal(source.read(15, 25), rows[15:25])
        np.testing.assert_array_equal(source.read_columns(0, 40, (3, 1)), rows[:, [3, 1]])


def test_uneven_lists_are_told_with_file_and_row(tmp_path: Path) -> None:
    lists = [[1.0, 2.0]] * 9 + [[1.0]]
    pq.write_table(pa.table({"e": [[1.0, 2.0]] * 3}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"e": lists}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b.parquet: column 'e': row 10 has a list of 1 numbers"):
        source_of(tmp_path).read(0, 13)


def test_files_of_other_columns_or_kinds_are_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0], "y": [2.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "b.parquet")
    with pytest.raises(DataSetError, match=r"b.parquet: has no column 'y', unlike a.parquet"):
        source_of(tmp_path)
    pq.write_table(pa.table({"x": ["?"], "y": [2.0]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b.parquet: column 'x' holds text"):
        source_of(tmp_path)


def test_integers_become_floats_where_one_file_has_missing_ones(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "a.parquet")
    assert source_of(tmp_path).dtype == np.int64
    pq.write_table(pa.table({"x": [1, None]}), tmp_path / "b.parquet", write_statistics=False)
    source = source_of(tmp_path)
    assert source.dtype == np.float64
    np.testing.assert_array_equal(source.read(0, 4), [[1], [2], [1], [np.nan]])


# ---- changes and damage ----


def test_a_file_that_changed_or_vanished_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(TABLE, path)
    source = source_of(path)
    stamp = source.stamp()
    pq.write_table(TABLE.slice(1), path)
    with pytest.raises(DataSetError, match=r"x.parquet: was changed after it was opened"):
        source.read(0, 5)
    assert source_of(path).stamp() != stamp
    path.unlink()
    with pytest.raises(DataSetError, match=r"x.parquet: was removed after it was opened"):
        source.read(0, 5)


def test_what_is_no_table_of_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataSetError, match="is no Parquet file, or was cut off"):
        source_of(tmp_path / "x.parquet")
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(DataSetError, match="is a Delta table, whose log says which"):
        source_of(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        source_of(tmp_path / "y*.parquet")


def test_a_run_begun_when_files_were_loaded_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "w.parquet")
    weighted = pa.table({"a": X[:, 0], "b": X[:, 1], "c": abs(X[:, 2])})
    pq.write_table(weighted, path)

    def score() -> Any:
        with pytest.warns(UserWarning, match="weights 'c' apply"):
            return dkde.score(
                f"{path}[:20]", f"{path}[20:]", 0.3, weights="c", output=tmp_path / "r.zarr"
            )  # fmt: skip

    # As older versions identified rows: files by all bytes, and weights by their values.
    with monkeypatch.context() as older, dkde.init_only():
        older.setattr(ParquetSource, "stamp", ParquetSource.former_stamp)
        score()
    monkeypatch.setattr("dkde.datasets.formats.parquet._CHECKED_BYTES", 10)
    assert Catalog().rows(path).parts[0].checksum is None
    score()
    with pytest.warns(UserWarning, match="weights 'c' apply"):
        assert dkde.verify(tmp_path / "r.zarr")
    pq.write_table(weighted.slice(1), path)
    with pytest.raises(dkde.DkdeError, match="was begun otherwise"):
        score()


def test_an_import_of_a_large_file_notes_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(TABLE.drop_columns("t"), tmp_path / "x.parquet")
    dkde.import_dataset(tmp_path / "x.parquet", tmp_path / "a.zarr")
    monkeypatch.setattr("dkde.datasets.formats.parquet._CHECKED_BYTES", 10)
    dkde.import_dataset(tmp_path / "x.parquet", tmp_path / "b.zarr")
    a, b = (dkde.describe(tmp_path / name) for name in ("a.zarr", "b.zarr"))
    assert a["source_checksum"] == b["source_checksum"] is not None


# ---- buckets ----


def put(bucket: str, key: str, table: Any) -> None:
    content = io.BytesIO()
    pq.write_table(table, content, row_group_size=500)
    obstore.put(from_url(bucket), key, content.getvalue())


@pytest.mark.slow
def test_a_bucket_is_as_a_folder(bucket: str, tmp_path: Path) -> None:
    for k in range(3):
        put(bucket, f"t/kind={k}/part.{k}.parquet", TABLE.slice(1000 * k, 1000))
    obstore.put(from_url(bucket), "t/_SUCCESS", b"")
    for name in (
        f"{bucket}/t",
        f"{bucket}/t/",
        f"{bucket}/t/*/*.parquet",
        f"{bucket}/t/**/part*.parquet",
        f"{bucket}/t/kind=?/part.[!9].parquet",
    ):
        np.testing.assert_array_equal(source_of(name).read(900, 1100), X[900:1100])
    source = source_of(f"{bucket}/t", features=["a", "kind"])
    np.testing.assert_array_equal(source.read(999, 1001), [[X[999, 0], 0], [X[1000, 0], 1]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(5, 6)[0, 0], X[5, 0])
    with pytest.warns(UserWarning, match="left out"):
        dkde.import_dataset(f"{bucket}/t", tmp_path / "z")
    assert dkde.describe(f"{bucket}/t")["splits"]["train"]["rows"] == 3000
    put(bucket, "t/kind=0/part.0.parquet", TABLE.slice(1, 1000))
    with pytest.raises(DataSetError, match="was changed after it was opened"):
        source.read(0, 9)
    with pytest.raises(DataSetError, match="there is no such file"):
        source_of(f"{bucket}/none.parquet")
    with pytest.raises(DataSetError, match="matches no file"):  # a wildcard is no slash
        source_of(f"{bucket}/t?kind?0[!a]part.0.parquet")


def test_what_lies_beside_files_is_left_out_with_a_word(tmp_path: Path) -> None:
    pq.write_table(TABLE.drop_columns("t"), tmp_path / "x.parquet")
    (tmp_path / "notes.md").write_text("notes")
    pq.write_metadata(TABLE.schema, tmp_path / "_common_metadata")
    with pytest.warns(
        UserWarning, match=r"notes.md is no Parquet by its name \(.parquet\), and left"
    ):
        assert source_of(tmp_path).shape == (N, 3)
    with pytest.raises(DataSetError, match="holds notes about the files beside it"):
        source_of(tmp_path / "_common_metadata")


def test_open_files_are_few(folder: Path) -> None:
    source = source_of(folder)
    source.read(0, N)
    if os.path.isdir("/proc/self/fd"):
        names = [
            os.readlink(f"/proc/self/fd/{n}")
            for n in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{n}")
        ]
        assert sum(str(folder) in name for name in names) <= 2


@pytest.mark.skipif(os.name == "nt", reason="links need a permission there")
def test_links_between_folders_give_no_file_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "t" / name).mkdir(parents=True)
        pq.write_table(TABLE.drop_columns("t"), tmp_path / "t" / name / "x.parquet")
    (tmp_path / "elsewhere").mkdir()
    pq.write_table(TABLE.drop_columns("t"), tmp_path / "elsewhere" / "x.parquet")
    (tmp_path / "t" / "linked").symlink_to(tmp_path / "elsewhere")
    assert source_of(tmp_path / "t").shape == (3 * N, 3)
    (tmp_path / "t" / "a" / "whole").symlink_to(tmp_path / "t")
    (tmp_path / "elsewhere" / "itself").symlink_to(tmp_path / "elsewhere")
    assert source_of(tmp_path / "t").shape == (3 * N, 3)


def test_a_plan_does_not_depend_on_the_number_of_files(tmp_path: Path) -> None:
    n = 60_000
    table = pa.table({name: rng.normal(size=n) for name in "abcd"})
    pq.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "many").mkdir()
    for k in range(60):
        pq.write_table(table.slice(1000 * k, 1000), tmp_path / "many" / f"{k}.parquet")
    one, many = source_of(tmp_path / "x.parquet"), source_of(tmp_path / "many")
    assert one.copies == many.copies > 2
    np.testing.assert_array_equal(one.read(900, 2100), many.read(900, 2100))
