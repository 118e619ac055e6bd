"""Names from files on the terminal: they neither command it nor break its lines."""

import ast
from pathlib import Path

import dkde_cli
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dkde_cli.config import as_toml

import dkde
from dkde.errors import DataSetError, InputError, one_line, printable, warn

# Clears the screen; turns the direction; ends the line; is markup of rich, and of HTML.
BAD = "a\x1b[2Jb\u202ec\r\nd\x9b31m[red]<b>$x$"
SHOWN = "a\\x1b[2Jb\\u202ec\\r\\nd\\x9b31m[red]<b>$x$"
COMMANDS = Path(dkde_cli.__file__).parent


def is_clean(text):
    return all(line == printable(line) for line in text.split("\n"))


@pytest.fixture
def table(folder):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(60, 2)), columns=[BAD, "y"])
    rows["kind"] = np.where(rng.random(60) < 0.5, BAD, "plain")
    rows.to_parquet("t.parquet")
    return "t.parquet"


def test_what_is_shown_as_it_is():
    for text in ("naïve σ², 95 %", "\u200dनी", "👩\u200d🔬", "日本語", ""):
        assert printable(text) == text
    assert printable(BAD) == SHOWN
    assert printable("\ud800\ufeff\u2028\t") == "\\ud800\\ufeff\\u2028\\t"


def test_errors_and_warnings_are_shown_so_in_python_too():
    assert str(DataSetError(f"{BAD}: is gone")) == SHOWN.replace("\\r\\n", " ") + ": is gone"
    assert is_clean(one_line(ValueError(BAD)))
    with pytest.warns(UserWarning, match="x1b") as told:
        warn(BAD)
    assert is_clean(str(told[0].message))
    with pytest.raises(InputError, match="x1b") as raised:
        dkde.log_density(np.zeros((2, 2)), np.zeros((2, 2)), 1.0, kernel=BAD)
    assert is_clean(str(raised.value))


def test_a_description(run, table):
    found = run("info", table)
    assert SHOWN in found.output
    assert is_clean(found.output)


def test_groups_and_what_is_said_of_them(run, table):
    found = run(
        "score", table, "--train", table, "--query", table, "--by", "kind", "--bandwidth", "0.5",
        "--csv", "g.csv", "-v",
    )  # fmt: skip
    assert SHOWN in found.output
    assert is_clean(found.output)
    assert len([line for line in found.stdout.splitlines() if line]) == 3


def test_a_refusal(refused):
    line = refused("info", f"{BAD}.zarr")
    assert "\\x9b" in line
    assert is_clean(line)
    assert is_clean(refused("score", "digits", "--bandwidth", "1", "--covariance", BAD))


@pytest.mark.slow
def test_a_picture_and_a_page(run, table):
    run(
        "classify", table, "--train", table, "--query", table, "--by", "kind", "--bandwidth", "0.5",
        "--output", "c.zarr", "--plot", "c.png",
    )  # fmt: skip
    run(
        "score", table, "--train", table, "--query", table, "--by", "kind", "--bandwidth", "0.5",
        "--output", "g.zarr",
    )  # fmt: skip
    run("report", "g.zarr", "-o", "g.html")
    page = Path("g.html").read_text(encoding="utf-8")
    assert is_clean(page)
    assert "<b>$" not in page
    assert "x1b" in page
    text = repr(dkde.summary("g.zarr"))
    assert is_clean(text)
    assert "x1b" in text


def test_a_map_whose_axis_has_a_bad_name(folder):
    import xml.etree.ElementTree as tree

    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(40, 2)), columns=[f"{BAD}$\\frac$", "y"])
    found = dkde.density_map(rows, 0.5, cells=8)
    dkde.plot_map(found, path="m.svg")
    assert tree.parse("m.svg").getroot().tag.endswith("svg")
    dkde.report(found, "m.html")
    page = Path("m.html").read_text(encoding="utf-8")
    assert is_clean(page)
    tree.fromstring(page[page.index("<svg ") : page.index("</svg>") + 6].replace("xlink:", ""))


def test_toml_of_any_text():
    import tomllib

    text = f'{BAD}\U000e0041\ufeff"\\'
    written = as_toml("score", {"data": text, BAD: {"b": [text]}})
    assert is_clean(written)
    assert tomllib.loads(written) == {"score": {"data": text, BAD: {"b": [text]}}}
    with pytest.raises(DataSetError, match="UTF-8"):
        as_toml("score", {"data": "a\udcff"})


def test_progress_shows_brackets(monkeypatch, capsys):
    from dkde_cli.progress import progress

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    with progress("rows") as update:
        update("[red]a\x07b", 1, 1)
    shown = capsys.readouterr().err
    assert "[red]a\\x07b" in shown


def test_all_lines_go_through_one_place():
    for path in COMMANDS.glob("*.py"):
        called = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        }
        may = {"lines.py": {"click.echo"}, "main.py": {"click.echo"}, "logs.py": {"print"}}
        assert called & {"click.echo", "click.secho", "print"} <= may.get(path.name, set()), path


def test_variables_of_a_store(run, folder):
    rng = np.random.default_rng(1)
    found = xr.Dataset({"a": ("row", rng.normal(size=20)), BAD: ("row", rng.normal(size=20))})
    found.to_zarr("x.zarr", consolidated=False)
    shown = run("info", "x.zarr").output
    assert "x1b" in shown
    assert is_clean(shown)


def test_csv_as_it_is_is_an_option_of_one_command(run, folder):
    rng = np.random.default_rng(0)
    pd.DataFrame({"=x": rng.normal(size=30), "y": rng.normal(size=30)}).to_parquet("t.parquet")
    Path("two.toml").write_text(
        '[[sample]]\ndata = "t.parquet"\nbandwidth = 1\noutput = "a.csv"\ncsv-as-is = true\n'
        '[[sample]]\ndata = "t.parquet"\nbandwidth = 1\noutput = "b.csv"\n'
    )
    run("run", "two.toml")
    heads = {name: Path(name).read_text().splitlines()[0] for name in ("a.csv", "b.csv")}
    assert heads == {"a.csv": "=x,y", "b.csv": "'=x,y"}


def test_figures_and_outputs_in_csv(run, folder):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=40), "=k": np.where(np.arange(40) % 2, "-a", "-2")})
    rows.to_parquet("t.parquet")
    score = (
        "score", "t.parquet", "--train", "t.parquet", "--query", "t.parquet", "--bandwidth", "0.5",
        "--by", "=k", "--csv", "f.csv", "--output",
    )  # fmt: skip
    run(*score, "o.csv")
    figures = pd.read_csv("f.csv", dtype=str)
    assert sorted(figures["'=k"]) == ["'-a", "-2"]
    assert figures["mean_log_likelihood"].str.match(r"-\d").all()
    assert sorted(set(pd.read_csv("o.csv", dtype=str)["'=k"])) == ["'-a", "-2"]
    run(*score, "p.csv", "--csv-as-is")
    assert sorted(set(pd.read_csv("p.csv", dtype=str)["=k"])) == ["-2", "-a"]
    assert sorted(pd.read_csv("f.csv", dtype=str)["=k"]) == ["-2", "-a"]
