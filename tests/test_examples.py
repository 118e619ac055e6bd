"""The worked examples run, give the figures that they should, and print what their pages show."""

import json
import re
import runpy
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import dkde

EXAMPLES = Path(__file__).resolve().parents[1] / "docs/examples"
NUMBER = re.compile(r"-?\d+\.?\d*")


def example(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def shown(page):
    """What a page shows as output, a text a block."""
    return re.findall(r"```text\n(.*?)```", (EXAMPLES / f"{page}.md").read_text(), re.DOTALL)


def assert_same_picture(path, other):
    """To a grey level or two, which rounding may move."""
    np.testing.assert_allclose(imread(path), imread(other), atol=0.01)


def lines_without_times(text):
    return [line for line in text.splitlines() if not re.search(r" s, mean of \d+$", line)]


@pytest.fixture(scope="module")
def reference(data_dir):
    folder = data_dir.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference figures beside {data_dir.name}")
    return lambda name: json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def mnist(data_dir):
    return str(data_dir / "mnist/mnist.pkl.gz")


@pytest.fixture(scope="module")
def cifar(data_dir):
    return str(data_dir / "cifar/cifar-100-python-layout-sample.tar.gz")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The folder that the digits' example wrote to, what it returned and what it printed."""
    out, printed = tmp_path_factory.mktemp("digits"), StringIO()
    with redirect_stdout(printed):
        found = example("digits")(["--out", str(out)])
    return out, found, printed.getvalue()


def test_the_digits_example_finds_the_gallerys_bandwidth(digits):
    out, found, _ = digits
    assert found["best"] == pytest.approx(3.79269019073, rel=0, abs=1e-9)
    assert found["new"].shape == (44, 64)
    # Where the tree is right, and where it is not.
    np.testing.assert_allclose(found["tree"][-4:], found["exact"][-4:], rtol=1e-9)
    assert abs(found["tree"] / found["exact"] - 1).max() > 0.2
    assert imread(out / "digits.png").shape[0] > 500


def test_the_digits_example_gives_the_reference_figures(digits, reference):
    figures = reference("digits_cv")["cv5"]
    expected = list(figures["exact_mean_fold_score"].values())
    np.testing.assert_allclose(digits[1]["exact"], expected, rtol=1e-9)


@pytest.mark.slow
def test_the_digits_page_shows_what_the_example_prints(digits):
    (block,) = shown("digits")
    page, printed = block.splitlines(), digits[2].splitlines()
    assert len(page) == len(printed)
    for line, other in zip(page, printed, strict=True):
        if "scikit-learn" in line:  # whose version the head of the table names
            continue
        # scikit-learn's columns, the third and fourth, move with rounding.
        table = len(NUMBER.findall(line)) == 4 and "%" in line
        columns = slice(0, 2) if table else slice(None)
        assert NUMBER.findall(line)[columns] == NUMBER.findall(other)[columns]
        assert line.endswith("*") == other.endswith("*")


@pytest.mark.slow
def test_the_digits_page_shows_the_picture(digits):
    assert_same_picture(digits[0] / "digits.png", EXAMPLES / "digits.png")


def assert_sweep(result, expected):
    """A sweep has the means {bandwidth: mean} of the reference."""
    for h, mean in expected.items():
        found = float(result.mean_log_likelihood.sel(bandwidth=float(h)))
        assert found == pytest.approx(mean, rel=1e-9)


@pytest.mark.slow
def test_kde_from_scratch_small(mnist, cifar, reference, tmp_path, capsys):
    arguments = ["--data", mnist, "--cifar", cifar, "--out", str(tmp_path)]
    found = example("from_scratch")([*arguments, "--rows", "100", "--repeats", "1"])
    figures = reference("mnist_seed_protocol")
    ten = found["mnist", 10]
    assert_sweep(ten, figures["exact_10x10"]["valid"])
    for h, mean in figures["published_10x10"]["valid"].items():
        assert float(ten.mean_log_likelihood.sel(bandwidth=float(h))) == pytest.approx(
            mean, rel=2e-6
        )
    assert float(ten.best_bandwidth) == figures["published_10x10"]["best"]
    assert float(ten.test_mean_log_likelihood) == pytest.approx(
        figures["exact_10x10"]["test_at_best"], rel=1e-9
    )
    assert_libraries(found["libraries", 10]["pixels"], "ValueError")
    both = found["libraries", 10]["pixels"]["dkde, log of mean"]
    assert both[0] == pytest.approx(both[1], rel=1e-12)
    # The page's figures of ten rows; its others are of the full size.
    printed = capsys.readouterr().out.splitlines()
    of_ten_rows = [block for block in shown("from_scratch") if " 10 " in block.splitlines()[0]]
    assert len(of_ten_rows) == 2
    for line in lines_without_times("".join(of_ten_rows)):
        assert line in printed or line.startswith("statsmodels")
    assert (tmp_path / "cifar-100.csv").read_text().startswith("bandwidth,mean_log_likelihood")
    shapes = {name: imread(tmp_path / f"{name}.png").shape for name in ("mnist", "cifar")}
    assert shapes["mnist"][0] == shapes["mnist"][1]
    assert shapes["cifar"][0] < shapes["cifar"][1]


def assert_libraries(found, scipy):
    """On pictures: one leaf is exact, SciPy and statsmodels have no answer."""
    np.testing.assert_allclose(found["  in one leaf"], found["dkde"], rtol=1e-12)
    assert found["SciPy"] == scipy
    assert (
        found["statsmodels"] in ("ValueError", "ImportError")
        or np.isnan(found["statsmodels"]).all()
    )


@pytest.mark.slow
def test_kde_from_scratch_in_full(mnist, cifar, reference, tmp_path, capsys):
    arguments = ["--data", mnist, "--cifar", cifar, "--out", str(tmp_path)]
    found = example("from_scratch")([*arguments, "--repeats", "1"])
    figures = reference("mnist_seed_protocol")["exact_10k"]
    for result, rows, at in (
        (found["mnist", 10_000], figures, 0.2),
        (found["cifar"], reference("cifar_sample"), 0.2),
    ):
        assert_sweep(result, {r["bandwidth"]: r["mean_log_likelihood"] for r in rows["valid"]})
        test = {r["bandwidth"]: r["mean_log_likelihood"] for r in rows["test"]}
        assert float(result.best_bandwidth) == at
        assert float(result.test_mean_log_likelihood) == pytest.approx(test[at], rel=1e-9)
    libraries = found["libraries", 10_000]
    assert_libraries(libraries["pixels"], "LinAlgError")
    components = libraries["components"]
    np.testing.assert_allclose(components["SciPy"], components["dkde, full"], rtol=1e-9)
    if components["statsmodels"] != "ImportError":
        np.testing.assert_allclose(components["statsmodels"], components["dkde"], rtol=1e-9)
    printed = capsys.readouterr().out.splitlines()
    for block in shown("from_scratch"):
        for line in lines_without_times(block):
            assert line in printed or line.startswith(("scikit-learn", "statsmodels"))


@pytest.mark.slow
def test_handwritten_digits_small(mnist, tmp_path):
    found = example("handwritten")(["--data", mnist, "--out", str(tmp_path), "--rows", "500"])
    assert_univariate(found["univariate"], 50)
    assert_samples(found["samples"])
    assert imread(tmp_path / "handwritten.png").shape[1] > 800


def assert_univariate(scores, n):
    assert {name: values.shape for name, values in scores.items()} == dict.fromkeys(
        ("euclidean", "manhattan", "chebyshev"), (n,)
    )
    # No two bytes differ by more than 255.
    top = -np.log(2000 * np.sqrt(2 * np.pi))
    lowest = top - 255**2 / (2 * 2000**2)
    assert scores["chebyshev"].min() >= lowest - 1e-12
    assert scores["chebyshev"].max() < top
    assert (scores["manhattan"] < scores["euclidean"]).all()


def assert_samples(samples):
    """The noise is the same at each scale, times the root of the scale."""
    base = (samples[1.0] - samples[0.01]) / (1 - 0.1)
    np.testing.assert_allclose((samples[4.0] - samples[1.0]) / (2 - 1), base, atol=1e-9)


@pytest.mark.slow
def test_handwritten_digits_in_full(mnist, tmp_path, capsys):
    found = example("handwritten")(["--data", mnist, "--out", str(tmp_path)])
    assert_univariate(found["univariate"], 1000)
    assert_samples(found["samples"])
    assert capsys.readouterr().out.strip() == "\n".join(shown("handwritten")).strip()
    assert_same_picture(tmp_path / "handwritten.png", EXAMPLES / "handwritten.png")


def test_pictures_are_small():
    assert all(path.stat().st_size < 300_000 for path in EXAMPLES.glob("*.png"))


def test_the_index_names_every_page():
    index = (EXAMPLES / "README.md").read_text()
    pages = {path.name for path in EXAMPLES.glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\(([a-z_]+\.md)\)", index))
    for page in pages:
        text = (EXAMPLES / page).read_text()
        assert all((EXAMPLES / name).exists() for name in re.findall(r"\]\((\w+\.png)\)", text))


def test_shifted_rows_are_the_same_in_any_range():
    made = runpy.run_path(str(EXAMPLES / "shifted_mnist.py"))
    pictures = np.arange(1, 1 + 50 * 784, dtype=np.int64).reshape(50, 784)
    pictures = (pictures % 255 + 1).astype(np.uint8)
    rows, chosen = made["shifted"](pictures, 0, 500, seed=3)
    some, chosen_of_some = made["shifted"](pictures, 123, 321, seed=3)
    np.testing.assert_array_equal(some, rows[123:321])
    np.testing.assert_array_equal(chosen_of_some, chosen[123:321])
    assert (made["shifted"](pictures, 0, 500, seed=4)[0] != rows).any()
    shifts = set()
    for row, picture in zip(rows.reshape(-1, 28, 28), pictures[chosen], strict=True):
        inside = np.argwhere(row)
        low, high = inside.min(axis=0), inside.max(axis=0)
        shift = np.where(low > 0, low, high - 27)
        shifts.add(tuple(shift.tolist()))
        whole = np.zeros((32, 32), np.uint8)
        whole[2 + shift[0] : 30 + shift[0], 2 + shift[1] : 30 + shift[1]] = picture.reshape(28, 28)
        np.testing.assert_array_equal(row, whole[2:30, 2:30])
    assert shifts == {(y, x) for y in range(-2, 3) for x in range(-2, 3)} - {(0, 0)}


@pytest.mark.slow
def test_shifted_rows_of_mnist_are_stored(data_dir, tmp_path, capsys):
    made = runpy.run_path(str(EXAMPLES / "shifted_mnist.py"))
    made["main"](str(data_dir / "mnist/mnist.pkl.gz"), str(tmp_path / "s.zarr"), 2500)
    assert "2500 rows in" in capsys.readouterr().out
    split = dkde.describe(tmp_path / "s.zarr")["splits"]["train"]
    assert (split["rows"], split["scale"], split["labels"]) == (2500, 1 / 256, {"label": 10})
