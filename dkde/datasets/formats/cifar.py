"""The Python archives of CIFAR-10 and CIFAR-100: a tar of pickled batches, or its folder."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np

from dkde.datasets.formats.arrays import array_batches
from dkde.datasets.formats.files import checksum_files, open_binary, reading, sniff
from dkde.datasets.formats.source import ReadOptions, Source, SourceSplit
from dkde.datasets.formats.unpickle import label_array, load
from dkde.errors import DataSetError
from dkde.typing import Array

NAME = "cifar"
DESCRIPTION = "a CIFAR-10 or CIFAR-100 Python archive (.tar.gz), or its unpacked folder"
# Members of each split, in the order of their rows, for the two data sets.
_CIFAR_100: dict[str, tuple[str, ...]] = {"train": ("train",), "test": ("test",)}
_CIFAR_10: dict[str, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
    "test": ("test_batch",),
}
_MEMBERS = {name for split in (_CIFAR_100, _CIFAR_10) for names in split.values() for name in names}
_LABELS = {"label": ("fine_labels", "labels"), "coarse_label": ("coarse_labels",)}
_MAX_HEADER = 2**20
_MAX_MEMBERS = 100  # CIFAR's archives have about ten
_IMAGE_SHAPE = (3, 32, 32)
_N_FEATURES = 3072


@dataclass(frozen=True)
class _Member:
    """One pickled batch: how large it may be, and how to open it."""

    size: int
    open: Callable[[], IO[bytes]]


def matches(path: Path) -> bool:
    """Whether the content is a tar archive, or a folder with CIFAR's pickles."""
    if path.is_dir():
        return bool(_layout(_folder_members(path)))
    return is_tar(sniff(path))


def is_tar(head: bytes) -> bool:
    """Whether the bytes start with a tar header, judged by its checksum."""
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def read(path: Path, options: ReadOptions) -> Source:
    """Read sizes and labels, one batch's pickle in memory at a time; rows are read later again.

    Raises
    ------
    DataSetError
        If the archive is damaged, or holds none of CIFAR's members.
    """
    with reading(path, "CIFAR archive"), _members(path) as members:
        layout = _layout(members)
        if not layout:
            raise DataSetError(
                f"{path}: neither CIFAR-10 (data_batch_1 to 5, test_batch) nor CIFAR-100 "
                "(train, test) in its Python version"
            )
        splits = tuple(_split(path, name, names, members) for name, names in layout.items())
        files = [path / n for names in layout.values() for n in names] if path.is_dir() else [path]
        return Source(path, NAME, checksum_files(files), splits)


def _layout(members: Mapping[str, _Member]) -> dict[str, tuple[str, ...]]:
    """The splits whose members are all there; none if any split has only some of them."""
    for layout in (_CIFAR_10, _CIFAR_100):
        if any(name in members for names in layout.values() for name in names):
            missing = [n for names in layout.values() for n in names if n not in members]
            return {} if missing else layout
    return {}


class _Headers:
    """A tar file of which, while it is listed, only what a header can take is read at once.

    tarfile reads the extended headers whole, and a few bytes can say that one is of any size.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.most: int | None = _MAX_HEADER
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, n: int = -1) -> bytes:
        if self.most is not None and not 0 <= n <= self.most:
            raise tarfile.ReadError(f"a header of {n} bytes")
        return self._stream.read(n)


@contextmanager
def _members(path: Path) -> Iterator[dict[str, _Member]]:
    if path.is_dir():
        yield _folder_members(path)
        return
    with open_binary(path) as stream:
        headers = _Headers(stream)
        archive = tarfile.open(fileobj=cast("IO[bytes]", headers), mode="r:")  # noqa: SIM115
        found: dict[str, _Member] = {}
        for n_members, info in enumerate(archive):
            if n_members == _MAX_MEMBERS:
                raise DataSetError(f"{path}: not CIFAR's Python version: it has many more members")
            parts = PurePosixPath(info.name).parts
            # Only the names that CIFAR has, where CIFAR has them, and only regular files:
            # never a link, and nothing is ever written to disk.
            if not info.isreg() or len(parts) not in (1, 2) or parts[-1] not in _MEMBERS:
                continue
            # A sparse member of a few bytes reads as zeros of any size that it likes.
            if info.issparse():
                raise DataSetError(f"{path}: member {parts[-1]} is sparse, as CIFAR's never are")
            if parts[-1] in found:
                raise DataSetError(f"{path}: holds {parts[-1]} twice")
            opener = partial(archive.extractfile, info)
            found[parts[-1]] = _Member(info.size, cast("Callable[[], IO[bytes]]", opener))
        headers.most = None
        # To the very end, where gzip compares its checksum.
        while stream.read(2**20):
            pass
        yield found


def _folder_members(path: Path) -> dict[str, _Member]:
    files = {name: path / name for name in _MEMBERS if (path / name).is_file()}
    return {
        name: _Member(file.stat().st_size, partial(open_binary, file))
        for name, file in files.items()
        if sniff(file)[:1] == b"\x80"
    }


def _load(path: Path, name: str, members: Mapping[str, _Member]) -> tuple[Array, dict[str, Array]]:
    """The rows and the labels of one member."""
    where = f"{path}: member {name}"
    with members[name].open() as file:
        batch: Any = load(file, name=where, limit=members[name].size)
    rows = batch.get("data") if isinstance(batch, dict) else None
    if (
        not isinstance(rows, np.ndarray)
        or rows.dtype != np.uint8
        or rows.ndim != 2
        or rows.shape[1] != _N_FEATURES
        or not len(rows)
    ):
        raise DataSetError(f"{where} has no 'data' of uint8 rows of {_N_FEATURES}")
    labels: dict[str, Array] = {}
    for label, keys in _LABELS.items():
        for key in keys:
            if key in batch:
                found = label_array(batch[key])
                if found is None or len(found) != len(rows):
                    raise DataSetError(f"{where}: {key!r} is not one integer for each row")
                labels[label] = found
    return rows, labels


def _split(
    path: Path, name: str, names: tuple[str, ...], members: Mapping[str, _Member]
) -> SourceSplit:
    n_rows = 0
    parts: list[dict[str, Array]] = []
    for member in names:
        rows, labels = _load(path, member, members)
        n_rows += len(rows)
        parts.append(labels)
        del rows  # before the next is read
    if any(part.keys() != parts[0].keys() for part in parts):
        raise DataSetError(f"{path}: some batches of {name} have labels and others have not")
    return SourceSplit(
        name,
        n_rows=n_rows,
        n_features=_N_FEATURES,
        dtype=np.dtype(np.uint8),
        batches=partial(_batches, path, names),
        scale_factor=1 / 255,
        image_shape=_IMAGE_SHAPE,
        layout="CHW",
        labels={key: np.concatenate([part[key] for part in parts]) for key in parts[0]},
    )


def _batches(path: Path, names: tuple[str, ...]) -> Iterator[Array]:
    with reading(path, "CIFAR archive"), _members(path) as members:
        for name in names:
            yield from array_batches(_load(path, name, members)[0])
