"""Calls with an output: kept block by block, gone on with, and the same to the last bit."""

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_array_equal
from zarr.codecs import Crc32cCodec

import dkde
from dkde.runs.place import RunPlace

H = [0.5, 1.0, 2.0]


class Stopped(BaseException):
    """As Ctrl-C: no kind of Exception."""


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(3)
    return rng.normal(size=(60, 4)), rng.normal(size=(80, 4))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    store = tmp_path_factory.mktemp("digits") / "digits.zarr"
    dkde.import_dataset("digits", store)
    return str(store)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "r.zarr"


def run_folder(output):
    """The folder of the present run."""
    place = RunPlace(output)
    return Path(place.path) / place.look().id


def marks(output):
    return sorted(Path(f"{output}.run").glob("dkde-run-*.json"))


def stop_after(count):
    """A progress function that stops a call after so many blocks."""
    calls = []

    def progress(done, total):
        calls.append(done)
        if len(calls) == count:
            raise Stopped

    return progress


def stopped(call, count, **keywords):
    with pytest.raises(Stopped) as caught:
        call(progress=stop_after(count), **keywords)
    return caught.value


def counting():
    calls = []
    return calls, lambda done, total: calls.append((done, total))


CALLS = {
    "score": lambda **k: dkde.score(
        "test[:90]", "train[:300]", H, block_rows=15, panel_rows=100, **k
    ),
    "score, one panel": lambda **k: dkde.score(
        "test[:90]", "train[:300]", H, block_rows=10, panel_rows=300, **k
    ),
    "sweep": lambda **k: dkde.sweep(
        train="train[:300]", valid="valid[:60]", test="test[:45]", bandwidths=[1, 2, 4, 8],
        block_rows=15, panel_rows=150, **k,
    ),
    "cross_validate": lambda **k: dkde.cross_validate(
        "train[:90]", [2, 3, 4], folds=3, block_rows=15, panel_rows=50, **k
    ),
    "refine": lambda **k: dkde.cross_validate(
        "train[:90]", [2, 3, 4], folds=3, refine=True, pca=10, covariance="diag", block_rows=45,
        panel_rows=50, **k,
    ),
}  # fmt: skip


@pytest.fixture(params=CALLS)
def every_call(request, digits):
    return lambda **keywords: CALLS[request.param](source=digits, **keywords)


@pytest.fixture(params=["score, one panel", "sweep"])
def call(request, digits):
    return lambda **keywords: CALLS[request.param](source=digits, **keywords)


def assert_same(a, b):
    """The same to the last bit, but for the time it took and what is said of the run."""
    a, b = (x.drop_attrs(deep=False).load() for x in (a, b))
    xr.testing.assert_identical(a, b)


class TestGoingOn:
    @pytest.mark.slow
    @pytest.mark.parametrize("counts", [[3, 2, 1]])
    def test_the_result_is_the_same_however_often_it_was_stopped(self, every_call, output, counts):
        call = every_call
        expected = call()
        for count in counts:
            stopped(call, count, output=output)
            assert not output.exists()
            assert dkde.status(output)["complete"] is False
        result = call(output=output)
        assert_same(result, expected)
        with xr.open_zarr(output) as stored:
            xr.testing.assert_identical(stored.load(), result)

    @pytest.mark.slow
    def test_what_is_done_is_not_done_again(self, call, output):
        calls, progress = counting()
        call(progress=progress)
        stopped(call, 4, output=output)
        again, progress = counting()
        call(output=output, progress=progress)
        assert len(again) == len(calls) - 4
        assert again[0][0] > calls[3][0]
        assert again[-1] == calls[-1]

    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "n_calls"), [("sweep", 9), ("refine", 5)])
    def test_a_stage_that_is_done_is_said_to_be(self, digits, output, name, n_calls):
        """Or who watches takes the next stage for it."""

        def call(**keywords):
            return CALLS[name](source=digits, **keywords)

        calls, progress = counting()
        call(progress=progress)
        stopped(call, n_calls, output=output)
        again, progress = counting()
        call(output=output, progress=progress)
        first = next(i for i, (done, total) in enumerate(calls) if done == total)
        assert first == n_calls - 2  # it was stopped in the second stage
        assert again[0] == calls[first]
        assert len(again) == 1 + len(calls) - n_calls
        sessions = json.loads(xr.open_zarr(output).attrs["run"])["sessions"]
        assert sum(session["blocks"] for session in sessions) == len(calls)

    @pytest.mark.slow
    def test_what_is_done_is_said(self, call, output):
        error = stopped(call, 4, output=output)
        assert any("4 of " in note and "the same call goes on" in note for note in error.__notes__)

    @pytest.mark.slow
    def test_a_complete_result_is_returned(self, call, output):
        first = call(output=output)
        before = sorted((p, p.stat().st_mtime_ns) for p in output.rglob("*"))
        calls, progress = counting()
        again = call(output=output, progress=progress)
        assert calls == []
        xr.testing.assert_identical(again.load(), first)
        assert sorted((p, p.stat().st_mtime_ns) for p in output.rglob("*")) == before

    @pytest.mark.slow
    def test_restart_begins_anew(self, call, output):
        stopped(call, 4, output=output)
        calls, progress = counting()
        call(progress=progress)
        again, progress = counting()
        first = call(output=output, restart=True, progress=progress)
        assert len(again) == len(calls)
        again.clear()
        assert_same(call(output=output, restart=True, progress=progress), first)
        assert len(again) == len(calls)

    def test_arrays_in_memory(self, arrays, output):
        query, train = arrays
        expected = dkde.score(query, train, H, block_rows=7, panel_rows=30)
        keywords = {"block_rows": 7, "panel_rows": 30, "output": output}
        stopped(lambda **k: dkde.score(query, train, H, **keywords, **k), 5)
        # By their content: copies will do.
        assert_same(dkde.score(query.copy(), train.copy(), H, **keywords), expected)

    def test_weights_and_float32(self, arrays, output):
        query, train = arrays
        keywords = {
            "weights": np.arange(80.0), "precision": "float32", "block_rows": 7, "panel_rows": 30,
        }  # fmt: skip
        expected = dkde.score(query, train, H, **keywords)
        stopped(lambda **k: dkde.score(query, train, H, output=output, **keywords, **k), 5)
        assert_same(dkde.score(query, train, H, output=output, **keywords), expected)
        other = keywords | {"weights": np.ones(80)}
        with pytest.raises(dkde.DataSetError, match=r"was begun otherwise.*weights"):
            dkde.score(query, train, H, output=output, **other)

    def test_lazy_arrays(self, arrays, output):
        query, train = (da.from_array(array, chunks=(17, 4), name=False) for array in arrays)
        query = da.from_array(arrays[0], chunks=(17, 4))
        keywords = {"block_rows": 7, "panel_rows": 30, "output": output}
        train = da.from_array(arrays[1], chunks=(20, 4))
        stopped(lambda **k: dkde.score(query, train, H, **keywords, **k), 5)
        assert_same(
            dkde.score(query, train, H, **keywords),
            dkde.score(query, train, H, block_rows=7, panel_rows=30),
        )

    def test_zero_densities_are_kept(self, arrays, output):
        query, train = arrays
        far = query + 1e6
        keywords = {"kernel": "tophat", "block_rows": 7, "panel_rows": 30}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = dkde.score(far, train, H, **keywords)
            stopped(lambda **k: dkde.score(far, train, H, output=output, **keywords, **k), 20)
            result = dkde.score(far, train, H, output=output, **keywords)
        assert np.isneginf(result.log_density).all()
        assert_same(result, expected)

    @pytest.mark.parametrize("bandwidth", [H, [9.0]])
    def test_another_process_that_finished_before_it_began(
        self, arrays, output, bandwidth, monkeypatch
    ):
        """One that was paused before its mark, as on a machine that is suspended."""
        begin, keywords = RunPlace.begin, {"block_rows": 15, "output": output}

        def late(place, plan, after):
            monkeypatch.undo()
            dkde.score(*arrays, bandwidth, **keywords)
            return begin(place, plan, after)

        monkeypatch.setattr(RunPlace, "begin", late)
        if bandwidth is H:
            result = dkde.score(*arrays, H, **keywords)
            assert_same(result, dkde.score(*arrays, H, block_rows=15))
        else:
            with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
                dkde.score(*arrays, H, **keywords)
        assert os.listdir(output.parent) == ["r.zarr"]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "where",
        [
            "store.store.create_synced",  # before the plan
            "runs.place.RunPlace.set_up",  # before its folder
            "runs.run.publish_store",
            "runs.publication.appear",  # after it was written
            "runs.publication.sync_folder",  # after it has appeared
            "runs.place.RunPlace.finish",
            "runs.place.RunPlace._give_up",
            "runs.place.RunPlace._remove",
            "runs.place.RunPlace._remove_leftovers",
        ],
    )
    def test_killed_at_an_awkward_moment(self, call, output, where, monkeypatch):
        def killed(*arguments, **keywords):
            raise Stopped

        expected = call()
        where = where.replace("store.store", "stores.store")
        with monkeypatch.context() as patch:
            patch.setattr(f"dkde.{where}", killed)
            with pytest.raises(Stopped):
                call(output=output)
        result = call(output=output)
        assert_same(result, expected)
        # What is left of a run that was finished goes with the next command that finds it.
        assert not marks(output)
        if where != "runs.place.RunPlace._remove_leftovers":
            assert os.listdir(output.parent) == ["r.zarr"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_same(xr.open_zarr(output), expected)


class TestStore:
    @pytest.mark.slow
    def test_it_says_what_it_is(self, call, output):
        stopped(call, 4, output=output)
        call(output=output)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            stored = xr.open_zarr(output)
            tree = xr.open_datatree(output, engine="zarr")
        xr.testing.assert_identical(tree.to_dataset(), stored)
        assert stored.attrs["complete"] == 1
        run = json.loads(stored.attrs["run"])
        assert set(run) == {"id", "asked", "machine", "call", "place", "sessions", "variables"}
        assert run["machine"]["dkde"]
        assert run["machine"]["numpy"] == np.__version__
        asked = next(iter(run["asked"].values()))
        assert asked["block_rows"] in (10, 15, 45)
        assert "sha256:" in json.dumps(asked["content"])
        first, second = run["sessions"]
        assert (first["ended"], first["blocks"]) == ("stopped", 4)
        assert second["ended"] == "done"
        assert second["blocks"] > 0
        assert stored.attrs["seconds"] == pytest.approx(
            sum(s["seen"] - s["started"] for s in run["sessions"])
        )
        assert "provenance" in stored.attrs

    @pytest.mark.slow
    def test_no_block_is_left(self, call, output):
        call(output=output)
        assert os.listdir(output.parent) == ["r.zarr"]

    @pytest.mark.slow
    def test_a_run_that_goes_on_lies_beside_it(self, digits, output):
        stopped(lambda **k: CALLS["score"](source=digits, **k), 9, output=output)
        assert os.listdir(output.parent) == ["r.zarr.run"]
        (mark,) = marks(output)
        plan = json.loads(mark.read_text())
        assert plan["call"]["function"] == "score"
        assert json.loads((run_folder(output) / "plan.json").read_text()) == plan
        assert sorted(os.listdir(run_folder(output))) == ["plan.json", "score", "sessions"]
        assert any((run_folder(output) / "score").glob("*.npz"))

    def test_blocks_are_committed_many_to_a_file(self, digits, output):
        stopped(lambda **k: CALLS["score"](source=digits, **k), 12, output=output)
        assert len(list((run_folder(output) / "score").glob("*.npz"))) < 12

    @pytest.mark.slow
    def test_every_chunk_has_its_checksum(self, call, output):
        call(output=output)
        for _, array in zarr.open_group(output, mode="r").arrays():
            assert array.nchunks_initialized == array.nchunks
            assert Crc32cCodec in [type(codec) for codec in array.metadata.codecs]

    def test_it_may_lie_in_a_folder_by_a_relative_path(self, digits, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        CALLS["score"](source=digits, output="r.zarr")
        assert xr.open_zarr(tmp_path / "r.zarr").attrs["complete"] == 1


def begin_at_once(digits, output, barrier, results, **keywords):
    barrier.wait()
    try:
        results.append(CALLS["score"](source=digits, output=output, **keywords))
    except dkde.DataSetError as error:
        results.append(error)


class TestRefusals:
    CHANGES = (
        ({"bandwidth": [0.5, 1.0, 3.0]}, r"score bandwidths was \[0\.5, 1\.0, 2\.0\] and is"),
        ({"kernel": "epanechnikov"}, 'score kernel was "gaussian" and is "epanechnikov"'),
        ({"precision": "float32"}, 'score precision was "float64" and is "float32"'),
        ({"block_rows": 11}, "score block_rows was 10 and is 11"),
        ({"panel_rows": 99}, "score panel_rows was 100 and is 99"),
        ({"query": "test[1:91]"}, "score query parts 0 start was 0 and is 1"),
        ({"train": "train[:301]"}, "score train rows was 300 and is 301"),
        ({"covariance": np.full(64, 2.0)}, "score log_volume was 0.0 and is"),
    )

    @pytest.mark.slow
    @pytest.mark.parametrize("complete", [False, True])
    @pytest.mark.parametrize(("change", "message"), CHANGES)
    def test_other_options_say_what_differs(self, digits, output, change, message, complete):
        asked = {
            "query": "test[:90]", "train": "train[:300]", "bandwidth": H, "block_rows": 10,
            "panel_rows": 100, "source": digits, "output": output,
        }  # fmt: skip
        if complete:
            dkde.score(**asked)
        else:
            stopped(lambda **k: dkde.score(**asked, **k), 3)
        before = sorted((p, p.stat().st_mtime_ns) for p in output.parent.rglob("*"))
        with pytest.raises(
            dkde.DataSetError, match=rf"r\.zarr: was begun otherwise: .*{message}.*\(restart\)"
        ):
            dkde.score(**asked | change)
        assert sorted((p, p.stat().st_mtime_ns) for p in output.parent.rglob("*")) == before

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize("form", ["npy", "data set", "array", "zarr"])
    def test_changed_inputs(self, tmp_path, output, form, arrays):
        query, train = arrays[0], arrays[1].copy()

        def given():
            if form == "array":
                return train
            np.save(tmp_path / "x.npy", train)
            if form == "npy":
                return str(tmp_path / "x.npy")
            if form == "zarr":
                zarr.create_array(tmp_path / "x", data=train, overwrite=True)
                return zarr.open_array(tmp_path / "x", mode="r")
            dkde.import_dataset(tmp_path / "x.npy", tmp_path / "x.zarr", overwrite=True)
            return f"{tmp_path}/x.zarr::train"

        keywords = {"block_rows": 7, "panel_rows": 30, "output": output}
        stopped(lambda **k: dkde.score(query, given(), H, **keywords, **k), 4)
        train[79, 3] += 1e-9
        with pytest.raises(dkde.DataSetError, match=r"was begun otherwise: .*(content|checksum)"):
            dkde.score(query, given(), H, **keywords)

    def test_another_function(self, digits, output):
        CALLS["score"](source=digits, output=output)
        with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
            CALLS["sweep"](source=digits, output=output)

    @pytest.mark.slow
    def test_other_machines(self, digits, output, monkeypatch):
        def call(**keywords):
            return CALLS["score"](source=digits, output=output, **keywords)

        stopped(call, 3)
        (mark,) = marks(output)
        plan = json.loads(mark.read_text())
        plan["machine"]["numpy"] = "1.0"
        mark.write_text(json.dumps(plan))
        with pytest.raises(
            dkde.DataSetError, match=r'begun elsewhere: numpy was "1\.0" and is .*\(anywhere\)'
        ):
            call()
        assert_same(call(anywhere=True), CALLS["score"](source=digits))
        # What is complete may be looked at from anywhere.
        call()

    @pytest.mark.sampled(12)
    @pytest.mark.parametrize("restart", [False, True])
    @pytest.mark.parametrize("kind", ["data set", "group", "folder", "file", "version 2"])
    def test_what_is_no_result_is_left_alone(self, tmp_path, digits, output, kind, restart):
        if kind == "data set":
            dkde.import_dataset("digits", output)
        elif kind == "group":
            zarr.create_group(output, attributes={"a": 1})
        elif kind == "version 2":
            zarr.create_group(output, attributes={"a": 1}, zarr_format=2)
        elif kind == "folder":
            output.mkdir()
            (output / "thesis.tex").write_text("all of it")
        else:
            output.write_text("all of it")
        before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
        with pytest.raises(dkde.DataSetError, match=r"is no result of dkde|is a file"):
            CALLS["score"](source=digits, output=output, restart=restart)
        assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before

    @pytest.mark.slow
    def test_two_at_once(self, digits, output):
        seen = []

        def progress(done, total):
            if not seen:
                for restart in (False, True):
                    with pytest.raises(dkde.DataSetError) as caught:
                        CALLS["score"](source=digits, output=output, restart=restart)
                    seen.append(str(caught.value))

        result = CALLS["score"](source=digits, output=output, progress=progress)
        assert all(f"is being written by process {os.getpid()} on " in word for word in seen)
        assert len(seen) == 2
        assert_same(result, CALLS["score"](source=digits))

    @pytest.mark.slow
    def test_two_that_begin_at_once(self, digits, tmp_path):
        """Each of many times, one at least comes through and no result is wrong."""
        expected = CALLS["score"](source=digits)
        barrier = threading.Barrier(3)
        for trial in range(4):
            results = []
            threads = [
                threading.Thread(
                    target=begin_at_once,
                    args=(digits, tmp_path / f"{trial}.zarr", barrier, results),
                )
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            whole = [result for result in results if isinstance(result, xr.Dataset)]
            assert whole, results
            for result in whole:
                assert_same(result, expected)
            for error in results:
                if not isinstance(error, xr.Dataset):
                    assert "is being written" in str(error)

    @pytest.mark.slow
    def test_two_that_restart_at_once(self, digits, output):
        """One wins: at no moment are two at work."""
        expected, barrier = CALLS["score"](source=digits), threading.Barrier(2)
        stopped(lambda **k: CALLS["score"](source=digits, **k), 3, output=output)
        lock, results, at_work, most = threading.Lock(), [], [], []

        def wait(*arguments):  # both have looked, and have found nobody
            barrier.wait()
            return begin(*arguments)

        def progress(done, total):
            with lock:
                at_work.append(threading.get_ident())
                most.append(len(set(at_work)))

        begin = RunPlace.begin
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunPlace, "begin", wait)
            threads = [
                threading.Thread(
                    target=begin_at_once,
                    args=(digits, output, threading.Barrier(1), results),
                    kwargs={"restart": True, "progress": progress},
                )
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        whole = [result for result in results if isinstance(result, xr.Dataset)]
        (refused,) = (result for result in results if not isinstance(result, xr.Dataset))
        assert "is beginning it anew at the same time" in str(refused)
        assert_same(*whole, expected)
        assert max(most) == 1
        (session,) = json.loads(whole[0].attrs["run"])["sessions"]
        assert session["blocks"] == len(most)

    @pytest.mark.slow
    def test_a_restart_that_is_refused_holds_nothing(self, digits, output):
        def call(**keywords):
            return CALLS["score"](source=digits, output=output, **keywords)

        stopped(call, 3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dkde.runs.place.RunPlace.begin", lambda *_: stop_after(1)(0, 0))
            with pytest.raises(Stopped):
                call(restart=True)
        assert dkde.status(output)["running"] == []
        assert_same(call(), CALLS["score"](source=digits))


class TestDamage:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["score", "score, one panel"])
    def test_a_flipped_byte_in_kept_blocks(self, digits, output, name):
        def call(**keywords):
            return CALLS[name](source=digits, output=output, **keywords)

        stopped(call, 8)
        segment = next((run_folder(output) / "score").glob("*.npz"))
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 16
        segment.write_bytes(content)
        # They are computed again, and the user is told.
        with pytest.warns(UserWarning, match=r"blocks of the stage score are damaged, and"):
            result = call()
        assert_same(result, CALLS[name](source=digits))

    def test_a_block_that_always_fails(self, tmp_path, output, arrays):
        query, train = arrays
        source = tmp_path / "q.zarr"
        array = zarr.create_array(source, data=query, chunks=(10, 4), compressors=Crc32cCodec())
        chunk = source / "c/3/0"
        good = chunk.read_bytes()
        chunk.write_bytes(good[: len(good) // 2] + b"\0" + good[len(good) // 2 + 1 :])
        keywords = {"block_rows": 10, "panel_rows": 40, "output": output}
        with pytest.raises(
            dkde.IncompleteError,
            match=rf"2 of 12 blocks failed twice and were set aside; the first is 3-0, query rows "
            rf"30 to 40: {source}.*could not be read.*retry_failed",
        ) as caught:
            dkde.score(array, train, H, **keywords)
        assert "10 of 12 blocks are done" in caught.value.__notes__[0]
        (stage,) = dkde.status(output)["stages"].values()
        assert (stage["done"], len(stage["failed"])) == (10, 2)
        assert stage["failed"][0]["rows"] == [30, 40]
        assert str(source) in stage["failed"][0]["error"]
        times = chunk.stat()
        chunk.write_bytes(good)
        os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))  # put back as it was
        with pytest.raises(dkde.IncompleteError):
            dkde.score(array, train, H, **keywords)
        calls, progress = counting()
        result = dkde.score(array, train, H, **keywords, retry_failed=True, progress=progress)
        assert len(calls) == 2
        assert_array_equal(
            result.log_density,
            dkde.score(query, train, H, block_rows=10, panel_rows=40).log_density,
        )

    def test_a_run_that_is_deleted_under_the_call(self, digits, output):
        def progress(done, total):
            if os.path.exists(f"{output}.run"):
                shutil.rmtree(f"{output}.run")

        with pytest.raises(dkde.DataSetError, match="was removed while it was written") as caught:
            CALLS["score"](source=digits, output=output, progress=progress)
        assert os.listdir(output.parent) == []
        assert not hasattr(caught.value, "__notes__")  # nothing is kept

    @pytest.mark.slow
    @pytest.mark.parametrize("after", [1, 17])
    def test_one_that_is_taken_for_dead_writes_nothing_into_another(self, digits, output, after):
        """As one that was suspended while another began the run anew."""
        begun, calls = [], []

        def other(**keywords):
            return dkde.score(
                "test[:90]", "train[:300]", [3.0, 4.0], source=digits, output=output, block_rows=15,
                panel_rows=100, **keywords,
            )  # fmt: skip

        def progress(done, total):
            calls.append(done)
            if len(calls) == after and not begun:
                begun.append(1)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("dkde.runs.run.Ledger.at_work", lambda self, **_: [])
                    stopped(other, 2, restart=True)

        with pytest.raises(dkde.DataSetError, match="was begun anew by another process"):
            CALLS["score"](source=digits, output=output, progress=progress)
        calls, counted = counting()
        result = other(progress=counted)
        assert len(calls) == 18 - 2
        expected = dkde.score(
            "test[:90]", "train[:300]", [3.0, 4.0], source=digits, block_rows=15, panel_rows=100
        )
        assert_same(result, expected)

    @pytest.mark.slow
    def test_one_whose_run_was_finished_by_another_meanwhile(self, digits, output):
        """It says so, and the result of the other stays."""
        done = []

        def progress(*_):
            if not done:
                done.append(1)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("dkde.runs.run.Ledger.at_work", lambda self, **_: [])
                    done.append(CALLS["score"](source=digits, output=output))

        with pytest.raises(dkde.DataSetError, match=r"was removed while|it is missing"):
            CALLS["score"](source=digits, output=output, progress=progress)
        assert os.listdir(output.parent) == ["r.zarr"]
        with xr.open_zarr(output) as stored:
            assert_same(stored, done[1])

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("content", [b"", b'{"asked": {', b"{}"])
    def test_a_damaged_plan_is_read_from_its_copy(self, digits, output, content):
        def call(**keywords):
            return CALLS["score"](source=digits, output=output, **keywords)

        stopped(call, 5)
        (mark,) = marks(output)
        if content != b"{}":  # that is a plan, and says nothing
            mark.write_bytes(content)
            assert dkde.status(output)["stages"]["score"]["done"] == 5
        for path in (mark, run_folder(output) / "plan.json"):
            path.write_bytes(content)
        for again in (call, lambda: dkde.status(output)):
            with pytest.raises(dkde.DataSetError, match="damaged"):
                again()
        assert_same(call(restart=True), CALLS["score"](source=digits))
        assert os.listdir(output.parent) == ["r.zarr"]

    @pytest.mark.slow
    def test_a_missing_chunk_of_a_complete_result(self, call, output):
        call(output=output)
        (output / "log_density/c").rename(output / "gone")
        with pytest.raises(dkde.DataSetError, match=r"log_density: chunk c/.* is missing"):
            call(output=output).load()

    @pytest.mark.slow
    def test_another_processor_or_library_of_linear_algebra(self, call, output, monkeypatch):
        for name in ("processor", "blas"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(f"dkde.runs.record.{name}", lambda: "another one")
                stopped(call, 2, output=output, restart=True)
            with pytest.raises(dkde.DataSetError, match=f"begun elsewhere: {name} was .another"):
                call(output=output)

    @pytest.mark.sampled(5)
    @pytest.mark.parametrize("writes", [0, 1, 2, 3, 5])
    def test_a_full_disk(self, digits, output, monkeypatch, writes):
        """As the file system says it; `test_run_faults` has a real one."""
        from dkde.stores import durable

        draft, done = durable._draft, []

        def full(path, content):
            done.append(path)
            if len(done) > writes:
                raise OSError(28, "No space left on device")
            return draft(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(durable, "_draft", full)
            with pytest.raises(dkde.DataSetError, match=r"No space left"):
                CALLS["score"](source=digits, output=output)
        assert not output.exists()
        # Nothing holds it: the same process can go on.
        assert_same(CALLS["score"](source=digits, output=output), CALLS["score"](source=digits))

    def test_a_missing_place_is_refused_before_any_work(self, digits, tmp_path):
        calls, progress = counting()
        with pytest.raises(dkde.DataSetError, match="there is no folder"):
            CALLS["score"](source=digits, output=tmp_path / "no/r.zarr", progress=progress)
        assert calls == []


def test_calls_without_an_output_leave_nothing(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CALLS["score"](source=digits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_in_another_process_it_is_the_same_run(digits, output):
    """Fingerprints of inputs do not depend on the process."""
    stopped(lambda **k: CALLS["sweep"](source=digits, **k), 5, output=output)
    code = (
        f"import sys; sys.path[:0] = {list(map(str, Path(__file__).parents[:2]))!r}\n"
        f"from test_runs import CALLS\n"
        f"CALLS['sweep'](source={digits!r}, output={str(output)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with xr.open_zarr(output) as stored:
        assert_same(stored, CALLS["sweep"](source=digits))
