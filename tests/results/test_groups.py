"""Results of groups: opened, summarised, drawn, written, and refused where one is meant."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import dkde
from dkde.errors import InputError
from dkde.runs.grouped import combined, results_of_groups

RNG = np.random.default_rng(3)
FRAME = pd.DataFrame(RNG.normal(size=(120, 2)), columns=["x", "y"]).assign(
    kind=np.array(["ant", "bee", "cat"])[RNG.integers(0, 3, 120)]
)
BY = {"features": ["x", "y"], "by": "kind"}


@pytest.fixture(scope="module")
def scores():
    return dkde.score(FRAME[:20], FRAME[20:], ["scott", 0.5], **BY)


@pytest.fixture(scope="module")
def maps():
    return dkde.density_map(FRAME, 0.5, cells=24, levels=[50, 95], **BY)


def test_they_come_apart_and_together(scores):
    groups = dkde.groups_of(scores)
    assert list(groups) == ["ant", "bee", "cat"]
    again = combined("kind", [*groups], [*groups.values()], ["scott", "0.5"])
    xr.testing.assert_identical(again.drop_attrs(), scores.drop_attrs())


def test_one_that_is_selected_is_a_result(scores):
    one = scores.sel(kind="bee")
    expected = dkde.score(FRAME[:20], FRAME[20:][FRAME.kind[20:] == "bee"], ["scott", 0.5],
                          features=["x", "y"])  # fmt: skip
    assert str(dkde.summary(one)).splitlines()[:6] == str(dkde.summary(expected)).splitlines()[:6]
    found = dkde.compare(one, scores.sel(kind="cat"), bandwidth=0.5)
    difference = scores.log_density.sel(kind="bee") - scores.log_density.sel(kind="cat")
    assert float(found.mean_difference) == pytest.approx(float(difference[1].mean()))


def test_where_one_result_is_meant_they_are_refused(scores):
    for call in (lambda: dkde.compare(scores, scores), lambda: dkde.summary([scores, scores])):
        with pytest.raises(InputError, match=r"is of 3 groups, by kind; select one \(result.sel\("):
            call()
    with pytest.raises(InputError, match="has no groups"):
        dkde.groups_of(scores.sel(kind="ant"))


@pytest.mark.slow
def test_summaries_have_a_line_for_each(scores, maps):
    text = str(dkde.summary(scores))
    assert "Score of 3 groups" in text
    for name, one in results_of_groups(scores).items():
        (line,) = (line for line in text.splitlines() if line.strip().startswith(name))
        assert f"{float(one.mean_log_likelihood.max()):.4f}" in line.replace("−", "-")
    text = str(dkde.summary(maps))
    assert "kind=ant: Levels, from the grid" in text
    assert "<svg" in dkde.summary(maps)._repr_html_()


@pytest.mark.slow
def test_reports(scores, maps, tmp_path):
    for result in (scores, maps):
        dkde.report(result, tmp_path / "r.html")
        page = (tmp_path / "r.html").read_text(encoding="utf-8")
        assert all(f"kind={kind}" in page for kind in ("ant", "bee", "cat"))


def test_tables_and_netcdf(scores, tmp_path):
    dkde.export(scores, tmp_path / "r.csv")
    dkde.export(scores, tmp_path / "r.parquet")
    dkde.export(scores, tmp_path / "r.nc")
    table = pd.read_csv(tmp_path / "r.csv")
    assert len(table) == 3 * 20 * 2
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "r.parquet")[table.columns], table, check_dtype=False
    )
    for kind, one in dkde.groups_of(str(tmp_path / "r.nc")).items():
        rows = table[table.kind == kind]
        np.testing.assert_array_equal(rows.log_density, one.log_density.values.T.ravel())
        np.testing.assert_array_equal(rows.bandwidth[:2], one.bandwidth)


def test_maps_are_drawn_side_by_side_on_one_scale(maps):
    every = dkde.plot_map(maps)
    assert [axes.get_title() for axes in every] == ["kind=ant", "kind=bee", "kind=cat"]
    tops = {axes.collections[0].get_clim()[1] for axes in every}
    assert tops == {float(maps.density.max())}
    with pytest.raises(InputError, match="3 groups, each a map of its own"):
        dkde.plot_map(maps, every[0])
    assert dkde.plot_map(maps.sel(kind="ant")).get_title() == ""


def test_geotiff_has_a_band_for_each(maps, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    dkde.export(maps, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as raster:
        assert raster.descriptions == ("ant", "bee", "cat")
        north_up = maps.density.sel(kind="cat").sortby("y", ascending=False)
        np.testing.assert_array_equal(raster.read(3), north_up)


def test_regions_of_levels(maps):
    features = dkde.level_regions(maps)["features"]
    assert [each["properties"]["kind"] for each in features] == [
        "ant", "ant", "bee", "bee", "cat", "cat",
    ]  # fmt: skip
    one = dkde.level_regions(maps.sel(kind="bee"))["features"]
    assert [each["geometry"] for each in one] == [each["geometry"] for each in features[2:4]]


def test_densities_relative_to_the_largest_of_each(scores):
    found = dkde.density(scores, relative=True)
    np.testing.assert_array_equal(found.max("sample"), np.ones((3, 2)))


def test_the_summary_of_classes_counts_the_rows_of_all():
    found = dkde.classify("test", "train", [4.0, 6.0, 8.0], by="label", source="digits")
    title, rows, *lines = str(dkde.summary(found)).splitlines()
    assert (title, rows) == ("Classification", "360 query rows under 1 078 training rows")
    assert any(line.split() == ["accuracy", "0.9556"] for line in lines)
    of_scores = json.loads(found.attrs["provenance"])["score"]
    assert of_scores["plan"]["pairs"] == 360 * 1078
    assert of_scores["train"]["rows"] == 1078


def test_lines_of_groups_are_on_one_scale_and_sections_say_where():
    asked = BY | {"features": ["x"], "cells": 20, "levels": 50}
    lines = dkde.density_map(FRAME, 0.5, **asked)
    limits = [axes.get_ylim() for axes in dkde.plot_map(lines)]
    np.testing.assert_allclose(limits, [(0, 1.05 * float(lines.density.max()))] * 3)
    deep = FRAME.assign(z=FRAME.x + FRAME.y)
    maps = dkde.density_map(deep, 0.5, cells=6, **BY | {"features": ["x", "y", "z"]})
    names, places = zip(*(a.get_title().split("\n") for a in dkde.plot_map(maps)), strict=True)
    assert names == ("kind=ant", "kind=bee", "kind=cat")
    assert all("z" in place or "x" in place for place in places)
