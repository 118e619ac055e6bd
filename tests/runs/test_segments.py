"""Segments: blocks that are committed many to a file, by the second, whole or not at all."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkde.errors import DataSetError
from dkde.runs import commits as module
from dkde.runs.commits import Commits
from dkde.runs.segments import Key, Segments, listed, named
from dkde.stores.store import Records, open_store

SESSION = "0123456789abcdef"


@pytest.fixture
def records(tmp_path):
    records = Records(open_store(tmp_path / "run"), "r.zarr")
    records.make("")
    records.make("score")
    return records


@pytest.fixture
def segments(records):
    return Segments(records, "score")


@pytest.fixture
def commits(records):
    commits = Commits(records, SESSION, lambda: None)
    yield commits
    commits._error = None
    commits.close()


@pytest.fixture
def never(monkeypatch):
    """Let no block be committed before it is asked for."""
    monkeypatch.setattr(module, "INTERVAL", 3600.0)


def block(seed, rows=5, n=9):
    return np.random.default_rng(seed).normal(size=(n, rows))


def files(tmp_path):
    return sorted((tmp_path / "run/score").glob("*.npz"))


def again(records):
    """What another process finds."""
    found = Segments(records, "score")
    found.look()
    return found


def kept(records, keys, session=SESSION):
    """Commit some blocks, all in one step."""
    commits = Commits(records, session, lambda: None)
    segments = Segments(records, "score")
    for key in keys:
        commits.keep(segments, "score", key, block(key.q * 100 + (key.p or 0)))
    commits.close()
    return segments


def flip(path, at=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


KEYS = st.lists(
    st.builds(Key, st.integers(0, 300), st.none() | st.integers(0, 40)), min_size=1, unique=True
)


class TestNames:
    @given(KEYS, st.integers(0, 10**7))
    def test_a_name_lists_its_blocks_or_says_that_they_are_many(self, keys, number):
        name = named(SESSION[:12], number, keys)
        assert len(name) <= 180
        found = listed(name)
        if name.endswith("-many.npz"):
            assert found is None
            assert len(keys) > 8
        else:
            assert sorted(found, key=str) == sorted(keys, key=str)

    def test_rows_that_follow_each_other_are_a_span(self):
        name = named(SESSION[:12], 3, map(Key, range(100_000)))
        assert name == "0123456789ab-000003-r0-99999.npz"

    @pytest.mark.parametrize("n", [3, 100])
    def test_blocks_are_found_and_read_whatever_the_name(self, records, tmp_path, n, never):
        keys = [Key(3 * i, i % 4) for i in range(n)]
        kept(records, keys)
        (file,) = files(tmp_path)
        assert ("many" in file.name) == (n == 100)
        found = again(records)
        assert set(found.blocks()) == set(keys)
        for key in keys:
            np.testing.assert_array_equal(found.read(key), block(key.q * 100 + key.p))

    def test_other_files_are_none(self, records, tmp_path):
        kept(records, [Key(1)])
        for name in (
            ".0123456789ab-000002-r2.npz.9f.partial", ".nfs0001", "stage.json", "r2.npz",
            "0123456789ab-000002-r2.npz.partial", "failed-2-0.json",
        ):  # fmt: skip
            (tmp_path / "run/score" / name).write_bytes(b"half")
        assert again(records).blocks() == [Key(1)]

    def test_a_name_that_lists_nonsense_is_read(self, records, tmp_path):
        kept(records, [Key(1)])
        (file,) = files(tmp_path)
        file.rename(file.with_name("0123456789ab-000001-r_p.npz"))
        found = again(records)
        assert found.blocks() == [Key(1)]
        np.testing.assert_array_equal(found.read(Key(1)), block(100))


class TestDamage:
    @pytest.mark.parametrize("is_many", [False, True])
    @pytest.mark.parametrize("how", ["flipped", "torn", "empty", "text", "header"])
    def test_a_damaged_file_is_dropped_and_its_blocks_named(self, records, tmp_path, how, is_many):
        keys = [Key(7 * i) for i in range(60 if is_many else 4)]
        kept(records, keys)
        kept(records, [Key(1000)], "fedcba987654")
        file = files(tmp_path)[0]
        assert ("many" in file.name) == is_many
        if how == "flipped":
            flip(file)
        elif how == "header":
            flip(file, 0)
        elif how == "torn":
            file.write_bytes(file.read_bytes()[:-30])
        else:
            file.write_bytes(b"" if how == "empty" else b"all of it")
        found = again(records)
        lost = found.drop_damaged()
        # What a file of many blocks held is known by itself alone.
        assert set(lost) in ([set(keys), set()] if is_many else [set(keys)])
        assert found.blocks() == [Key(1000)]
        assert [path.name for path in files(tmp_path)] == ["fedcba987654-000001-r1000.npz"]
        assert again(records).drop_damaged() == []

    def test_every_flipped_byte_is_found_or_harmless(self, records, tmp_path):
        kept(records, [Key(0), Key(1)])
        (file,) = files(tmp_path)
        content = file.read_bytes()
        for at in range(0, len(content), 7):
            flip(file, at)
            found = again(records)
            said = ""
            for key in (Key(0), Key(1)):
                try:
                    values = found.read(key)
                except DataSetError as error:
                    said = str(error)
                else:
                    np.testing.assert_array_equal(values, block(key.q * 100))
            assert said == "" or "is damaged" in said
            assert "\n" not in said
            found.close()
            file.write_bytes(content)

    def test_a_damaged_block_is_named(self, records, tmp_path):
        kept(records, [Key(4, 1)])
        (file,) = files(tmp_path)
        found = again(records)
        flip(file, 300)
        message = (
            r"r\.zarr: block p4-1 of score \(0123456789ab-000001-p4-1\.npz\) is damaged \(.*the "
            "same run makes it anew"
        )
        with pytest.raises(DataSetError, match=message):
            found.read(Key(4, 1))
        file.unlink()
        found.close()
        with pytest.raises(DataSetError, match=message):
            found.read(Key(4, 1))
        with pytest.raises(DataSetError, match="it is missing"):
            found.read(Key(5))

    def test_a_block_that_is_there_twice_is_lost_with_both_alone(self, records, tmp_path):
        kept(records, [Key(1), Key(2)])
        kept(records, [Key(2), Key(3)], "fedcba987654")
        first, second = files(tmp_path)
        flip(first)
        found = again(records)
        assert found.drop_damaged() == [Key(1)]
        np.testing.assert_array_equal(found.read(Key(2)), block(200))
        second.unlink()
        found.look()
        assert found.blocks() == []

    def test_no_file_of_python_objects_is_read(self, records, tmp_path):
        class Harm:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "harm",))

        kept(records, [Key(1)])
        (file,) = files(tmp_path)
        np.savez(file, r1=np.array([Harm()], dtype=object), allow_pickle=True)
        with pytest.raises(DataSetError, match="is damaged"):
            again(records).read(Key(1))
        assert not (tmp_path / "harm").exists()


class TestMerging:
    def test_partial_results_go_when_all_their_rows_are_there(self, records, tmp_path):
        kept(records, [Key(0, 0), Key(0, 1), Key(1, 0)])
        segments = kept(records, [Key(0)], "111111111111")
        segments.look()
        segments.drop_merged()
        assert len(files(tmp_path)) == 2  # rows 1 are not there
        kept(records, [Key(1)], "222222222222")
        segments.look()
        segments.drop_merged()
        assert [path.name[:12] for path in files(tmp_path)] == ["111111111111", "222222222222"]
        assert set(segments.blocks()) == {Key(0), Key(1)}

    def test_it_takes_no_longer_with_many(self, segments, monkeypatch):
        """Two thousand files of partial results, of ten blocks each."""
        monkeypatch.setattr(Records, "delete", lambda self, key: None)
        for i in range(2000):
            segments.add(f"a-{i:06d}", [Key(10 * i + j, 0) for j in range(10)])
        segments.add("rows", map(Key, range(20_000)))
        start = time.process_time()
        segments.drop_merged()
        assert time.process_time() - start < 2
        assert len(segments.blocks()) == 20_000

    def test_blocks_are_taken_up_while_others_are_given_up(self, segments, monkeypatch):
        """The commits' thread adds what the caller's thread drops."""
        monkeypatch.setattr(Records, "delete", lambda self, key: None)
        errors = []

        def add():
            try:
                for i in range(3000):
                    segments.add(f"p{i}", [Key(i, 0)])
                    segments.add(f"r{i}", [Key(i)])
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=add)
        thread.start()
        while thread.is_alive():
            segments.drop_merged()
            segments.blocks()
        thread.join()
        segments.drop_merged()
        assert errors == []
        assert set(segments.blocks()) == set(map(Key, range(3000)))


class TestCommits:
    @pytest.mark.slow
    def test_a_block_is_committed_within_a_second(self, records, segments, commits, tmp_path):
        commits.keep(segments, "score", Key(3), block(0))
        assert files(tmp_path) == []
        np.testing.assert_array_equal(commits.find("score", Key(3)), block(0))
        start = time.monotonic()
        while not files(tmp_path):
            assert time.monotonic() - start < module.INTERVAL + 5
            time.sleep(0.01)
        np.testing.assert_array_equal(again(records).read(Key(3)), block(0))
        while commits.find("score", Key(3)) is not None:
            assert time.monotonic() - start < module.INTERVAL + 5
        assert Key(3) in segments.blocks()

    def test_blocks_of_a_second_are_one_file_of_each_kind(self, records, tmp_path, never):
        records.make("other")
        commits = Commits(records, SESSION, lambda: None)
        score, other = Segments(records, "score"), Segments(records, "other")
        for q in range(10):
            commits.keep(score, "score", Key(q, 1), block(q))
            commits.keep(score, "score", Key(q), block(q))
            commits.keep(other, "other", Key(q), block(q))
        assert files(tmp_path) == []
        commits.close()
        assert len(files(tmp_path)) == 2
        assert len(list((tmp_path / "run/other").glob("*.npz"))) == 1
        assert len(score.blocks()) == 20

    def test_what_waits_is_bounded_in_bytes(self, records, segments, commits, monkeypatch, never):
        monkeypatch.setattr(module, "MOST_BYTES", 4 * block(0).nbytes)
        most = []
        for q in range(100):
            commits.keep(segments, "score", Key(q), block(q))
            most.append(commits._bytes)
        assert max(most) <= 5 * block(0).nbytes
        commits.flush()
        assert commits._bytes == 0
        assert len(again(records).blocks()) == 100

    @pytest.mark.slow
    def test_a_disk_that_is_slow_makes_blocks_wait(
        self, records, segments, commits, monkeypatch, never
    ):
        put = Records.put
        waiting = []

        def slow(self, key, content):
            time.sleep(0.05)
            waiting.append(commits._bytes)
            put(self, key, content)

        monkeypatch.setattr(Records, "put", slow)
        monkeypatch.setattr(module, "MOST_BYTES", 4 * block(0).nbytes)
        for q in range(40):
            commits.keep(segments, "score", Key(q), block(q))
        commits.flush()
        assert max(waiting) <= 6 * block(0).nbytes
        assert len(again(records).blocks()) == 40

    def test_a_block_that_is_kept_twice_is_counted_once(self, segments, commits, never):
        for seed in range(3):
            commits.keep(segments, "score", Key(1), block(seed))
        assert commits._bytes == block(0).nbytes
        commits.flush()
        assert commits._bytes == 0
        np.testing.assert_array_equal(segments.read(Key(1)), block(2))

    def test_what_is_forgotten_is_not_committed(self, records, segments, commits, tmp_path, never):
        commits.keep(segments, "score", Key(1, 0), block(0))
        commits.forget("score", Key(1, 0))
        commits.forget("score", Key(2, 0))
        commits.flush()
        assert files(tmp_path) == []
        assert commits._bytes == 0

    def test_an_error_of_the_thread_is_raised_by_the_next_call(
        self, records, segments, commits, monkeypatch
    ):
        def full(self, key, content):
            raise DataSetError("no space left")

        monkeypatch.setattr(module, "INTERVAL", 0.01)
        with monkeypatch.context() as patch:
            patch.setattr(Records, "put", full)
            commits.keep(segments, "score", Key(1), block(0))
            end = time.monotonic() + 10
            while commits._error is None:
                assert time.monotonic() < end
                time.sleep(0.01)
        message = "no space left; what is done is kept, make room and start the same run again"
        for call in (
            lambda: commits.keep(segments, "score", Key(2), block(0)),
            commits.flush,
            commits.close,
        ):
            with pytest.raises(DataSetError, match=message):
                call()
        assert not [t for t in threading.enumerate() if t.name == "dkde-commits"]
        assert again(records).blocks() == []

    def test_after_an_interrupt_the_same_blocks_are_committed(
        self, records, segments, commits, monkeypatch, never
    ):
        def interrupted(self, key, content):
            raise KeyboardInterrupt

        commits.keep(segments, "score", Key(1), block(0))
        with monkeypatch.context() as patch:
            patch.setattr(Records, "put", interrupted)
            with pytest.raises(KeyboardInterrupt):
                commits.flush()
        commits.close()
        np.testing.assert_array_equal(again(records).read(Key(1)), block(0))

    def test_nothing_is_committed_to_a_run_that_is_no_longer_the_present_one(
        self, records, segments, tmp_path, never
    ):
        def deposed():
            raise DataSetError("was begun anew")

        commits = Commits(records, SESSION, deposed)
        commits.keep(segments, "score", Key(1), block(0))
        with pytest.raises(DataSetError, match="was begun anew"):
            commits.close()
        assert files(tmp_path) == []

    def test_two_sessions_write_no_name_twice(self, records, tmp_path, never):
        for session in ("0" * 32, "1" * 32):
            kept(records, [Key(0), Key(1)], session)
            kept(records, [Key(2)], session[::-1])
        names = [path.name for path in files(tmp_path)]
        assert len(names) == len(set(names))
        assert set(again(records).blocks()) == {Key(0), Key(1), Key(2)}


@pytest.mark.slow
def test_a_name_of_more_blocks_than_any_run_writes_is_not_believed():
    assert len(listed("0123456789ab-000001-r0-1048575.npz")) == 2**20
    assert listed("0123456789ab-000001-r0-99999999999999.npz") is None
