"""Several results at once: comparisons of each pair, reports, summaries, curves."""

import itertools
import json
import re

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde

RNG = np.random.default_rng(8)
TRAIN, OTHER, QUERY = (RNG.standard_normal((n, 2)) for n in (30, 25, 40))
ROWS = xr.DataArray(
    QUERY, dims=("sample", "feature"), coords={"label": ("sample", np.arange(40) % 3)}
)


@pytest.fixture(scope="module")
def results():
    return {
        "wide": dkde.score(ROWS, TRAIN, 0.9),
        "<b>narrow": dkde.score(ROWS, TRAIN, 0.3),
        "other $x": dkde.score(ROWS, OTHER, [0.5, 0.7, 1.4]).isel(bandwidth=[0, 2]),
    }


def test_each_pair_is_as_two_are(results):
    given = {**results, "other $x": results["other $x"].isel(bandwidth=[0])}
    found = dkde.compare(given)
    pairs = list(itertools.combinations(given, 2))
    assert list(zip(found.a.values, found.b.values, strict=True)) == pairs
    assert found.result.values.tolist() == list(given)
    for i, (a, b) in enumerate(pairs):
        alone = dkde.compare(given[a], given[b])
        for name in alone.data_vars:
            if not name.startswith("difference"):
                np.testing.assert_array_equal(found[name][i], alone[name])
        # And the figures that are new: against plain arithmetic.
        assert float(alone.z) == pytest.approx(float(alone.mean_difference / alone.standard_error))
        half = 1.959963984540054 * float(alone.standard_error)
        assert float(alone.interval_low) == pytest.approx(float(alone.mean_difference) - half)
        assert float(alone.interval_high) == pytest.approx(float(alone.mean_difference) + half)
        of = found.sel(result=a)
        assert float(of.mean_log_likelihood) == pytest.approx(
            float(given[a].mean_log_likelihood[0])
        )
        assert float(of.bandwidth) == float(given[a].bandwidth[0])
    assert dkde.compare(*given.values()).result.values.tolist() == ["A", "B", "C"]


def test_bandwidths_one_for_all_or_one_for_each(results):
    many = [dkde.score(ROWS, train, [0.4, 0.8]) for train in (TRAIN, OTHER, TRAIN[:20])]
    assert dkde.compare(many, bandwidth=0.8).bandwidth.values.tolist() == [0.8] * 3
    each = dkde.compare(many, bandwidth=[0.4, 0.8, 0.4])
    assert each.bandwidth.values.tolist() == [0.4, 0.8, 0.4]
    with pytest.raises(dkde.InputError, match="2 bandwidths are given for 3 results"):
        dkde.compare(many, bandwidth=[0.4, 0.8])


def test_a_result_and_itself_have_no_z(results):
    found = dkde.compare(results["wide"], results["wide"])
    assert float(found.mean_difference) == 0
    assert np.isnan(float(found.z))
    assert float(found.interval_low) == float(found.interval_high) == 0


def test_refused(results):
    with pytest.raises(dkde.InputError, match="one result is given"):
        dkde.compare(results["wide"])
    with pytest.raises(dkde.InputError, match="one result is given"):
        dkde.compare([results["wide"]])
    other = dkde.score(ROWS[:20], TRAIN, 0.9)
    with pytest.raises(dkde.InputError, match=r"wide \(a\) and fewer \(b\): a and b did not score"):
        dkde.compare({"wide": results["wide"], "fewer": other, "other": results["<b>narrow"]})


def test_a_report_of_several(results, tmp_path):
    dkde.report(results, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<b>narrow" not in page
    assert "&lt;b&gt;narrow" in page
    assert "<script" not in page
    text = re.sub(r"<[^>]*>", " ", page)
    compared = dkde.compare(results["wide"], results["<b>narrow"])
    assert f"{float(compared.mean_difference):.4f}".replace("-", "−") in text
    assert f"{float(compared.z):.2f}".replace("-", "−") in text
    assert "Differences by label" in text
    assert page.count("<svg ") == 1


def test_a_report_of_results_on_other_rows_says_so(results, tmp_path):
    other = dkde.score(ROWS[:20], TRAIN, 0.9)
    dkde.report([results["wide"], other], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "cannot be compared row by row" in page
    assert "did not score the same rows" in page


def test_summaries_are_html_and_text(results):
    for shown in (
        dkde.summary(results["wide"]),
        dkde.summary(results["other $x"]),
        dkde.summary(results),
        dkde.summary(dkde.compare(results["wide"], results["<b>narrow"])),
        dkde.summary(dkde.compare({**results, "other $x": results["wide"]})),
    ):
        html = shown._repr_html_()
        assert html.count("<div") == html.count("</div>")
        assert "<b>narrow" not in html
        assert str(shown).splitlines()[0] == shown.title
        assert "nan" not in str(shown)
    mean = f"{float(results['wide'].mean_log_likelihood[0]):.4f}".replace("-", "−")
    assert mean in str(dkde.summary(results["wide"]))
    with pytest.raises(dkde.InputError, match="log-densities alone have no summary"):
        dkde.summary(dkde.log_density(ROWS, TRAIN, 0.5))


@pytest.mark.slow
def test_plans_and_runs_have_summaries(tmp_path):
    cost = dkde.plan(query="test", train="train", source="digits", bandwidths=[2.0], baseline=False)
    shown = dkde.summary(cost)
    assert "388 k" in str(shown)
    assert "unknown" in shown._repr_html_()
    dkde.score("test[:9]", "train", 2.0, source="digits", output=tmp_path / "r.zarr")
    assert "complete" in str(dkde.summary(dkde.status(tmp_path / "r.zarr")))
    with dkde.init_only():
        dkde.score("test[:9]", "train", 2.0, source="digits", output=tmp_path / "s.zarr")
    assert "0 of 1" in str(dkde.summary(dkde.status(tmp_path / "s.zarr")))


@pytest.mark.slow
def test_estimators_show_what_was_fitted():
    fitted = dkde.KernelDensity(bandwidth=0.5)
    assert 'class="dkde"' not in fitted._repr_html_()
    fitted.fit(TRAIN)
    assert "30" in str(dkde.summary(fitted))
    assert 'class="dkde"' in fitted._repr_html_()
    assert 'class="dkde"' in fitted._repr_mimebundle_()["text/html"]
    assert repr(fitted) == "KernelDensity(bandwidth=0.5)"
    chosen = dkde.KernelDensityCV(bandwidths=[0.2, 0.5, 1.0, 4.0], cv=4).fit(TRAIN)
    shown = dkde.summary(chosen)
    assert "cross-validation, 4 folds" in shown._repr_html_()
    axes = dkde.plot_sweep({"4 folds": chosen, "loo": dkde.KernelDensityCV(
        bandwidths=[0.2, 0.5, 1.0, 4.0], cv="loo").fit(TRAIN)})  # fmt: skip
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels] == ["4 folds", "loo"]
    with pytest.raises(dkde.InputError, match="one bandwidth has no curve"):
        dkde.plot_sweep(fitted)


@pytest.mark.slow
def test_an_estimator_on_the_sphere_shows_lengths():
    places = np.random.default_rng(0).uniform(-50, 50, (50, 2))
    lengths = ["300km", "2000km", "9000km"]
    sphere = dkde.KernelDensityCV(bandwidths=lengths, kernel="vonmises_fisher").fit(places)
    assert "best at 2000 km" in dkde.summary(sphere)._repr_html_()


@pytest.mark.slow
def test_the_commands_take_several(tmp_path):
    np.savez(tmp_path / "d.npz", train=TRAIN, other=OTHER, query=QUERY)
    stores = []
    for i, (train, h) in enumerate((("train", 0.5), ("other", 0.5), ("train", 1.0))):
        stores.append(str(tmp_path / f"{i}.zarr"))
        dkde.score("query", train, h, source=str(tmp_path / "d.npz"), output=stores[-1])
    found = json.loads(CliRunner().invoke(cli, ["compare", *stores, "--json"]).stdout)
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [
        *itertools.combinations(stores, 2)
    ]
    assert found["results"][2]["bandwidth"] == 1.0
    printed = CliRunner().invoke(cli, ["compare", *stores]).stdout
    assert f"{found['pairs'][1]['z']:.2f}" in printed
    page = tmp_path / "r.html"
    assert CliRunner().invoke(cli, ["report", *stores, "-o", str(page)]).exit_code == 0
    assert "3 results" in page.read_text(encoding="utf-8")
    assert CliRunner().invoke(cli, ["compare", stores[0]]).exit_code == 2
    assert (
        CliRunner().invoke(cli, ["report", stores[0], "-o", str(page), "--by", "x"]).exit_code == 2
    )


@pytest.mark.parametrize(
    ("features", "kernel", "bandwidth", "words"),
    [
        (["lat", "lon"], "vonmises_fisher", "900km", "vonmises_fisher"),
        (
            ["lat", "lon", "depth"],
            {("lat", "lon"): "vonmises_fisher", "depth": "gaussian"},
            {"lat,lon": "900km", "depth": 2.0},
            "lat,lon=vonmises_fisher, depth=gaussian",
        ),
    ],
)
def test_kernels_and_features_on_the_sphere_are_the_user_s(features, kernel, bandwidth, words):
    values = 10 * np.random.default_rng(0).normal(size=(12, 3))
    rows = xr.Dataset({name: ("row", values[:, i]) for i, name in enumerate(features)})
    found = dkde.score(rows, rows.isel(row=slice(6)).copy(deep=True), bandwidth, kernel=kernel)
    origin = dkde.summary(found).origin
    assert origin["kernel"] == words
    assert f"72 pairs of {len(features)} features at" in origin["plan"]
    # Older versions stored the number of features of unit vectors.
    if kernel == "vonmises_fisher":
        work = json.loads(found.attrs["provenance"])
        for side in ("query", "train"):
            work["score"][side] |= {"features": 3, "stored_features": 3}
        work["score"]["plan"]["n_features"] = 3
        older = found.assign_attrs(provenance=json.dumps(work))
        assert dkde.summary(older).origin == origin
    both = dkde.summary({"a": found, "b": found.copy()})
    assert words in [cell for row in both.tables["Results"].rows for cell in row]
