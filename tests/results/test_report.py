"""The report: what it holds, that it is escaped, and what a browser makes of it."""

import base64
import http.server
import io
import os
import re
import shutil
import subprocess
import threading
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.image import imread
from sklearn.datasets import load_digits

import dkde

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Its text, its tags, and that every element is closed."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.source = Path(path).read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def swept(tmp_path):
    store = tmp_path / "digits.zarr"
    dkde.import_dataset("digits", store)
    result = tmp_path / "r.zarr"
    dkde.sweep(
        train="train", valid="valid", test="test", source=str(store),
        bandwidths=[1.0, 2.0, 4.0], output=result,
    )  # fmt: skip
    return result


@pytest.mark.slow
def test_what_it_holds(swept, tmp_path):
    dkde.report(swept, tmp_path / "r.html")
    page, result = Page(tmp_path / "r.html"), xr.open_zarr(swept)
    for value in [*result.mean_log_likelihood.values, *result.standard_error.values]:
        assert f"{value:.4f}".replace("-", "−") in page.text
    assert f"{float(result.test_mean_log_likelihood):.4f}".replace("-", "−") in page.text
    assert "best at 2: " in page.text  # the curve's legend, which stays text
    assert "sha256:" in page.text
    assert "numpy" in page.text
    assert f"dkde {dkde.describe(str(tmp_path / 'digits.zarr'))['dkde_version']}" in page.text
    # The rows are the right ones, in the right order, as they are.
    values = result.test_log_density.values
    order = np.argsort(values, kind="stable")
    shown = [int(number) for number in re.findall(r"row (\d+), label", page.text)]
    assert shown == [*order[::-1][:12], *order[:12]]
    pixels = dkde.open_dataset(tmp_path / "digits.zarr")["test"]["x"].values
    for number, image in zip(shown, page.of("img"), strict=True):
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        picture = imread(io.BytesIO(data))[..., 0]
        assert np.rint(picture * 255) == pytest.approx(
            np.rint(pixels[number].reshape(8, 8) / 16 * 255)
        )


@pytest.mark.slow
def test_it_loads_nothing(swept, tmp_path):
    dkde.report(swept, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert not page.of("script")
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "@import" not in page.source
    assert not re.search(r"url\((?!#)", page.source)
    assert page.of("meta")[1]["content"].startswith("default-src 'none'; ")


@pytest.mark.slow
def test_rows_that_are_gone_are_a_note(swept, tmp_path):
    shutil.rmtree(tmp_path / "digits.zarr")
    dkde.report(swept, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert "The rows themselves are not shown: " in page.text
    assert "no such" in page.text
    assert not page.of("img")
    assert f"{xr.open_zarr(swept).test_log_density.values.max():.4f}".replace("-", "−") in page.text


@pytest.mark.slow
def test_rows_that_changed_are_a_note(swept, tmp_path):
    np.savez(tmp_path / "o.npz", test=np.ones((360, 64), np.uint8))
    dkde.import_dataset(tmp_path / "o.npz", tmp_path / "digits.zarr", overwrite=True)
    dkde.report(swept, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert "was changed since its rows were scored, or moved" in page.text
    assert not page.of("img")


def test_text_is_escaped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = "<script>alert(1)</script>&\"'"
    file = "<b>x&y.npz"
    np.savez(file, train=np.eye(4), test=np.eye(4) + 0.1)
    rows = xr.DataArray(
        np.eye(4) + 0.1, dims=("sample", "feature"),
        coords={bad.replace("/", "|"): ("sample", [bad] * 4)},
    )  # fmt: skip
    dkde.report(dkde.score(rows, np.eye(4), 1.0), "a.html")
    dkde.score("test", "train", 1.0, source=file, output="<i>&.zarr")
    dkde.report("<i>&.zarr", "b.html")
    for name in ("a.html", "b.html"):
        page = Page(name)
        assert not page.of("script")
        assert not {"b", "i", "x&y.npz"} & {tag for tag, _ in page.tags}
    assert bad in Page("a.html").text
    assert file in Page("b.html").text
    assert "<i>&.zarr" in Page("b.html").text


def test_few_features_are_shown_as_numbers(tmp_path):
    values = np.random.default_rng(0).standard_normal((9, 2))
    np.savez(tmp_path / "d.npz", train=values, query=values[:5] + 0.25)
    result = dkde.score("query", "train", [0.5, 1.0], source=str(tmp_path / "d.npz"))
    dkde.report(result, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    best = int(result.log_density.values[0].argmax())
    assert f"{values[best, 1] + 0.25:.6g}" in page.text
    assert len(page.of("svg")) == 1


@pytest.mark.parametrize("kernel", ["tophat", "univariate_gaussian"])
def test_numbers_that_are_not_finite(tmp_path, kernel):
    query = np.array([[0.0, 0], [9, 9], [0.2, 0]])
    with pytest.warns(UserWarning, match="no density") if kernel != "tophat" else nullcontext():
        result = dkde.score(query, np.zeros((3, 2)), 1.0, kernel=kernel)
    dkde.report(result, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert "nan" not in page.text
    assert ("−∞" in page.text) == (kernel == "tophat")
    assert not page.of("svg")


def test_rows_are_read_back_with_the_columns_that_were_scored(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(9, 3)).round(3), columns=["a", "b", "c"])
    table.to_csv(tmp_path / "t.csv", index=False)
    train = table.iloc[4:][["c", "a"]]
    with pytest.warns(UserWarning, match=r"left out: b \(train has no such feature\)"):
        found = dkde.score(str(tmp_path / "t.csv[:4]"), train, 0.5)
    dkde.report(found, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert "not shown" not in page.text
    assert "log-density c a" in page.text
    for c, a in table.iloc[:4][["c", "a"]].to_numpy():
        assert f"{c:.6g} {a:.6g}" in page.text


def test_pictures_are_shown_under_named_training_rows(tmp_path):
    digits = load_digits(as_frame=True).data.iloc[100:]
    result = dkde.score("test[:8]", digits, 4.0, source="digits")
    dkde.report(result, tmp_path / "r.html")
    assert len(Page(tmp_path / "r.html").of("img")) == 8


def test_a_score_chose_no_bandwidth(tmp_path):
    found = dkde.score("test[:50]", "train", [2.0, 4.0], source="digits")
    dkde.report(found, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert "bandwidth of the highest mean" in page.text
    assert "best bandwidth" not in page.text


def test_where_no_density_is_above_zero_nothing_is_best(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 2))
    found = dkde.score(rows + 100, rows, [0.2, 0.4], kernel="tophat")
    dkde.report(found, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert "first bandwidth, as no mean is finite" in page.text
    assert "No query rows have a density above zero at bandwidth 0.2" in page.text
    assert not page.of("svg")
    assert not [attributes for attributes in page.of("tr") if attributes.get("class") == "best"]


def test_of_rows_along_two_dims(tmp_path):
    values = np.arange(6.0).reshape(1, 2, 3)
    result = xr.Dataset(
        {
            "log_density": (("bandwidth", "lat", "lon"), values),
            "mean_log_likelihood": ("bandwidth", [2.5]),
            "standard_error": ("bandwidth", [0.1]),
            "bits_per_dimension": ("bandwidth", [-1.0]),
            "n_zero_density": ("bandwidth", [0]),
        },
        {"bandwidth": [0.1], "lat": [10.5, 20.5], "lon": [1.0, 2.0, 3.0]},
    )
    dkde.report(result, tmp_path / "r.html")
    text = Page(tmp_path / "r.html").text
    assert "row lat lon log-density 5 20.5 3 5.0000 4 20.5 2 4.0000 3 20.5 1 3.0000" in text


@pytest.mark.slow
def test_refused(swept, tmp_path):
    with pytest.raises(dkde.InputError, match=r"reports are written as \.html or \.htm files"):
        dkde.report(swept, tmp_path / "r.pdf")
    with pytest.raises(dkde.DataSetError, match="no folder"):
        dkde.report(swept, tmp_path / "none" / "r.html")


class Proxy(http.server.ThreadingHTTPServer):
    """Refuses all that a browser asks of the network, and keeps what it was."""

    def __init__(self):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.requestline)
                self.send_error(404)

            do_CONNECT = do_HEAD = do_POST = do_GET

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def browse(tmp_path):
    """Open a page in a browser: the picture of it, and what it asked the network for."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        pytest.skip("no chromium here")
    with Proxy() as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()

        def show(page, *options):
            proxy.asked.clear()
            picture = tmp_path / "page.png"
            picture.unlink(missing_ok=True)
            subprocess.run(
                [
                    browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                    "--disable-background-networking", "--disable-component-update",
                    "--disable-sync", "--disable-default-apps", "--disable-dev-shm-usage",
                    f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars",
                    f"--proxy-server=http://127.0.0.1:{proxy.server_port}",
                    "--proxy-bypass-list=<-loopback>", "--virtual-time-budget=5000",
                    "--window-size=1000,2400", *options, f"--screenshot={picture}",
                    Path(page).as_uri(),
                ],
                check=True, capture_output=True, timeout=180,
                env=os.environ | {"HOME": str(tmp_path)},
            )  # fmt: skip
            # What browsers ask for of their own accord is not the page's.
            asked = [line for line in proxy.asked if "google" not in line]
            return imread(picture), asked

        yield show
        proxy.shutdown()


@pytest.mark.slow
def test_in_a_browser(swept, tmp_path, browse):
    outside = tmp_path / "outside.html"
    outside.write_text('<!DOCTYPE html><img src="http://pictures.example/x.png">')
    _, asked = browse(outside)
    assert any("pictures.example/x.png" in line for line in asked)  # it would be seen
    dkde.report(swept, tmp_path / "r.html")
    light, asked = browse(tmp_path / "r.html")
    assert asked == []
    dark, _ = browse(tmp_path / "r.html", "--force-dark-mode")
    assert light[5, 5, :3].min() > 0.95
    assert dark[5, 5, :3].max() < 0.2
    # Nothing is wider than the window, whatever it holds: the right margin is the page's own.
    assert (light[:, -20:, :3] == light[5, 5, :3]).all()
    # There are the curve, and pictures from black to white.
    blue = (np.abs(light[..., :3] - np.array([0, 0x72, 0xB2]) / 255) < 0.02).all(axis=-1)
    assert blue.sum() > 300
    assert (light[..., :3].max(axis=-1) < 0.02).sum() > 5000


@pytest.mark.slow
def test_several_and_maps_on_a_phone(tmp_path, browse):
    """Nothing is asked of the network, and nothing is wider than a narrow window."""
    places = np.random.default_rng(0).normal(size=(60, 2)) * [12, 15] + [20, 10]
    grid = xr.Dataset(
        coords={
            "lat": ("lat", np.linspace(-40, 60, 21), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(-30, 60, 31), {"units": "degrees_east"}),
        }
    )
    a, b = (
        dkde.score(grid[["lat", "lon"]], places, lengths, kernel="vonmises_fisher")
        for lengths in (["500km", "900km"], ["700km", "1500km"])
    )
    long = "a very long name " * 12
    for name, result in (("one", a), ("several", {long: a, "b": b, "c": a})):
        dkde.report(result, tmp_path / f"{name}.html")
        page = Page(tmp_path / f"{name}.html")
        n_maps = sum("Map of the log-densities" in svg["aria-label"] for svg in page.of("svg"))
        assert n_maps == (1 if name == "one" else 3)
        for image in page.of("image"):
            assert image["xlink:href"].startswith("data:")
        for width in (1000, 390):
            shown, asked = browse(tmp_path / f"{name}.html", f"--window-size={width},2400")
            assert asked == []
            assert shown.shape[1] == width
            assert (shown[:, -10:, :3] == shown[5, 5, :3]).all()
            # Maps are there: the colours of viridis's ends.
            assert (
                np.abs(shown[..., :3] - np.array([253, 231, 37]) / 255).max(axis=-1) < 0.03
            ).any()
