"""Folders of PNG or JPEG pictures: flat, or with a folder for each class, each split, or both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.formats.files import checksum_files, reading
from dkde.datasets.formats.source import (
    BATCH_BYTES,
    ReadOptions,
    Source,
    SourceSplit,
    batch_rows,
)
from dkde.datasets.metadata import class_words
from dkde.errors import DataSetError
from dkde.stores.limits import check_unpacked
from dkde.typing import Array

NAME = "pictures"
# Only folders' entries with these names are opened; the content decides between PNG and JPEG.
_SUFFIXES = (".png", ".jpg", ".jpeg")
_OTHER_PICTURES = (".bmp", ".gif", ".tif", ".tiff", ".webp")
# The names of folders that are splits; folders of any other name are classes.
_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
# Pillow's modes that can be rows, and their channels: black and white, grey, and colour.
_CHANNELS = {"1": 1, "L": 1, "RGB": 3}
_MODES = {1: "grey", 3: "in colour"}
# Pillow decodes outside of Python's global lock, so threads share the work.
_THREADS = 4
# The bytes of a pixel while it is decoded, converted and used: a feature is a float64.
_PIXEL_BYTES = 8


@dataclass(frozen=True)
class _Folder:
    """The pictures of a split, in order, and the class of each picture if there are classes."""

    name: str
    files: tuple[Path, ...]
    classes: tuple[str, ...] | None


@dataclass(frozen=True)
class _Kind:
    """The properties that all pictures must share: height, width and channels."""

    shape: tuple[int, int, int]

    def __str__(self) -> str:
        height, width, channels = self.shape
        return f"{height} x {width}, {_MODES[channels]}"


def matches(path: Path) -> bool:
    """Return whether a folder holds a picture, at most two folders deep."""
    # Two folders: SPLIT/CLASS.
    return path.is_dir() and any(
        next(_pictures(folder), None) is not None for folder in _folders_within(path, 2)
    )


def _folders_within(path: Path, depth: int) -> Iterator[Path]:
    """Yield a folder and the folders in it, down to a depth."""
    yield path
    if depth:
        for folder in _folders(path):
            yield from _folders_within(folder, depth - 1)


def read(path: Path, options: ReadOptions) -> Source:
    """List the pictures, and look at the first one; all are decoded later.

    Raises
    ------
    DataSetError
        If the folder holds no pictures, or a mixture of pictures and folders that are neither
        splits nor classes.
    """
    with reading(path, "pictures"):
        if not path.is_dir():
            raise DataSetError(f"{path}: is not a folder; name the folder of the pictures")
        found = _splits(path, options.split)
        # Classes are numbered over all splits, so that a class has the same number in each.
        names = sorted({name for split in found for name in split.classes or ()})
        try:
            words = dict(zip(names, class_words(names), strict=True))
        except DataSetError as error:
            raise DataSetError(f"{path}: {error}") from None
        with _opened(first := found[0].files[0]) as picture:
            kind = _kind_of(first, picture)
        files = [file for split in found for file in split.files]
        # All are of this size, or are refused as they are decoded.
        n_stored, size = sum(file.stat().st_size for file in files), prod(kind.shape)
        check_unpacked(first, f"a picture of {kind}", size * _PIXEL_BYTES, first.stat().st_size)
        check_unpacked(path, f"its {len(files)} pictures of {kind}", size * len(files), n_stored)
        splits = tuple(_split(split, words, kind, options.layout) for split in found)
        return Source(path, NAME, checksum_files(files, path), splits)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name, without hidden ones."""
    # File systems list in any order; sorted, the rows have the same order everywhere.
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name."""
    return [Path(entry.path) for entry in _entries(folder) if entry.is_dir()]


def _pictures(folder: Path) -> Iterator[Path]:
    """Yield the pictures in a folder, sorted by name; refuse pictures of other formats."""
    for entry in _entries(folder):
        name = entry.name.lower()
        # Left out in silence, they would be rows that are missing.
        if name.endswith(_OTHER_PICTURES):
            raise DataSetError(f"{entry.path}: is neither PNG nor JPEG; convert or remove it")
        if name.endswith(_SUFFIXES) and entry.is_file():
            yield Path(entry.path)


def _splits(root: Path, name: str) -> list[_Folder]:
    """Return the splits of a folder, train first where folders are named after splits."""
    folders = _folders(root)
    # Pictures in the folder itself: one split without classes.
    here = list(_pictures(root))
    if here:
        if stray := next((f for f in folders if next(_pictures(f), None)), None):
            raise DataSetError(
                f"{root}: holds pictures, and so does its folder {stray.name}; put all pictures "
                "into folders by class, or none"
            )
        return [_Folder(name, tuple(here), None)]
    # Folders with pictures are classes of one split, unless all are named after splits.
    direct = [folder for folder in folders if next(_pictures(folder), None)]
    if direct and not all(folder.name.lower() in _SPLITS for folder in direct):
        return [_classes(root, name)]
    # Each folder is a split, flat or with a folder for each class.
    found = []
    for folder in sorted(folders, key=_split_rank):
        if flat := tuple(_pictures(folder)):
            found.append(_Folder(folder.name, flat, None))
        elif any(next(_pictures(below), None) for below in _folders(folder)):
            found.append(_classes(folder, folder.name))
    if not found:
        raise DataSetError(f"{root}: holds no PNG or JPEG pictures, nor do the folders in it")
    return found


def _split_rank(folder: Path) -> int:
    """Return a split's rank in the order: train, then validation and test, then others."""
    name = folder.name.lower()
    return _SPLITS.index(name) if name in _SPLITS else len(_SPLITS)


def _classes(root: Path, name: str) -> _Folder:
    """Return the split whose classes are the folders in a folder."""
    files: list[Path] = []
    classes: list[str] = []
    for folder in _folders(root):
        if deeper := next(iter(_folders(folder)), None):
            raise DataSetError(
                f"{deeper}: is a folder within the folder of a class; move its pictures to CLASS, "
                "or to SPLIT/CLASS"
            )
        pictures = list(_pictures(folder))
        files += pictures
        classes += [folder.name] * len(pictures)
    return _Folder(name, tuple(files), tuple(classes))


def _split(
    split: _Folder, words: Mapping[str, str], kind: _Kind, layout: str | None
) -> SourceSplit:
    """Return the split of a folder; `words` are the classes of all splits, in order."""
    height, width, channels = kind.shape
    shape: tuple[int, ...] = (height, width)
    layout = (layout or "HWC") if channels > 1 else None
    if layout is not None:
        shape = (channels, height, width) if layout == "CHW" else kind.shape
    number = {name: i for i, name in enumerate(words)}
    labels = np.array([number[name] for name in split.classes or ()])
    return SourceSplit(
        split.name,
        n_rows=len(split.files),
        n_features=height * width * channels,
        dtype=np.dtype(np.uint8),
        batches=partial(_batches, split.files, kind, layout),
        scale_factor=1 / 255,
        image_shape=shape,
        layout=layout,
        labels={} if split.classes is None else {"label": labels},
        classes={} if split.classes is None else {"label": tuple(words.values())},
    )


def _opened(path: Path) -> Any:
    """Open a picture; only its header is read."""
    from PIL import Image

    # The list of formats keeps Pillow's many other decoders away from untrusted files.
    with reading(path, "a picture"):
        return Image.open(path, formats=("PNG", "JPEG"))


def _kind_of(path: Path, picture: Any) -> _Kind:
    """Return the size and the channels of a picture; refuse modes that cannot be rows."""
    mode = picture.mode
    # Mode P holds indexes into a palette; without transparency the mode of the palette counts.
    if mode == "P" and "transparency" not in picture.info:
        mode = picture.palette.mode
    if mode not in _CHANNELS:
        raise DataSetError(
            f"{path}: a picture of mode {picture.mode}; convert it to grey or colour of 8 bits "
            "without transparency"
        )
    return _Kind((picture.height, picture.width, _CHANNELS[mode]))


def _decode(path: Path, first: Path, kind: _Kind, layout: str | None) -> Array:
    """Return the pixels of a picture as one row, in the order of the layout."""
    with _opened(path) as picture, reading(path, "a picture"):
        # Checked before it is decoded: a small file can hold a picture of any size.
        if (found := _kind_of(path, picture)) != kind:
            raise DataSetError(
                f"{path}: is {found}, and {first.name} is {kind}; all pictures must be alike"
            )
        pixels: Array = np.asarray(picture.convert("RGB" if kind.shape[2] == 3 else "L"))
    return (pixels.transpose(2, 0, 1) if layout == "CHW" else pixels).reshape(-1)


def _batches(files: Sequence[Path], kind: _Kind, layout: str | None) -> Iterator[Array]:
    """Yield the pictures as rows, decoded by a few threads."""
    n_features = int(np.prod(kind.shape))
    step = batch_rows(n_features, np.dtype(np.uint8))
    decode = partial(_decode, first=files[0], kind=kind, layout=layout)
    # Large pictures one after the other, as each takes several copies while it is decoded.
    n_threads = max(1, min(_THREADS, BATCH_BYTES // n_features))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="dkde-decode") as pool:
        for start in range(0, len(files), step):
            some = files[start : start + step]
            rows = np.empty((len(some), n_features), np.uint8)
            # `map` keeps the order of the files, whichever thread is done first.
            for row, pixels in zip(rows, pool.map(decode, some), strict=True):
                row[:] = pixels
            yield rows
