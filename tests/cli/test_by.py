"""``--by``: one density for each value of a label or a column, and selectors of one value."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dkde


@pytest.fixture
def rows():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(80, 2)), columns=["x", "y"])
    frame["day"] = np.datetime64("2021-01-01") + np.arange(80) * np.timedelta64(3, "D")
    frame.assign(kind=np.repeat(["ant", "bee"], 40)).to_parquet("rows.parquet")
    return "rows.parquet"


def test_score_prints_a_line_for_each_value(run):
    printed = run("score", "digits", "--query", "test", "--by", "label", "--bandwidth", "2")
    heads, *lines = printed.stdout.splitlines()
    assert heads.split()[:2] == ["label", "bandwidth"]
    assert [line.split()[0] for line in lines] == list("0123456789")
    expected = dkde.score("test", "train[label=3]", 2.0, source="digits")
    assert f"{float(expected.mean_log_likelihood[0]):.4f}" in lines[3]


def test_score_as_json_and_csv(run):
    words = ("score", "digits", "--query", "test", "--by", "label", "--bandwidth", "scott,2")
    found = json.loads(run(*words, "--json", "--csv", "f.csv").stdout)
    assert found["by"] == "label"
    assert [row["label"] for row in found["rows"]] == [k for k in range(10) for _ in range(2)]
    table = pd.read_csv("f.csv")
    np.testing.assert_array_equal(table.label, [row["label"] for row in found["rows"]])
    np.testing.assert_array_equal(table.bandwidth, [row["bandwidth"] for row in found["rows"]])
    assert len(set(table.bandwidth)) > 3
    common = json.loads(run(*words, "--common-bandwidth", "--json").stdout)
    assert len({row["bandwidth"] for row in common["rows"]}) == 2


@pytest.mark.slow
def test_a_run_is_set_up_done_in_parts_and_written_down(run, rows):
    words = ("score", rows, "--features", "x,y", "--query", rows, "--by", "kind")
    run(*words, "--bandwidth", "scott", "--output", "r.zarr", "--init-only")
    for part in (0, 1):
        run("run-part", "r.zarr", "--part", part, "--parts", 2)
    printed = run("finish", "r.zarr")
    assert [line.split()[0] for line in printed.stdout.splitlines()[1:]] == ["ant", "bee"]
    assert 'by = "kind"' in run("status", "r.zarr", "--config").stdout
    run("verify", "r.zarr")
    run("export", "r.zarr", "r.csv")
    assert set(pd.read_csv("r.csv").kind) == {"ant", "bee"}
    run("report", "r.zarr", "-o", "r.html")


@pytest.mark.slow
def test_map_prints_and_draws_each(run, rows):
    words = ("map", rows, "--features", "x,y", "--by", "day.quarter", "--bandwidth", "0.5")
    printed = run(*words, "--levels", "50", "-o", "m.nc", "--plot", "m.png", "--contours",
                  "m.geojson")  # fmt: skip
    assert [line for line in printed.stdout.splitlines() if line.startswith("quarter")] == [
        "quarter 1", "quarter 2", "quarter 3",
    ]  # fmt: skip
    features = json.loads(Path("m.geojson").read_text())["features"]
    assert [each["properties"]["quarter"] for each in features] == ["1", "2", "3"]
    found = json.loads(run(*words, "--json").stdout)
    assert [each["quarter"] for each in found["groups"]] == [1, 2, 3]
    assert found["groups"][0]["mass"] == pytest.approx(1, abs=1e-2)


def test_what_cannot_be_is_one_line(refused, rows):
    words = ("score", rows, "--features", "x,y", "--query", rows, "--bandwidth", "1")
    assert "has no column 'nosuch'" in refused(*words, "--by", "nosuch")
    assert "--common-bandwidth is for the groups of --by" in refused(*words, "--common-bandwidth")
