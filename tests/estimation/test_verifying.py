"""Parts in any order, the state at each moment, and what a check finds."""

import json
import subprocess
import sys
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import dkde
from dkde.runs.stages import Stage
from dkde.runs.store import ResultStore


class Stopped(BaseException):
    """As Ctrl-C: no kind of Exception."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    store = tmp_path_factory.mktemp("digits") / "digits.zarr"
    dkde.import_dataset("digits", store)
    return str(store)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "r.zarr"


def sweep(digits, **keywords):
    """Twelve blocks for the validation rows, three query blocks by four panels; then the test."""
    return dkde.sweep(
        train="train[:200]", valid="valid[:30]", test="test[:20]", bandwidths=[1, 2, 4, 8],
        block_rows=10, panel_rows=50, source=digits, **keywords,
    )  # fmt: skip


def score(digits, **keywords):
    """Three blocks of one panel."""
    return dkde.score(
        "test[:60]", "train[:200]", [1, 2], block_rows=20, panel_rows=200, source=digits, **keywords
    )


def cross_validate(digits, **keywords):
    return dkde.cross_validate(
        "train[:90]", [2, 3, 4], folds=3, refine=True, block_rows=30, panel_rows=45, source=digits,
        **keywords,
    )  # fmt: skip


CALLS = {"sweep": sweep, "score": score, "cross_validate": cross_validate}


def inputs_of(result):
    """The provenance of a result but for what differs between any two calls."""
    provenance = json.loads(result.attrs["provenance"])
    return {name: provenance[name]["query"] for name in ("score",)}


def assert_same(a, b):
    xr.testing.assert_identical(a.drop_attrs(deep=False).load(), b.drop_attrs(deep=False).load())


def begin(digits, output, call=sweep):
    with dkde.init_only():
        call(digits, output=output)


def stopped(call, count):
    calls = []

    def progress(done, total):
        calls.append(done)
        if len(calls) == count:
            raise Stopped

    with pytest.raises(Stopped):
        call(progress=progress)


def flip(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 4
    path.write_bytes(content)


class TestParts:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", CALLS)
    def test_parts_make_the_same_result(self, digits, output, name):
        begin(digits, output, CALLS[name])
        for part in (1, 0, 2, 1):
            dkde.run_part(output, part, 3)
        assert_same(dkde.finish(output), CALLS[name](digits))
        with xr.open_zarr(output) as stored:
            assert stored.attrs["complete"] == 1
            assert_same(stored, CALLS[name](digits))

    @pytest.mark.slow
    def test_in_any_order(self, digits, tmp_path):
        expected = score(digits)
        for trial, order in enumerate(permutations(range(3))):
            output = tmp_path / f"{trial}.zarr"
            begin(digits, output, score)
            for part in order:
                dkde.run_part(output, part, 3)
            assert_same(dkde.finish(output), expected)

    @pytest.mark.slow
    def test_a_part_does_only_its_blocks_and_those_once(self, digits, output):
        begin(digits, output)
        calls = []
        dkde.run_part(output, 1, 5, progress=lambda *pairs: calls.append(pairs))
        assert len(calls) == 3  # numbers 1, 6 and 11
        assert dkde.status(output)["stages"]["valid"]["done"] == 3
        dkde.run_part(output, 1, 5, progress=lambda *pairs: calls.append(pairs))
        assert len(calls) == 3

    @pytest.mark.slow
    def test_more_parts_than_blocks(self, digits, output):
        begin(digits, output, score)
        for part in range(5):
            dkde.run_part(output, part, 5)
        assert_same(dkde.finish(output), score(digits))

    @pytest.mark.slow
    def test_missing_parts_are_named(self, digits, output):
        begin(digits, output)
        with pytest.raises(
            dkde.IncompleteError, match="12 of 12 blocks are missing; run the parts"
        ):
            dkde.finish(output)
        for part in (0, 3):
            dkde.run_part(output, part, 5)
        with pytest.raises(
            dkde.IncompleteError,
            match=r"7 of 12 blocks are missing, all of part 1, all of part 2, all of part 4; "
            r"run: for part in \[1, 2, 4\]: dkde.run_part\('.*', part, 5\)$",
        ):
            dkde.finish(output)
        for part in (1, 2, 4):
            dkde.run_part(output, part, 5)
        assert_same(dkde.finish(output), sweep(digits))

    @pytest.mark.slow
    def test_parts_go_on_with_a_run_that_was_stopped(self, digits, output):
        stopped(lambda **k: sweep(digits, output=output, **k), 5)
        with pytest.raises(dkde.IncompleteError, match=r"7 of 12 blocks are missing; run the"):
            dkde.finish(output)
        for part in range(2):
            dkde.run_part(output, part, 2)
        assert_same(dkde.finish(output), sweep(digits))

    @pytest.mark.slow
    def test_the_same_call_finishes_parts_too(self, digits, output):
        begin(digits, output)
        dkde.run_part(output, 0, 2)
        calls = []
        result = sweep(digits, output=output, progress=lambda *pairs: calls.append(pairs))
        assert len(calls) == 6 + 8
        assert_same(result, sweep(digits))

    @pytest.mark.slow
    def test_finishing_goes_on_where_it_was_stopped(self, digits, output):
        """In the test rows' turn, whose name sorts before that of the validation rows."""
        begin(digits, output)
        dkde.run_part(output, 0, 1)
        stopped(lambda **k: dkde.finish(output, **k), 3)
        assert set(dkde.status(output)["stages"]) == {"test", "valid"}
        calls = []
        result = dkde.finish(output, progress=lambda *pairs: calls.append(pairs))
        assert calls[0] == (6000, 6000)  # the first stage, which is done
        assert len(calls[1:]) == 5
        assert_same(result, sweep(digits))

    @pytest.mark.slow
    def test_a_complete_result_is_returned(self, digits, output):
        result = score(digits, output=output)
        xr.testing.assert_identical(dkde.finish(output).load(), result)
        dkde.run_part(output, 0, 2)
        assert dkde.status(output)["complete"]

    def test_setting_up_computes_nothing_and_is_done_again_without_harm(self, digits, output):
        begin(digits, output)
        begin(digits, output)
        assert dkde.status(output)["stages"]["valid"]["done"] == 0
        dkde.run_part(output, 0, 2)
        begin(digits, output)
        assert dkde.status(output)["stages"]["valid"]["done"] == 6

    @pytest.mark.slow
    def test_from_another_folder(self, digits, tmp_path, monkeypatch):
        monkeypatch.chdir(digits.rpartition("/")[0])
        (tmp_path / "elsewhere").mkdir()
        with dkde.init_only():
            dkde.score(
                "digits.zarr::test[:60]", "digits.zarr::train[:200]", [1, 2], block_rows=20,
                panel_rows=200, output=tmp_path / "r.zarr",
            )  # fmt: skip
        monkeypatch.chdir(tmp_path / "elsewhere")
        # What is called the same here is no part of the run.
        np.savez("zeros.npz", train=np.zeros((200, 64)), test=np.zeros((60, 64)))
        dkde.import_dataset("zeros.npz", "digits.zarr")
        monkeypatch.setattr("os.chdir", None)  # other threads of the process go by it
        dkde.run_part("../r.zarr", 0, 1)
        assert_same(dkde.finish("../r.zarr"), score(digits))
        assert dkde.verify("../r.zarr")["blocks"] == 3

    @pytest.mark.slow
    def test_sources_keep_their_names_wherever_a_run_is_finished(self, tmp_path, monkeypatch):
        # Brackets in the names of a folder and of a file; others of these names lie elsewhere.
        (first := tmp_path / "A[1]").mkdir()
        (other := tmp_path / "B").mkdir()
        x = np.random.default_rng(0).normal(size=(30, 3))
        for folder, rows in ((first, x), (other, x + 1)):
            for name, values in (("q", rows), ("t", rows + 0.5)):
                np.save(folder / f"{name}[1].npy", values)
                features = {"a": ("row", values[:, 0]), "b": ("row", values[:, 1])}
                xr.Dataset(features).to_zarr(folder / "f.zarr", group=name, consolidated=False)
        catalog = dkde.Catalog(features=["a", "b"])
        calls = {
            "npy": lambda output: dkde.score("q[1].npy", "t[1].npy", 1.0, output=output),
            "group": lambda output: dkde.score(
                "f.zarr::q", "f.zarr::t", 1.0, source=catalog, output=output
            ),
        }
        for name, call in calls.items():
            monkeypatch.chdir(first)
            expected = call(None)
            with dkde.init_only():
                call(other / f"{name}.zarr")
            monkeypatch.chdir(other)
            dkde.run_part(f"{name}.zarr", 0, 1)
            found = dkde.finish(f"{name}.zarr")
            assert_same(found, expected)
            assert inputs_of(found) == inputs_of(expected)

    def test_a_part_that_is_done_says_so(self, digits, output):
        stopped(partial(score, digits, output=output), 3)
        told = []
        dkde.run_part(output, 0, 1, progress=lambda *pairs: told.append(pairs))
        assert told == [(12_000, 12_000)]

    def test_nothing_is_left_where_a_call_cannot_be_prepared(self, output):
        with pytest.raises(dkde.InputError, match="no feature varies"):
            dkde.score(np.zeros((5, 2)), np.ones((5, 2)), 1.0, covariance="diag", output=output)
        assert list(output.parent.iterdir()) == []

    def test_a_coordinate_may_be_called_run(self, output):
        """The run lies beside the store, and no longer under that name in it."""
        rows = np.random.default_rng(0).normal(size=(5, 2))
        x = xr.DataArray(rows, dims=("sample", "feature"), coords={"run": ("sample", range(5))})
        dkde.score(x, rows + 1, 1.0, output=output)
        with xr.open_zarr(output) as stored:
            assert stored.run.values.tolist() == [0, 1, 2, 3, 4]

    def test_a_call_that_is_only_set_up_returns_nothing_yet(self, digits, output):
        with dkde.init_only():
            first = score(digits, output=output)
            second = dkde.log_density(np.zeros((1, 1)), np.zeros((1, 1)), 1.0)
        assert dict(first) == {}
        assert not first.attrs
        assert second.shape == (1,)  # what has no output is computed
        assert dkde.status(output)["stages"]["score"] == {"blocks": 3, "done": 0, "failed": []}

    @pytest.mark.parametrize(
        "change", [{"function": "system"}, {"arguments": {"train": "train", "shell": True}}]
    )
    def test_a_call_that_is_none_of_ours_is_refused(self, digits, output, change):
        begin(digits, output, score)
        path = Path(f"{output}.run") / "dkde-run-1.json"
        plan = json.loads(path.read_text())
        plan["call"] |= change
        path.write_text(json.dumps(plan))
        with pytest.raises(dkde.DataSetError, match="which this version of dkde does not know"):
            dkde.run_part(output, 0, 1)

    @pytest.mark.parametrize(("part", "parts"), [(2, 2), (-1, 2), (0, 0)])
    def test_parts_that_there_are_not(self, digits, output, part, parts):
        begin(digits, output, score)
        with pytest.raises(dkde.InputError, match=f"part is {part} of {parts}"):
            dkde.run_part(output, part, parts)

    def test_arrays_cannot_be_shared_out(self, output):
        x = np.random.default_rng(0).normal(size=(20, 3))
        with (
            pytest.raises(dkde.InputError, match="it cannot hold arrays or lazy data"),
            dkde.init_only(),
        ):
            dkde.score(x, x + 1, 1.0, output=output)
        assert list(output.parent.iterdir()) == []

    def test_without_an_output_there_is_nothing_to_share_out(self, digits):
        with pytest.raises(dkde.InputError, match="needs an output"), dkde.init_only():
            score(digits)

    def test_runs_of_arrays_are_finished_by_the_same_call_only(self, output):
        x = np.random.default_rng(0).normal(size=(20, 3))

        def call(**keywords):
            return dkde.score(x, x + 1, 1.0, block_rows=5, output=output, **keywords)

        stopped(call, 2)
        for function in (dkde.finish, lambda path: dkde.run_part(path, 0, 2)):
            with pytest.raises(dkde.DkdeError, match="make the same call again"):
                function(output)
        call()
        assert dkde.status(output)["complete"]

    def test_changed_inputs(self, tmp_path, output):
        x = np.random.default_rng(0).normal(size=(20, 3))
        np.save(tmp_path / "q.npy", x)
        np.save(tmp_path / "t.npy", x + 1)
        with dkde.init_only():
            dkde.score(f"{tmp_path}/q.npy", f"{tmp_path}/t.npy", 1.0, output=output)
        np.save(tmp_path / "t.npy", x + 2)
        with pytest.raises(
            dkde.DataSetError, match=r"was begun otherwise: score train parts 0 checksum was"
        ):
            dkde.run_part(output, 0, 2)

    @pytest.mark.slow
    def test_a_part_whose_block_fails(self, tmp_path, output):
        x = np.random.default_rng(0).normal(size=(20_000, 100))
        np.save(tmp_path / "q.npy", x)
        dkde.import_dataset(tmp_path / "q.npy", tmp_path / "q.zarr")
        np.save(tmp_path / "t.npy", x[:10] + 1)
        chunk = next(p for p in sorted((tmp_path / "q.zarr/train/x/c").rglob("*")) if p.is_file())
        good = chunk.read_bytes()

        def call(**keywords):
            return dkde.score(
                f"{tmp_path}/q.zarr::train", f"{tmp_path}/t.npy", 1.0, block_rows=4096,
                output=output, **keywords,
            )  # fmt: skip

        with dkde.init_only():
            call()
        flip(chunk)
        with pytest.raises(
            dkde.IncompleteError,
            match=r"2 of 5 blocks failed twice and were set aside; the first is 0-0, .*q\.zarr/tra",
        ):
            dkde.run_part(output, 0, 1)
        stage = dkde.status(output)["stages"]["score"]
        assert stage["failed"][0]["rows"] == [0, 4096]
        assert stage["done"] + len(stage["failed"]) == 5
        chunk.write_bytes(good)
        result = call(retry_failed=True)
        np.testing.assert_array_equal(
            result.log_density[0],
            dkde.log_density(x, x[:10] + 1, 1.0, block_rows=4096),
        )


class TestStatus:
    @pytest.mark.slow
    def test_at_each_moment(self, digits, output):
        begin(digits, output)
        state = dkde.status(output)
        assert state == {
            "complete": False,
            "stages": {"valid": {"blocks": 12, "done": 0, "failed": []}},
            "running": [],
            "blocks_per_second": None,
            "seconds_left": None,
            "seconds": pytest.approx(0, abs=5),
            "replaces": False,
            "sources": {digits: digits},
        }
        seen = []

        def progress(done, total):
            seen.append(dkde.status(output))
            if len(seen) == 14:
                raise Stopped

        with pytest.raises(Stopped):
            sweep(digits, output=output, progress=progress)
        done = [sum(s["done"] for s in state["stages"].values()) for state in seen]
        # Blocks are there once they are committed, which is within a second.
        assert all(0 <= found <= i + 1 for i, found in enumerate(done))
        assert done == sorted(done)
        assert done[12] >= 12  # all of a stage, before the next one begins
        for state in seen:
            assert not state["complete"]
            assert len(state["running"]) == 1
        assert set(seen[11]["stages"]) == {"valid"}
        assert seen[13]["stages"]["test"]["blocks"] == 8
        state = dkde.status(output)
        assert state["stages"]["test"] == {"blocks": 8, "done": 2, "failed": []}
        assert state["running"] == []
        assert state["seconds_left"] is None
        assert state["blocks_per_second"] > 0
        sweep(digits, output=output)
        state = dkde.status(output)
        assert state["complete"]
        assert state["stages"] == {}
        assert state["running"] == []
        with xr.open_zarr(output) as stored:
            assert state["seconds"] == stored.attrs["seconds"]
        json.dumps([*seen, state])

    def test_blocks_are_counted_whatever_their_shape(self, digits, output):
        score(digits, output=output)
        (session,) = json.loads(xr.open_zarr(output).attrs["run"])["sessions"]
        assert session["blocks"] == 3
        assert dkde.status(output)["blocks_per_second"] > 0

    def test_it_writes_nothing(self, digits, output):
        stopped(lambda **k: sweep(digits, output=output, **k), 5)
        before = sorted((p, p.stat().st_mtime_ns) for p in output.parent.rglob("*"))
        assert any(path.suffix == ".npz" for path, _ in before)
        dkde.status(output)
        assert sorted((p, p.stat().st_mtime_ns) for p in output.parent.rglob("*")) == before

    @pytest.mark.parametrize(
        "function", [dkde.status, dkde.finish, dkde.verify, lambda path: dkde.run_part(path, 0, 1)]
    )
    @pytest.mark.parametrize("kind", ["nothing", "group", "file"])
    def test_no_result(self, tmp_path, output, function, kind):
        if kind == "group":
            zarr.create_group(output, attributes={"a": 1})
        elif kind == "file":
            output.write_text("all of it")
        with pytest.raises(dkde.DataSetError, match=r"r\.zarr: is no result of dkde"):
            function(output)

    @pytest.mark.slow
    def test_from_another_process(self, digits, output):
        stopped(lambda **k: sweep(digits, output=output, **k), 5)
        code = f"import dkde, json; print(json.dumps(dkde.status({str(output)!r})))"
        words = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        state = json.loads(words.stdout)
        assert state["stages"]["valid"]["done"] == 5
        assert state["running"] == []


@pytest.mark.slow
def test_a_block_that_was_done_since_it_failed_is_no_obstacle(digits, output):
    begin(digits, output, score)
    for part in range(3):
        dkde.run_part(output, part, 3)
    store = ResultStore.at(output)
    stage = Stage.found(store.run.records(store.run.look().id), "score")
    stage.fail(1, 0, OSError("no luck"))
    (status,) = dkde.status(output)["stages"].values()
    assert (status["blocks"], status["done"], status["failed"]) == (3, 3, [])
    assert_same(dkde.finish(output), score(digits))


def test_a_part_on_another_processor_is_refused(digits, output, monkeypatch):
    begin(digits, output)
    monkeypatch.setattr("dkde.runs.record.processor", lambda: "another one")
    with pytest.raises(dkde.DataSetError, match=r"was begun elsewhere: processor was .*anywhere"):
        dkde.run_part(output, 0, 2)
    dkde.run_part(output, 0, 2, anywhere=True)


class TestVerify:
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("name", CALLS)
    def test_a_result_as_it_should_be(self, digits, output, name):
        CALLS[name](digits, output=output)
        before = sorted((p, p.stat().st_mtime_ns) for p in output.rglob("*"))
        found = dkde.verify(output, blocks=100)
        # Also of one whose blocks are compared within bounds first, and again once more is known.
        assert found["blocks"] == found["verified"] == found["of"]
        assert found["of"] == {"score": 3, "sweep": 5}.get(name, found["of"])
        assert found["unverified"] == ()
        assert found["chunks"] >= 8
        assert found["reason"] is None
        assert sorted((p, p.stat().st_mtime_ns) for p in output.rglob("*")) == before

    @pytest.mark.slow
    def test_a_flipped_byte_in_any_chunk_is_found_and_named(self, digits, output):
        sweep(digits, output=output)
        chunks = [p for p in output.rglob("*") if p.is_file() and p.name != "zarr.json"]
        assert len(chunks) > 15
        for chunk in chunks:
            good = chunk.read_bytes()
            for place in (0, 0.5, 0.99):
                flip(chunk, place)
                with pytest.raises(
                    dkde.DataSetError, match=f"chunk {chunk.relative_to(output)} is damaged"
                ):
                    dkde.verify(output)
                chunk.write_bytes(good)
            chunk.unlink()
            with pytest.raises(dkde.DataSetError, match="it is missing"):
                dkde.verify(output)
            chunk.write_bytes(good)
        dkde.verify(output)

    @pytest.mark.slow
    def test_a_variable_that_is_gone_is_found_and_named(self, digits, output):
        sweep(digits, output=output)
        names = [path.parent.name for path in output.glob("*/zarr.json")]
        assert len(names) > 5
        for name in names:
            for what in ("", "/zarr.json"):
                (output / f"{name}{what}").rename(output.parent / "gone")
                with pytest.raises(dkde.DataSetError, match=rf": {name} is missing or damaged"):
                    dkde.verify(output)
                (output.parent / "gone").rename(output / f"{name}{what}")
        (output / name / "zarr.json").write_text("{")
        with pytest.raises(dkde.DataSetError, match=rf": {name} is missing or damaged"):
            dkde.verify(output)

    def test_an_altered_value_is_found(self, digits, output):
        score(digits, output=output)
        array = zarr.open_array(output / "log_density_error", mode="r+")
        array[1, 33] = np.nextafter(array[1, 33], 0)
        with pytest.raises(
            dkde.DataSetError, match="query rows 20 to 40 come out different in log_density_error"
        ):
            dkde.verify(output, blocks=3)

    @pytest.mark.slow
    def test_blocks_are_chosen_at_random(self, digits, output):
        score(digits, output=output)
        array = zarr.open_array(output / "log_density_error", mode="r+")
        array[1, 33] += 1
        outcomes = set()
        for seed in range(10):
            try:
                dkde.verify(output, blocks=1, seed=seed)
                outcomes.add("passed")
            except dkde.DataSetError:
                outcomes.add("found")
        assert outcomes == {"passed", "found"}

    def test_a_run_of_arrays_says_what_was_not_done(self, output):
        x = np.random.default_rng(0).normal(size=(20, 3))
        dkde.score(x, x + 1, 1.0, output=output)
        found = dkde.verify(output)
        assert found["blocks"] == 0
        assert found["chunks"] > 0
        assert "arrays in memory" in found["reason"]

    def test_what_is_not_complete(self, digits, output):
        stopped(lambda **k: score(digits, output=output, **k), 2)
        with pytest.raises(dkde.DataSetError, match="is not complete; dkde status says how far"):
            dkde.verify(output)

    def test_inputs_that_changed(self, tmp_path, output):
        x = np.random.default_rng(0).normal(size=(20, 3))
        np.save(tmp_path / "q.npy", x)
        np.save(tmp_path / "t.npy", x + 1)
        dkde.score(f"{tmp_path}/q.npy", f"{tmp_path}/t.npy", 1.0, output=output)
        np.save(tmp_path / "t.npy", x + 2)
        with pytest.raises(dkde.DataSetError, match="come out different"):
            dkde.verify(output)
