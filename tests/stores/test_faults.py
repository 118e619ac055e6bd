"""Whatever fails while something is written, at whichever operation: old or new, and one line.

Each case is done again and again, with a fault at its first operation, at its second, and so on.
"""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from faults import KINDS, READS, Log, count, faults

import dkde
from dkde.datasets.dataset import open_splits
from dkde.datasets.index import index_dataset, index_state
from dkde.errors import DkdeError
from dkde.inputs.importing import import_dataset
from dkde.stores import renaming, staging
from dkde.stores.durable import create_synced, sync_file, write_synced
from dkde.stores.publishing import is_there, write_whole

# Zarr gives up the rest of several writes where one fails.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
A, B = np.arange(12.0).reshape(6, 2), -np.arange(8.0).reshape(4, 2)


@dataclass(frozen=True)
class Case:
    """Something that is written.

    Parameters
    ----------
    act : callable
        Writes it, in a folder.
    before : callable
        Makes what is in the folder before.
    replaces : bool
        Whether it may be done again where it has been done.
    place : str
        The name of what is written.
    """

    act: Callable[[Path], Any]
    before: Callable[[Path], Any] = lambda folder: None
    replaces: bool = True
    place: str = "s.zarr"


def bring(name: str, **options: Any) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        import_dataset(folder.parent / name, folder / "s.zarr", index=False, **options)

    return act


def sampled(folder: Path) -> None:
    dkde.sample(
        folder.parent / "a.npy", 0.5, 3, random_state=1, output=folder / "s.zarr", overwrite=True
    )


def sample_file(suffix: str) -> Case:
    def act(folder: Path) -> None:
        dkde.sample(
            folder.parent / "a.npy",
            0.5,
            3,
            random_state=1,
            output=folder / f"s{suffix}",
            overwrite=True,
        )

    return Case(act, lambda folder: (folder / f"s{suffix}").write_bytes(b"old"), place=f"s{suffix}")


def exported(suffix: str) -> Case:
    def act(folder: Path) -> None:
        scores = dkde.score(B, A, [0.5, 1.0])
        dkde.export(scores, folder / f"s{suffix}", overwrite=True)

    return Case(act, lambda folder: (folder / f"s{suffix}").write_bytes(b"old"), place=f"s{suffix}")


# Tried at every operation by the long tests; all others by the full ones.
FEW = ("kill", "cut", "EIO")
# Every operation takes an hour; without the variable every fifteenth is met.
STEP = 1 if os.environ.get("DKDE_ALL_FAULTS") else 15
CASES = {
    "a file": Case(
        lambda folder: write_whole(folder / "s.csv", b"new" * 9),
        lambda folder: (folder / "s.csv").write_bytes(b"old"),
        place="s.csv",
    ),
    "a new file": Case(lambda folder: write_whole(folder / "s.csv", b"new"), place="s.csv"),
    "export to .csv": exported(".csv"),
    "export to .parquet": exported(".parquet"),
    "export to .nc": exported(".nc"),
    "sample to .npy": sample_file(".npy"),
    "sample to .csv": sample_file(".csv"),
    "import": Case(bring("a.npy"), replaces=False),
    "import over": Case(bring("b.npy", overwrite=True), bring("a.npy")),
    "import in order": Case(bring("a.npy", overwrite=True, order=True), bring("a.npy")),
    "import with index": Case(
        lambda folder: import_dataset(
            folder.parent / "b.npy", folder / "s.zarr", overwrite=True
        ),
        bring("a.npy"),
    ),
    "sample": Case(sampled, bring("a.npy")),
    "index": Case(lambda folder: index_dataset(folder / "s.zarr"), bring("a.npy")),
    "index again": Case(
        lambda folder: index_dataset(folder / "s.zarr"),
        lambda folder: import_dataset(folder.parent / "a.npy", folder / "s.zarr"),
    ),
}  # fmt: skip


def state(path: Path) -> Any:
    """What readers see at a place: all content of a file, or the rows of a data set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a killed command left
        return _state(path)


def _state(path: Path) -> Any:
    if not is_there(path):
        return None
    if path.suffix == ".nc" and path.read_bytes() != b"old":
        return xr.load_dataset(path).log_density.values.tolist()  # the file holds times
    if path.is_file():
        return path.read_bytes()
    splits = open_splits(path)
    return {name: (split.x[:].tolist(), index_state(split)) for name, split in splits.items()}


class Trial:
    """A case, and what is in its folder before and after.

    Parameters
    ----------
    case : Case
    folder : pathlib.Path
        An empty folder, in whose folder the sources are.
    """

    def __init__(self, case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.case, self.folder, self.monkeypatch = case, folder, monkeypatch
        self.before = folder.with_name("before")
        self.before.mkdir()
        # What a process leaves that is killed at once is removed a minute later, or now.
        monkeypatch.setattr(staging, "_YOUNG", 0.0)
        np.save(folder.parent / "a.npy", A)
        np.save(folder.parent / "b.npy", B)
        folder.mkdir()
        case.before(folder)
        shutil.copytree(folder, self.before, dirs_exist_ok=True)
        self.old = self.state()
        self.n = count(folder, self.act)
        self.new = self.state()

    def act(self) -> None:
        self.case.act(self.folder)

    def state(self) -> Any:
        return state(self.folder / self.case.place)

    def check(self, kind: str, k: int, seed: int = 0) -> Log:
        """Let an operation fail, and do it once more."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.before, self.folder)
        said: list[str] = []
        with said_by(said), faults(self.folder, kind, k, seed) as log:
            self.act()
        if kind == "cut":  # the machine has started anew
            self.monkeypatch.setattr(staging, "boot_id", lambda: f"after cut {k}")
        found = self.state()
        assert found == self.new if log.done else found in (self.old, self.new)
        self.left(said, dead=log.dead or kind == "cut")
        with said_by(said) as refused:
            self.act()
        # A new one that is whole is not replaced unasked.
        assert not refused or (found == self.new and not self.case.replaces)
        assert self.state() == self.new
        left = self.left(said, dead=False)
        assert kind == "cut" or not left
        return log

    def left(self, said: list[str], *, dead: bool) -> list[str]:
        """What is beside the place; all of it is named, but by a dead process."""
        names = [path.name for path in self.folder.iterdir() if path.name != self.case.place]
        assert dead or all(any(name in line for line in said) for name in names), (names, said)
        return names


class said_by:
    """Collects warnings, and an error of dkde, each of which is a line."""

    def __init__(self, said: list[str]) -> None:
        self.said = said
        self.errors: list[str] = []

    def __enter__(self) -> list[str]:
        self.recording = warnings.catch_warnings(record=True)
        self.caught = self.recording.__enter__()
        warnings.simplefilter("always")
        return self.errors

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self.recording.__exit__(kind, error, trace)
        # Zarr gives up the rest of several writes where one fails.
        odd = [
            each
            for each in self.caught
            if each.category is not UserWarning and "was never awaited" not in str(each.message)
        ]
        assert not odd, [str(each.message) for each in odd]
        self.said += [str(each.message) for each in self.caught if each.category is UserWarning]
        if not isinstance(error, DkdeError):
            return False
        self.errors.append(str(error))
        self.said.append(str(error))
        assert not any("\n" in line for line in self.said)
        return True


@pytest.fixture(params=["flags", "no flags"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no flags":
        monkeypatch.setattr(renaming, "_call", lambda: None)
    return str(request.param)


@pytest.fixture
def trial(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    return Trial(CASES[request.param], tmp_path / "f", monkeypatch)


def chosen(trial: Trial, step: int) -> Iterator[tuple[str, int]]:
    """Some operations of a case, and each of the kinds of faults in turn."""
    kinds = [kind for kind in KINDS if kind != "delay"]
    for number, k in enumerate(range(1, trial.n + 1, step)):
        yield kinds[number % len(kinds)], k


@pytest.mark.slow
@pytest.mark.parametrize("trial", ["a file"], indirect=True)
def test_every_operation_of_a_file(system, trial):
    for kind in KINDS:
        k, log = 0, None
        while log is None or log.fired:
            k += 1
            for seed in range(3 if kind == "cut" else 1):
                log = trial.check(kind, k, seed)
        assert log.done
        assert k > (5 if kind in READS else 10)


@pytest.mark.slow
@pytest.mark.parametrize("trial", ["export to .csv"], indirect=True)
def test_every_operation_of_a_table(trial):
    for k in range(1, trial.n + 2):
        for kind in ("ENOSPC", "kill", "cut"):
            trial.check(kind, k, k % 4)


@pytest.mark.slow
@pytest.mark.parametrize("trial", ["import over"], indirect=True)
def test_power_cuts_of_an_import(trial):
    """At some operations, and after the last."""
    for k in range(1, trial.n + 1, 4):
        trial.check("cut", k, k % 5)
    for seed in range(4):
        assert trial.check("cut", trial.n + 1, seed).done


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("trial", "step"), [("import", 7), ("import over", 9), ("index", 23), ("sample", 23)],
    indirect=["trial"],
)  # fmt: skip
def test_some_operations(trial, step):
    for kind, k in chosen(trial, step):
        trial.check(kind, k, k)
    assert trial.check("cut", trial.n + 1, 0).done


@pytest.mark.slow
@pytest.mark.parametrize("trial", ["import over"], indirect=True)
def test_without_flags(trial, monkeypatch):
    monkeypatch.setattr(renaming, "_call", lambda: None)
    trial.n += 12  # the second step, its mark
    for kind in ("ENOSPC", "lost", "full", "kill", "cut"):
        for k in range(1, trial.n + 1, STEP):
            trial.check(kind, k, k % 7)


def some(kinds: Iterable[str]) -> list[Any]:
    """Kinds of faults, of which most are tried by the full tests alone."""
    return [pytest.param(kind, marks=[] if kind in FEW else pytest.mark.full) for kind in kinds]


@pytest.mark.slow
@pytest.mark.parametrize("kind", some(KINDS))
@pytest.mark.parametrize("trial", [name for name in CASES if "index" not in name], indirect=True)
def test_every_operation(trial, kind):
    k, log = 0, None
    while log is None or log.fired:
        k += STEP
        for seed in range(4 if kind == "cut" and STEP == 1 else 1):
            log = trial.check(kind, k, seed)
    assert log.done


@pytest.mark.slow
@pytest.mark.parametrize("kind", some(["ENOSPC", "lost", "kill", "cut", "read EIO"]))
@pytest.mark.parametrize("trial", ["index", "index again", "import with index"], indirect=True)
def test_every_operation_of_an_index(trial, kind):
    k, log = 0, None
    while log is None or log.fired:
        k += STEP
        log = trial.check(kind, k, k % 7)
    assert log.done


# ---- file systems that lack something ----


def lacking(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, "the file system cannot do this")

    return fail


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["import over", "index again", "sample", "a file"])
def test_without_hard_links_flags_locks_and_flushes(name, tmp_path, monkeypatch):
    monkeypatch.setattr(renaming, "_call", lambda: lambda *_: errno.EINVAL)
    monkeypatch.setattr(os, "link", lacking(errno.EPERM))
    monkeypatch.setattr(os, "fsync", lacking(errno.EINVAL))
    monkeypatch.setattr("fcntl.flock", lacking(errno.ENOLCK))
    case, folder = CASES[name], tmp_path / "f"
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    folder.mkdir()
    case.before(folder)
    old = state(folder / case.place)
    case.act(folder)
    assert state(folder / case.place) != old or name == "index again"
    case.act(folder)
    assert [path.name for path in folder.iterdir()] == [case.place]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_what_cannot_be_flushed_is_not_written(number, tmp_path, monkeypatch):
    place = tmp_path / "s.csv"
    place.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lacking(number))
    with pytest.raises(DkdeError, match=r"s\.csv: could not be written"):
        write_whole(place, b"new")
    assert place.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["s.csv"]


def test_names_that_differ_in_case_are_one_place(tmp_path):
    """As on a file system that does not tell them apart: here a link leads to the same folder."""
    np.save(tmp_path / "a.npy", A)
    import_dataset(tmp_path / "a.npy", tmp_path / "s.zarr", index=False)
    (tmp_path / "S.zarr").symlink_to(tmp_path / "s.zarr")
    with pytest.raises(DkdeError, match="exists already"):
        import_dataset(tmp_path / "a.npy", tmp_path / "S.zarr", index=False)


# ---- durable writing by itself ----


@pytest.mark.sampled(32)
@pytest.mark.parametrize("kind", KINDS)
def test_durable_files(kind, system, tmp_path):
    folder = tmp_path / "f"
    for write in (write_synced, create_synced):
        log, k = None, 0
        while log is None or log.fired:
            k += 1
            for seed in range(4):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                if write is write_synced:
                    (folder / "a").write_bytes(b"old")
                with suppress(OSError), faults(folder, kind, k, seed) as log:
                    write(folder / "a", b"new" * 9)
                found = (folder / "a").read_bytes() if (folder / "a").exists() else None
                old = b"old" if write is write_synced else None
                assert found == b"new" * 9 if log.done else found in (old, b"new" * 9)
                others = {path.suffix for path in folder.iterdir()} - {""}
                assert others <= {".partial"}
                assert not others or log.dead or kind in ("cut", "read-only", "lost")


def test_one_of_two_makes_a_file(tmp_path, system):
    assert create_synced(tmp_path / "a", b"one")
    assert not create_synced(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


# ---- the wrapper itself ----


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_forgets_what_was_not_flushed(tmp_path, seed):
    """The usual faults: content behind a new name, a name, a removal."""
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "kept").write_bytes(b"kept")
    number = (folder / "kept").stat().st_ino
    with faults(folder, "cut", 1000, seed) as log:
        (folder / "kept").unlink()
        (folder / "draft").write_bytes(b"content")
        os.replace(folder / "draft", folder / "new")
        sync_file(folder / "new")
        (folder / "other").write_bytes(b"other")
    assert log.done
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    if seed == 0:
        assert there == {"kept": b"kept"}
        assert (folder / "kept").stat().st_ino == number
    elif seed == 1:
        assert there == {"new": b"content", "other": b""}
    assert there.get("new", b"content") == b"content"


def test_operations_are_counted_and_a_kill_ends_all(tmp_path):
    def act() -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b").write_bytes(b"1234")
        os.replace(tmp_path / "a" / "b", tmp_path / "c")
        shutil.rmtree(tmp_path / "a")

    with faults(tmp_path, "torn kill", 3) as log:
        act()
    names = [operation[0] for operation in log.operations]
    assert (names, log.dead, log.done) == (["mkdir", "open", "write"], True, False)
    assert (tmp_path / "a" / "b").read_bytes() == b"12"
    shutil.rmtree(tmp_path / "a")
    assert count(tmp_path, act) == 5


# ---- reading ----


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows in each kind of file, and a result."""
    folder = tmp_path_factory.mktemp("sources")
    frame = pd.DataFrame({"a": A[:, 0], "b": A[:, 1]})
    np.save(folder / "a.npy", A)
    np.savez(folder / "a.npz", train=A)
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_parquet(folder / "a.parquet")
    rows = xr.Dataset({name: ("row", values) for name, values in frame.items()})
    rows.to_netcdf(folder / "a.nc", engine="h5netcdf")
    rows.to_zarr(folder / "a.zarr", zarr_format=2)
    import_dataset(folder / "a.npy", folder / "s.zarr")
    dkde.score(B, A, [0.5, 1.0], output=folder / "R.zarr")
    return folder


READ = {
    "describe": lambda folder: dkde.describe(folder / "s.zarr"),
    "a result": lambda folder: dkde.export(
        folder / "R.zarr", folder.parent / "R.csv", overwrite=True
    ),
    "a foreign store": lambda folder: dkde.log_density(
        B, str(folder / "a.zarr"), 0.5, features=["a", "b"]
    ),
    "NetCDF": lambda folder: dkde.log_density(
        B, str(folder / "a.nc"), 0.5, features=["a", "b"]
    ),
} | {
    suffix: lambda folder, suffix=suffix: dkde.log_density(B, f"{folder}/a.{suffix}", 0.5)
    for suffix in ("npy", "npz", "csv", "parquet")
}  # fmt: skip


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", READ)
def test_what_cannot_be_read_is_said_in_a_line(name, sources):
    n = count(sources, lambda: READ[name](sources), reads=True)
    n_said = 0
    for k in range(1, n + 1):
        said: list[str] = []
        with said_by(said) as refused, faults(sources, "read EIO", k):
            READ[name](sources)
        n_said += len(refused)
    assert n_said  # some reads it can do without, and HDF5 reads by itself
