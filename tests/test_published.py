"""Figures that were computed or published elsewhere come out."""

import json
from pathlib import Path

import numpy as np
import pytest

import dkde

# They measure memory or time, or start many processes.
pytestmark = pytest.mark.alone

BANDWIDTHS = [0.05, 0.08, 0.1, 0.2, 0.5, 1, 1.5, 2]


@pytest.fixture(scope="module")
def reference(data_dir: Path):
    """Figures of an independent float64 program, a file for each protocol."""
    folder = data_dir.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference figures beside {data_dir.name}")
    return lambda name: json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def cifar_store(data_dir: Path, tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("cifar") / "cifar.zarr"
    archive = data_dir / "cifar/cifar-100-python-layout-sample.tar.gz"
    dkde.import_dataset(archive, store, shuffle_seed=1573368177)
    return store


def assert_agrees(value, expected, tolerance):
    assert abs(value - expected) <= tolerance * max(1.0, abs(expected))


def assert_rows_agree(result, rows, tolerance, errors=True):
    for row in rows:
        at = result.sel(bandwidth=row["bandwidth"])
        assert_agrees(float(at.mean_log_likelihood), row["mean_log_likelihood"], tolerance)
        if errors:
            assert_agrees(float(at.standard_error), row["standard_error"], tolerance)


def test_the_article_on_ten_rows_comes_out(mnist_store, reference):
    figures = reference("mnist_seed_protocol")
    result = dkde.sweep(
        train="train[:10]",
        valid="train[10000:10010]",
        test="test[:10]",
        source=str(mnist_store),
        bandwidths=BANDWIDTHS,
    )
    exact, published = figures["exact_10x10"], figures["published_10x10"]
    for h in BANDWIDTHS:
        mean = float(result.mean_log_likelihood.sel(bandwidth=h))
        assert_agrees(mean, exact["valid"][str(float(h))], 1e-9)
        assert mean == pytest.approx(published["valid"][str(float(h))], rel=2e-6)
    assert float(result.best_bandwidth) == published["best"]
    assert_agrees(float(result.test_mean_log_likelihood), exact["test_at_best"], 1e-9)
    assert float(result.test_mean_log_likelihood) == pytest.approx(
        published["test_at_best"], rel=2e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
def test_mnist_10000_on_10000(mnist_store, reference, precision, tolerance):
    figures = reference("mnist_seed_protocol")["exact_10k"]
    errors = precision == "float64"
    for query, rows in (("train[10000:20000]", figures["valid"]), ("test", figures["test"])):
        result = dkde.score(
            query,
            "train[:10000]",
            BANDWIDTHS,
            source=str(mnist_store),
            precision=precision,
        )
        assert_rows_agree(result, rows, tolerance, errors)
        if errors and query != "test":
            np.testing.assert_allclose(
                result.log_density.sel(bandwidth=0.2)[:5],
                figures["first_five_valid_log_density_at_0.2"],
                rtol=1e-9,
            )


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
def test_colour_pictures(cifar_store, reference, precision, tolerance):
    figures = reference("cifar_sample")
    for query, rows in (("train[1000:2000]", figures["valid"]), ("test", figures["test"])):
        result = dkde.score(
            query, "train[:1000]", BANDWIDTHS, source=str(cifar_store), precision=precision
        )
        assert_rows_agree(result, rows, tolerance, errors=precision == "float64")


@pytest.mark.slow
def test_all_of_mnist_from_idx_files(data_dir, tmp_path, reference):
    figures = reference("mnist_full")
    dkde.import_dataset(data_dir / "mnist", tmp_path / "mnist.zarr", format="idx")
    result = dkde.score(
        "test",
        "train",
        [row["bandwidth"] for row in figures["test"]],
        source=str(tmp_path / "mnist.zarr"),
    )
    assert_rows_agree(result, figures["test"], 1e-9)
    np.testing.assert_allclose(
        result.log_density.sel(bandwidth=0.17)[:5],
        figures["first_five_test_log_density_at_0.17"],
        rtol=1e-9,
    )
