"""Small files that would fill the memory are refused in one line.

Each is read in a process of its own that may take 1 GiB more than it did before, and 5 s of the
processor. The process is a copy of one that has imported everything.
"""

from __future__ import annotations

import os
import resource
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

from dkde.errors import DataSetError

MEMORY, SECONDS = 2**30, 5


def outcome(
    maker: Any, reader: Any, folder: Path, *, memory: int = MEMORY
) -> tuple[str, str, float, float]:
    """What a reader says of a bomb: the kind of answer, its text, seconds and GiB."""
    path = maker(folder)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            soft = pages * resource.getpagesize() + memory
            resource.setrlimit(resource.RLIMIT_AS, (soft, soft))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS * 4, SECONDS * 4))
            before = resource.getrusage(resource.RUSAGE_SELF)
            rss = before.ru_maxrss
            answer = said(reader, path)
            after = resource.getrusage(resource.RUSAGE_SELF)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            text = "\0".join([*answer, f"{seconds:.2f}", f"{(after.ru_maxrss - rss) / 2**20:.3f}"])
            os.write(send, text.encode(errors="replace")[:60000])
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as file:
        text = file.read().decode()
    _, status = os.waitpid(child, 0)
    if not text:
        return "ended", f"status {status}", 0.0, 0.0
    kind, message, seconds, size = text.split("\0")
    return kind, message, float(seconds), float(size)


def said(reader: Any, path: Path) -> tuple[str, str]:
    from dkde.errors import DkdeError

    warnings.simplefilter("ignore")
    try:
        return "read", str(reader(path))[:200]
    except DkdeError as error:
        link: BaseException | None = error
        while link is not None:
            if isinstance(link, MemoryError):
                return "memory", str(error)
            link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
        return "refused", str(error)
    except BaseException:
        return "escaped", traceback.format_exc()[-1500:]


def by_catalog(path: Path) -> Any:
    from dkde.inputs.selectors import Catalog

    catalog = Catalog()
    found = []
    for name in catalog.splits(str(path)):
        rows = catalog.rows(f"{path}::{name}")
        rows.coordinates()
        cuts = rows.read(0, min(rows.n_rows, 4), decode=True)
        found.append((name, cuts.shape, rows.n_rows))
    return found


def by_features(path: Path) -> Any:
    from dkde.inputs.selectors import Catalog

    rows = Catalog(features=("v",), row_dim=("row",)).rows(str(path))
    return rows.read(0, min(rows.n_rows, 2), decode=True).shape, rows.n_rows


def by_zarr(path: Path) -> Any:
    """The array as a user opened it, whatever it holds, and through a store of dkde's own."""
    import zarr

    from dkde.stores.absent import watched
    from dkde.stores.store import open_store

    own = zarr.open_array(open_store(path, read_only=True), path="v", mode="r")
    found = []
    for array in (own, watched(zarr.open_array(path / "v", mode="r"))):
        try:
            found.append(str(array[:2, :2]))
        except DataSetError as error:
            found.append(error)
    if isinstance(found[0], DataSetError) and isinstance(found[1], DataSetError):
        raise found[0]
    return found


def imported(path: Path) -> Any:
    from dkde.inputs.importing import import_dataset

    with tempfile.TemporaryDirectory() as folder:
        import_dataset(path, Path(folder) / "imported.zarr")
    return "imported"


def described(path: Path) -> Any:
    from dkde.inputs.describing import describe

    return describe(path)
