"""The Python archives of CIFAR-10 and CIFAR-100: a tar file of pickled batches, or its folder."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np

from dkde.datasets.formats.files import MAX_BYTES, checksum_files, open_binary, reading, sniff
from dkde.datasets.formats.source import ReadOptions, Source, SourceSplit, split_of_arrays
from dkde.datasets.formats.unpickle import label_array, load
from dkde.errors import DataSetError
from dkde.typing import Array

NAME = "cifar"
# The members of each split, in the order of their rows, for the two data sets.
_CIFAR_100: dict[str, tuple[str, ...]] = {"train": ("train",), "test": ("test",)}
_CIFAR_10: dict[str, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
    "test": ("test_batch",),
}
_MEMBERS = {name for split in (_CIFAR_100, _CIFAR_10) for names in split.values() for name in names}
# The keys of a batch that hold labels: CIFAR-100 has fine and coarse ones, CIFAR-10 "labels".
_LABELS = {"label": ("fine_labels", "labels"), "coarse_label": ("coarse_labels",)}
# The most bytes of one header of a tar file.
_MAX_HEADER = 2**20
_MAX_MEMBERS = 100  # CIFAR's archives have about ten
_N_FEATURES = 3072  # 3 channels of 32 x 32


@dataclass(frozen=True)
class _Member:
    """One pickled batch: its size in bytes, and a function that opens it."""

    size: int
    open: Callable[[], IO[bytes]]


def matches(path: Path) -> bool:
    """Return whether the content is a tar archive, or a folder with CIFAR's pickles."""
    if path.is_dir():
        return bool(_layout(_files(path)))
    # A tar header has a checksum of its own, which other files fail.
    try:
        tarfile.TarInfo.frombuf(sniff(path)[:512], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def read(path: Path, options: ReadOptions) -> Source:
    """Read the pictures and their labels; they stay in memory, about 180 MB.

    Raises
    ------
    DataSetError
        If the archive is damaged, or holds none of CIFAR's members.
    """
    with reading(path, "CIFAR archive"), _members(path) as members:
        layout = _layout(members)
        if not layout:
            raise DataSetError(
                f"{path}: is neither CIFAR-10 (data_batch_1 to 5, test_batch) nor CIFAR-100 "
                "(train, test); fetch the Python version of one, or unpack an archive of "
                "pictures (tar -xf) and name its folder"
            )
        # The sizes that the archive states, before anything of it is read into memory.
        if sum(members[name].size for names in layout.values() for name in names) > MAX_BYTES:
            raise DataSetError(
                f"{path}: holds more than {MAX_BYTES / 2**30:.0f} GiB, and CIFAR takes 0.2 GiB; "
                "fetch it again"
            )
        splits = tuple(_split(path, name, names, members) for name, names in layout.items())
        files = [path / n for names in layout.values() for n in names] if path.is_dir() else [path]
        return Source(path, NAME, checksum_files(files), splits)


def _layout(members: Mapping[str, _Member]) -> dict[str, tuple[str, ...]]:
    """Return the members of each split; nothing if a member of the data set is missing."""
    for layout in (_CIFAR_10, _CIFAR_100):
        wanted = {name for names in layout.values() for name in names}
        if wanted & members.keys():
            return layout if wanted <= members.keys() else {}
    return {}


class _Headers:
    """A tar file that refuses large reads while its members are listed.

    tarfile reads an extended header at once, and a few bytes can declare one of any size. After
    the listing `most` is None, and members are read without this limit.
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
    """Yield CIFAR's members in an archive or a folder, which stays open meanwhile."""
    if path.is_dir():
        yield _files(path)
        return
    with open_binary(path) as stream:
        headers = _Headers(stream)
        # "r:" means no compression: `open_binary` has undone gzip already.
        archive = tarfile.open(fileobj=cast("IO[bytes]", headers), mode="r:")  # noqa: SIM115
        found: dict[str, _Member] = {}
        for n_members, info in enumerate(archive):
            if n_members == _MAX_MEMBERS:
                raise DataSetError(
                    f"{path}: not CIFAR's Python version: it has more than {_MAX_MEMBERS} members"
                )
            parts = PurePosixPath(info.name).parts
            # Only CIFAR's own names, at the top or in one folder, and only regular files. Links
            # are never followed, and nothing is written to disk.
            if not info.isreg() or len(parts) not in (1, 2) or parts[-1] not in _MEMBERS:
                continue
            # A sparse member of a few bytes can be read as any number of zeros.
            if info.issparse():
                raise DataSetError(
                    f"{path}: member {parts[-1]} is sparse, unlike CIFAR's; fetch it again"
                )
            if parts[-1] in found:
                raise DataSetError(f"{path}: holds {parts[-1]} twice; fetch it again")
            opener = partial(archive.extractfile, info)
            found[parts[-1]] = _Member(info.size, cast("Callable[[], IO[bytes]]", opener))
        headers.most = None
        # Read on to the end of the file, where gzip compares its checksum.
        while stream.read(2**20):
            pass
        yield found


def _files(folder: Path) -> dict[str, _Member]:
    """Return CIFAR's members in a folder: files of their names that are pickles (byte 0x80)."""
    files = [folder / name for name in _MEMBERS]
    return {
        file.name: _Member(file.stat().st_size, partial(open_binary, file))
        for file in files
        if file.is_file() and sniff(file)[:1] == b"\x80"
    }


def _split(
    path: Path, name: str, names: tuple[str, ...], members: Mapping[str, _Member]
) -> SourceSplit:
    """Read the members of a split, and join them in their order."""
    batches = [_load(f"{path}: member {member}", members[member]) for member in names]
    labels = [labels for _, labels in batches]
    if any(each.keys() != labels[0].keys() for each in labels):
        raise DataSetError(
            f"{path}: some batches of {name} have labels and others have none; fetch it again"
        )
    return split_of_arrays(
        name,
        *(rows for rows, _ in batches),
        scale_factor=1 / 255,
        image_shape=(3, 32, 32),
        layout="CHW",
        labels={key: np.concatenate([each[key] for each in labels]) for key in labels[0]},
    )


def _load(where: str, member: _Member) -> tuple[Array, dict[str, Array]]:
    """Read the rows and the labels of one member."""
    with member.open() as file:
        batch: Any = load(file, name=where, limit=member.size)
    rows = batch.get("data") if isinstance(batch, dict) else None
    if (
        not isinstance(rows, np.ndarray)
        or rows.dtype != np.uint8
        or rows.shape[1:] != (_N_FEATURES,)
        or not len(rows)
    ):
        raise DataSetError(
            f"{where} has no 'data' of uint8 rows with {_N_FEATURES} values; fetch it again"
        )
    labels: dict[str, Array] = {}
    for label, keys in _LABELS.items():
        for key in keys:
            if key in batch:
                found = label_array(batch[key])
                if found is None or len(found) != len(rows):
                    raise DataSetError(f"{where}: {key!r} is not one integer for each row")
                labels[label] = found
    return rows, labels
