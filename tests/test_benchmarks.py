"""Benchmarks still run, small."""

import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_roofline(capsys):
    main = runpy.run_path(str(BENCHMARKS / "roofline.py"))["main"]
    ratios = main(["--rows", "200", "--repeats", "1"])
    assert set(ratios) == {(p, n) for p in ("float64", "float32") for n in (8, 1)}
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
