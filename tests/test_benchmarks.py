"""Benchmarks still run, small."""

import importlib
import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_roofline(capsys):
    main = runpy.run_path(str(BENCHMARKS / "roofline.py"))["main"]
    ratios = main(["--rows", "200", "--repeats", "1"])
    assert set(ratios) == {(p, n) for p in ("float64", "float32") for n in (8, 1, 20)}
    assert all(ratio > 0 for ratio in ratios.values())
    assert "200 x 200 x 784" in capsys.readouterr().out


def test_exactness_shows_who_is_right(capsys):
    main = runpy.run_path(str(BENCHMARKS / "exactness.py"))["main"]
    errors = main([])
    assert all(ours < 1e-9 for _, ours in errors.values())
    assert max(tree for tree, _ in errors.values()) > 100
    assert "digits, 360 x 1078 x 64" in capsys.readouterr().out


def test_stores(capsys, monkeypatch):
    pytest.importorskip("moto")
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "AWS_ALLOW_HTTP",
        "AWS_REGION",
    ):
        monkeypatch.setenv(name, "")  # is put back afterwards
    main = runpy.run_path(str(BENCHMARKS / "stores.py"))["main"]
    medians = main(["--chunks", "4x2KiB", "--repeats", "1"])
    assert medians["4x2KiB"]["obstore"] > 0
    assert "MiB/s" in capsys.readouterr().out


def test_selection(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    main = runpy.run_path(str(BENCHMARKS / "selection.py"))["main"]
    ratios = main(["--rows", "300", "--repeats", "1"])
    assert set(ratios) == {"digits", "leave one out"}
    assert all(ratio > 0 for ratio in ratios.values())
    assert "20 bandwidths, 5 folds" in capsys.readouterr().out


class TestPeers:
    """The peers that are installed here; the others are listed."""

    @pytest.fixture(autouse=True)
    def beside_the_others(self, monkeypatch):
        monkeypatch.syspath_prepend(str(BENCHMARKS))

    def test_all_works(self, capsys, tmp_path):
        main = runpy.run_path(str(BENCHMARKS / "peers.py"))["main"]
        file = tmp_path / "peers.json"
        sizes = ["--scale", "0.0001", "--repeats", "1", "--patience", "0.01"]
        report = main([*sizes, "--markdown", "--json", str(file)])
        assert [work["number"] for work in report["works"]] == [1, 1, 2, 3, 4, 5, 6, 7, 7]
        assert json.loads(file.read_text())["versions"] == report["versions"]
        for work in report["works"][:7]:
            ours, *others = work["ways"]
            assert ours["seconds"] > 0
            assert ours["error"] < (0.05 if "float32" in ours["name"] else 4e-6)
            assert others or work["missing"]
            assert not [way["failure"] for way in others if way["failure"]]
        printed = capsys.readouterr().out
        assert "| matrix product alone, float32 |" in printed
        assert "exponent" in printed

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


@pytest.mark.slow
def test_runs(capsys, monkeypatch):
    main = run_benchmark(monkeypatch)["main"]
    figures = main(["--rows", "200", "--blocks", "1500", "--repeats", "1"])
    assert set(figures) == {"bookkeeping", "workers", "rate", "client", "scheduler"}
    assert all(figures[name] > 0 for name in ("bookkeeping", "workers", "rate"))
    assert "sweep, 200 x 200 x 784" in capsys.readouterr().out


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
