"""The pages' code runs, and prints what they show; their commands parse, their links lead on."""

import ast
import json
import re
import shlex
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
import xarray as xr
import yaml
from dkde_cli.config import steps_of
from dkde_cli.main import cli
from matplotlib import pyplot
from matplotlib.image import imread, imsave
from pages import PAGES, ROOT, Block, Session

import dkde

# Files that pages have of MNIST, or make of it: the blocks that name them take its pictures.
ON_MNIST = re.compile(r"\bmnist\.|\bgenerated\.|\bpixels\.zarr|\bcifar[\w-]*\.|\bparts\.zarr")

# Blocks of Python that are compiled and no more.
NOT_RUN = {
    'Client("tcp://scheduler:8786")': "needs a scheduler; tests/workers/test_cluster.py has one",
    "from dask_kubernetes": "needs Kubernetes",
    "from dask_gateway": "needs a Gateway, and Coiled's account",
    "from airflow": "needs Airflow",
}
# `dkde` lines that are parsed and no more.
ONLY_PARSED = {
    r"(s3|gs|az)://": "needs a bucket; tests/runs/test_remote.py has one",
    r"--cluster ": "needs a batch queue; tests/workers/test_slurm.py has one",
    r"--scheduler|…": "needs a scheduler; tests/workers/test_cluster.py has one",
    r"--source ": "needs data that were moved; tests/inputs/test_moved.py has some",
    r"dkde (repair|unlock) ": "needs a run that is not complete; tests/runs/test_run_states.py",
    r"import counts\.npz": "needs a table of zeros; tests/datasets/test_bombs.py has such",
    r"sweep cifar\.zarr": "needs CIFAR-100 itself, of which tests have a stand-in",
}
# What else stands in a shell's blocks, and is left alone.
OTHERS = {
    r"python docs/examples/": "tests/test_examples.py runs the examples",
    r"python benchmarks/": "tests/test_benchmarks.py runs them, small",
    r"(python -m )?pip install": ".ci/run installs; the extras are looked up",
    r"python -m (venv|pytest|sphinx)|\. \.venv|ruff|mypy|\.ci/run": ".ci/run does these",
    r"\.ci/oldest": "a workflow runs it",
    r"JOB=|sbatch|qsub": "needs a batch queue; tests/workers/test_slurm.py has one",
    r"export DKDE_UNPACK_LIMIT=": "tests/datasets/test_bombs.py sets it",
    r"docker |conda ": "needs Docker, or conda",
    r"dask (scheduler|worker)": "tests/workers/test_cluster.py starts them",
}
# Output that stands below no command, by its first line.
NOT_COMPARED = {
    "digits, 360 x 1078 x 64": "benchmarks/exactness.py's, with scikit-learn's errors",
    "mnist.zarr, 10000 x 10000 x 784, 2 threads": "times, of benchmarks/roofline.py",
    "1000000 rows; seconds, and in brackets seconds of processor": "times, of benchmarks/maps.py",
    "64 workers, 10000 blocks: 198.4 s": "times, of benchmarks/simulated.py",
    "10 blocks of 4000 rows, 8 bandwidths": "times, of benchmarks/two_workers.py",
    "8 workers, 1000 blocks of 1000 rows, the same to the last bit": "times: benchmarks/kills.py",
    "digits, 1797 x 15, 20 bandwidths, 5 folds": "times, of benchmarks/selection.py",
    "sweep, 10000 x 10000 x 784, 8 bandwidths": "times, of benchmarks/runs.py",
    "R.zarr.run/": "files and folders of a run; tests/runs/test_place.py has them",
}
DOCKER = {"FROM", "RUN", "COPY", "USER", "WORKDIR", "ENTRYPOINT"}
FIGURES = sorted((ROOT / "docs/figures").glob("*.png"))
EXAMPLES = "docs/examples/"  # whose output tests/test_examples.py compares


def every(wanted=lambda block: True):
    found = [block for page in PAGES for block in pages.blocks(page)]
    return [pytest.param(block, id=str(block)) for block in found if wanted(block)]


def has_commands(block: Block) -> bool:
    return block.language == "sh"


def is_run(words: list[str]) -> bool:
    line = " ".join(words)
    return words[0] == "dkde" and not any(re.search(kind, line) for kind in ONLY_PARSED)


@pytest.mark.parametrize("block", every(has_commands))
def test_commands_are_known(block):
    """Each is dkde's, and parses, or is among those that are left alone."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for words in block.commands:
        line = " ".join(words)
        if words[0] == "dkde":
            pages.parse(words)
        else:
            assert any(re.match(kind, line) for kind in OTHERS), line
        for names in re.findall(r"(?:dkde|\.)\[([a-z,]+)\]", line):
            assert set(names.split(",")) <= set(extras["optional-dependencies"]), line


@pytest.mark.parametrize("block", every(lambda block: not has_commands(block)))
def test_other_blocks_are_known(block):
    if block.language == "python":
        ast.parse(block.text)
    elif block.language == "yaml":
        assert yaml.safe_load(block.text)
    elif block.language == "toml":
        assert steps_of(block.text, str(block), cli.commands)
    elif block.language == "dockerfile":
        assert {line.split()[0] for line in instructions(block)} <= DOCKER
    elif block.language in ("bash", "none"):
        found = [line for line in block.text.splitlines() if re.search(r"\bdkde [a-z]", line)]
        assert found
        for line in found:
            words = re.search(r"\bdkde [^\"&]*", re.sub(r"[{}]", "", line))[0]
            pages.parse(shlex.split(words.replace("&", "")))
    elif block.language == "json":
        assert json.loads(block.text)
    elif block.language == "text":
        first = block.text.splitlines()[0]
        assert first in NOT_COMPARED or block.page.startswith(EXAMPLES), first
    else:
        assert block.language == "{eval-rst}"


def instructions(block: Block) -> list[str]:
    return [line for line in block.text.splitlines() if line and not line.startswith(" ")]


def test_what_is_excused_is_there():
    found = [block for page in PAGES for block in pages.blocks(page)]
    text = "\n".join(block.text for block in found)
    assert all(snippet in text for snippet in [*NOT_RUN, *NOT_COMPARED])
    commands = [" ".join(words) for block in found for words in block.commands]
    for kind in [*ONLY_PARSED, *OTHERS]:
        assert any(re.search(kind, line) for line in commands), kind


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Blocks run in an empty folder, and figures stay out of sight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    pyplot.switch_backend("agg")
    yield Session()
    pyplot.close("all")


def begun(name: str, output: str = "R.zarr") -> None:
    """A run of the digits; of the page on clusters only its beginning, which scripts are for."""
    call = partial(
        dkde.sweep, train="train", valid="valid", test="test", bandwidths=[1.0, 2.0, 4.0],
        source="digits", output=output,
    )  # fmt: skip
    if name == "clusters.md":
        with dkde.init_only():
            call(block_rows=3)
    else:
        call()


def tables() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=30) for name in ("longitude", "latitude", "depth")}
    kind = np.array(["a", "b"])[rng.integers(2, size=30)]
    lines = [",".join([*values, "kind"])]
    lines += [",".join(map(str, row)) for row in zip(*values.values(), kind, strict=True)]
    Path("points.csv").write_text("\n".join(lines) + "\n")
    Path("y.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    Path("points").mkdir()
    for path in ("points/1.parquet", "points/2.parquet", "x.parquet"):
        parquet.write_table(pa.table(values), path)
    seen = {name: rng.uniform(size=30) for name in ("x", "y", "w")}
    for year in (2019, 2020):
        Path(f"obs/year={year}").mkdir(parents=True)
        parquet.write_table(pa.table(seen), f"obs/year={year}/0.parquet")
    parquet.write_table(pa.table(seen), "new.parquet")
    events = [f"{x},{y},{k}" for x, y, k in zip(*rng.normal(size=(2, 30)), kind, strict=True)]
    Path("events").mkdir()
    for path, rows in (("events.csv", events), ("events/1.csv", events), ("new.csv", events[::-1])):
        Path(path).write_text("\n".join(["x,y,kind", *rows]) + "\n")


def points() -> None:
    rng = np.random.default_rng(0)
    values = {
        "lat": rng.normal(30, 5, 1000),
        "lon": rng.normal(0, 5, 1000),
        "depth": np.where(np.arange(1000) % 50, rng.exponential(40, 1000), np.nan),
        "magnitude": 4 + rng.exponential(0.4, 1000),
    }
    table = xr.Dataset({name: ("point", column) for name, column in values.items()})
    table.to_zarr("points.zarr", consolidated=False)
    table.to_dataframe().to_csv("points.csv", index=False)
    axes = {"lat": np.arange(15.0, 46), "lon": np.arange(-15.0, 16)}
    xr.Dataset(coords=axes).to_netcdf("grid.nc")


def versioned() -> dict[str, Any]:
    """A repository of Icechunk with a tag, references of kerchunk, and query rows."""
    icechunk, hdf = pytest.importorskip("icechunk"), pytest.importorskip("kerchunk.hdf")
    rows = np.random.default_rng(1).normal(size=(40, 2))
    dataset = xr.Dataset({"x": ("row", rows[:, 0]), "y": ("row", rows[:, 1])})
    dataset.to_netcdf("rows.nc")
    Path("references.json").write_text(json.dumps(hdf.SingleHdf5ToZarr("rows.nc").translate()))
    icechunk.set_logs_filter("error")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage("rows.icechunk"))
    writer = repository.writable_session("main")
    dataset.to_zarr(writer.store, consolidated=False)
    repository.create_tag("v1", writer.commit("rows"))
    return {"repository": repository, "query": rows[:9]}


def prepare(page: str, session: Session) -> None:
    """What a page takes for given, MNIST aside."""
    name = Path(page).name
    if name in ("runs.md", "clusters.md"):
        begun(name)
    if name == "runs.md":
        (toml,) = [block for block in pages.blocks(page) if block.language == "toml"]
        Path("sweep.toml").write_text(toml.text)
    elif name == "README.md":
        points()
    elif name == "data-sets.md":
        tables()
        rng = np.random.default_rng(0)
        session.names |= {
            "dkde": dkde,
            "days": range(3),
            "read": lambda day: rng.normal(size=(9, 3)),
            "xr": xr,
            **versioned(),
        }


def generated(mnist: Path) -> None:
    """Rows that are generated, in a file and in a data set: training pictures with noise."""
    rows = dkde.sample("train", 0.2, 12_000, source=str(mnist), random_state=0)
    np.save("generated.npy", rows.astype(np.float32))
    dkde.import_dataset("generated.npy", "generated.zarr", index=False)


def prepare_mnist(page: str, text: str, data_dir: Path, mnist: Path) -> None:
    """MNIST, and what is made of it, unless the page makes it."""
    Path("mnist.pkl.gz").symlink_to(data_dir / "mnist/mnist.pkl.gz")
    Path("cifar-100-python.tar.gz").symlink_to(
        data_dir / "cifar/cifar-100-python-layout-sample.tar.gz"
    )
    if "dkde import mnist.pkl.gz mnist.zarr" not in text:
        Path("mnist.zarr").symlink_to(mnist)
    if "generated." in text:
        generated(mnist)
    if "s.zarr::train" in text:
        dkde.import_dataset(data_dir / "mnist/mnist.pkl.gz", "s.zarr")


def run(page: str, session: Session, wanted) -> None:
    for block in pages.blocks(page):
        excused = any(snippet in block.text for snippet in NOT_RUN)
        if block.language not in ("sh", "python") or excused or not wanted(block):
            continue
        session.run(block, [words for words in block.commands if is_run(words)])
    if page == "docs/index.md":  # which shows a picture of the gallery
        return
    for figure in re.findall(r"!\[.*?\]\((?:\.\./)?figures/(.*?)\)", (ROOT / page).read_text()):
        pages.assert_alike(Path(figure), ROOT / "docs/figures" / figure)


@pytest.mark.sampled(15)
@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.name)
def test_a_figure_without_its_subject_is_another(path, tmp_path):
    shown = imread(path)[..., :3]
    pages.assert_alike(path, path)
    height, width = shown.shape[:2]
    subject = np.zeros((height, width), bool)  # and not the legend, or the scale of colours
    subject[: height * 2 // 3, : width * 9 // 10] = True
    subject &= np.ptp(shown, axis=-1) > 0.1
    assert subject.any()
    erased = shown.copy()
    erased[subject] = shown[height // 2, width // 2]
    imsave(tmp_path / "erased.png", erased)
    with pytest.raises(AssertionError):
        pages.assert_alike(tmp_path / "erased.png", path)


def runnable(page: str, *, mnist: bool) -> bool:
    return any(
        bool(ON_MNIST.search(block.text)) == mnist
        and (block.language == "python" or any(map(is_run, block.commands)))
        for block in pages.blocks(page)
        if block.language in ("sh", "python")
        and not any(snippet in block.text for snippet in NOT_RUN)
    )


@pytest.mark.parametrize(
    "page",
    [
        page if page == "README.md" else pytest.param(page, marks=pytest.mark.slow)
        for page in PAGES
        if runnable(page, mnist=False)
    ],
)
def test_a_page_runs(page, session):
    """But for the blocks that need MNIST."""
    prepare(page, session)
    run(page, session, lambda block: not ON_MNIST.search(block.text))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page, mnist=True)])
def test_a_page_runs_on_mnist(page, session, data_dir, mnist_store):
    text = (ROOT / page).read_text()
    prepare_mnist(page, text, data_dir, mnist_store)
    if page != "docs/clusters.md":  # which begins its run itself
        prepare(page, session)
    run(page, session, lambda block: True)


def anchors(page: Path) -> set[str]:
    """Of headings, as the web pages of repositories have them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_on(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = ((ROOT / page).parent / path) if path else ROOT / page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs/index.md").read_text()
    pages_there = {str(path.name) for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {*re.findall(r"\]\(([\w-]+\.md)\)", index)} == pages_there


def test_the_extras_are_listed():
    page = (ROOT / "docs/quick-start.md").read_text()
    table = page.partition("| extra |")[2].partition("\n\n")[0]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first = [line.split("|")[1] for line in table.splitlines()[2:]]
    listed = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == sorted(extras["optional-dependencies"])


def test_the_reference_has_every_public_name():
    listed = re.findall(r"^   (\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(dkde.__all__)
