"""Folders of pictures: rows are what Pillow decodes, in a known order, or are refused."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import dkde
from dkde.datasets.formats import load_split, read_source
from dkde.errors import DataSetError

rng = np.random.default_rng(5)
GREY = rng.integers(0, 256, (6, 5, 4), dtype=np.uint8)
COLOUR = rng.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)


def save(path: Path, pixels: Any, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def fill(root: Path, pixels: Any, places: list[str]) -> Path:
    """One picture a place, written last to first: what is first on the disk does not count."""
    for picture, place in reversed([*zip(pixels, places, strict=False)]):
        save(root / place, picture)
    return root


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_flat_folder(tmp_path: Path, pixels: Any) -> None:
    fill(tmp_path, pixels, ["10.png", "2.PNG", "a.png", "b.png"])
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    source = read_source(tmp_path, split="a")
    (split,) = source.splits
    assert (source.format, split.name, split.labels) == ("pictures", "a", {})
    assert (split.image_shape, split.layout, split.scale_factor) == (
        pixels.shape[1:],
        "HWC" if pixels.ndim == 4 else None,
        1 / 255,
    )
    np.testing.assert_array_equal(load_split(split), pixels[:4].reshape(4, -1))


def test_class_folders_are_labels_in_order_of_name(tmp_path: Path) -> None:
    fill(tmp_path, GREY, ["a/2.png", "a/3.png", "b c/0.png", "b c/1.png", "z/0.png"])
    (split,) = read_source(tmp_path).splits
    assert (split.name, split.classes) == ("train", {"label": ("a", "b_c", "z")})
    np.testing.assert_array_equal(split.labels["label"], [0, 0, 1, 1, 2])
    np.testing.assert_array_equal(load_split(split), GREY[:5].reshape(5, -1))
    dkde.import_dataset(tmp_path, tmp_path.parent / "x.zarr")
    with xr.open_zarr(tmp_path.parent / "x.zarr", group="train") as stored:
        assert stored["label"].attrs["flag_meanings"] == "a b_c z"
        np.testing.assert_array_equal(stored["label"].attrs["flag_values"], [0, 1, 2])
        np.testing.assert_array_equal(stored["x"], GREY[:5].reshape(5, -1) * (1 / 255))
    for what in (tmp_path, tmp_path.parent / "x.zarr"):
        assert dkde.describe(what)["splits"]["train"]["classes"] == {"label": ["a", "b_c", "z"]}


@pytest.mark.parametrize("layout", [None, "CHW", "HWC"])
def test_splits_train_first_and_labels_in_common(tmp_path: Path, layout: str | None) -> None:
    places = [
        "test/dog/0.png",
        "train/cat/0.png",
        "train/dog/0.png",
        "val/bird/0.png",
        "x/dog/0.png",
    ]
    fill(tmp_path, COLOUR, places)
    splits = read_source(tmp_path, layout=layout).splits
    assert [split.name for split in splits] == ["train", "val", "test", "x"]
    assert {split.classes["label"] for split in splits} == {("bird", "cat", "dog")}
    assert [list(split.labels["label"]) for split in splits] == [[1, 2], [0], [2], [2]]
    wanted = COLOUR.transpose(0, 3, 1, 2) if layout == "CHW" else COLOUR
    found = np.concatenate([load_split(split) for split in splits])
    np.testing.assert_array_equal(found, wanted[[1, 2, 3, 0, 4]].reshape(5, -1))
    assert splits[0].image_shape == wanted.shape[1:]


def test_splits_without_classes(tmp_path: Path) -> None:
    fill(tmp_path, GREY, ["train/0.png", "train/1.png", "test/0.png"])
    splits = read_source(tmp_path).splits
    assert [(split.name, split.n_rows, split.labels) for split in splits] == [
        ("train", 2, {}),
        ("test", 1, {}),
    ]


def test_jpeg_and_palettes(tmp_path: Path) -> None:
    Image.fromarray(GREY[0]).save(tmp_path / "a.jpeg")
    Image.fromarray(GREY[1]).save(tmp_path / "b.JPG", "JPEG")
    save(tmp_path / "c.png", GREY[2] > 99)
    with Image.open(tmp_path / "a.jpeg") as a, Image.open(tmp_path / "b.JPG") as b:
        wanted = [np.asarray(a).ravel(), np.asarray(b).ravel(), 255 * (GREY[2] > 99).ravel()]
    (split,) = read_source(tmp_path).splits
    np.testing.assert_array_equal(load_split(split), wanted)
    few = np.array([[0, 0, 0], [255, 0, 51]], np.uint8)[(COLOUR[0, ..., 0] > 99).astype(int)]
    save(tmp_path / "p/0.png", few, "P")
    (split,) = read_source(tmp_path / "p").splits
    np.testing.assert_array_equal(load_split(split)[0], few.ravel())


BAD: dict[str, tuple[Any, str]] = {
    "another size": (
        lambda p: save(p / "b/5.png", GREY[0].T),
        r"b/5\.png: is 4 x 5, grey, and 0\.png is 5 x 4, grey; all pictures must be alike",
    ),
    "colour among grey": (lambda p: save(p / "a/1.png", COLOUR[0]), r"a/1\.png: is 5 x 4, in col"),
    "transparent": (
        lambda p: save(p / "a/1.png", np.dstack([COLOUR[0], GREY[0]])),
        "a/1.png: a picture of mode RGBA",
    ),
    "16 bits": (lambda p: save(p / "a/1.png", GREY[0].astype(np.uint16)), "mode I;16"),
    "another format": (lambda p: save(p / "a/1.bmp", GREY[0]), "neither PNG nor JPEG"),
    "another content": (lambda p: Image.fromarray(GREY[0]).save(p / "a/1.png", "GIF"), r"a/1\.png"),
    "no picture": (lambda p: (p / "a/1.png").write_text("x"), r"a/1\.png: not readable"),
    "empty": (lambda p: (p / "a/1.png").write_text(""), r"a/1\.png: not readable"),
    "cut": (
        lambda p: (p / "a/0.png").write_bytes((p / "a/0.png").read_bytes()[:60]),
        r"a/0\.png: not readable",
    ),
    "pictures beside folders": (lambda p: save(p / "1.png", GREY[0]), "into folders by class"),
    "too deep": (lambda p: save(p / "a/a/1.png", GREY[0]), "a folder within the folder of a class"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_no_row_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    root = fill(tmp_path / "p", GREY, ["a/0.png", "b/0.png"])
    spoil(root)
    with pytest.raises(DataSetError, match=message) as caught:
        dkde.import_dataset(root, tmp_path / "x.zarr")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_bomb_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, GREY, ["a.png"])
    Image.new("L", (9000, 9000)).save(tmp_path / "b.png")
    monkeypatch.setattr(Image.Image, "convert", lambda self, mode: pytest.fail("decoded"))
    (split,) = read_source(tmp_path).splits
    monkeypatch.undo()
    with pytest.raises(DataSetError, match=r"b\.png: is 9000 x 9000"):
        load_split(split)


def test_names_that_differ_by_blanks(tmp_path: Path) -> None:
    fill(tmp_path / "p", GREY, ["a b/0.png", "a_b/0.png"])
    with pytest.raises(DataSetError, match="p: classes 'a_b' differ by nothing but blanks"):
        read_source(tmp_path / "p")


def test_the_checksum_is_of_what_is_there_and_where(tmp_path: Path) -> None:
    one = read_source(fill(tmp_path / "1", GREY, ["a/0.png", "b/0.png"])).checksum
    assert read_source(fill(tmp_path / "2", GREY, ["a/0.png", "b/0.png"])).checksum == one
    assert read_source(fill(tmp_path / "3", GREY, ["a/0.png", "c/0.png"])).checksum != one
    assert read_source(fill(tmp_path / "4", GREY[1:], ["a/0.png", "b/0.png"])).checksum != one


@pytest.mark.slow
@pytest.mark.full
def test_all_of_cifar_10_from_its_pictures(data_dir: Path, tmp_path: Path) -> None:
    """The same rows as an .npy of what Pillow decodes; and the figures that both give."""
    with tarfile.open(data_dir / "cifar/cifar10-jpeg.tar.gz") as archive:
        archive.extractall(tmp_path / "pictures", filter="data")
    dkde.import_dataset(tmp_path / "pictures", tmp_path / "folder.zarr")
    described = dkde.describe(tmp_path / "folder.zarr")["splits"]
    assert [(name, split["rows"]) for name, split in described.items()] == [
        ("train", 50_000),
        ("test", 10_000),
    ]
    for name, split in described.items():
        files = sorted((tmp_path / "pictures" / name).glob("*/*.jpg"))
        rows = np.empty((len(files), 3072), np.uint8)
        for row, file in zip(rows, files, strict=True):
            with Image.open(file) as picture:
                row[:] = np.asarray(picture).ravel()
        np.save(tmp_path / f"{name}.npy", rows)
        dkde.import_dataset(
            tmp_path / f"{name}.npy", tmp_path / f"{name}.zarr", split=name, scale=1 / 255
        )
        stored = dkde.describe(tmp_path / f"{name}.zarr")["splits"][name]
        assert stored["checksum"] == split["checksum"]
    folder = str(tmp_path / "folder.zarr")
    by_folder = dkde.score(train="train", query="test", bandwidth=0.15, source=folder)
    by_npy = dkde.score(
        train=f"{tmp_path}/train.zarr::train", query=f"{tmp_path}/test.zarr::test", bandwidth=0.15
    )
    np.testing.assert_array_equal(by_folder["log_density"], by_npy["log_density"])
    assert by_folder["mean_log_likelihood"].item() == pytest.approx(1036.0843263469737, rel=1e-9)
    assert by_folder["standard_error"].item() == pytest.approx(8.951855477643033, rel=1e-9)
