"""CSV where it lies: blocks of text give the rows and the messages of files that are loaded."""

from __future__ import annotations

import gzip
import os
import pickle
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import from_url

import dkde
from dkde.datasets.formats import csv, load_split, read_source
from dkde.errors import DataSetError, DkdeError, InputError
from dkde.inputs.selectors import Catalog
from dkde.rows import csv_blocks, csv_survey, kept_readers
from dkde.rows.csv_source import CsvSource
from dkde.rows.csv_text import rows_end

pytest.importorskip("pyarrow")

rng = np.random.default_rng(8)
N = 900
X = rng.normal(size=(N, 3))
WORDS = np.array(["sea ice", "land", 'a "pipe", bent', "two\nlines"])[rng.integers(0, 4, N)]


def lines(a: int = 0, b: int = N) -> str:
    words = [word.replace('"', '""') for word in WORDS[a:b]]
    return "".join(
        f'{x!r},{y!r},"{word}",{z!r}\n'
        for (x, y, z), word in zip(X[a:b].tolist(), words, strict=True)
    )


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read any file by tasks, in blocks of about 1 kB."""
    monkeypatch.setattr(csv, "_LOADED_BYTES", -1)
    monkeypatch.setattr(csv_blocks, "_LEAST_BYTES", 2**10)
    monkeypatch.setattr(csv_survey, "_kept", {})
    kept_readers.close_readers()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "x.csv"
    found.write_text("a,b,word,c\n" + lines())
    return found


def source_of(path: Any, **options: Any) -> CsvSource:
    (part,) = Catalog(**options).rows(str(path)).parts
    assert isinstance(part.source, CsvSource)
    return part.source


def put_as(path: Path, form: str) -> Path:
    if form == "gzipped":
        zipped = path.with_name("x.csv.gz")
        zipped.write_bytes(gzip.compress(path.read_bytes()))
        return zipped
    if form == "one":
        return path
    folder = path.with_name("folder")
    folder.mkdir()
    for k, (a, b) in enumerate(pairwise([0, 1, 1, 300, 303, N])):
        (folder / f"part-{k}.csv").write_text("a,b,word,c\n" + lines(a, b))
    (folder / "_SUCCESS").touch()
    return folder if form == "folder" else folder / "part-*.csv"


FORMS = ("one", "gzipped", "folder", "pattern")


@pytest.mark.parametrize("form", FORMS)
def test_any_range_is_those_rows(path: Path, form: str, small_blocks: None) -> None:
    source = source_of(put_as(path, form))
    assert source.shape == (N, 3)
    assert len(source.blocks.sizes) > 30
    for start, stop in [(0, N), (490, 510), (5, 6), (600, 700), (700, N), (0, 3), (N - 1, N)]:
        np.testing.assert_array_equal(source.read(start, stop), X[start:stop])
    np.testing.assert_array_equal(source.read_columns(8, 30, (2, 0)), X[8:30][:, [2, 0]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(600, 890), X[600:890])
    weights = source.beside("b", "weights")
    np.testing.assert_array_equal(weights.read(3, 60), X[3:60, 1])


@pytest.mark.parametrize("form", FORMS)
def test_answers_and_checksums_are_those_of_loaded_files(
    path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(put_as(path, form))

    def answers() -> tuple[Any, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            every = dkde.score(name, name, 0.3, where="word != 'land' and c < 1", weights="w")
            return (
                Catalog().rows(name).parts[0].checksum,
                dkde.log_density(name, name, 0.3).values,
                every.log_density.values,
                dkde.describe(name)["splits"]["train"],
            )

    text = path.read_text()
    for each in [path, *path.parent.glob("*/*.csv")]:
        head, _, rest = each.read_text().partition("\n")
        each.write_text(f"{head.replace('b', 'w')}\n{rest.replace(',-', ',')}")
    if form == "gzipped":
        Path(name).write_bytes(gzip.compress(path.read_bytes()))
    assert text != path.read_text()
    loaded = answers()
    monkeypatch.setattr(csv, "_LOADED_BYTES", -1)
    monkeypatch.setattr(csv_blocks, "_LEAST_BYTES", 2**10)
    assert isinstance(Catalog().rows(name).parts[0].source, CsvSource)
    read = answers()
    assert read[0] == loaded[0]
    np.testing.assert_array_equal(read[1], loaded[1])
    np.testing.assert_array_equal(read[2], loaded[2])
    assert read[3]["rows"] == loaded[3]["rows"] == N
