"""Where data are looked for that were moved together with a run's store."""

import glob
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import dkde
from dkde.inputs import noted_files
from dkde.inputs.moved import Whereabouts, paths_in, renamed
from dkde.results.rereading import read_back
from dkde.runs.opened import opened_results
from dkde.runs.scored_rows import scored_rows
from dkde.stores.store import Records, open_store


def whereabouts(tmp_path, **keywords):
    return Whereabouts(store=str(tmp_path / "new" / "runs" / "r.zarr"), **keywords)


def file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def test_the_same_place_relative_to_the_store(tmp_path):
    where = whereabouts(tmp_path, place="/home/a/old/runs/r.zarr", folder="/home/a")
    assert list(where.elsewhere("old/data/x.npy")) == []
    there = file(tmp_path / "new" / "data" / "x.npy")
    assert next(where.elsewhere("old/data/x.npy")) == there
    assert next(where.elsewhere("/home/a/old/data/x.npy")) == there


def test_only_the_root_in_common(tmp_path):
    # Relative to the store this would be a path through the root, to anywhere.
    where = whereabouts(tmp_path, place="/home/a/r.zarr", folder="/home/a")
    file(tmp_path / "x.npy")
    assert where._beside("/data/x.npy", "/home/a/r.zarr", str(tmp_path / "r.zarr")) is None


def test_the_end_of_a_path_of_a_run_that_did_not_note_its_place(tmp_path):
    where = whereabouts(tmp_path, folder="/old")
    short = file(tmp_path / "new" / "x.npy")
    assert list(where.elsewhere("data/x.npy")) == [short]
    longer = file(tmp_path / "new" / "data" / "x.npy")
    assert list(where.elsewhere("data/x.npy")) == [longer, short]


def test_a_pattern_in_a_folder_with_brackets(tmp_path):
    where = Whereabouts(store=str(tmp_path / "[new]" / "r.zarr"), folder="/old")
    file(tmp_path / "[new]" / "data" / "1.csv")
    found = next(where.elsewhere("data/*.csv"))
    assert found.endswith("[[]new]/data/*.csv")


@pytest.mark.parametrize("name", ["train", "s3://bucket/x.zarr"])
def test_splits_and_buckets_are_not_looked_for(tmp_path, name):
    file(tmp_path / "new" / name)
    assert list(whereabouts(tmp_path, folder="/old").elsewhere(name)) == []


def test_a_store_in_a_bucket_has_its_data_where_they_were():
    where = Whereabouts.of({"call": {"source": "/old/x.zarr"}}, "s3://bucket/r.zarr")
    assert list(where.elsewhere("/old/x.zarr")) == []
    assert where.renamings(["/new/x.zarr"]) == []


def test_paths_of_now_as_they_were(tmp_path):
    now = str(tmp_path / "new" / "data.nc")
    stamp = (f"{now}::group", 3, [("a", 1.5)])
    assert paths_in(stamp) == [f"{now}::group"]
    placed = whereabouts(tmp_path, place="/old/runs/r.zarr")
    (renaming,) = placed.renamings(paths_in(stamp))
    assert renamed(stamp, renaming) == ("/old/data.nc::group", 3, [("a", 1.5)])
    named = whereabouts(tmp_path, folder="/old", names=("data.nc", "data.nc::group"))
    (renaming,) = named.renamings(paths_in(stamp))
    assert renamed(stamp, renaming) == ("/old/data.nc::group", 3, [("a", 1.5)])


@pytest.mark.parametrize("plan", [None, {}, {"call": None}, {"call": {"arguments": 3}}])
def test_what_says_nothing(plan, tmp_path):
    where = Whereabouts.of(plan, tmp_path)
    assert (where.place, where.folder, where.names) == (None, None, ())
    assert not where.has_moved


@pytest.mark.parametrize("end", ["**/*.csv", "*/**/x.csv", "*/x.csv"])
def test_folders_above_the_store_are_not_searched_through(tmp_path, monkeypatch, end):
    where = whereabouts(tmp_path, folder="/old")
    searched = []
    searching = glob.iglob

    def noted(pattern, **options):
        searched.append(pattern)
        return searching(pattern, **options)

    monkeypatch.setattr(glob, "iglob", noted)
    there = file(tmp_path / "new" / "data" / "a" / "b" / "x.csv")
    found = list(where.elsewhere(f"data/{end}"))
    assert found == [there.removesuffix("a/b/x.csv") + end] * ("**" in end)
    assert all("/data/" in pattern or pattern.endswith("/x.csv") for pattern in searched)


def test_a_pattern_of_files_beside_the_store(tmp_path):
    file(tmp_path / "new" / "1.csv")
    assert next(whereabouts(tmp_path, folder="/old").elsewhere("./*.csv")) == str(
        tmp_path / "new" / "*.csv"
    )


def test_nothing_is_searched_for_where_rows_are_found_at_once(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(3, 2))
    path = str(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", np.ones((4, 2)))
    result = dkde.score(path, str(tmp_path / "y.npy"), 1.0, output=tmp_path / "r.zarr")

    def never(where, name):
        raise AssertionError(name)
        yield

    monkeypatch.setattr(Whereabouts, "elsewhere", never)
    rows, reason = read_back(scored_rows(result)[0])
    assert (rows.n_rows, reason) == (3, "")


# Data that were moved apart from the result, and data that lost their times on the way.


def kinds(*quick):
    """All kinds of data; tests of all but some of them are slow ones."""
    names = ["x.npy", "x.csv", "x.parquet", "x.nc", "x.zarr", "data.zarr"]
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def written(folder, kind):
    """Six rows in a file or store; return the options that read it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / kind)
    x = np.array([[0.0, 1.0], [2.0, 1.5], [1.0, 0.5], [3.0, 2.0], [0.5, 0.5], [1.5, 1.0]])
    frame = pd.DataFrame(x, columns=["a", "b"])
    if kind == "x.npy":
        np.save(path, x)
    elif kind == "x.csv":
        frame.to_csv(path, index=False)
    elif kind == "x.parquet":
        frame.to_parquet(path)
    elif kind == "data.zarr":
        np.save(folder / "rows.npy", x)
        dkde.import_dataset(str(folder / "rows.npy"), path)
        return "::train"
    else:
        data = xr.Dataset({name: ("row", frame[name].to_numpy()) for name in "ab"})
        data.to_netcdf(path) if kind == "x.nc" else data.to_zarr(path, consolidated=False)
    return ""


def scored(tmp_path, kind, **options):
    """Score the rows of a kind of data below ``old/data``, into ``old/results``."""
    split = written(tmp_path / "old" / "data", kind)
    path = str(tmp_path / "old" / "data" / kind) + split
    (tmp_path / "old" / "results").mkdir(exist_ok=True)
    features = ["a", "b"] if kind in ("x.nc", "x.zarr") else None
    return dkde.score(
        f"{path}[:3]", f"{path}[3:]", 1.0, source=dkde.Catalog(features=features),
        output=tmp_path / "old" / "results" / "r.zarr", **options,
    )  # fmt: skip


def without_times(path):
    """Give all files in a folder the time of now, as an archive or a copy does."""
    for each in [path, *path.rglob("*")]:
        os.utime(each)


def rows_shown(result, sources=None):
    (opened,) = opened_results([result], sources)
    return read_back(scored_rows(opened)[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds("x.nc", "x.zarr"))
def test_a_folder_that_was_sent_without_its_times(tmp_path, kind, monkeypatch):
    scored(tmp_path, kind)
    (tmp_path / "old").rename(tmp_path / "sent")
    without_times(tmp_path / "sent")
    monkeypatch.chdir(tmp_path / "sent" / "results")
    for result in ("r.zarr", str(tmp_path / "sent" / "results" / "r.zarr")):
        found = dkde.verify(result)
        assert (found["blocks"], found["exact"], found["reason"]) == (1, True, None)
        rows, reason = rows_shown(result)
        assert (reason, rows.n_rows) == ("", 3)
    assert not np.isnan(dkde.compare("r.zarr", "r.zarr").mean_difference)


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds("x.nc"))
def test_data_elsewhere_under_another_name(tmp_path, kind):
    scored(tmp_path, kind)
    result, old = tmp_path / "old" / "results" / "r.zarr", tmp_path / "old" / "data" / kind
    new = tmp_path / f"other-{kind}"
    old.rename(new)
    without_times(new)
    with pytest.raises(dkde.DkdeError, match=r"if it was moved, say where it is now \(sources\)"):
        dkde.verify(result)
    assert rows_shown(result)[0] is None
    # The path as the result names it, or a folder above it.
    elsewhere = tmp_path / "elsewhere" / "data"
    elsewhere.mkdir(parents=True)
    shutil.copytree(new, elsewhere / kind) if new.is_dir() else shutil.copy(new, elsewhere / kind)
    for sources in ({old: new}, {str(tmp_path / "old"): elsewhere.parent}):
        assert dkde.verify(result, sources=sources)["exact"]
        assert rows_shown(result, sources)[1] == ""
        dkde.report(result, tmp_path / "r.html", sources=sources)
        assert "are not shown" not in (tmp_path / "r.html").read_text()
        dkde.compare(result, result, sources=sources)
        (place,) = dkde.status(result, sources=sources)["sources"].values()
        assert str(place) in (str(new), str(elsewhere / kind))


@pytest.mark.parametrize("kind", kinds("x.nc"))
def test_a_run_goes_on_with_data_at_another_path(tmp_path, kind):
    with dkde.init_only():
        scored(tmp_path, kind)
    result, old = tmp_path / "old" / "results" / "r.zarr", tmp_path / "old" / "data" / kind
    new = tmp_path / f"other-{kind}"
    old.rename(new)
    without_times(new)
    dkde.run_part(result, 0, 2, sources={old: new})
    split = "::train" if kind == "data.zarr" else ""
    features = ["a", "b"] if kind in ("x.nc", "x.zarr") else None
    rows = [f"{new}{split}[:3]", f"{new}{split}[3:]"]
    # The same call with the new path goes on, too.
    found = dkde.score(*rows, 1.0, source=dkde.Catalog(features=features), output=result)
    assert found.attrs["complete"] == 1
    finished = dkde.finish(result, sources={old: new})
    np.testing.assert_array_equal(finished.log_density, found.log_density)


def test_other_data_at_the_place_that_is_given(tmp_path):
    scored(tmp_path, "x.nc")
    result, old = tmp_path / "old" / "results" / "r.zarr", tmp_path / "old" / "data" / "x.nc"
    new = tmp_path / "new.nc"
    with xr.open_dataset(old) as data:
        (data.load() + 1).to_netcdf(new)
    size = old.stat().st_size
    assert new.stat().st_size == size
    os.utime(new, ns=(0, old.stat().st_mtime_ns + 1))
    with pytest.raises(dkde.DataSetError, match=r"found .*old/data/x.nc at .*new.nc, which is not"):
        dkde.verify(result, sources={old: new})
    rows, reason = rows_shown(result, {old: new})
    assert rows is None
    assert "was changed" in reason


def test_a_source_that_is_not_named_or_not_there(tmp_path):
    scored(tmp_path, "x.csv")
    result, old = tmp_path / "old" / "results" / "r.zarr", tmp_path / "old" / "data" / "x.csv"
    for call in (dkde.verify, dkde.status, dkde.finish):
        with pytest.raises(dkde.InputError, match=r"sources: y.csv is not named in the result; it"):
            call(result, sources={"y.csv": old})
        with pytest.raises(
            dkde.InputError, match=r"sources: /nowhere/x.csv, given for .*is not th"
        ):
            call(result, sources={old: "/nowhere/x.csv"})
    with pytest.raises(dkde.InputError, match=r"y.csv is not named .* it names .*x.csv$"):
        dkde.compare(result, result, sources={"y.csv": old})
    with pytest.raises(dkde.InputError, match="it names no file and no store"):
        dkde.report(dkde.score(np.ones((2, 1)), np.ones((3, 1)), 1.0), "r.html", sources={"a": old})


def test_files_that_are_too_large_are_known_by_their_times(tmp_path, monkeypatch):
    monkeypatch.setattr(noted_files, "_MOST_BYTES", 10)
    scored(tmp_path, "x.nc")
    (tmp_path / "old").rename(tmp_path / "sent")
    result = tmp_path / "sent" / "results" / "r.zarr"
    assert dkde.verify(result)["exact"]
    without_times(tmp_path / "sent")
    with pytest.raises(dkde.DataSetError, match="which is not the data of the result"):
        dkde.verify(result)


def test_weights_of_a_data_set_that_lost_its_times(tmp_path):
    x = xr.Dataset({"a": ("row", np.arange(6.0)), "w": ("row", np.ones(6))})
    x.to_netcdf(tmp_path / "x.nc")
    path = str(tmp_path / "x.nc")
    catalog = dkde.Catalog(path, features=["a"])
    dkde.score(
        f"{path}[:2]", f"{path}[2:]", 1.0, weights="w", query_weights="w", source=catalog,
        output=tmp_path / "r.zarr",
    )  # fmt: skip
    without_times(tmp_path)
    assert dkde.verify(tmp_path / "r.zarr")["exact"]


def test_a_run_whose_data_are_gone_says_what_to_do(tmp_path):
    with dkde.init_only():
        scored(tmp_path, "x.npy")
    (tmp_path / "old" / "data" / "x.npy").rename(tmp_path / "y.npy")
    with pytest.raises(dkde.DkdeError, match=r"x.npy.*if it was moved, say where it is now"):
        dkde.run_part(tmp_path / "old" / "results" / "r.zarr", 0, 1)


@pytest.mark.slow
def test_data_of_a_bucket_that_lie_in_a_folder_now(tmp_path, bucket):
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(6, 2) % 5)
    url, folder, result = f"{bucket}/d.zarr", tmp_path / "d.zarr", tmp_path / "r.zarr"
    for place in (url, folder):
        dkde.import_dataset(str(tmp_path / "x.npy"), place)
    dkde.score(f"{url}::train[:2]", f"{url}::train[2:]", 1.0, output=result)
    Records(open_store(url), url).delete_all("")
    with pytest.raises(dkde.DkdeError):
        dkde.verify(result)
    assert dkde.verify(result, sources={url: folder})["exact"]
    assert dkde.status(result, sources={url: folder})["sources"] == {url: str(folder)}
    assert rows_shown(result, {bucket: tmp_path})[1] == ""


def test_a_selector_of_two_files_is_no_name_of_the_second(tmp_path, monkeypatch):
    # The longest part of a selector that exists is a name, and the second file lies beside the run.
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("q", "a", "b"):
        np.save(f"{name}.npy", rng.normal(size=(9, 2)))
    dkde.score("q.npy", f"a.npy+{tmp_path}/b.npy", 1.0, output="r.zarr")
    found = dkde.verify("r.zarr", blocks="all")
    assert found["exact"]
    assert found["reason"] is None
