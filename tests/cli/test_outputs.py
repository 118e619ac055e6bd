"""Files go where they are sent: through links, into pipes, and never over each other."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

H = ("--bandwidths", "0.3,0.7,2")


def through_a_pipe(path: Path, write) -> bytes:
    """What a reader at the other end of a new named pipe gets."""
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()
    write()
    reader.join(timeout=30)
    return got[0]


class TestPlaces:
    def test_links_stay(self, run, npz, folder):
        (folder / "there").mkdir()
        for name in ("s.csv", "s.png"):
            (folder / "there" / name).write_text("old")
            (folder / name).symlink_to(folder / "there" / name)
        run("sweep", npz, *H, "--csv", "s.csv", "--plot", "s.png")
        assert (folder / "s.csv").is_symlink()
        assert (folder / "s.png").is_symlink()
        assert (folder / "there" / "s.csv").read_text().startswith("split,")
        assert (folder / "there" / "s.png").read_bytes().startswith(b"\x89PNG")
        assert sorted(os.listdir(folder / "there")) == ["s.csv", "s.png"]

    def test_a_link_to_nothing_yet(self, run, npz, folder):
        (folder / "s.csv").symlink_to(folder / "new.csv")
        run("sweep", npz, *H, "--csv", "s.csv")
        assert (folder / "s.csv").is_symlink()
        assert (folder / "new.csv").read_text().startswith("split,")

    def test_pipes_stay(self, run, npz, folder):
        csv, picture = folder / "s.csv", folder / "s.png"
        text = through_a_pipe(csv, lambda: run("sweep", npz, *H, "--csv", csv))
        assert text.startswith(b"split,")
        drawn = through_a_pipe(picture, lambda: run("sweep", npz, *H, "--plot", picture))
        assert drawn.startswith(b"\x89PNG")
        assert csv.is_fifo()
        assert picture.is_fifo()

    def test_a_link_to_a_folder(self, refused, npz, folder):
        (folder / "there").mkdir()
        (folder / "s.csv").symlink_to(folder / "there")
        assert "s.csv: is a folder" in refused("sweep", npz, *H, "--csv", "s.csv")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--csv", "a", "--output", "a"), "--csv and --output are one place"),
            (("--csv", "a.png", "--plot", "./a.png"), "--csv and --plot are one place"),
            (("--csv", "a.npz"), "DATA and --csv are one place"),
            (("--csv", "-"), "there is --json"),
        ],
    )
    def test_collisions(self, refused, npz, arguments, words):
        assert words in refused("sweep", npz, *H, *arguments)

    @pytest.mark.slow
    def test_no_result_in_a_store(self, run, refused):
        run("import", "digits", "d.zarr")
        for path in ("d.zarr/x", "d.zarr/train/x"):
            assert "lies in the Zarr store" in refused("sweep", "d.zarr", *H, "--output", path)


class TestDefaultTest:
    def test_rows_that_choose_are_no_test_rows(self, run, npz):
        result = run("sweep", npz, "--valid", "test", *H)
        assert "test at" not in result.stdout
        lines = [line for line in result.stderr.splitlines() if line.startswith("No test rows")]
        assert len(lines) == 1
        assert "--valid test" in lines[0]

    def test_rows_that_are_trained_on_are_no_test_rows(self, run, npz):
        result = run("sweep", npz, "--train", "train+test", *H)
        assert "--train train+test" in result.stderr

    def test_a_part_that_is_free_is_not_looked_for(self, run, npz):
        result = run("sweep", npz, "--valid", "test[:5]", "--test", "test[5:]", *H)
        assert "test at" in result.stdout
        assert "No test rows" not in result.stderr

    def test_none_if_so_said(self, run, refused, npz):
        result = run("sweep", npz, "--no-test", *H)
        assert "test at" not in result.stdout
        assert "No test rows" not in result.stderr
        assert "exclude each other" in refused("sweep", npz, "--test", "test", "--no-test", *H)


class TestEstimate:
    def test_warnings_come_once_and_name_the_option(self, run, npz):
        np.save("far.npy", np.random.default_rng(0).standard_normal((9, 3)) * 100)
        result = run("sweep", npz, "--valid", "far.npy", "--bandwidths", "50,100,200")
        assert result.stderr.count("on one scale") == 1
        assert "query" not in result.stderr.partition("Read: ")[0]

    def test_refusals_name_the_option(self, refused, npz):
        np.save("wide.npy", np.zeros((5, 7)))
        line = refused("sweep", npz, "--valid", "wide.npy", *H)
        assert "valid (wide.npy) has 7" in line
        assert "query" not in line


class TestFiles:
    """Outputs that are files, as the command line makes them."""

    def test_parts_become_a_file(self, run, npz):
        score = ("score", npz, "--query", "test", "--bandwidth", "0.5")
        whole = run(*score, "--output", "whole.csv").stdout
        said = run(*score, "--output", "parts.csv", "--init-only").stderr
        assert "run dkde run-part parts.csv --part I --parts N, then dkde finish parts.csv" in said
        assert run("status", "parts.csv").stdout.startswith("state       stopped")
        assert "dkde run-part" in run("script", "slurm", "parts.csv", "--parts", 1).stdout
        run("run-part", "parts.csv", "--part", 0, "--parts", 1)
        assert run("finish", "parts.csv").stdout == whole
        assert Path("parts.csv").read_text() == Path("whole.csv").read_text()
        assert sorted(os.listdir()) == ["a.npz", "parts.csv", "whole.csv"]

    def test_refused(self, run, refused, npz):
        score = ("score", npz, "--query", "test", "--bandwidth", "0.5")
        run(*score, "--output", "r.csv")
        assert "begin it anew with --restart" in refused(*score, "--output", "r.csv")
        run(*score, "--output", "r.csv", "--restart")
        assert "r.xls: is the name of a .xls file" in refused(*score, "--output", "r.xls")
        line = refused("sweep", npz, "--bandwidths", "0.1,0.5,9", "--output", "s.csv")
        assert "--csv writes the figures" in line
        assert "name it o.zarr" in refused("import", npz, "o.csv")
        assert "there is no folder" in refused(*score, "--output", "nowhere/r.csv")
        sample = ("sample", npz, "--train", "train", "--bandwidth", "0.5", "-n", 3)
        run(*sample, "-o", "s.npy")
        assert "replace it with --overwrite" in refused(*sample, "-o", "s.npy")
        assert "3 samples in s.npy" in run(*sample, "-o", "s.npy", "--overwrite").stderr

    @pytest.mark.slow
    def test_a_complete_file_is_found_complete(self, run, npz):
        arguments = ("sweep", npz, "--bandwidths", "0.1,0.5,9", "--output", "s.nc", "--json")
        first, again = run(*arguments), run(*arguments)
        assert again.stdout == first.stdout
        assert "s.nc was complete already; it took" in again.stderr
        assert run("status", "s.nc").stdout.startswith("state       complete")

    @pytest.mark.slow
    def test_data_that_were_moved(self, run, refused, npz):
        score = ("score", npz, "--query", "test", "--bandwidth", "0.5", "--train", "train")
        run(*score, "--output", "r.zarr")
        os.rename("a.npz", "b=c.npz")
        assert "it was moved, say where it is now with --source" in refused("verify", "r.zarr")
        assert "a.npz: not there; say where" in run("status", "r.zarr").stdout
        moved = ("--source", "a.npz=b=c.npz")
        assert "computed again and the same" in run("verify", "r.zarr", *moved).stdout
        assert "b=c.npz" in run("status", "r.zarr", *moved).stdout
        for command in (("report", "r.zarr", "-o", "r.html"), ("compare", "r.zarr", "r.zarr")):
            run(*command, *moved)
        os.remove("r.html")
        assert "--source: x is not named" in refused("verify", "r.zarr", "--source", "x=b=c.npz")
        assert "write OLD=NEW" in refused("verify", "r.zarr", "--source", "a.npz")
