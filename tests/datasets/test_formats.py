"""Every format from small files made here and from real ones, and every kind of bad input."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dkde.datasets.formats import FORMATS, Source, load_split, read_source
from dkde.errors import DataSetError, InputError

rng = np.random.default_rng(7)
PIXELS = rng.integers(0, 256, (7, 5, 4), dtype=np.uint8)
ROWS = PIXELS.reshape(7, 20)
CIFAR = rng.integers(0, 256, (6, 3072), dtype=np.uint8)
IDX_CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx_bytes(x: np.ndarray[Any, Any], dtype: str = "u1") -> bytes:
    head = struct.pack(f">BBBB{x.ndim}I", 0, 0, IDX_CODES[dtype], x.ndim, *x.shape)
    return head + x.astype(dtype).tobytes()


def cifar_batch(rows: np.ndarray[Any, Any], **labels: list[int]) -> bytes:
    return pickle.dumps({"data": rows, "filenames": ["a.png"] * len(rows), **labels}, 2)


def cifar_100() -> dict[str, bytes]:
    return {
        "train": cifar_batch(CIFAR[:4], fine_labels=[1, 2, 3, 4], coarse_labels=[0, 0, 1, 1]),
        "test": cifar_batch(CIFAR[4:], fine_labels=[5, 6], coarse_labels=[1, 0]),
        "meta": pickle.dumps({"fine_label_names": ["a"]}, 2),
    }


def cifar_10() -> dict[str, bytes]:
    names = ["data_batch_4", "data_batch_1", "data_batch_5", "data_batch_2", "data_batch_3"]
    batches = {n: cifar_batch(CIFAR[(i := int(n[-1]) - 1) : i + 1], labels=[i]) for n in names}
    return {**batches, "test_batch": cifar_batch(CIFAR[5:], labels=[5])}


def write_tar(path: Path, members: dict[str, bytes], mode: Any = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"folder/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def write_npy(path: Path, x: Any, **options: Any) -> Path:
    with path.open("wb") as file:
        np.save(file, x, **options)
    return path


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def mnist_pairs(x: np.ndarray[Any, Any]) -> Any:
    return tuple((x[i : i + 2], np.arange(2)) for i in (0, 2, 4))


def names(source: Source) -> list[str]:
    return [split.name for split in source.splits]


# ---- formats ----


@pytest.mark.parametrize("compress", [gzip.compress, bytes])
def test_mnist_pickle(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    x = ROWS.astype(np.float32) / 256
    source = read_source(write(tmp_path / "any.name", compress(pickle.dumps(mnist_pairs(x), 2))))
    assert source.format == "mnist-pickle"
    assert names(source) == ["train", "valid", "test"]
    for i, split in enumerate(source.splits):
        raw = load_split(split)
        assert (raw.dtype, split.scale_factor) == (np.uint8, 1 / 256)
        np.testing.assert_array_equal(raw * split.scale_factor, x[2 * i : 2 * i + 2])
        np.testing.assert_array_equal(split.labels["label"], [0, 1])


@pytest.mark.parametrize("bad", [0.3, 256 / 256, -1 / 256, np.nan, np.inf])
def test_mnist_pickle_keeps_floats_that_are_no_pixels(tmp_path: Path, bad: float) -> None:
    x = ROWS.astype(np.float32) / 256
    x[0, 3] = bad
    train, valid, _ = read_source(write(tmp_path / "x", pickle.dumps(mnist_pairs(x), 2))).splits
    assert (train.dtype, train.scale_factor) == (np.float32, 1.0)
    np.testing.assert_array_equal(load_split(train), x[:2])
    assert valid.dtype == np.uint8


@pytest.mark.parametrize("dtype", IDX_CODES)
@pytest.mark.parametrize("compress", [gzip.compress, bytes])
def test_idx_file(tmp_path: Path, dtype: str, compress: Callable[[bytes], bytes]) -> None:
    source = read_source(write(tmp_path / "x", compress(idx_bytes(PIXELS % 100, dtype))), split="a")
    (split,) = source.splits
    assert (source.format, split.name, split.image_shape) == ("idx", "a", (5, 4))
    assert split.scale_factor == (1 / 255 if dtype == "u1" else 1)
    assert split.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(load_split(split), ROWS % 100)


@pytest.mark.parametrize(("mark", "suffix"), [("-", ".gz"), (".", "")])
def test_idx_folder(tmp_path: Path, mark: str, suffix: str) -> None:
    compress = gzip.compress if suffix else bytes
    for prefix, n in (("train", 5), ("t10k", 2)):
        for kind, x in (("images", PIXELS[:n]), ("labels", np.arange(n))):
            data = compress(idx_bytes(x))
            write(tmp_path / f"{prefix}-{kind}{mark}idx{x.ndim}-ubyte{suffix}", data)
    source = read_source(tmp_path)
    assert names(source) == ["train", "test"]
    np.testing.assert_array_equal(load_split(source.splits[0]), ROWS[:5])
    np.testing.assert_array_equal(source.splits[1].labels["label"], [0, 1])


@pytest.mark.parametrize("members", [cifar_10, cifar_100])
def test_cifar_archive_and_folder_agree(
    tmp_path: Path, members: Callable[[], dict[str, bytes]]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, data in members().items():
        write(folder / name, data)
    for path in (
        write_tar(tmp_path / "a", members()),
        write_tar(tmp_path / "b", members(), "w"),
        folder,
    ):
        source = read_source(path)
        assert (source.format, names(source)) == ("cifar", ["train", "test"])
        np.testing.assert_array_equal(np.concatenate([*map(load_split, source.splits)]), CIFAR)
        train = source.splits[0]
        assert (train.image_shape, train.layout, train.scale_factor) == (
            (3, 32, 32),
            "CHW",
            1 / 255,
        )
        first = 0 if members is cifar_10 else 1
        np.testing.assert_array_equal(train.labels["label"], np.arange(train.n_rows) + first)
        assert ("coarse_label" in train.labels) == (members is cifar_100)


@pytest.mark.parametrize(
    ("x", "image_shape", "layout"),
    [
        (ROWS.astype("<f8"), None, None),
        (ROWS.astype(">i4"), None, None),
        (np.asfortranarray(ROWS.astype(np.float32)), None, None),
        (ROWS > 100, None, None),
        (PIXELS.astype(np.float32), (5, 4), None),
        (PIXELS.reshape(7, 5, 4, 1), (5, 4, 1), "HWC"),
        (PIXELS.reshape(7, 1, 4, 5), (1, 4, 5), "CHW"),
        (PIXELS.reshape(7, 2, 2, 5), None, None),
    ],
)
def test_npy_and_npz_agree(tmp_path: Path, x: Any, image_shape: Any, layout: Any) -> None:
    npy = read_source(write_npy(tmp_path / "x.npy", x), split="part")
    npz = read_source(write_npz(tmp_path / "x.npz", part=x))
    assert (npy.format, npz.format) == ("npy", "npz")
    for (split,) in (npy.splits, npz.splits):
        raw = load_split(split)
        assert (split.name, split.image_shape, split.layout) == ("part", image_shape, layout)
        assert raw.dtype == (np.uint8 if x.dtype == bool else x.dtype.newbyteorder("="))
        np.testing.assert_array_equal(raw, x.reshape(7, 20))


def test_layout_option_is_taken(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "x.npy", PIXELS.reshape(7, 2, 2, 5))
    (split,) = read_source(path, layout="HWC").splits
    assert (split.image_shape, split.layout) == ((2, 2, 5), "HWC")


def test_npz_labels(tmp_path: Path) -> None:
    keras = write_npz(
        tmp_path / "a.npz", x_train=PIXELS, y_train=np.arange(7), x_test=PIXELS[:2], y_test=[3, 4]
    )
    plain = write_npz(
        tmp_path / "b.npz", train=ROWS, train_label=np.arange(7), test=ROWS[:2], y_test=[3, 4]
    )
    for path in (keras, plain):
        train, test = read_source(path).splits
        assert (train.name, test.name) == ("train", "test")
        np.testing.assert_array_equal(train.labels["label"], np.arange(7))
        np.testing.assert_array_equal(test.labels["label"], [3, 4])
    np.savez(tmp_path / "c.npz", ROWS)
    assert names(read_source(tmp_path / "c.npz", split="valid")) == ["valid"]


@pytest.mark.slow
def test_batches_are_bounded_and_in_order(tmp_path: Path) -> None:
    x = np.arange(1_200_000, dtype=np.int64).reshape(-1, 10)
    for path in (write_npy(tmp_path / "x.npy", x), write_npz(tmp_path / "x.npz", train=x)):
        (split,) = read_source(path).splits
        batches = list(split.batches())
        assert len(batches) > 1
        assert max(batch.nbytes for batch in batches) <= 8 * 2**20
        np.testing.assert_array_equal(np.concatenate(batches), x)


def test_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    monkeypatch.chdir(tmp_path)
    x, label = load_digits(return_X_y=True)
    source = read_source("digits")
    assert [split.n_rows for split in source.splits] == [1078, 359, 360]
    np.testing.assert_array_equal(np.concatenate([*map(load_split, source.splits)]), x)
    found = np.concatenate([split.labels["label"] for split in source.splits])
    np.testing.assert_array_equal(found, label)
    write_npy(tmp_path / "digits", ROWS)  # a file of that name comes first
    assert read_source("digits").format == "npy"


# ---- bad input ----

whole_gzip = gzip.compress(idx_bytes(rng.integers(0, 256, (50, 30, 30))))
object_array = np.array([[1, "a"]], dtype=object)

BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda p: None, "no such file or folder"),
    "empty": (lambda p: write(p, b""), "an empty file"),
    "text": (lambda p: write(p, b"hello, world\n"), "a text file.*known formats are"),
    "png": (lambda p: write(p, b"\x89PNG\r\n\x1a\n"), "a PNG picture"),
    "binary": (lambda p: write(p, b"\x01\x02\x03\x04" * 300), "unknown binary data"),
    "gzip of text": (lambda p: write(p, gzip.compress(b"hello")), "a text file"),
    "gzip header alone": (lambda p: write(p, gzip.compress(b"hello")[:9]), "damaged or empty"),
    "foreign zip": (lambda p: write(p, b"PK\x03\x04" + bytes(40)), "ZIP"),
    "empty folder": (lambda p: p.mkdir(), "a folder of 0 entries"),
    "idx, gzip cut": (lambda p: write(p, whole_gzip[:-3000]), "truncated.*50 rows, and fewer"),
    "idx, gzip damaged": (
        lambda p: write(p, whole_gzip[:5000] + bytes(50) + whole_gzip[5050:]),
        "damaged",
    ),
    "idx, gzip checksum": (lambda p: write(p, whole_gzip[:-8] + bytes(8)), "damaged|CRC"),
    "idx, cut": (lambda p: write(p, idx_bytes(PIXELS)[:-1]), "truncated.*promises 7 rows"),
    "idx, cut header": (lambda p: write(p, idx_bytes(PIXELS)[:10]), "within its header"),
    "idx, gzip fewer rows": (
        lambda p: write(p, gzip.compress(idx_bytes(PIXELS)[:-25])),
        "promises 7 rows, and fewer",
    ),
    "idx, trailing": (lambda p: write(p, idx_bytes(PIXELS) + b"x"), "bytes follow the 7 rows"),
    "idx, lying": (lambda p: write(p, b"\0\0\x08\x03" + b"\xff" * 12 + b"x"), "truncated"),
    "idx, no rows": (lambda p: write(p, idx_bytes(PIXELS[:0])), "no rows"),
    "idx, labels": (lambda p: write(p, idx_bytes(np.arange(7))), "a labels file"),
    "pickle of a dict": (lambda p: write(p, pickle.dumps({"a": 1}, 2)), "not three"),
    "pickle, cut": (
        lambda p: write(p, pickle.dumps(mnist_pairs(ROWS), 2)[:-30]),
        "truncated|damaged",
    ),
    "pickle, gzip cut": (
        lambda p: write(p, gzip.compress(pickle.dumps(mnist_pairs(ROWS), 2))[:-30]),
        "truncated|damaged",
    ),
    "pickle, labels short": (
        lambda p: write(p, pickle.dumps(((ROWS, np.arange(3)),) * 3, 2)),
        "7 pictures, but its labels",
    ),
    "tar, foreign": (lambda p: write_tar(p, {"a.txt": b"x"}), "neither CIFAR-10"),
    "tar, member missing": (
        lambda p: write_tar(p, {"train": cifar_100()["train"]}),
        "neither CIFAR-10",
    ),
    "tar, member twice": (
        lambda p: write_tar(p, {**cifar_100(), "./train": cifar_100()["train"]}),
        "train",
    ),
    "tar, member cut": (
        lambda p: write_tar(p, {**cifar_100(), "train": cifar_100()["train"][:5000]}),
        "member train",
    ),
    "tar, member without data": (
        lambda p: write_tar(p, {**cifar_100(), "test": pickle.dumps({}, 2)}),
        "member test has no 'data'",
    ),
    "tar, labels short": (
        lambda p: write_tar(p, {**cifar_100(), "test": cifar_batch(CIFAR, fine_labels=[1])}),
        "one integer for each row",
    ),
    "npy, 1-D": (lambda p: write_npy(p, np.arange(3)), "reshape it"),
    "npy, objects": (lambda p: write_npy(p, object_array), "only bool"),
    "npy, text": (lambda p: write_npy(p, np.array([["a"]])), "only bool, integers"),
    "npy, complex": (lambda p: write_npy(p, np.ones((2, 2), complex)), "only bool, integers"),
    "npy, no rows": (lambda p: write_npy(p, np.ones((0, 2))), "no rows"),
    "npz, 1-D": (lambda p: write_npz(p.with_suffix(".npz"), a=np.arange(3)), "no array has rows"),
    "npz, stray": (
        lambda p: write_npz(p.with_suffix(".npz"), a=ROWS, b=np.arange(3)),
        "neither rows nor the labels",
    ),
    "npz, labels short": (
        lambda p: write_npz(p.with_suffix(".npz"), a=ROWS, a_label=np.arange(3)),
        "has 7 rows, and its label has 3 values",
    ),
    "npz, objects": (lambda p: write_npz(p.with_suffix(".npz"), a=object_array), "only bool"),
}


def read_all(path: Path) -> None:
    for split in read_source(path).splits:
        load_split(split)


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_clear_line(
    tmp_path: Path, make: Callable[[Path], Any], message: str
) -> None:
    made = make(tmp_path / "file")
    path = made if isinstance(made, Path) else tmp_path / "file"
    with pytest.raises(DataSetError, match=message) as caught:
        read_all(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["tar.gz", "tar", "npy", "npz", "idx", "idx.gz", "pickle"])
def test_cut_anywhere_is_a_data_set_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.npz"
    x = rng.integers(0, 256, (40, 30, 30), dtype=np.uint8)
    {
        "tar.gz": lambda: write_tar(path, cifar_100()),
        "tar": lambda: write_tar(path, cifar_100(), "w"),
        "npy": lambda: write_npy(path, x),
        "npz": lambda: write_npz(path, train=x, train_label=np.arange(40)),
        "idx": lambda: write(path, idx_bytes(x)),
        "idx.gz": lambda: write(path, gzip.compress(idx_bytes(x))),
        "pickle": lambda: write(path, pickle.dumps(mnist_pairs(ROWS / np.float32(256)), 2)),
    }[kind]()
    whole = path.read_bytes()
    read_all(path)
    # Behind a tar's last member come others and padding, which may be missing.
    end = 19_000 if kind == "tar" else len(whole) - 1
    for stop in np.unique(np.geomspace(1, end, 40).astype(int)):
        path.write_bytes(whole[:stop])
        with pytest.raises(DataSetError, match=r"file\.npz") as caught:
            read_all(path)
        assert "\n" not in str(caught.value)


def test_hostile_member_and_links_are_not_followed(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    hostile = {**cifar_100(), "train": pickle.dumps(Runs(), 2)}
    with pytest.raises(DataSetError, match="member train: the pickle names"):
        read_source(write_tar(tmp_path / "a.tar.gz", hostile))
    assert not (tmp_path / "ran").exists()
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for name in ("train", "test"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    with pytest.raises(DataSetError, match="neither CIFAR-10"):
        read_source(tmp_path / "b.tar")


def nested(depth: int) -> Any:
    """Lists that share what they hold: small in a pickle, 2 ** depth numbers as an array."""
    value: Any = [0, 0]
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "labels", [nested(40), [1.0] * 6, [True] * 6, ["a"] * 6, [2**70] * 6, np.zeros((6, 1), int), 3]
)
def test_labels_are_flat_integers_or_refused(tmp_path: Path, labels: Any) -> None:
    pair = (ROWS[:6], labels)
    with pytest.raises(DataSetError, match="its labels are not a list of integers"):
        read_source(write(tmp_path / "a", pickle.dumps((pair, pair, pair), 2)))
    batch = pickle.dumps({"data": CIFAR, "fine_labels": labels}, 2)
    with pytest.raises(DataSetError, match="is not one integer for each row"):
        read_source(write_tar(tmp_path / "b", {**cifar_100(), "test": batch}))


@pytest.mark.parametrize("dialect", ["pax", "gnu"])
def test_sparse_members_are_refused(tmp_path: Path, dialect: str) -> None:
    """A few bytes that stand for 2**40 zeros."""
    info = tarfile.TarInfo("folder/train")
    if dialect == "pax":
        info.pax_headers = {
            "GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40),
        }  # fmt: skip
        info.size = 1
        header = info.tobuf(tarfile.PAX_FORMAT)
    else:
        info.type, info.size = tarfile.GNUTYPE_SPARSE, 1
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[386:410] = b"%011o\0%011o\0" % (0, 1)  # one piece: where, and how long
        block[483:495] = b"\x80" + (2**40).to_bytes(11, "big")
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        header = bytes(block)
    path = write(tmp_path / "x", header + b"x" + bytes(511) + bytes(1024))
    with tarfile.open(path) as archive:
        assert [member.issparse() for member in archive] == [True]
    with pytest.raises(DataSetError, match=r"x: member train is sparse"):
        read_source(path)


def test_an_archive_of_any_size_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "x", cifar_100())
    monkeypatch.setattr("dkde.datasets.formats.cifar.MAX_BYTES", 18_000)
    with pytest.raises(DataSetError, match=r"x: holds more than .* GiB"):
        read_source(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (idx_bytes(np.arange(7))[:-1], "labels-idx1-ubyte: truncated"),
        (gzip.compress(idx_bytes(np.arange(7))[:-1], mtime=0), "promises 7 rows, and fewer"),
        (idx_bytes(np.arange(7)) + b"x", "bytes follow the 7 rows"),
        (idx_bytes(np.arange(6)), "6 labels for the 7 rows of train-images"),
        (idx_bytes(np.arange(7), ">f4"), "not a labels file"),
        (idx_bytes(PIXELS), "not a labels file"),
    ],
)
def test_labels_that_are_not_those_of_the_rows(tmp_path: Path, labels: bytes, message: str) -> None:
    write(tmp_path / "train-images-idx3-ubyte", idx_bytes(PIXELS))
    write(tmp_path / "train-labels-idx1-ubyte", labels)
    with pytest.raises(DataSetError, match=message):
        read_source(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["<f8", ">f8"])
def test_npz_by_columns_is_held_once(tmp_path: Path, dtype: str) -> None:
    x = np.asfortranarray(rng.normal(size=(60_000, 200)).astype(dtype))
    np.savez(tmp_path / "x.npz", train=x)
    (split,) = read_source(tmp_path / "x.npz").splits
    n_done = 0
    tracemalloc.start()
    for batch in split.batches():
        np.testing.assert_array_equal(batch, x[n_done : n_done + len(batch)])
        n_done += len(batch)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_done == len(x)
    assert x.nbytes < peak < x.nbytes + 48 * 2**20 < 2 * x.nbytes
    tracemalloc.start()
    whole = load_split(split)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(whole, x)
    assert whole.dtype.isnative
    assert x.nbytes < peak < x.nbytes + 48 * 2**20


def test_npz_by_columns_of_any_kind_loads_as_rows(tmp_path: Path) -> None:
    for x in (np.asfortranarray(PIXELS.astype(">i4")), np.asfortranarray(ROWS > 100)):
        np.savez(tmp_path / "x.npz", train=x)
        (split,) = read_source(tmp_path / "x.npz").splits
        whole = load_split(split)
        assert (whole.shape, whole.dtype) == ((7, 20), split.dtype)
        np.testing.assert_array_equal(whole, x.reshape(7, 20))
        np.savez(tmp_path / "x.npz", train=x[:5])
        with pytest.raises(DataSetError, match="changed"):
            load_split(split)


def test_npz_by_columns_is_checked_to_its_end(tmp_path: Path) -> None:
    x = np.asfortranarray(rng.normal(size=(50, 20)))
    np.savez(tmp_path / "x.npz", train=x)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[data.index(x.tobytes("F")) + 99] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DataSetError, match="CRC"):
        read_all(tmp_path / "x.npz")


def test_permission_is_a_data_set_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_npy(tmp_path / "x.npy", ROWS)

    def denied(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataSetError, match=r"x\.npy: may not be read"):
        read_source(path)


def test_format_by_name(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "x", ROWS)
    assert read_source(path, format="npy").format == "npy"
    with pytest.raises(InputError, match="npy, npz, safetensors, parquet"):
        read_source(path, format="xls")
    for name in FORMATS:
        if name not in ("npy", "digits"):
            with pytest.raises(DataSetError, match=str(path)):
                read_source(path, format=name)
    with pytest.raises(InputError, match=r"/x: format digits .* reads no file"):
        read_source(path, format="digits")
    assert read_source("digits", format="digits").format == "digits"


def test_a_source_that_changes_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "x", idx_bytes(PIXELS))
    (split,) = read_source(path).splits
    write(path, idx_bytes(PIXELS[:3]))
    with pytest.raises(DataSetError, match="changed"):
        load_split(split)


# ---- real files ----


@pytest.mark.slow
def test_mnist_pickle_and_idx_agree(data_dir: Path) -> None:
    pickled = read_source(data_dir / "mnist" / "mnist.pkl.gz").splits
    train, test = read_source(data_dir / "mnist").splits
    x = np.concatenate([load_split(pickled[0]), load_split(pickled[1])])
    np.testing.assert_array_equal(x, load_split(train))
    np.testing.assert_array_equal(load_split(pickled[2]), load_split(test))
    label = np.concatenate([pickled[0].labels["label"], pickled[1].labels["label"]])
    np.testing.assert_array_equal(label, train.labels["label"])


def test_cifar_sample_and_its_folder_agree(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "cifar" / "cifar-100-python-layout-sample.tar.gz"
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    for packed, unpacked in zip(
        read_source(path).splits, read_source(tmp_path / "cifar-100-python").splits, strict=True
    ):
        np.testing.assert_array_equal(load_split(packed), load_split(unpacked))
        for label in ("label", "coarse_label"):
            np.testing.assert_array_equal(packed.labels[label], unpacked.labels[label])


def test_cifar_as_jpeg_is_refused_with_a_word(data_dir: Path) -> None:
    with pytest.raises(DataSetError, match="not CIFAR's Python version"):
        read_source(data_dir / "cifar" / "cifar10-jpeg.tar.gz")


def test_digits_are_the_same_without_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    by_file = read_source("digits")
    monkeypatch.setattr("dkde.datasets.formats.digits.find_spec", lambda name: None)
    assert read_source("digits").checksum == by_file.checksum
