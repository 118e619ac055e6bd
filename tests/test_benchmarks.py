"""Benchmarks still run, small."""

import argparse
import importlib
import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference
import zarr

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


# Those that are run, and not only imported by another.
SCRIPTS = (
    "bandwidths", "bounded", "calls", "exactness", "extend", "groups", "growth", "kills", "leaves",
    "maps", "one_gaussian", "pair_loop", "parquet", "peers", "plans", "random_order", "roofline",
    "runs", "scale", "selection", "simulated", "stores", "supports", "two_workers",
)  # fmt: skip


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Return what a script defines, by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: runpy.run_path(str(BENCHMARKS / f"{name}.py"))


def kept(file: Path, benchmark: str) -> Any:
    """Return the figures of a record, after a look at what they were taken on."""
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["benchmark"] == benchmark
    assert record["machine"]["processor"]
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["memory_bytes"] > 2**28
    for name in ("python", "dkde", "numpy", "numba", "zarr", "dask"):
        assert record["versions"][name] not in ("", "not installed")
    assert record["commit"] is None or len(record["commit"]["number"]) >= 40
    assert all(library["threads"] >= 1 for library in record["blas"])
    assert "json" not in record["arguments"]
    return record["figures"]


def test_none_is_left_out():
    runnable = {
        path.stem
        for path in BENCHMARKS.glob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    assert runnable == set(SCRIPTS)
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert all(f"python benchmarks/{name}.py" in text for name in SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name, script, capsys):
    with pytest.raises(SystemExit) as stop:
        script(name)["main"](["--help"])
    assert stop.value.code == 0
    assert "--json [FILE]" in capsys.readouterr().out


@pytest.mark.slow
def test_pair_loop(script, tmp_path):
    file = tmp_path / "loop.json"
    arguments = ["--rows", "256", "--features", "3", "9", "--repeats", "1", "--json", str(file)]
    figures = script("pair_loop")["main"](arguments)
    assert [row["features"] for row in figures] == [3, 9]
    assert [set(row) - {"features"} for row in figures] == [
        {"two_passes", "product", "fused"}, {"two_passes", "product"}
    ]  # fmt: skip
    assert all(value > 0 for row in figures for value in row.values())
    assert kept(file, "pair_loop") == figures


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_parquet(script, capsys, tmp_path):
    file = tmp_path / "parquet.json"
    sizes = ["--rows", "9000", "--queries", "400", "--files", "2", "7", "--repeats", "1"]
    figures = script("parquet")["main"]([*sizes, "--json", str(file)])
    assert "of Zarr's" in capsys.readouterr().out
    assert kept(file, "parquet") == figures
    assert [row["form"] for row in figures] == ["Zarr", "Parquet, 2 files", "Parquet, 7 files"]
    assert len({row["sum"] for row in figures}) == 1
    assert all(row["seconds"] > 0 and row["taken"] > 0 for row in figures)


def test_plans(script, capsys, tmp_path, monkeypatch):
    file = tmp_path / "plans.json"
    monkeypatch.setattr("sys.argv", ["plans.py"])
    defined = script("plans")
    made = defined["of_mixture"](9000, 400, 3, "")
    found = defined["measure"]("mixture", lambda _: made)
    assert found["planned"] > 0
    assert found["taken"] > 0
    defined["main"](["--works", "none of these", "--json", str(file)])
    assert capsys.readouterr().out.startswith("| work |")
    assert kept(file, "plans") == []


@pytest.mark.slow
def test_scale(script, capsys, tmp_path):
    file = tmp_path / "scale.json"
    sizes = ["--rows", "20000", "40000", "--check", "4", "--kills", "1"]
    figures = script("scale")["main"]([*sizes, "--folder", str(tmp_path), "--json", str(file)])
    assert capsys.readouterr().out.count("\n| ") == 3  # heads, two rows
    assert kept(file, "scale") == figures
    assert all(row["error"] <= 1e-6 and row["read"] >= 1 for row in figures)


@pytest.mark.slow
def test_scale_of_sorted_rows(script, capsys, tmp_path):
    file = tmp_path / "scale.json"
    sizes = ["--rows", "200000", "--queries", "2000", "--features", "3", "--order"]
    given = [*sizes, "--data", "mixture", "--check", "4", "--folder", str(tmp_path)]
    (row,) = script("scale")["main"]([*given, "--json", str(file)])
    assert "mixture, 3 features" in capsys.readouterr().out
    assert kept(file, "scale") == [row]
    assert (row["rows"], row["queries"]) == (200_000, 2000)
    assert row["error"] <= 1e-6
    assert row["own_bytes"] is None or 2**26 < row["own_bytes"] <= row["peak_bytes"]
    stored = tmp_path / "mixture-train-200000x3-sorted.zarr"
    assert (stored / "_index").is_dir()
    assert np.diff(zarr.open_group(stored, mode="r")["train/source_row"][:100]).max() > 1


@pytest.mark.slow
def test_extend(script, capsys, tmp_path):
    file = tmp_path / "extend.json"
    given = ["--base", "pairs", "--share", "0.001", "--check", "3", "--folder", str(tmp_path)]
    figures = script("extend")["main"]([*given, "--json", str(file)])
    assert capsys.readouterr().out.count("\n| ") == 2
    assert kept(file, "extend") == figures
    assert [(row["base"], row["added"]) for row in figures] == [
        ("pairs", "train"), ("pairs", "query"),
    ]  # fmt: skip
    assert all(row["error"] <= row["bound"] for row in figures)


@pytest.mark.slow
def test_random_order(script, capsys, tmp_path):
    file = tmp_path / "random.json"
    sizes = ["--rows", "20000", "--queries", "400", "--workers", "--repeats", "1"]
    figures = script("random_order")["main"]([*sizes, "--json", str(file)])
    assert capsys.readouterr().out.count("\n| ") == 4  # heads, three rows
    assert kept(file, "random_order") == figures
    assert [row["rows"] for row in figures] == ["memory", "indexed", "unindexed"]
    assert all(row["worked"] > 0 and row["planned_bytes"] > 0 for row in figures)
    assert figures[1]["sum"] == figures[2]["sum"]


def test_roofline(script, capsys, tmp_path):
    file = tmp_path / "roofline.json"
    arguments = ["--rows", "200", "--repeats", "1", "--json", str(file)]
    figures = script("roofline")["main"](arguments)
    assert {(row["precision"], row["bandwidths"]) for row in figures} == {
        (p, n) for p in ("float64", "float32") for n in (8, 1, 20)
    }
    assert all(row["ratio"] > 0 for row in figures)
    assert "200 x 200 x 784" in capsys.readouterr().out
    assert kept(file, "roofline") == figures


@pytest.mark.slow
def test_maps(script, capsys, tmp_path):
    file = tmp_path / "maps.json"
    arguments = ["--rows", "3000", "--divide", "32", "--repeats", "1", "--checked", "2"]
    arguments += ["--sphere-rows", "3000", "--json", str(file)]
    figures = script("maps")["main"](arguments)
    assert {row["grid"] for row in figures} == {"40x30", "4x4x4", "7x7", "45x22"}
    assert all(row["error_of_tol"] < 1 and row["bound_of_tol"] <= 1 for row in figures)
    assert "error, bound / tol" in capsys.readouterr().out
    assert kept(file, "maps") == figures
    (far,) = (row for row in figures if row["rows"] == "far")
    assert far["peer_seconds"] > 0
    assert far["peer_share_wrong"] > 0.5  # it is right only where the density is large


@pytest.mark.slow
def test_supports(script, capsys, tmp_path):
    file = tmp_path / "supports.json"
    arguments = ["--scale", "0.002", "--repeats", "1", "--json", str(file)]
    script("supports")["main"](arguments)
    assert "map of " in capsys.readouterr().out
    rows = kept(file, "supports")
    assert {row["kernel"] for row in rows} == {"epanechnikov", "biweight"}
    assert all(row["error"] < 1e-11 and row["seconds"] > 0 for row in rows)


@pytest.mark.slow
def test_bounded(script, capsys, tmp_path):
    file = tmp_path / "bounded.json"
    script("bounded")["main"](
        ["--rows", "800", "--features", "1", "3", "--repeats", "1", "--json", str(file)]
    )
    assert "one period" in capsys.readouterr().out
    ratios = ("ratio_bound", "ratio_period", "ratio_adaptive_pairs", "ratio_squares")
    assert all(row[ratio] > 0 for row in kept(file, "bounded") for ratio in ratios)


@pytest.mark.slow
def test_leaves(script, capsys, tmp_path):
    file = tmp_path / "leaves.json"
    sizes = ["--rows", "9000", "--queries", "400", "--features", "3", "7", "--repeats", "1"]
    script("leaves")["main"]([*sizes, "--no-mlpack", "--json", str(file)])
    table = capsys.readouterr().out
    assert table.count("\n| ") == 4  # heads, a rule, two rows
    rows = kept(file, "leaves")
    assert [row["features"] for row in rows] == [3, 7]
    assert all(0 < row["error"] < 1e-5 and row["seconds"] > 0 for row in rows)


@pytest.mark.slow
def test_one_gaussian(script, capsys, tmp_path):
    file = tmp_path / "one.json"
    sizes = ["--rows", "9000", "--queries", "400", "--features", "3", "--repeats", "1"]
    figures = script("one_gaussian")["main"]([*sizes, "--json", str(file)])
    out = capsys.readouterr().out
    assert out.count("\n| ") == 2 + len(figures)  # heads, a rule
    missing = out.count("is not installed: left out")
    assert len(figures) == 1 + 2 * (2 - missing)
    assert figures[0]["error"] < 1e-9
    assert kept(file, "one_gaussian") == figures


def test_calls(script, capsys, tmp_path):
    file = tmp_path / "calls.json"
    sizes = "--rows", "2000", "--repeats", "1"
    script("calls")["main"]([*sizes, "--no-first", "--json", str(file)])
    assert "equal to dkde.log_density, bit for bit: True" in capsys.readouterr().out
    assert {"first", "dkde 1", "scikit-learn 100", "small"} <= set(kept(file, "calls"))


def test_groups(script, capsys, tmp_path):
    file = tmp_path / "groups.json"
    sizes = ["--rows", "600", "--features", "1", "2", "--repeats", "1", "--bandwidths", "2"]
    script("groups")["main"]([*sizes, "--json", str(file)])
    assert capsys.readouterr().out.count("\n| ") == 4  # heads, a rule, two rows
    assert all(row["error"] < 1e-9 for row in kept(file, "groups"))


def test_bandwidths(script, capsys, tmp_path):
    file = tmp_path / "bandwidths.json"
    sizes = ["--rows", "600", "--features", "2", "--repeats", "1", "--bandwidths", "2"]
    (row,) = script("bandwidths")["main"]([*sizes, "--json", str(file)])
    assert row["ratio"] == row["together"] / row["apart"] > 0
    assert "600 x 600, 2 bandwidths" in capsys.readouterr().out
    (kept_row,) = kept(file, "bandwidths")
    assert kept_row["each"].keys() == {"0.02", "2.0"}


def test_growth(script, capsys, tmp_path):
    file = tmp_path / "growth.json"
    sizes = ["--rows", "3000", "1000", "--queries", "200", "--features", "3", "--repeats", "1"]
    (figures,) = script("growth")["main"]([*sizes, "--json", str(file)])
    assert [row["rows"] for row in figures["sizes"]] == [1000, 3000]
    widths = [row["bandwidth"] for row in figures["sizes"]]
    assert widths[0] / widths[1] == pytest.approx(3 ** (1 / 7))
    assert all(row["whole"] > 0 and row["sums"] > 0 for row in figures["sizes"])
    assert all(row["difference"] < 1e-5 for row in figures["sizes"])
    assert capsys.readouterr().out.count("| exponent over ") == 2
    assert kept(file, "growth") == [figures]


def test_the_exponent_is_that_of_a_power_law(script):
    slope = script("growth")["slope"]
    assert slope([10, 100, 1000], [2 * n**0.3 for n in (10, 100, 1000)]) == pytest.approx(0.3)
    assert np.isnan(slope([10], [1.0]))


@pytest.mark.slow
def test_exactness_shows_who_is_right(script, capsys, tmp_path):
    file = tmp_path / "exactness.json"
    figures = script("exactness")["main"](["--json", str(file)])
    assert all(row["error_dkde"] < 1e-9 for row in figures)
    assert max(row["error_scikit_learn"] for row in figures) > 100
    assert "digits, 360 x 1078 x 64" in capsys.readouterr().out
    assert kept(file, "exactness") == figures


@pytest.mark.slow
def test_stores(script, capsys, monkeypatch, tmp_path):
    pytest.importorskip("moto")
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "AWS_ALLOW_HTTP",
        "AWS_REGION",
    ):
        monkeypatch.setenv(name, "")  # is put back afterwards
    file = tmp_path / "stores.json"
    arguments = ["--chunks", "4x2KiB", "--repeats", "1", "--json", str(file)]
    figures = script("stores")["main"](arguments)
    (row,) = (row for row in figures if row["client"] == "obstore")
    assert (row["chunks"], row["chunk_bytes"]) == (4, 2048)
    assert row["seconds"] > 0
    assert "MiB/s" in capsys.readouterr().out
    assert kept(file, "stores") == figures


@pytest.mark.slow
def test_selection(script, capsys, tmp_path):
    file = tmp_path / "selection.json"
    arguments = ["--rows", "300", "--repeats", "1", "--json", str(file)]
    figures = script("selection")["main"](arguments)
    assert set(figures) == {"digits", "leave_one_out"}
    assert all(part["ratio"] > 0 for part in figures.values())
    assert "20 bandwidths, 5 folds" in capsys.readouterr().out
    assert kept(file, "selection") == figures


@pytest.mark.slow
def test_many_workers_in_counted_time(script, capsys, tmp_path):
    """Most of their time they work; without second attempts, stragglers would keep them waiting."""
    file = tmp_path / "simulated.json"
    sizes = ["--workers", "64", "--blocks", "1000"]
    figures = script("simulated")["main"](["--counted", *sizes, "--json", str(file)])
    # Few blocks for each worker: the last seconds weigh much. The draws are the same each time.
    assert figures["efficiency"] > 0.75
    assert figures["efficiency"] > figures["efficiency_without"] + 0.1
    assert figures["second_attempts"] > 0
    assert "64 workers, 1000 blocks" in capsys.readouterr().out
    assert kept(file, "simulated") == figures


@pytest.mark.alone
@pytest.mark.slow
def test_simulated_workers(script, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # of the processes that it starts
    file = tmp_path / "simulated.json"
    sizes = ["--workers", "8", "--blocks", "100", "--seconds", "0.2"]
    figures = script("simulated")["main"]([*sizes, "--json", str(file)])
    assert 0 < figures["efficiency"] < 1
    assert set(figures["growth_bytes"]) == {"client", "scheduler", "workers"}
    assert "8 workers, 100 blocks" in capsys.readouterr().out
    assert kept(file, "simulated") == figures


@pytest.mark.alone
@pytest.mark.slow
def test_two_workers(script, capsys, tmp_path):
    file = tmp_path / "two.json"
    sizes = ["--blocks", "2", "--rows", "500", "--repeats", "1"]
    figures = script("two_workers")["main"]([*sizes, "--json", str(file)])
    assert "share" in capsys.readouterr().out
    assert kept(file, "two_workers") == figures
    gains = figures["gain"], figures["products_gain"]
    assert figures["share"] == pytest.approx(gains[0] / gains[1])
    assert all(gain > 0 for gain in gains)


@pytest.mark.alone
@pytest.mark.slow
def test_workers_that_are_killed(script, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # of the processes that it starts
    file = tmp_path / "kills.json"
    # Workers live longer than they load their libraries, and some die, however busy the machine is.
    sizes = ["--workers", "2", "--blocks", "400", "--block-rows", "20", "--rows", "100000"]
    figures = script("kills")["main"]([*sizes, "--every", "4", "--json", str(file)])
    assert figures["kills"] > 0
    assert figures["ratio"] > 0
    assert "the same to the last bit" in capsys.readouterr().out
    assert kept(file, "kills") == figures


class TestRecord:
    """What every script keeps."""

    @pytest.fixture
    def record(self, script):
        return SimpleNamespace(**script("record"))

    def test_it_is_printed_where_no_file_is_named(self, record, capsys):
        parser = argparse.ArgumentParser()
        record.add_json_option(parser)
        for arguments, printed in ([], False), (["--json"], True):
            options = parser.parse_args(arguments)
            figures = {"a": float("inf"), "b": [1.5, float("nan")]}
            record.keep(record.new_record("some", options, figures), options.json)
            text = capsys.readouterr().out
            assert bool(text) == printed
        assert json.loads(text)["figures"] == {"a": None, "b": [1.5, None]}

    def test_packages_that_are_not_installed(self, record):
        assert record.versions("no-such-package")["no-such-package"] == "not installed"

    def test_without_git(self, record, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert record.commit() is None

    def test_in_words(self, record):
        made = record.new_record("some", argparse.Namespace(json=None), None)
        machine, libraries = record.in_words(made).splitlines()
        assert machine.startswith(f"processor {made['machine']['processor']}, cores ")
        assert all(library["architecture"] in machine for library in made["blas"])
        assert libraries.startswith("python 3.")


class TestPeers:
    """The peers that are installed here; the others are listed."""

    @pytest.fixture(autouse=True)
    def beside_the_others(self, monkeypatch):
        monkeypatch.syspath_prepend(str(BENCHMARKS))

    @pytest.mark.slow
    def test_all_works(self, script, capsys, tmp_path):
        main = script("peers")["main"]
        file = tmp_path / "peers.json"
        sizes = ["--scale", "0.0001", "--repeats", "1", "--patience", "0.01"]
        report = main([*sizes, "--markdown", "--json", str(file)])
        works = report["figures"]
        assert [work["number"] for work in works] == [1, 1, 2, 3, 4, 5, 6, 7, 7]
        assert len(kept(file, "peers")) == len(works)
        assert json.loads(file.read_text())["versions"] == report["versions"]
        assert "torch" in report["versions"]
        for work in works[:7]:
            ours, *others = work["ways"]
            assert ours["seconds"] > 0
            assert ours["error"] < (0.05 if "float32" in ours["name"] else 4e-6)
            assert others or work["missing"]
            assert not [way["failure"] for way in others if way["failure"]]
        printed = capsys.readouterr().out
        assert "| matrix product alone, float32 |" in printed
        assert "exponent" in printed

    def test_finufft_sums_all_pairs(self):
        """Far from zero, and for queries beyond the rows."""
        pytest.importorskip("finufft")
        packages, measure = map(importlib.import_module, ("peers_packages", "peers_measure"))
        rng = np.random.default_rng(0)
        places, middle = rng.normal(size=(500, 2)), np.array([30.0, -4.0])
        train = middle + places
        query = middle + np.concatenate([places[:20], 1.3 * places[:20]])
        found = np.exp(packages.finufft_kde(train, 0.5, 1e-8)(query))
        expected = np.exp(measure.exact_log_density(train, 0.5)(query)).astype(float)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)

    def test_its_exact_sums(self):
        measure = importlib.import_module("peers_measure")
        rng = np.random.default_rng(0)
        query, train = rng.normal(size=(3, 4)), rng.normal(size=(20, 4))
        expected = reference.log_density(query, train, [0.1, 2.0])
        actual = measure.exact_log_density(train, [0.1, 2.0])(query)
        np.testing.assert_allclose(actual, expected, rtol=1e-14)

    def test_samples_are_scaled_by_what_more_queries_take(self, monkeypatch):
        measure = importlib.import_module("peers_measure")
        clock = {"now": 0.0}

        def score(rows):
            clock["now"] += 5 + 0.01 * len(rows)
            return np.zeros(len(rows))

        def fail(rows):
            raise RuntimeError("no compiler")

        monkeypatch.setattr(measure.time, "perf_counter", lambda: clock["now"])
        ways = (
            measure.Way("slow", lambda: score, start=16),
            measure.Way("broken", lambda: fail, may_fail=True),
        )
        query = np.zeros((100_000, 1))
        work = measure.Work(0, "", query, lambda rows: np.ones(len(rows)), ways, None)
        slow, broken = measure.measure(work, 3)
        assert slow.seconds == pytest.approx(5 + 0.01 * 100_000)
        assert slow.timed < 2000
        assert slow.error == 1
        assert broken.failure == "RuntimeError: no compiler"

    def test_packages_that_are_not_installed_are_listed(self):
        works = importlib.import_module("peers_works")
        absent = replace(works.packages.TORCH, distribution="no-such-package")
        found = works.others([absent], np.zeros((2, 1)), 1.0, 1e-9)
        assert found == {"ways": (), "missing": ("PyTorch dense",)}


def run_benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # of the processes that it starts
    return runpy.run_path(str(BENCHMARKS / "runs.py"))


@pytest.mark.alone
@pytest.mark.slow
def test_runs(capsys, monkeypatch, tmp_path):
    main = run_benchmark(monkeypatch)["main"]
    file = tmp_path / "runs.json"
    sizes = ["--rows", "200", "--blocks", "1500", "--repeats", "1", "--points", "2000"]
    figures = main([*sizes, "--json", str(file)])
    assert set(figures) == {"bookkeeping", "publication", "workers", "hand_out"}
    names = {"blocks", "rate", "threads", "client", "scheduler"}
    names |= {"kept_in_folder", "kept_in_bucket"}
    assert set(figures["hand_out"]) == names | {"client_seconds", "scheduler_seconds"}
    assert figures["bookkeeping"]["ratio"] > 0
    assert 0 < figures["publication"]["share"] < 1
    assert figures["workers"]["ratio"] > 0
    assert figures["hand_out"]["rate"] > 0
    assert "sweep, 200 x 200 x 784" in capsys.readouterr().out
    assert kept(file, "runs") == figures


@pytest.mark.alone
@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_blocks(monkeypatch, tmp_path):
    hand_out = run_benchmark(monkeypatch)["hand_out"]
    figures = []
    for n_blocks in (2000, 20_000):
        folder = tmp_path / str(n_blocks)
        folder.mkdir()
        figures.append(hand_out(folder, n_blocks))
    few, many = figures
    for name in ("client", "scheduler"):
        assert many[name] < few[name] + 32 * 2**20, (few, many)
