"""Commands in TOML files: every option, mistakes in one line, and the file that a result gives."""

import json
import shutil
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
import xarray as xr
import zarr
from dkde_cli.config import keys_of, steps_of
from dkde_cli.main import cli

import dkde
from dkde.errors import DataSetError


@pytest.fixture
def table(folder):
    """``t.csv``: 60 rows of two features, missing values, and weights."""
    rng = np.random.default_rng(2)
    rows = np.column_stack([rng.normal(size=(60, 2)), rng.random(60)])
    lines = [",".join(map(repr, map(float, row))) for row in rows]
    lines[7] = f",{rows[7, 1]},0.5"
    Path("t.csv").write_text("\n".join(["x,y,w", *lines]) + "\n")
    return "t.csv"


def written(text):
    Path("a.toml").write_text(text)
    return "a.toml"


def test_a_file_is_the_command(run, npz):
    same = run("sweep", npz, "--bandwidths", "0.3,0.7", "--no-test", "--kernel", "exponential")
    file = written(
        f'[sweep]\ndata = "{npz}"\nbandwidths = [0.3, 0.7]\n'
        'no_test = true\nkernel = "exponential"\n'
    )
    assert run("run", file).stdout == same.stdout
    assert run("run", file, "--kernel", "gaussian").stdout != same.stdout


@pytest.mark.slow
def test_several_commands_are_done_in_order(run, npz):
    file = written(
        f'[import]\nsource = "{npz}"\nstore = "d.zarr"\n'
        '[[score]]\ndata = "d.zarr"\nquery = "valid"\nbandwidth = 1\noutput = "a.zarr"\n'
        '[[score]]\ndata = "d.zarr"\nquery = "valid"\nbandwidth = 2.0\noutput = "b.zarr"\n'
        '[compare]\nstores = ["a.zarr", "b.zarr"]\n'
    )
    done = run("run", file)
    assert "20 rows, A minus B" in done.stdout
    assert "a.toml: [compare]" in done.stderr.splitlines()
    line = run("run", file, "--json", status=2).stderr.strip()
    assert line == "Error: a.toml: has 4 commands; options can be added to a single one"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "a.toml: names no command; write its options in a table, such as [sweep]"),
        ("[sweep", "a.toml: cannot be read as TOML: Expected ']'"),
        ('data = "digits"', "a.toml: data stands outside of a table; write the name of its"),
        ("[sweap]", "a.toml: [sweap] is no command; did you mean sweep?"),
        ("[run]\nfile = 'a.toml'", "a.toml: [run] is no command; "),
        ("[xyz]", "a.toml: [xyz] is no command; dkde --help lists them"),
        ("[cv]\nbandwiths = [1]", "a.toml: [cv] has no option bandwiths; did you mean bandwidths?"),
        ("[cv]\nqqqqq = 1", "a.toml: [cv] has no option qqqqq; dkde cv --help lists them"),
        ("[cv]\nrefine = 'yes'", "a.toml: [cv] refine is 'yes'; it must be true or false"),
        ("[cv]\npca = true", "a.toml: [cv] pca is true; it takes a value"),
        ("[cv]\npca = 3", "a.toml: [cv]: Missing argument 'DATA'; see dkde cv --help"),
        ("[cv]\ndata = 'd'\npca = 'x'", "a.toml: [cv]: Invalid value for '--pca': 'x' is not a"),
    ],
)
def test_a_mistake_is_a_line(refused, folder, text, line):
    written(text)
    assert refused("run", "a.toml").startswith(f"Error: {line}")


def test_a_mistake_in_the_last_command_stops_the_first(refused, folder):
    written("[import]\nsource = 'digits'\nstore = 'd.zarr'\n[cv]\ndata = 'd.zarr'\nfold = 5\n")
    assert "[cv] has no option fold; did you mean folds?" in refused("run", "a.toml")


def test_a_file_that_cannot_be_read_is_a_line(refused, folder):
    assert refused("run", "b.toml") == "Error: b.toml: No such file or directory"
    Path("b.toml").write_bytes(b"\xff\xfe")
    assert refused("run", "b.toml") == "Error: b.toml: is not a text in UTF-8"


@pytest.mark.parametrize("name", [name for name in cli.commands if name != "run"])
def test_every_option_has_a_key(name):
    """By its long name; and the words that come of it are what the command's parser takes."""
    command = cli.commands[name]
    keys = keys_of(command)
    assert {id(parameter) for parameter in keys.values()} == {id(p) for p in command.params}
    values = {key: parameter.is_flag for key, parameter in keys.items() if is_option(parameter)}
    for key, is_flag in values.items():
        value = "true" if is_flag else '"-1"'
        (step,) = steps_of(f"[{name}]\n{key} = {value}", "a.toml", cli.commands)
        parsed, rest, _ = command.make_parser(click.Context(command)).parse_args(list(step.words))
        assert not [word for word in rest if word]
        given = parsed[keys[key].name]
        assert is_flag or given in ("-1", ["-1"])


def is_option(parameter):
    return isinstance(parameter, click.Option)


def same(store, other):
    """Whether two stores hold the same numbers, to the last bit."""
    a, b = xr.open_datatree(store, engine="zarr"), xr.open_datatree(other, engine="zarr")
    return all(
        b[name].to_dataset().drop_attrs().identical(node.to_dataset().drop_attrs())
        for name, node in a.subtree_with_keys
    )


ROUND = {
    "score": (
        "score", "t.csv", "--features", "y,x", "--train", "t.csv[:40]", "--query", "t.csv[40:]",
        "--weights", "w", "--query-weights", "w", "--bandwidth", "0.1,0.25,1e-7", "--nan", "drop",
        "--kernel", "univariate_gaussian", "--metric", "manhattan", "--covariance", "diag",
        "--precision", "float32", "--tol", "1e-3",
    ),
    "score by a rule": (
        "score", "t.csv", "--features", "x,y", "--query", "t.csv[40:]", "--train", "t.csv",
        "--bandwidth", "scott", "--nan", "drop", "--covariance", "1,0.5;0.5,2",
    ),
    "score with a support": (
        "score", "t.csv", "--features", "x,y", "--query", "t.csv[40:]", "--train", "t.csv[:40]",
        "--bandwidth", "0.5", "--nan", "drop", "--support", "x=-99.5:99", "--support",
        "y=periodic:1000:-500.25", "--outside", "drop",
    ),
    "map": (
        "map", "t.csv", "--features", "x,y", "--train", "t.csv[:40]", "--bandwidth", "0.5",
        "--nan", "drop", "--cells", "8x9", "--box", "x=-3:2.5", "--levels", "50,95",
        "--levels-from", "sample", "--margin", "2", "--support", "y=-999:",
    ),
    "map of counts": (
        "map", "t.csv", "--features", "x,y", "--train", "t.csv", "--nan", "drop", "--expected",
        "--cell", "x=0.5,y=0.25", "--weights", "w",
    ),
    "sweep": (
        "sweep", "digits", "--train", "train[:300]", "--valid", "valid[:50]", "--test", "test[:9]",
        "--bandwidths", "geomspace:1:4:3", "--kernel", "exponential", "--covariance", "diag",
        "--singular", "drop",
    ),
    "sweep without a test": (
        "sweep", "t.csv", "--features", "x,y", "--train", "t.csv[:40]", "--valid", "t.csv[40:]",
        "--valid-weights", "w", "--nan", "drop", "--covariance", "1,2.5", "--no-test",
    ),
    "sweep of a protocol": ("sweep", "a.npz", "--train", "g.npy", "--protocol", "gan2014"),
    "cv": (
        "cv", "digits", "--train", "train[:90]", "--folds", "3", "--shuffle", "--seed", "4",
        "--refine", "--bandwidths", "1,2", "--pca", "4",
    ),
    "cv of one row": ("cv", "digits", "--train", "train[:20]", "--folds", "loo",
        "--bandwidths", "1,2"),
    "sample": (
        "sample", "digits", "--bandwidth", "1.5", "-n", "7", "--seed", "4", "--label", "3",
        "--kernel", "epanechnikov", "--covariance", "full", "--singular", "drop",
        "--covariance-scale", "0.5", "--pca", "6",
    ),
}  # fmt: skip
SLOW = ("sweep", "sweep of a protocol", "cv")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in ROUND]
)
def test_a_result_gives_the_file_that_makes_it_again(run, table, name):
    if "g.npy" in ROUND[name]:
        rows = np.random.default_rng(0).normal(size=(11_000, 2))
        np.save("g.npy", rows[:10_000])
        np.savez("a.npz", valid=rows[10_000:], test=rows[:9] + 1)
    run(*ROUND[name], "--output", "r.zarr")
    text = run("status", "r.zarr", "--config").stdout
    shutil.move("r.zarr", "first.zarr")
    run("run", written(text))
    assert same("r.zarr", "first.zarr")
    again = run("status", "r.zarr", "--config").stdout
    assert tomllib.loads(again) == tomllib.loads(text)
    # Each option that was given is in the file, under the name that it was given by.
    options = {word.lstrip("-") for word in ROUND[name] if word.startswith("-")}
    (found,) = tomllib.loads(text).values()
    assert options <= set(found)


@pytest.mark.parametrize("output", ["r.zarr", "r.nc"])
def test_the_file_of_a_run_that_is_not_complete(run, output):
    call = ("score", "digits", "--query", "test[:9]", "--bandwidth", 2, "--output", output)
    run(*call, "--init-only")
    found = tomllib.loads(run("status", output, "--config").stdout)["score"]
    assert (found["query"], found["output"]) == ("test[:9]", output)
    assert dkde.recorded_call(output)["function"] == "score"


def test_the_file_says_what_made_the_result(run):
    run("score", "digits", "--query", "test[:9]", "--bandwidth", "2", "--output", "r.zarr")
    first, second, *_ = run("status", "r.zarr", "--config").stdout.splitlines()
    assert first.startswith("# Made with ")
    assert f"dkde {dkde.__version__}, numpy " in first
    assert second == f"# Paths begin in {Path.cwd()}"
    line = run("status", "r.zarr", "--config", "--json", status=2).stderr
    assert "--config and --json exclude each other" in line


def test_rows_in_arrays_cannot_be_written_down(refused, folder):
    rows = np.random.default_rng(0).normal(size=(30, 2))
    dkde.score(rows[:9], rows[9:], 1.0, output="r.zarr")
    line = refused("status", "r.zarr", "--config")
    assert line.startswith("Error: r.zarr: was made in Python from rows in arrays or data frames")
    with pytest.raises(DataSetError, match="made in Python from rows in arrays"):
        dkde.recorded_call("r.zarr")
    rng = np.random.default_rng(0)
    dkde.sample("train", 1.0, 5, source="digits", random_state=rng, output="s.zarr")
    assert "holds no record of a call" in refused("status", "s.zarr", "--config")
    line = refused("status", "nothing.zarr", "--config")
    assert line.endswith("is no result of dkde; there is no file or folder of this name")
    Path("r.nc").write_bytes(b"CDF")
    assert "r.nc: is a file; only stores" in refused("status", "r.nc", "--config")


def test_a_store_of_others_adds_no_command(run, refused, folder):
    """Whatever its record says: it becomes values of options and comments, and nothing else."""
    run("score", "digits", "--query", "test[:9]", "--bandwidth", "2", "--output", "r.zarr")
    root = zarr.open_group("r.zarr", use_consolidated=False)
    record = json.loads(root.attrs["run"])
    record["call"]["folder"] = "/here\n[import]\nsource = 'x'"
    record["call"]["arguments"]["query"] = 'a"\n[index]\nstore = "x"\\'
    root.attrs["run"] = json.dumps(record)
    (found,) = tomllib.loads(run("status", "r.zarr", "--config").stdout).items()
    assert found[0] == "score"
    assert found[1]["query"] == record["call"]["arguments"]["query"]
    for call in ({**record["call"], "function": "system"}, {"function": "score"}, [1]):
        root.attrs["run"] = json.dumps({**record, "call": call})
        line = refused("status", "r.zarr", "--config")
        assert "does not know" in line or "is damaged" in line


def test_what_has_no_option_is_said(run, folder):
    dkde.score("test[:9]", "train", 1.0, source="digits", block_rows=3, output="r.zarr")
    done = run("status", "r.zarr", "--config")
    assert done.stderr == "block_rows = 3 has no option, and is left out\n"
    assert "block" not in done.stdout


def test_choices_of_rows_by_role_stand_in_the_file_that_makes_a_result_again(run, folder):
    rows = "x,y,year\n" + "".join(f"{i % 7},{i % 5}.5,{2019 + i % 2}\n" for i in range(40))
    Path("t.csv").write_text(rows)
    given = ("--where", "train: year < 2020", "--where", "query:year == 2020 and x < 5")
    named = ("--features", "train:x,y", "--features", "query:y,x", "--bandwidth", "x=0.5,y=2")
    run(
        "score",
        "t.csv",
        "--train",
        "t.csv",
        "--query",
        "t.csv",
        *given,
        *named,
        "--output",
        "r.zarr",
    )
    done = run("status", "r.zarr", "--config")
    assert not done.stderr
    Path("again.toml").write_text(done.stdout.replace("r.zarr", "again.zarr"))
    run("run", "again.toml")
    first, again = (dkde.recorded_call(store)["arguments"] for store in ("r.zarr", "again.zarr"))
    assert first == again
    assert dkde.recorded_call("r.zarr")["where"] == dkde.recorded_call("again.zarr")["where"]
    scores = [xr.open_zarr(store).log_density.values for store in ("r.zarr", "again.zarr")]
    np.testing.assert_array_equal(*scores)
    assert scores[0].size < 20
