"""A run in all its states: faults, kills, power cuts, several writers, in any order.

Whatever happens, a result that is seen is that of one clean run to the last bit, of a run that was
not deposed; a result that was there is never gone; what was committed stays; and the way out that
a message names is one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from faults import ERRORS, faults
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from writers import Writer, many_machines

import dkde
from dkde.runs import sessions

CONFIGS = ([0.5], [1.0, 2.0], [0.7])
N_STEPS = int(os.environ.get("DKDE_RUN_STEPS", "0"))
# Faster than a disk, where there is one in memory.
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(5)
    np.save(folder / "q.npy", rng.normal(size=(40, 2)))
    np.save(folder / "t.npy", rng.normal(size=(60, 2)))
    return folder


@pytest.fixture(scope="module")
def clean_runs(data):
    return [score(data, i).log_density.values for i in range(len(CONFIGS))]


def score(data: Path, config: int, **options: Any) -> Any:
    # Of the last one, blocks have two panels, whose partial results are kept for a while.
    cut = {"block_rows": 5, "panel_rows": 30 if config == 2 else 60}
    return dkde.score(str(data / "q.npy"), str(data / "t.npy"), CONFIGS[config], **cut, **options)


class Runs(RuleBasedStateMachine):
    """One output, and all that happens to it."""

    data: Path
    expected: list[np.ndarray]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="dkde-states-", dir=SHM)).resolve()
        self.output = self.folder / "r.zarr"
        self.machines = many_machines()
        self.machines.__enter__()
        self.paused: list[Writer] = []
        self.deposed: set[str] = set()  # runs of which nothing may appear any more
        self.visible: str | None = None
        self.committed: dict[tuple[str, str], int] = {}
        self.is_damaged = False
        self.config_of: dict[str, int] = {}

    # ---- what is seen ----

    def run_folder(self) -> Path:
        return self.folder / "r.zarr.run"

    def present(self) -> str | None:
        """The id of the present run."""
        marks = sorted(
            self.run_folder().glob("dkde-run-*.json"), key=lambda p: int(p.stem.split("-")[-1])
        )
        if not marks:
            return None
        try:
            found = json.loads(marks[-1].read_bytes())
        except ValueError:
            return None
        self.config_of[found["id"]] = CONFIGS.index(found["asked"]["score"]["bandwidths"])
        return str(found["id"])

    def result(self) -> tuple[str | None, int | None]:
        """The id of the run of the result that is seen, and which it is."""
        try:
            root = json.loads((self.output / "zarr.json").read_bytes())
        except FileNotFoundError:
            return None, None
        run = json.loads(root["attributes"]["run"])
        config = CONFIGS.index(run["asked"]["score"]["bandwidths"])
        self.config_of[run["id"]] = config
        return run["id"], config

    @invariant()
    def what_is_seen_is_whole(self) -> None:
        run, config = self.result()
        if self.visible is not None:
            assert run is not None, "a result that was there is gone"
        if run is None or run == self.visible:
            return
        assert run not in self.deposed, "a deposed run was published"
        self.visible = run
        import xarray as xr

        with xr.open_zarr(self.output) as found:
            np.testing.assert_array_equal(found.log_density.values, self.expected[config])
        assert root_is_clean(self.output)

    @invariant()
    def what_was_committed_stays(self) -> None:
        present = self.present()
        if present is None or self.is_damaged:
            return
        try:
            stages = dkde.status(self.output)["stages"]
        except dkde.DkdeError:
            assert self.present() != present or self.result()[0] == present
            return
        for name, stage in stages.items():
            before = self.committed.get((present, name), 0)
            assert stage["done"] >= before, "committed blocks are gone"
            self.committed[present, name] = stage["done"]

    # ---- what happens ----

    @contextmanager
    def seen_elsewhere(self, *, alive: bool) -> Any:
        """Other machines' sessions seem to be alive, or dead."""
        with mock.patch.object(sessions, "STALE", 1e12 if alive else -1.0):
            yield

    def begun(self, before: str | None) -> None:
        """Note which runs were deposed, after a call that was to begin one anew."""
        now = self.present()
        run, _ = self.result()
        for known in list(self.config_of):
            if known not in (now, run, self.visible):
                self.deposed.add(known)

    def call(self, config: int, *, restart: bool) -> Any:
        return score(self.data, config, output=self.output, restart=restart)

    def refused(self, call: Any, *arguments: Any, alive: bool = False, **options: Any) -> Any:
        """Make a call; return the message with which it was refused, else None."""
        with self.seen_elsewhere(alive=alive):
            try:
                self.found = call(*arguments, **options)
            except dkde.DkdeError as error:
                return str(error)
        return None

    def refusal(self, config: int, *, restart: bool) -> str | None:
        """Part of the message with which a call is to be refused; None if it is to succeed."""
        if restart:
            return None
        present = self.present()
        if present is None and self.run_marks():
            return "damaged"
        known = self.config_of[present] if present is not None else self.result()[1]
        return None if known in (None, config) else "was begun otherwise"

    def run_marks(self) -> bool:
        return any(self.run_folder().glob("dkde-run-*.json"))

    @initialize()
    def begin(self) -> None:
        self.what_is_seen_is_whole()

    @rule(config=st.integers(0, 2), restart=st.booleans())
    def whole(self, config: int, restart: bool) -> None:
        expected, before = self.refusal(config, restart=restart), self.present()
        said = self.refused(self.call, config, restart=restart)
        if said is not None:
            assert expected is not None, said
            assert expected == "damaged" or expected in said, said
            return
        assert expected in (None, "damaged"), expected
        found = self.found
        np.testing.assert_array_equal(found.log_density.values, self.expected[config])
        assert self.result()[1] == config
        assert not self.run_folder().exists() or self.paused or self.left_over()
        self.is_damaged = False
        self.begun(before)

    def left_over(self) -> bool:
        """Whether only what deposed processes left is in the run's folder."""
        return all(
            name.startswith("dead-") or name.endswith(".partial") or len(name) == 32
            for name in os.listdir(self.run_folder())
        )

    @rule(
        config=st.integers(0, 2),
        restart=st.booleans(),
        kind=st.sampled_from(["kill", "torn kill", "cut", *ERRORS, "tear", "lost", "full"]),
        k=st.integers(1, 120),
        seed=st.integers(0, 2**16),
    )
    @precondition(lambda self: not self.paused)
    def faulty(self, config: int, restart: bool, kind: str, k: int, seed: int) -> None:
        before = self.present()
        with (
            suppress(dkde.DkdeError),
            self.seen_elsewhere(alive=False),
            faults(self.folder, kind, k, seed),
        ):
            self.call(config, restart=restart)
        self.begun(before)

    @rule(config=st.integers(0, 2), restart=st.booleans(), k=st.integers(1, 80))
    @precondition(lambda self: len(self.paused) < 2)
    def pause(self, config: int, restart: bool, k: int) -> None:
        before = self.present()
        with self.seen_elsewhere(alive=False):
            writer = Writer(lambda: self.call(config, restart=restart), k)
            if writer.start():
                self.paused.append(writer)
            else:
                self.check_ended(writer)
        self.begun(before)

    @rule(which=st.integers(0, 1))
    @precondition(lambda self: self.paused)
    def resume(self, which: int) -> None:
        writer = self.paused.pop(which % len(self.paused))
        with self.seen_elsewhere(alive=False):
            writer.resume()
        self.check_ended(writer)

    def check_ended(self, writer: Writer) -> None:
        if writer.error is not None and not isinstance(writer.error, dkde.DkdeError):
            raise writer.error

    @rule(config=st.integers(0, 2))
    @precondition(lambda self: self.paused)
    def second_writer_is_refused(self, config: int) -> None:
        """A call while others seem to be at work."""
        self.refused(self.call, config, restart=False, alive=True)

    @rule(config=st.integers(0, 2))
    def set_up(self, config: int) -> None:
        expected = self.refusal(config, restart=False)
        with dkde.init_only():
            said = self.refused(self.call, config, restart=False)
        assert said is None or expected is not None, said

    @rule(part=st.integers(0, 2))
    def one_part(self, part: int) -> None:
        present = self.present()
        said = self.refused(dkde.run_part, self.output, part, 3)
        assert said is None or present is None or self.is_damaged, said

    @rule()
    def finish(self) -> None:
        present = self.present()
        said = self.refused(dkde.finish, self.output)
        allowed = present is None or self.is_damaged
        assert said is None or allowed or "missing" in said or "no part is done" in said, said

    @rule()
    def look(self) -> None:
        for call in (dkde.status, dkde.verify, dkde.clean):
            self.refused(call, self.output)

    @rule()
    def mend(self) -> None:
        self.refused(dkde.repair, self.output)
        self.refused(dkde.unlock, self.output)
        if self.run_folder().exists() or self.output.exists():
            dkde.clean(self.output, remove=True)

    @rule(kind=st.sampled_from(["empty", "zero", "half", "flip", "gone"]), pick=st.integers(0, 99))
    @precondition(lambda self: not self.paused)
    def damage(self, kind: str, pick: int) -> None:
        """Damage a file of the run, as a disk does."""
        files = sorted(path for path in self.run_folder().rglob("*") if path.is_file())
        if not files:
            return
        path = files[pick % len(files)]
        content = bytearray(path.read_bytes())
        if kind == "gone" and path.parent == self.run_folder():
            return  # a mark that is gone is a run that is gone
        if kind == "gone":
            path.unlink()
        else:
            half = len(content) // 2
            if kind == "flip" and content:
                content[half] ^= 1
            changed = {"empty": b"", "zero": bytes(len(content)), "half": content[:half]}
            path.write_bytes(changed.get(kind, content))
        self.is_damaged = True

    def teardown(self) -> None:
        try:
            for writer in self.paused:
                with self.seen_elsewhere(alive=False):
                    writer.resume()
                self.check_ended(writer)
            self.what_is_seen_is_whole()
            with self.seen_elsewhere(alive=False):
                # The way on, and the way out.
                present = self.present()
                if present is not None and not self.is_damaged:
                    found = self.call(self.config_of[present], restart=False)
                    np.testing.assert_array_equal(
                        found.log_density.values, self.expected[self.config_of[present]]
                    )
                self.call(0, restart=True)
                self.what_is_seen_is_whole()
                assert self.result()[1] == 0
                dkde.clean(self.folder, remove=True)
                assert sorted(os.listdir(self.folder)) == ["r.zarr"]
        finally:
            self.machines.__exit__(None, None, None)
            shutil.rmtree(self.folder, ignore_errors=True)


def root_is_clean(output: Path) -> bool:
    """Whether a result holds its variables, and no trace of who wrote it."""
    return all(
        (output / name / "zarr.json").exists() or name == "zarr.json" for name in os.listdir(output)
    )


@pytest.mark.filterwarnings("ignore")
def test_a_run_in_all_its_states(data, clean_runs):
    bounds = settings(
        max_examples=max(8, N_STEPS // 50),
        stateful_step_count=12 if not N_STEPS else 50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes
    )
    machine = type("RunsHere", (Runs,), {"data": data, "expected": clean_runs})
    machine.TestCase.settings = bounds
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=bounds)
