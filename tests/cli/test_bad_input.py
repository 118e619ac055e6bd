"""What cannot be done is refused in one line, with status 2, and nothing is left behind."""

import os
import pickle

import numpy as np
import pytest

H = ("--bandwidths", "0.5,1,2")


class TestFiles:
    def test_missing(self, refused):
        assert "nowhere.zarr: no such file" in refused("sweep", "nowhere.zarr")

    def test_names_stay_as_they_are(self, refused):
        assert 'nan="x" (restart).csv: no such file' in refused("info", 'nan="x" (restart).csv')

    def test_foreign(self, refused, folder):
        (folder / "notes.txt").write_text("hello\n")
        assert "notes.txt: looks like a text file" in refused("import", "notes.txt", "n.zarr")
        assert "notes.txt: looks like a text file" in refused("info", "notes.txt")

    def test_truncated(self, refused, npz, folder):
        (folder / "cut.npz").write_bytes((folder / npz).read_bytes()[:900])
        np.save("whole.npy", np.zeros((9, 3)))
        for n_bytes in (60, 200):
            (folder / "cut.npy").write_bytes((folder / "whole.npy").read_bytes()[:n_bytes])
            for name in ("cut.npz", "cut.npy"):
                line = refused("import", name, "n.zarr")
                assert f"{name}: " in line
                assert "is truncated or damaged" in line
                assert "fetch it again" in line

    def test_pickle_with_another_global(self, refused, folder):
        class Evil:
            def __reduce__(self):
                return open, ("/dev/null",)

        (folder / "evil.pkl").write_bytes(pickle.dumps(Evil(), protocol=2))
        assert "evil.pkl: " in refused("import", "evil.pkl", "n.zarr")

    @pytest.mark.slow
    def test_a_store_in_the_way(self, run, refused):
        run("import", "digits", "d.zarr")
        line = refused("import", "digits", "d.zarr")
        assert "d.zarr: exists already" in line
        assert "--overwrite" in line

    def test_a_folder_that_appears_meanwhile(self, run, folder, npz, monkeypatch):
        from dkde.inputs import importing

        kept = importing.place_dataset

        def late(*arguments, **options):
            (folder / "d.zarr").mkdir()
            (folder / "d.zarr" / "precious").touch()
            kept(*arguments, **options)

        monkeypatch.setattr(importing, "place_dataset", late)
        result = run("import", npz, "d.zarr", "--overwrite", status=2)
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: d.zarr: something was put there by another process while")
        assert sorted(os.listdir(folder)) == ["a.npz", "d.zarr"]
        assert os.listdir(folder / "d.zarr") == ["precious"]

    @pytest.mark.slow
    def test_what_a_killed_import_left_is_told_in_a_line(self, run, folder, npz):
        left = folder / ".d.zarr.abcd_123"
        (left / "new").mkdir(parents=True)
        for command in (("import", npz, "d.zarr"), ("info", "d.zarr")):
            lines = [each for each in run(*command).stderr.splitlines() if str(left) in each]
            assert len(lines) == 1
            assert "may be left by a command that was killed; remove it if" in lines[0]
        assert left.exists()


class TestSides:
    def test_features_differ(self, refused, npz):
        np.save("wide.npy", np.zeros((5, 7)))
        line = refused("sweep", npz, "--train", "wide.npy", *H)
        assert "wide.npy" in line
        assert "7 features" in line
        assert "has 3" in line

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("role", ["--train", "--valid"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, refused, npz, role, value):
        rows = np.zeros((9, 3))
        rows[4, 1] = value
        np.save("holes.npy", rows)
        line = refused("sweep", npz, role, "holes.npy", *H)
        assert f"holes.npy: row 4, column 1 is {value:g}" in line

    def test_shared_rows(self, refused, npz):
        line = refused("sweep", npz, "--valid", "train[50:]", *H)
        assert "share rows" in line
        assert "dkde cv" in line

    def test_no_valid_split(self, refused):
        np.save("bare.npy", np.zeros((10, 2)))
        line = refused("sweep", "bare.npy", *H)
        assert "bare.npy: has no split valid (it has train)" in line
        assert "--train 'train[:8]' --valid 'train[8:]'" in line

    @pytest.mark.parametrize(
        ("selector", "words"),
        [
            ("train[:61]", "out of range: it has 60 rows"),
            ("train[-61:]", "out of range: it has 60 rows"),
            ("train[7:7]", "holds no rows"),
            ("train[9:3]", "holds no rows"),
            ("training", "it has train, valid, test"),
            ("train[3]", "cannot be read"),
            ("none.zarr::train", "none.zarr: no such file"),
        ],
    )
    def test_selectors(self, refused, npz, selector, words):
        assert words in refused("sweep", npz, "--train", selector, *H)

    def test_pictures_of_rows_that_are_none(self, refused, npz):
        assert "--image-shape" in refused("show", npz, "-o", "x.png")


class TestOptions:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("0,1", "bandwidth 0 must be"),
            ("-1,1", "bandwidth -1 must be"),
            ("nan", "bandwidth nan must be"),
            ("inf", "bandwidth inf must be"),
            ("", "at least one number"),
            ("1,2,1", "bandwidth 1 is given twice"),
            ("logspace:0:1", "cannot be read"),
            ("geomspace:-1:1:3", "must be a positive"),
            ("a,b", "cannot be read"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:invalid value")
    def test_bandwidths(self, refused, npz, text, words):
        assert words in refused("sweep", npz, "--bandwidths", text)
        line = refused("score", npz, "--query", "test", "--bandwidth", text)
        assert line.startswith("Error: --bandwidth: ")
        assert words in line

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--csv", "none/s.csv"), "none/s.csv: there is no folder"),
            (("--plot", "none/s.png"), "none/s.png: there is no folder"),
            (("--output", "none/s.zarr"), "none/s.zarr: there is no folder"),
            (("--output", "a.npz"), "DATA and --output are one place"),
            (("--output", "-"), "the store needs a name"),
            (("--csv", "."), ".: is a folder"),
            (("--plot", "s.gif"), "s.gif: pictures are written as"),
            (("--plot", "s.png", "--no-plot"), "exclude each other"),
            (("--precision", "float16"), "'--precision'"),
            (("--workers", "two"), "'--workers'"),
            (("--workers", "0"), "at least 1"),
            (("--memory-limit", "lots"), "memory limit 'lots' is no size"),
            (("--scheduler", "tcp://127.0.0.1:9", "--workers", "2"), "leave out the local"),
            (("--scheduler-file", "none.json"), "none.json: no such scheduler file"),
            (("--frobnicate",), "--frobnicate"),
        ],
    )
    def test_sweep(self, refused, npz, arguments, words):
        assert words in refused("sweep", npz, *H, *arguments)

    def test_commands(self, refused):
        assert "No such command 'swep'" in refused("swep")
        assert "Missing argument 'DATA'" in refused("sweep")
        assert "--nope" in refused("--nope")

    def test_nothing_is_computed_before_paths_are_checked(self, refused, npz, monkeypatch):
        monkeypatch.setattr("dkde.sweep", lambda **_: pytest.fail("computed"))
        refused("sweep", npz, *H, "--csv", "none/s.csv")


class TestClusters:
    def test_an_unreachable_scheduler(self, refused, npz):
        # Nothing listens on port 9 of this machine.
        line = refused("sweep", npz, *H, "--scheduler", "tcp://127.0.0.1:9")
        assert "no Dask scheduler answers at tcp://127.0.0.1:9" in line

    @pytest.mark.parametrize("text", ["junk", "{}", "[1]", '"address"'])
    def test_a_scheduler_file_that_is_none(self, refused, npz, folder, text):
        (folder / "s.json").write_text(text)
        line = refused("sweep", npz, *H, "--scheduler-file", "s.json")
        assert "s.json: is not a scheduler file" in line

    def test_one_that_the_configuration_names(self, refused, npz):
        import dask

        with dask.config.set({"scheduler-address": "tcp://127.0.0.1:9"}):
            assert "answers at tcp://127.0.0.1:9" in refused("sweep", npz, *H)
            assert "answers at tcp://127.0.0.1:9" in refused("plan", npz)

    @pytest.mark.slow
    def test_a_memory_limit_too_small(self, run, npz):
        result = run("sweep", npz, *H, "--workers", 1, "--memory-limit", "250MB", status=2)
        assert result.stderr.splitlines()[-1].startswith("Error: ")
        assert "memory limit" in result.stderr
        assert "Traceback" not in result.stderr
