"""Benchmarks still run, small."""

import runpy
from pathlib import Path

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


def test_selection(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    main = runpy.run_path(str(BENCHMARKS / "selection.py"))["main"]
    ratios = main(["--rows", "300", "--repeats", "1"])
    assert set(ratios) == {"digits", "leave one out"}
    assert all(ratio > 0 for ratio in ratios.values())
    assert "20 bandwidths, 5 folds" in capsys.readouterr().out
