"""Rows that come once: stored as they would be from a file, whole or not at all."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st

import dkde
from dkde.errors import DataSetError, InputError

rng = np.random.default_rng(11)
ROWS = rng.integers(0, 256, (100, 12), dtype=np.uint8)


def cut(rows: Any, *borders: int) -> Iterator[Any]:
    yield from np.split(rows, borders)


def split_of(store: Path, name: str = "train") -> Any:
    return dkde.describe(store)["splits"][name]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("n_rows", [None, 100])
@pytest.mark.parametrize("dtype", ["u1", "f4", ">f8", "?"])
def test_the_same_as_from_a_file(tmp_path: Path, dtype: str, n_rows: int | None) -> None:
    rows = (ROWS > 99) if dtype == "?" else ROWS.astype(dtype)
    np.save(tmp_path / "x.npy", rows)
    dkde.import_dataset(tmp_path / "x.npy", tmp_path / "file.zarr", scale=0.5, offset=1)
    dkde.import_rows(cut(rows, 3, 3, 70), tmp_path / "x.zarr", n_rows=n_rows, scale=0.5, offset=1)
    assert split_of(tmp_path / "x.zarr") == split_of(tmp_path / "file.zarr")
    found = dkde.open_dataset(tmp_path / "x.zarr")["train"]
    np.testing.assert_array_equal(found["x"], ROWS * 0.5 + 1 if dtype != "?" else rows * 0.5 + 1)
    np.testing.assert_array_equal(found["source_row"], np.arange(100))


@pytest.mark.slow
@settings(max_examples=few(15))
@given(
    chunk=st.integers(1, 120),
    borders=st.lists(st.integers(0, 100), max_size=5),
    known=st.booleans(),
)
def test_any_batches_and_chunks(
    tmp_path_factory: pytest.TempPathFactory, chunk: int, borders: list[int], known: bool
) -> None:
    folder = tmp_path_factory.mktemp("x")
    np.save(folder / "x.npy", ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dkde.datasets.writing._CHUNK_BYTES", 12 * chunk)
        dkde.import_rows(
            cut(ROWS, *sorted(borders)), folder / "a.zarr", n_rows=100 if known else None
        )
        dkde.import_dataset(folder / "x.npy", folder / "b.zarr")
    assert split_of(folder / "a.zarr") == split_of(folder / "b.zarr")


def test_labels_pictures_splits_and_names(tmp_path: Path) -> None:
    pictures, labels = ROWS.reshape(100, 3, 4), np.arange(100) % 7
    store = tmp_path / "x.zarr"
    dkde.import_rows(
        {
            "train": lambda: zip(cut(pictures, 30), cut(labels, 30), strict=True),
            "test": pictures[:5],
        },
        store,
        feature_names=[f"p{i}" for i in range(12)],
        source="a program",
    )
    described = dkde.describe(store)
    assert (described["source"], described["source_format"]) == ("a program", "rows")
    train, test = described["splits"]["train"], described["splits"]["test"]
    assert (train["rows"], test["rows"], train["image_shape"]) == (100, 5, [3, 4])
    assert (train["labels"], test["labels"]) == ({"label": 7}, {})
    assert train["feature_names"][-1] == "p11"
    np.testing.assert_array_equal(dkde.open_dataset(store)["train"]["label"], labels)


def test_what_the_program_raises_passes_and_leaves_nothing(tmp_path: Path) -> None:
    for error in (OSError("disk of the program"), KeyError("x"), KeyboardInterrupt()):

        def batches(error: BaseException = error) -> Iterator[Any]:
            yield ROWS
            raise error

        with pytest.raises(type(error)) as caught:
            dkde.import_rows(batches, tmp_path / "x.zarr")
        assert caught.value is error
        assert not list(tmp_path.iterdir())


def test_an_index_that_is_interrupted_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "x.zarr"
    np.save(tmp_path / "x.npy", ROWS)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("dkde.datasets.index.leading_axes", interrupted)
    for write in (
        lambda **options: dkde.import_rows(ROWS, store, **options),
        lambda **options: dkde.import_dataset(tmp_path / "x.npy", store, **options),
    ):
        with pytest.raises(KeyboardInterrupt):
            write()
        assert {path.name for path in tmp_path.iterdir()} == {"x.npy"}
    dkde.import_rows(ROWS[:7], store, index=False)
    with pytest.raises(KeyboardInterrupt):
        dkde.import_rows(ROWS, store, overwrite=True)
    assert split_of(store)["rows"] == 7
    monkeypatch.undo()
    dkde.import_rows(ROWS, store, overwrite=True)
    assert split_of(store)["index"] == "yes"


def test_what_was_there_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    dkde.import_rows(ROWS, tmp_path / "x.zarr")
    with pytest.raises(DataSetError, match="exists already"):
        dkde.import_rows(ROWS, tmp_path / "x.zarr")
    with pytest.raises(InputError, match="alike"):
        dkde.import_rows([ROWS, ROWS[:, :3]], tmp_path / "x.zarr", overwrite=True)
    assert split_of(tmp_path / "x.zarr")["rows"] == 100
    dkde.import_rows(ROWS[:7], tmp_path / "x.zarr", overwrite=True)
    assert split_of(tmp_path / "x.zarr")["rows"] == 7


MASKED = np.ma.array(ROWS, mask=ROWS > 200)


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        ([], {}, "no rows came"),
        ([ROWS[:0]], {}, "no rows came"),
        ({}, {}, "batches is empty"),
        ([ROWS[0]], {}, r"batch 1: has shape \(12,\)"),
        ([ROWS, ROWS.astype("f4")], {}, "from row 100 on: float32 .* before uint8"),
        ([ROWS, (ROWS, np.arange(100))], {}, "with labels, and before .* without labels"),
        ([(ROWS, np.arange(99))], {}, "100 integers are needed"),
        ([(ROWS, np.arange(100.0))], {}, "its labels are float64"),
        ([ROWS, MASKED], {}, "batch 2: holds masked values"),
        ([ROWS.astype(complex)], {}, "only bool, integers and floats"),
        ([ROWS], {"n_rows": 99}, "99 rows were promised, and 100 came"),
        ([ROWS], {"n_rows": 101}, "101 rows were promised, and 100 came"),
        ([ROWS], {"n_rows": 0}, "n_rows is 0"),
        ({"a": ROWS, "b": ROWS}, {"n_rows": 100}, "with one split only"),
        ({"a": ROWS, "A": ROWS}, {}, "two splits have that name"),
        ({"a/b": ROWS}, {}, "begins with a letter or digit"),
        ({"a": ROWS, "b": ROWS[:, :5]}, {}, "b has 5 features and a has 12"),
        ([ROWS], {"split": "all"}, "all stands for every split"),
        ([ROWS], {"feature_names": ["a"]}, "1 names, but the rows of train have 12"),
        ([ROWS], {"feature_names": "abcdefghijkl"}, "must be a list of texts"),
        ([ROWS], {"image_shape": (5, 5)}, "has 25 values"),
        ([ROWS], {"scale": 0}, "scale is 0"),
    ],
)
def test_what_is_refused(tmp_path: Path, batches: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        dkde.import_rows(batches, tmp_path / "x.zarr", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_rows_are_not_held(tmp_path: Path) -> None:
    n, size = 60, 2**20

    def batches() -> Iterator[Any]:
        for _ in range(n):
            yield np.zeros((size // 100, 100), np.uint8)

    dkde.import_rows(ROWS, tmp_path / "warm.zarr")
    tracemalloc.start()
    dkde.import_rows(batches, tmp_path / "x.zarr", index=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 2**20 < n * size


@pytest.mark.slow
def test_in_a_bucket(bucket: str) -> None:
    dkde.import_rows(cut(ROWS, 40), f"{bucket}/x.zarr")
    assert split_of(f"{bucket}/x.zarr")["rows"] == 100  # type: ignore[arg-type]
    with pytest.raises(InputError, match="alike"):
        dkde.import_rows([ROWS, ROWS[:, :3]], f"{bucket}/y.zarr")
    with pytest.raises(DataSetError, match="no such data set"):
        dkde.describe(f"{bucket}/y.zarr")
