"""Any form of the same rows: the density that is right, or a refusal of one line."""

import json
import os
import secrets
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import reference
import xarray as xr
from pyarrow import parquet
from reading.asking import Outcome, in_a_process, in_order, in_this_process
from reading.container import CONTAINERS, Place
from reading.drawing import draw
from reading.outcomes import faults_of, random_of, run
from reading.truth import LIST, LISTS, NUMBERS, Schema, draw_table, gaussian

import dkde

# Cases of each form as the training side; the other side's is drawn.
FEW, MANY = 6, 30


def check(name: str, seeds: range, folder: Path) -> None:
    """Run cases; what is wrong says how to run it again."""
    reports = (run(name, seed, folder / str(seed)) for seed in seeds)
    wrong = [str(report) for report in reports if report.faults]
    assert not wrong, f"{len(wrong)} of {len(seeds)}\n\n" + "\n\n".join(wrong)


@pytest.mark.sampled(41)
@pytest.mark.parametrize("name", CONTAINERS)
def test_any_form_is_read_right_or_refused(name, tmp_path):
    check(name, range(FEW), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTAINERS)
def test_many_cases_of_a_form(name, tmp_path):
    """Other cases each time, unless ``DKDE_TEST_SEED`` says which."""
    seed = int(os.environ.get("DKDE_TEST_SEED") or secrets.randbelow(10**9))
    check(name, range(seed, seed + MANY), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CSV", "NetCDF 4", "Zarr group"])
def test_the_command_itself_does_the_same(name, tmp_path):
    seed = next(i for i in range(99) if draw(name, random_of(name, i)).by_command)
    report = run(name, seed, tmp_path, in_a_process)
    assert not report.faults, str(report)


def estimated(model, train, query, source=None):
    model.set_params(features=source and source.features)
    return model.fit(train).score_samples(query)


# What a call gives, of rows to fit and rows to score, with its keywords.
FUNCTIONS = {
    "log_density": lambda t, q, **k: dkde.log_density(q, t, [0.5, 1.5], **k),
    "score": lambda t, q, **k: dkde.score(q, t, [0.5, 1.5], **k).mean_log_likelihood,
    "sweep": lambda t, q, **k: (
        dkde.sweep(train=t, valid=q, bandwidths=[0.3, 0.9, 2.7], **k).mean_log_likelihood
    ),
    "cross_validate": lambda t, q, **k: (
        dkde.cross_validate(t, bandwidths=[0.3, 0.9, 2.7], folds=2, **k).mean_fold_log_likelihood
    ),
    "sample": lambda t, q, **k: dkde.sample(t, 0.9, 5, random_state=1, **k),
    "plan": lambda t, q, **k: dkde.plan(query=q, train=t, bandwidths=0.9, **k)["pairs"],
    "KernelDensity": lambda t, q, **k: estimated(dkde.KernelDensity(bandwidth=0.9), t, q, **k),
    "KernelDensityCV": lambda t, q, **k: estimated(
        dkde.KernelDensityCV(bandwidths=[0.3, 0.9, 2.7], cv=2), t, q, **k
    ),
}
QUICK = ("log_density",)
# Those whose answer does not depend on the order of the rows.
OF_ANY_ORDER = ("log_density", "score", "sweep", "plan")
# Forms in which numbers are no features.
NO_NUMBERS = ("pandas, categories", "structured array")


@pytest.mark.filterwarnings("ignore:.*(share rows|the features are|rows lie|flat|a better one)")
@pytest.mark.parametrize(
    "function",
    [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FUNCTIONS],
)
@pytest.mark.parametrize("name", [name for name in CONTAINERS if name not in NO_NUMBERS])
def test_every_form_gives_the_same_in_every_function(name, function, tmp_path):
    found = CONTAINERS[name]
    if found.is_grid and function not in OF_ANY_ORDER:
        pytest.skip("dims of a grid come in any order, and so do its rows")
    names, sides, rows, table = both_sides(name, tmp_path)
    keywords = {"source": dkde.Catalog(features=names)} if found.is_named else {}
    got = in_order(FUNCTIONS[function](*sides, **keywords), table)
    right = np.asarray(FUNCTIONS[function](*rows)).reshape(-1)
    np.testing.assert_allclose(got, right, rtol=1e-9, atol=1e-9)


def both_sides(name, folder):
    """The names of features, both sides in a form, their rows, and the table of the query."""
    found = CONTAINERS[name]
    names = (LIST,) if found.only_lists else ("x", "depth")
    schema = Schema(dict.fromkeys(names, LISTS if found.only_lists else NUMBERS))
    rng = np.random.default_rng(7)
    sides, rows, table = [], [], None
    for role in ("train", "query"):
        table = draw_table(
            rng, schema, dict.fromkeys(names, "f4"), share=0, grid=found.is_grid, least=9
        )
        table = table if found.is_grid else table.taking(names)
        (folder / role).mkdir()
        place = Place(folder / role, rng, components="feature")
        sides.append(found.make(table, names, place).data)
        rows.append(table.rows(names))
    return names, sides, rows, table


# The options of a command for rows to fit and rows to score, and the answer as numbers.
COMMANDS = {
    "score": (["--query", "{q}", "--bandwidth", "0.9", "--json"], "mean_log_likelihood"),
    "sweep": (["--valid", "{q}", "--bandwidths", "0.3,0.9,2.7", "--json"], "valid"),
    "cv": (["--bandwidths", "0.3,0.9,2.7", "--folds", "2", "--json"], "rows"),
    "plan": (["--query", "{q}", "--bandwidths", "0.9", "--json"], "pairs"),
    "sample": (["-n", "5", "--bandwidth", "0.9", "--seed", "1", "-o", "{out}"], None),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "name", [name for name, each in CONTAINERS.items() if each.is_path and not each.is_grid]
)
def test_every_file_gives_the_same_in_every_command(name, command, tmp_path):
    names, sides, rows, _ = both_sides(name, tmp_path)
    for role, values in zip(("train", "query"), rows, strict=True):
        np.save(tmp_path / f"{role}.npy", values)
    arrays = [str(tmp_path / f"{role}.npy") for role in ("train", "query")]
    named = ["--features", ",".join(names)] if CONTAINERS[name].is_named else []
    got, right = (
        answer_of(command, *files, tmp_path / f"{number}.zarr", more)
        for number, (files, more) in enumerate([(sides, named), (arrays, [])])
    )
    np.testing.assert_allclose(got, right, rtol=1e-9, atol=1e-9)


def answer_of(command, train, query, output, more):
    words, key = COMMANDS[command]
    words = [word.format(q=query, out=output) for word in words]
    done = in_this_process(
        [command, train.removesuffix("::train"), "--train", train, *words, *more]
    )
    assert done.status == 0, done.err
    if key is None:
        return np.asarray(dkde.open_dataset(output)["samples"]["x"])
    found = json.loads(done.out)[key]
    return [list(row.values()) for row in found] if isinstance(found, list) else found


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(5.0), np.zeros((0, 2)), np.zeros((3, 0)), np.zeros((2, 3, 4)), np.float64(1), 3,
        np.array([["a", "b"]]), np.ones((2, 2), complex), np.array([[1, None]], object),
        np.ones((2, 2), np.longdouble), np.array([["2020-01-01"]], "M8[D]"), [[1, 2], [3]], None,
        {"x": [1, 2]}, object(), "nothing.csv", b"rows", xr.Dataset(), xr.DataArray(1.0),
        pd.DataFrame, pd.DataFrame(), pd.DataFrame({"x": ["a"]}), pd.Series([1.0, 2.0]),
        da.zeros(4), da.from_array(np.ones((2, 2)))[da.from_array(np.array([True, False]))],
    ],
    ids=lambda rows: type(rows).__name__,
)  # fmt: skip
@pytest.mark.parametrize("role", ["train", "query"])
def test_what_is_no_rows_is_refused_in_a_line(rows, role):
    sides = {"train": np.ones((3, 2)), "query": np.ones((3, 2))} | {role: rows}
    with pytest.raises((dkde.InputError, dkde.DataSetError)) as refusal:
        dkde.score(sides["query"], sides["train"], 1.0)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("order", "<>")
def test_float16_of_either_byte_order(order):
    rows = np.array([[0.5], [1], [2]], f"{order}f2")
    right = gaussian(rows.astype(float), rows.astype(float), 0.7)
    np.testing.assert_allclose(dkde.log_density(rows, rows, 0.7), right.log_density, rtol=1e-9)


@pytest.mark.parametrize("form", ["nc", "zarr"])
def test_lengths_of_time_that_xarray_wrote_are_days(form, tmp_path):
    """As those of a frame, and not the hours that they are stored in, with numbers for NaT."""
    days = pd.to_timedelta([6, 30, None, 54], "h")
    frame = pd.DataFrame({"took": days, "wait": [1.0, 2.0, 3.0, 4.0]})
    dataset = xr.Dataset({name: ("row", column) for name, column in frame.items()})
    path = str(tmp_path / f"t.{form}")
    if form == "nc":
        dataset.to_netcdf(path, engine="h5netcdf")
    else:
        dataset.to_zarr(path, consolidated=False)
    rows = np.array([[0.25, 1], [1.25, 2], [np.nan, 3], [2.25, 4]])
    right = gaussian(rows, rows, 0.7).log_density
    catalog = dkde.Catalog(features=["took", "wait"])
    for side in (path, frame):
        with pytest.warns(UserWarning, match=r"took (is )?taken as days"):
            got = dkde.log_density(side, path, 0.7, nan="drop", source=catalog)
        np.testing.assert_allclose(got, right, rtol=1e-9)


def test_truths_beside_halves_of_parquet(tmp_path):
    columns = {"x": pa.array(np.array([0.5, 1, 2], "f2")), "indoors": pa.array([True, False, None])}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    rows = np.array([[0.5, 1], [1, 0]])
    path = str(tmp_path / "t.parquet")
    with pytest.warns(UserWarning, match="indoors"):
        got = dkde.log_density(
            rows, path, 0.7, nan="drop", source=dkde.Catalog(features=["x", "indoors"])
        )
    np.testing.assert_allclose(got, gaussian(rows, rows, 0.7).log_density, rtol=1e-9)


def _table(container, columns):
    frame = pd.DataFrame(columns)
    return frame if container == "pandas" else pa.Table.from_pandas(frame, preserve_index=False)


NO_FEATURES = {
    "bool": [True, False, True, True],
    "text": ["x", "y", "x", "y"],
    "timestamps": pd.date_range("2024-05-01", periods=4),
    "categories": pd.Categorical([1, 2, None, 4]),
}


@pytest.mark.parametrize("container", ["pandas", "arrow"])
@pytest.mark.parametrize("kind", NO_FEATURES)
@pytest.mark.parametrize(
    "model", [dkde.KernelDensity(), dkde.KernelDensityCV(bandwidths=[1, 2, 9])]
)
class TestFramesOfEstimators:
    def test_what_is_no_feature_is_left_out_and_said(self, container, kind, model):
        rows = {"a": [0.5, 1.0, 4.0, 6.0], "b": [1, 5, 2, 0]}
        table = _table(container, rows | {"extra": NO_FEATURES[kind]})
        model = model.set_params(**({"cv": 2} if "cv" in model.get_params() else {}))
        message = rf"^X: the features are a, b; left out: extra \({kind}\); "
        with pytest.warns(UserWarning, match=message):
            model.fit(table)
        assert list(model.feature_names_in_) == ["a", "b"]
        right = model.score_samples(_table("pandas", rows))
        np.testing.assert_array_equal(model.score_samples(table), right)

    def test_a_table_without_numbers_is_refused(self, container, kind, model):
        with pytest.raises(dkde.InputError, match=r"^X: has no column of numbers; it has extra"):
            model.fit(_table(container, {"extra": NO_FEATURES[kind]}))


def test_large_integers_beside_masks_that_are_in_no_chunk_are_refused():
    rows = da.from_array(np.ma.masked_array(2**53 + np.arange(8).reshape(4, 2), False), chunks=2)
    with pytest.raises(dkde.InputError, match=r"row 0, is 9007199254740993, an integer beyond"):
        dkde.log_density(rows, rows, 1.0, nan="drop").compute()


def test_what_is_right_agrees_with_the_oracle():
    rng = np.random.default_rng(0)
    query, train = rng.normal(size=(5, 2)), rng.normal(size=(7, 2))
    weights = np.array([1, 0, 2, 0.5, np.nan, 1, 3])
    query[1, 0] = train[2, 1] = np.nan
    right = gaussian(query, train, 0.7, weights, np.array([1, 1, 2, 0, np.nan]))
    there = [0, 3, 5, 6]
    expected = reference.log_density(query, train[there], [0.7], weights[there])[0]
    others = [0, 2, 3, 4]
    np.testing.assert_allclose(right.log_density[others], expected[others], rtol=1e-12)
    assert np.isnan(right.log_density[1])
    mean = (expected[0] + 2 * expected[2]) / 3
    spread = ((expected[0] - mean) ** 2 + 2 * (expected[2] - mean) ** 2) / 3
    assert right.n == 2
    assert right.mean == pytest.approx(mean, rel=1e-12)
    assert right.standard_error == pytest.approx((spread / (9 / 5 - 1)) ** 0.5, rel=1e-12)


def test_what_is_wrong_is_seen():
    cases = (draw("NumPy", np.random.default_rng(seed)) for seed in range(99))
    case = next(case for case in cases if not (case.impossible or case.doubtful))
    right = case.right()
    good = Outcome(right.mean, right.standard_error, log_density=right.log_density)
    assert not faults_of(case, good)
    values = right.log_density
    for bad in (
        Outcome(-np.inf, right.standard_error, log_density=values),
        Outcome(right.mean + 1e-8 * abs(right.mean), right.standard_error, log_density=values),
        Outcome(right.mean, right.standard_error, log_density=values[::-1]),
        Outcome(right.mean, right.standard_error, log_density=values[1:]),
        Outcome(refusal="no"),
        Outcome(refusal="two\nlines"),
        Outcome(faults=("TypeError: no",)),
    ):
        assert faults_of(case, bad), bad
