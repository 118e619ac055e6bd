"""The data set store: what an import writes, what opening gives, and what is refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from dkde.datasets.dataset import open_dataset, open_split, open_splits
from dkde.datasets.writing import chunk_rows
from dkde.errors import DataSetError, InputError
from dkde.inputs.importing import import_dataset
from dkde.inputs.selectors import Catalog

MNIST_SEED = 1573368177
rng = np.random.default_rng(11)
ROWS = rng.integers(0, 256, (9, 12), dtype=np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.npz"
    label = np.arange(9)
    np.savez(path, valid=ROWS[:3], train=ROWS, train_label=label, test=ROWS[3:5])
    return path


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rows(store: Path, split: str) -> Any:
    return open_split(store, split).x[:]


# ---- content ----


@pytest.mark.slow
def test_round_trip(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    import_dataset(source, store, scale=0.5, offset=-1.0, image_shape=(3, 4))
    assert [*open_splits(store)] == ["valid", "train", "test"]
    split = open_split(store, "train")
    np.testing.assert_array_equal(split.x[:], ROWS)
    assert (split.x.dtype, split.scale_factor, split.add_offset) == (np.uint8, 0.5, -1.0)
    assert (split.image_shape, split.layout) == ((3, 4), None)
    assert (split.n_rows, split.n_features) == (9, 12)
    assert split.actual_range == (ROWS.min() * 0.5 - 1, ROWS.max() * 0.5 - 1)
    np.testing.assert_array_equal(split.labels["label"][:], np.arange(9))
    np.testing.assert_array_equal(split.source_row[:], np.arange(9))
    assert open_split(store, "test").labels == {}
    x = open_dataset(store)["train"]["x"]
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, ROWS * 0.5 - 1)
    assert list(open_dataset(store).children) == ["valid", "train", "test"]


def test_attributes(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    import_dataset(source, store, image_shape=(2, 2, 3), layout="HWC", shuffle_seed=3)
    root = zarr.open_group(store, mode="r")
    assert root.attrs["dkde_format"] == "dataset/1"
    assert root.attrs["source"] == "source.npz"
    assert str(root.attrs["source_checksum"]).startswith("sha256:")
    assert root.attrs["import_options"] == {
        "image_shape": [2, 2, 3], "layout": "HWC", "shuffle_seed": 3,
    }  # fmt: skip
    assert "dkde_version" in root.attrs
    train = open_split(store, "train")
    assert (train.image_shape, train.layout) == ((2, 2, 3), "HWC")
    assert "scale_factor" not in train.x.attrs
    assert "add_offset" not in train.x.attrs
    assert str(tmp_path) not in "".join(p.read_text() for p in store.rglob("zarr.json"))


def test_plain_xarray_opens_it_without_a_warning(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    import_dataset(source, store, scale=1 / 256)
    # Warnings are errors here.
    train = xr.open_zarr(store, group="train")
    np.testing.assert_array_equal(train["x"], ROWS / 256)
    assert train["x"].dims == ("sample", "feature")
    tree = xr.open_datatree(store, engine="zarr")
    np.testing.assert_array_equal(tree["valid"]["x"], ROWS[:3] / 256)
    tree.close()


def test_float32_is_decoded_in_float64(tmp_path: Path) -> None:
    x = rng.normal(size=(5, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    import_dataset(tmp_path / "x.npy", tmp_path / "s", scale=0.1, offset=1e6)
    found = open_dataset(tmp_path / "s")["train"]["x"]
    np.testing.assert_array_equal(found, x.astype(np.float64) * 0.1 + 1e6)


def test_values_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    x = np.array([[1.0, np.nan], [np.inf, -2.0]])
    np.savez(tmp_path / "x.npz", train=x, test=np.full((1, 2), np.nan))
    import_dataset(tmp_path / "x.npz", tmp_path / "s")
    np.testing.assert_array_equal(rows(tmp_path / "s", "train"), x)
    assert open_split(tmp_path / "s", "train").actual_range == (-2, 1)
    assert open_split(tmp_path / "s", "test").actual_range is None


@pytest.mark.slow
def test_many_chunks(tmp_path: Path) -> None:
    x = rng.integers(0, 256, (25_000, 900), dtype=np.uint8)
    x[:10_000] = 0
    np.save(tmp_path / "x.npy", x)
    calls: list[tuple[str, int, int]] = []
    for seed in (None, 5):
        store = tmp_path / f"s{seed}"
        import_dataset(
            tmp_path / "x.npy", store, shuffle_seed=seed, progress=lambda *a: calls.append(a)
        )
        split = open_split(store, "train")
        np.testing.assert_array_equal(split.x[:], x[split.source_row[:]])
        n_chunks = -(-len(x) // chunk_rows(900))
        assert split.x.chunks == (chunk_rows(900), 900)
        assert n_chunks > 2
        # Chunks of zeros are there as well: what is missing is damage.
        assert sum(p.is_file() for p in (store / "train" / "x" / "c").rglob("*")) == n_chunks
        assert calls[-1] == ("train", 25_000, 25_000)
        assert len(calls) == n_chunks
        calls.clear()


@pytest.mark.slow
def test_checksum_is_of_the_content(source: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", ROWS)
    stores = [tmp_path / name for name in "abcd"]
    import_dataset(source, stores[0])
    import_dataset(tmp_path / "other.npy", stores[1])
    import_dataset(source, stores[2], shuffle_seed=1)
    import_dataset(source, stores[3], scale=2.0)
    sums = [open_split(store, "train").checksum for store in stores]
    assert sums[0] == sums[1]
    assert len(set(sums)) == 3


@pytest.mark.slow
def test_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    monkeypatch.chdir(tmp_path)
    import_dataset("digits", "digits.zarr")
    tree = open_dataset("digits.zarr")
    found = np.concatenate([tree[name]["x"].values for name in open_splits("digits.zarr")])
    np.testing.assert_array_equal(found, load_digits().data)


# ---- shuffling ----


def test_shuffle_is_of_train_alone(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    import_dataset(source, store, shuffle_seed=42)
    order = np.random.RandomState(42).permutation(9)
    train = open_split(store, "train")
    np.testing.assert_array_equal(train.x[:], ROWS[order])
    np.testing.assert_array_equal(train.source_row[:], order)
    np.testing.assert_array_equal(train.labels["label"][:], order)
    np.testing.assert_array_equal(rows(store, "valid"), ROWS[:3])


@pytest.mark.slow
def test_mnist_shuffled(mnist_store: Path, data_dir: Path, tmp_path: Path) -> None:
    import_dataset(data_dir / "mnist", tmp_path / "idx")
    order = np.random.RandomState(MNIST_SEED).permutation(50_000)
    train = open_split(mnist_store, "train")
    whole = open_split(tmp_path / "idx", "train")
    np.testing.assert_array_equal(train.source_row[:], order)
    np.testing.assert_array_equal(train.x[:], whole.x[:50_000][order])
    np.testing.assert_array_equal(train.labels["label"][:], whole.labels["label"][:50_000][order])
    np.testing.assert_array_equal(rows(mnist_store, "valid"), whole.x[50_000:])
    assert (train.x.dtype, train.scale_factor, whole.scale_factor) == (np.uint8, 1 / 256, 1 / 255)
    assert train.actual_range == (0, 255 / 256)
    assert train.image_shape == (28, 28)


# ---- all or nothing ----


@pytest.mark.sampled(6)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
@pytest.mark.parametrize("existing", [False, True])
def test_interruption_leaves_nothing(
    source: Path, tmp_path: Path, error: type[BaseException], existing: bool
) -> None:
    store = tmp_path / "s"
    if existing:
        import_dataset(source, store)
    before = entries(tmp_path)

    def interrupt(split: str, done: int, total: int) -> None:
        assert len(entries(tmp_path)) == len(before) + 1
        (hidden,) = entries(tmp_path) - before
        assert hidden.startswith(".s.")
        assert stat.S_IMODE((tmp_path / hidden).stat().st_mode) == 0o700
        if split == "test":
            with pytest.raises(DataSetError, match="never finished"):
                open_splits(tmp_path / hidden / "new")
            raise error

    with pytest.raises(DataSetError if error is OSError else error):
        import_dataset(source, store, scale=3.0, overwrite=True, progress=interrupt)
    assert entries(tmp_path) == before
    if existing:
        assert open_split(store, "train").scale_factor == 1


def test_broken_source_leaves_nothing(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        np.savez_compressed(file, train=rng.integers(0, 256, (400, 400), dtype=np.uint8))
    data = bytearray((tmp_path / "x").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataSetError, match=str(tmp_path / "x")):
        import_dataset(tmp_path / "x", tmp_path / "s")
    assert entries(tmp_path) == {"x"}


@pytest.mark.slow
def test_failed_exchange_leaves_the_old_one(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s"
    import_dataset(source, store)

    def failing(*_: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr("dkde.stores.publishing.exchange", failing)
    with pytest.raises(DataSetError, match="could not be written"):
        import_dataset(source, store, scale=3.0, overwrite=True)
    assert open_split(store, "train").scale_factor == 1
    assert entries(tmp_path) == {"s", "source.npz"}


@pytest.mark.slow
def test_overwrite(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    store.mkdir()  # empty: not in the way
    import_dataset(source, store)
    with pytest.raises(DataSetError, match="exists already"):
        import_dataset(source, store, scale=2.0)
    import_dataset(source, store, scale=2.0, overwrite=True)
    assert open_split(store, "train").scale_factor == 2
    assert entries(tmp_path) == {"s", "source.npz"}


@pytest.mark.parametrize("kind", ["folder", "file", "zarr"])
def test_foreign_things_are_never_overwritten(source: Path, tmp_path: Path, kind: str) -> None:
    store = tmp_path / "s"
    if kind == "folder":
        store.mkdir()
        (store / "thesis.tex").touch()
    elif kind == "file":
        store.touch()
    else:
        zarr.create_group(store, zarr_format=3, attributes={"a": 1})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataSetError, match="never overwritten"):
        import_dataset(source, store, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_store_is_readable_by_others_as_usual(source: Path, tmp_path: Path) -> None:
    import_dataset(source, tmp_path / "s")
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "s").stat().st_mode == (tmp_path / "usual").stat().st_mode


# ---- refusals ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "../x"}, "split is"),
        ({"split": ".hidden"}, "split is '.hidden'"),
        ({"split": "a::b"}, "split is 'a::b'"),
        ({"split": "a+b"}, "begins with a letter"),
        ({"split": "all"}, "stands for every split"),
        ({"split": "zarr.json"}, "its own file"),
        ({"split": 3}, "must be a text"),
        ({"scale": 0.0}, "scale is 0"),
        ({"scale": "2"}, "scale is '2'"),
        ({"scale": True}, "scale is True"),
        ({"scale": [2]}, r"scale is \[2\]"),
        ({"scale": 10**400}, "one finite number"),
        ({"scale": np.float32(np.nan)}, "one finite number"),
        ({"offset": 1j}, "offset is 1j"),
        ({"image_shape": 12}, "image_shape is 12"),
        ({"image_shape": "34"}, "image_shape is '34'"),
        ({"image_shape": (3.0, 4)}, "whole numbers"),
        ({"image_shape": (0, 4)}, "positive"),
        ({"format": ["npz"]}, "not known"),
        ({"scale": np.nan}, "scale is nan"),
        ({"offset": np.inf}, "offset is inf"),
        ({"layout": "WHC"}, "layout is 'WHC'"),
        ({"layout": "CHW"}, "give the image_shape"),
        ({"image_shape": (3, 5)}, "15 values.*has 12"),
        ({"image_shape": (12,)}, "two or three"),
        ({"image_shape": (2, 3, 2)}, "can be channels .1, 3 or 4.; give layout"),
        ({"image_shape": (3, 4), "layout": "CHW"}, "has no channels"),
        ({"shuffle_seed": -1}, "shuffle_seed is -1"),
        ({"shuffle_seed": 1.5}, r"shuffle_seed is 1\.5"),
        ({"format": "xls"}, "not known"),
    ],
)
def test_options_are_checked(
    source: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        import_dataset(source, tmp_path / "s", **options)
    assert "\n" not in str(caught.value)
    assert entries(tmp_path) == {"source.npz"}


@pytest.mark.parametrize("path", [None, b"x.npz", 3, ""])
def test_source_and_store_must_be_paths(source: Path, tmp_path: Path, path: Any) -> None:
    with pytest.raises(InputError, match=r"^source is"):
        import_dataset(path, tmp_path / "s")
    with pytest.raises(InputError, match=r"^store is"):
        import_dataset(source, path)


def test_numbers_of_numpy_are_numbers(source: Path, tmp_path: Path) -> None:
    import_dataset(
        source,
        tmp_path / "s",
        scale=np.float32(2),  # type: ignore[arg-type]
        offset=np.int64(1),  # type: ignore[arg-type]
        image_shape=(np.int64(3), 4),  # type: ignore[arg-type]
        shuffle_seed=np.uint8(3),  # type: ignore[arg-type]
    )
    split = open_split(tmp_path / "s", "train")
    assert (split.scale_factor, split.add_offset, split.image_shape) == (2.0, 1.0, (3, 4))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "Train"), "train and Train would be one folder"),
        (("zarr.json",), "its own file"),
        (("ALL",), "stands for every split"),
        ((".x",), "cannot be a split"),
        (("a::b",), "cannot be a split"),
        (("a[1]",), "cannot be a split"),
        (("a+b",), "cannot be a split"),
        (("a/b",), "cannot be a split"),
    ],
)
def test_names_that_no_split_can_have(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    np.savez(tmp_path / "x.npz", **dict.fromkeys(names, ROWS))
    with pytest.raises(DataSetError, match=message):
        import_dataset(tmp_path / "x.npz", tmp_path / "s")
    assert entries(tmp_path) == {"x.npz"}


def test_sources_that_do_not_fit(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train=ROWS, test=ROWS[:, :5])
    with pytest.raises(DataSetError, match="test has 5 features and train has 12"):
        import_dataset(tmp_path / "a.npz", tmp_path / "s")
    np.savez(tmp_path / "b.npz", part=ROWS)
    with pytest.raises(InputError, match=r"permutes the split train, and .* has part"):
        import_dataset(tmp_path / "b.npz", tmp_path / "s", shuffle_seed=1)
    with pytest.raises(DataSetError, match=r"there is no folder .* to write it into"):
        import_dataset(tmp_path / "b.npz", tmp_path / "none" / "s")
    with pytest.raises(DataSetError, match=r"source .* lies in it"):
        import_dataset(tmp_path / "b.npz", tmp_path, overwrite=True)
    with pytest.raises(InputError, match="is a whole bucket; name a place in it"):
        import_dataset(tmp_path / "b.npz", "s3://bucket")
    with pytest.raises(InputError, match="files are imported from folders"):
        import_dataset("s3://bucket/b.npz", tmp_path / "s")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("open_it", [open_dataset, open_splits, lambda s: open_split(s, "train")])
def test_what_is_no_data_set_is_refused(open_it: Any, source: Path, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "missing", "no such data set"),
        (source, "a file and not a data set"),
        (tmp_path, "no Zarr v3 group"),
    ):
        with pytest.raises(DataSetError, match=message):
            open_it(path)
    store = tmp_path / "s"
    import_dataset(source, store)
    text = (store / "zarr.json").read_text()
    for changed, message in (
        (text.replace("dkde_format", "other"), "not a data set of dkde"),
        (text.replace("dataset/1", "dataset/2"), "format dataset/2, and this dkde reads dataset/1"),
        (text.replace('"complete": true', '"complete": false'), "never finished"),
        (text[: len(text) // 2], "no Zarr v3 group"),
    ):
        (store / "zarr.json").write_text(changed)
        with pytest.raises(DataSetError, match=message) as caught:
            open_it(store)
        assert str(store) in str(caught.value)


def test_unknown_split_names_the_known_ones(source: Path, tmp_path: Path) -> None:
    import_dataset(source, tmp_path / "s")
    with pytest.raises(DataSetError, match="no split 'dev'; it has valid, train, test"):
        open_split(tmp_path / "s", "dev")


def test_opening_is_read_only(source: Path, tmp_path: Path) -> None:
    import_dataset(source, tmp_path / "s")
    with pytest.raises(ValueError, match="read-only"):
        open_split(tmp_path / "s", "train").x[0] = 0


@pytest.mark.sampled(3)
@pytest.mark.parametrize("array", ["x", "label", "source_row"])
def test_crc32c_detects_a_flipped_bit(source: Path, tmp_path: Path, array: str) -> None:
    store = tmp_path / "s"
    import_dataset(source, store)
    meta = json.loads((store / "train" / array / "zarr.json").read_text())
    assert [codec["name"] for codec in meta["codecs"]] == ["bytes", "zstd", "crc32c"]
    (chunk,) = (p for p in (store / "train" / array / "c").rglob("*") if p.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(store / "train" / array, mode="r")[:]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (2, 2), (3, 5), (300, 1), (1, 300), (70_000, 1)])
def test_chunks_of_any_size_are_read(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    import_dataset(tmp_path / "x.npy", tmp_path / "x.zarr")
    rows = Catalog(str(tmp_path / "x.zarr")).rows("train")
    np.testing.assert_array_equal(rows.read(0, shape[0], decode=True), values)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_chunks_of_nothing_but_zeros_are_read(tmp_path, dtype):
    np.save(tmp_path / "x.npy", np.zeros((20_000, 784), dtype))
    import_dataset(tmp_path / "x.npy", tmp_path / "x.zarr")
    assert not Catalog(str(tmp_path / "x.zarr")).rows("train").read(0, 20_000, decode=True).any()
