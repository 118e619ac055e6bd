"""Small files that would fill the memory are refused in one line.

Each is read in a process of its own that may take 1 GiB more than it did before, and 5 s of the
processor. The process is a copy of one that has imported everything.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bombs
import pytest

from dkde.errors import DataSetError
from dkde.stores.limits import VARIABLE, allowed, check_unpacked

resource = pytest.importorskip("resource")  # Windows has no limits of memory

MEMORY, SECONDS = 2**30, 5


# ---- in a process of its own ----


def serve(*names: str) -> None:
    """Write what comes of bombs, a line of JSON each.

    Named ones are read by the first of their readers; all of them by all, where none is named.
    """
    import h5netcdf  # noqa: F401
    import PIL.Image
    import pyarrow as pa
    from pyarrow import csv, parquet

    import dkde.inputs.describing
    import dkde.inputs.importing
    import dkde.inputs.selectors  # noqa: F401

    # Both take a gigabyte of addresses, once.
    list(csv.open_csv(io.BytesIO(b"a,b\n1,2\n")))
    file = io.BytesIO()
    parquet.write_table(pa.table({"a": [1.0]}), file)
    parquet.read_table(file, use_threads=False)
    PIL.Image.init()
    for name in names or CASES:
        make, readers = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            path = make()(Path(folder))
            for reader in readers[:1] if names else readers:
                answer = outcome(reader, path)
                print(json.dumps([name, reader.__name__, *answer]), flush=True)


def outcome(reader: Any, path: Path) -> list[Any]:
    """What a reader says of a bomb: the kind of answer, its text, and the seconds."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            soft = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (soft, soft))
            resource.setrlimit(resource.RLIMIT_CPU, (4 * SECONDS, 4 * SECONDS))
            before = time.process_time()
            answer = [*said(reader, path), time.process_time() - before]
            os.write(send, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as file:
        text = file.read().decode()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else ["ended", f"status {status}", 0.0]


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
    from dkde.inputs.foreign import place_of
    from dkde.inputs.groups import Group
    from dkde.inputs.selectors import Catalog

    dim = str(Group.open(place_of(str(path)), "x").variables["v"].dims[0])
    rows = Catalog(features=("v",), row_dim=(dim,)).rows(str(path))
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
            found.append(str(array[:, :2]))
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


CASES: dict[str, tuple[Callable[[], bombs.Maker], tuple[Any, ...]]] = {
    **{name: (make, (by_catalog, imported, described)) for name, make in bombs.FILES.items()},
    **{name: (make, (by_features,)) for name, make in bombs.VARIABLES.items()},
    **{name: (make, (by_zarr,)) for name, make in bombs.ARRAYS.items()},
}


# One of each kind, for the quick tests.
QUICK = (
    "npz", "csv, commas", "png, grey", "hdf5, a chunk", "zstd, longer than declared", "v2, text",
    "one chunk many times in a shard",
)  # fmt: skip


# ---- in the parent ----


def answers(*names: str) -> dict[str, list[Any]]:
    """What came of bombs in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(bombs.__file__).parent)}
    environment.pop(VARIABLE, None)
    done = subprocess.run(
        [sys.executable, __file__, *names], capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[Any]] = {}
    for name, *answer in map(json.loads, done.stdout.splitlines()):
        found.setdefault(name, []).append(answer)
    return found


def check(name: str, answers: list[Any]) -> None:
    for reader, kind, text, seconds in answers:
        assert kind == "refused", (name, reader, kind, text)
        assert "\n" not in text
        assert seconds < SECONDS, (name, reader, seconds)
        # No line end follows the cell, whatever it unpacks to; no limit allows chunks packed twice.
        if name not in ("csv, a cell", "hdf5, packed twice"):
            assert VARIABLE in text


@pytest.mark.slow
def test_a_bomb_is_refused_in_one_line() -> None:
    found = answers(*QUICK)
    assert set(found) == set(QUICK)
    for name, each in found.items():
        check(name, each)


@pytest.mark.slow
def test_bombs_are_refused_by_imports_and_descriptions_too() -> None:
    found = answers()
    assert set(found) == set(CASES)
    for name, each in found.items():
        check(name, each)


def test_the_limit_is_raised_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert allowed(10) == 2**28
    assert allowed(2**30) == 2**36
    monkeypatch.setenv(VARIABLE, "3GiB")
    assert allowed(10) == 3 * 2**30
    check_unpacked("x.npz", "it", 3 * 2**30, 10)
    with pytest.raises(DataSetError, match=r"^x.npz: it would unpack to 3 GiB, and 10 bytes"):
        check_unpacked("x.npz", "it", 3 * 2**30 + 1, 10)
    with pytest.raises(DataSetError, match=r"^x.nc: a row would unpack to 4 GiB; it is damaged"):
        check_unpacked("x.nc", "a row", 2**32, 0)
    monkeypatch.setenv(VARIABLE, "plenty")
    with pytest.raises(ValueError, match="'plenty' is no size; write 600MB or 4GiB"):
        allowed(10)


def test_numbers_that_are_mostly_zeros_may_be_many() -> None:
    check_unpacked("x.csv", "its rows", 150 * 2_500_000, 2_500_000)
    with pytest.raises(DataSetError, match=r"would unpack to 1.95 GiB, and 7.63 MiB of it are st"):
        check_unpacked("x.csv", "its rows", 2_097_152_000, 8_000_000)
    check_unpacked("x.csv", "its rows", 60 * 2**30, 2**30)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_in_a_folder_are_not_waited_for(tmp_path: Path) -> None:
    folders = [tmp_path / suffix for suffix in ("csv", "parquet", "npy", "nc", "pkl", "png")]
    for folder in folders:
        folder.mkdir()
        os.mkfifo(folder / f"x.{folder.name}")
    code = (
        "import sys, dkde\n"
        "for path in sys.argv[1:]:\n"
        "    for call in (dkde.describe, lambda path: dkde.import_dataset(path, path + '.zarr')):\n"
        "        try:\n"
        "            call(path)\n"
        "        except dkde.DkdeError as error:\n"
        "            assert '\\n' not in str(error)\n"
        "        else:\n"
        "            raise AssertionError(path)\n"
    )
    subprocess.run([sys.executable, "-c", code, *map(str, folders)], check=True, timeout=60)


if __name__ == "__main__":
    serve(*sys.argv[1:])
