"""Columns that are left out are said on standard error, in one line, and kept with results."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SAID = "marks.csv: the features are x; left out: y (text, for instance '-' in row 1); name the"
ROWS = np.random.default_rng(1).normal(size=(30, 2))


@pytest.fixture
def marks(folder):
    (folder / "marks.csv").write_text("x,y\n1,-\n3,4\n5,6\n7,8\n")
    (folder / "query.csv").write_text("x\n1\n2\n")
    return "marks.csv"


@pytest.fixture
def lists(folder):
    table = {"id": np.arange(30), "emb": pa.array(ROWS.tolist()), "note": ["x"] * 30}
    pq.write_table(pa.table(table), folder / "lists.parquet")
    pq.write_table(pa.table(table).drop_columns(["id"]), folder / "alone.parquet")
    return "lists.parquet"


class TestMarks:
    def test_score_says_it_once(self, run, marks):
        result = run("score", marks, "--query", "marks.csv[:2]", "--bandwidth", "1")
        lines = [line for line in result.stderr.splitlines() if "left out" in line]
        assert len(lines) == 1
        assert lines[0].startswith(f"Warning: {SAID}")
        result = run("score", marks, "--features", "x", "--query", "query.csv", "--bandwidth", "1")
        assert "left out" not in result.stderr

    def test_info_and_import_say_it(self, run, marks):
        assert "y (text, for instance '-' in row 1)" in run("info", marks).stdout
        result = run("import", marks, "marks.zarr")
        assert f"Warning: {SAID} features to take others (--columns" in result.stderr
        described = json.loads(run("info", "marks.zarr", "--json").stdout)
        assert described["columns_left_out"] == ["y"]
        assert described["left_out"] == {"y": "text, for instance '-' in row 1"}
        assert "y (text, for" in run("info", "marks.zarr").stdout


class TestLists:
    def test_beside_numbers_they_are_refused_in_a_line(self, run, lists):
        for command in (["score", lists, "--query", lists, "--bandwidth", "1"], ["info", lists],
                        ["import", lists, "x.zarr"]):  # fmt: skip
            result = run(*command, status=2)
            (line,) = result.stderr.splitlines()
            assert "emb is a column of lists of 2 numbers, and id has numbers too" in line
            assert "--features emb, or --features id" in line

    @pytest.mark.slow
    def test_named_they_are_rows(self, run, lists):
        assert "emb_0, emb_1" in run("info", lists, "--features", "emb").stdout
        assert "left out  note (text)" in run("info", "alone.parquet").stdout
        command = ["score", lists, "--query", f"{lists}[:9]", "--bandwidth", "1"]
        assert run(*command, "--features", "emb", "--output", "r.zarr").exit_code == 0
        # The rows are known again, and the call can be made again.
        assert run("verify", "r.zarr").exit_code == 0
        assert run("export", "r.zarr", "r.csv").exit_code == 0
        assert run("import", lists, "x.zarr", "--columns", "emb").exit_code == 0
        result = run("score", "x.zarr", "--query", "x.zarr::train[:9]", "--bandwidth", "1",
                     "--output", "s.zarr")  # fmt: skip
        assert result.exit_code == 0
        compared = run("compare", "r.zarr", "s.zarr")
        assert (compared.exit_code, "100.0 %" in compared.stdout) == (0, True)
