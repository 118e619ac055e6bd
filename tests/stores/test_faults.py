"""Whatever fails while something is written, at whichever operation: old or new, and one line.

Each case is done again and again, with a fault at its first operation, at its second, and so on.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from faults import Log, count, faults

import dkde
from dkde.datasets.dataset import open_splits
from dkde.datasets.index import index_dataset, index_state
from dkde.datasets.ordering import compact_order  # noqa: F401  (its folder of scratch files)
from dkde.errors import DkdeError
from dkde.inputs.importing import import_dataset
from dkde.stores import renaming, staging
from dkde.stores.publishing import write_whole

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
    if not path.exists():
        return None
    if path.suffix == ".nc" and path.read_bytes() != b"old":
        return xr.load_dataset(path).log_density.values.tolist()  # the file holds times
    if path.is_file():
        return path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a killed command left
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
        odd = [each for each in self.caught if each.category is not UserWarning]
        assert not odd, odd
        self.said += [str(each.message) for each in self.caught]
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
