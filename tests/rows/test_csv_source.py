"""CSV where it lies: blocks of text give the rows and the messages of files that are loaded."""

from __future__ import annotations

import gzip
import io
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
from dkde.rows.csv_text import Text, rows_end, uncommented

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


@pytest.mark.sampled(4)
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


@pytest.mark.slow
@pytest.mark.parametrize("form", ["gzipped", "folder"])
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


# ---- nothing is misread ----

ODD = {
    "a mark": b"\xef\xbb\xbfa,b\n1,2\n3,4\n",
    "a mark before comments": b"\xef\xbb\xbf# c\na,b\n1,2\n3,4\n",
    "a mark among the rows": b"a,b\n1,2\n\xef\xbb\xbf3,4\n",
    "a mark before a name of two lines": b'\xef\xbb\xbf"a\nb",c\n1,2\n3,4\n',
    "a mark before an open quote": b'\xef\xbb\xbf"a,b\n1,2\n3,4\n"x\ny"z,1\n',
    "a mark before blanks": b"\xef\xbb\xbf  1  2\n3 4\n",
    "line ends of Windows": b"a,b\r\n1,2\r\n3,4\r\n",
    "line ends of old": b"a,b\r1,2\r3,4\r",
    "no last line end": b"a,b\n1,2\n3,4",
    "nothing": b"",
    "blank lines alone": b"\n\n\n",
    "a header alone": b"a,b\n",
    "a header without line end": b"a,b",
    "a header and comments": b"# c\na,b\n# d\n",
    "two columns of a name": b"a,a\n1,2\n",
    "no header": b"1,2\n3,4\n",
    "a header of two lines": b'"a\nb",c\n1,2\n',
    "a second header": b"a,b\n1,2\na,b\n3,4\n",
    "thousands": b'a,b\n"1,000",2\n"2,000",3\n',
    "thousands later": b'a,b\n1,2\n"2,000",3\n',
    "infinities": b"a,b\ninf,-inf\n1,2\n+inf,Infinity\nINF,4\n",
    "missing": b"a,b\nnan,NaN\nNA,N/A\nnull,\n1,NULL\n-nan,#N/A\n",
    "a word": b"a,b\n1,None\n2,-\n",
    "numbers as they are written": b"a,b\n+1,.5\n1.,1e5\n1e400,1e-400\n 1, 2\n3 ,4 \n",
    "cells missing": b"a,b\n1,2\n3\n",
    "cells too many": b"a,b\n1,2\n3,4\n5,6,7\n",
    "a separator at the end": b"a,b,\n1,2,\n3,4,\n",
    "blank lines": b"a,b\n\n1,2\n\n\n3,4\n\n",
    "blank lines of one column": b"a\n1\n\n2\n",
    "text later": b"a,b\n1,2\n3,x\n",
    "a byte 0": b"a,b\n1,2\n3,\x004\n",
    "semicolons": b"a;b\n1;2\n3;4\n",
    "decimal commas": b"a;b\n1.5;2\n1,5;2\n",
    "blanks": b" a  b \n 1   2\n3 4  \n",
    "quoted": b'"a","b"\n"1","2"\n"3","4"\n',
    "an open quote": b'a,b\n1,2\n3,"4\n5,6\n',
    "a quote that swallows": b'a,b\n1,"x\n2,y\n3,"z"\n',
    "quotes within cells": b'a,b,w\n1,2,5" pipe\n3,4,"x"\n5,6,"7"" 8"\n',
    "lines within cells": b'a,w\n1,"x\ny"\n2,"z\r\n\r\nq"\n',
    "a large integer": b"a,b\n1,2\n9007199254740993,3\n",
    "a large integer below 0": b"a,b\n1,2\n3,-9007199254740993\n",
    "latin1 as text": "a,w\n1,é\n2,ü\n".encode("latin1"),
    "latin1 as a number": "a,w\n1,1\n2,ü\n".encode("latin1"),
    "comments among rows": b"# x y\n1 2\n# a break\n  # and more\n3 4\n# end",
    "quotes in comments": b'# say "hi\na,b\n1,2\n# "oops\n3,4\n',
    "times": b"t,a\n2020-01-01,1\n2020-01-02,2\n",
    "truths": b"t,a\ntrue,1\nfalse,2\n,3\n",
    "a truth that is none": b"t,a\n" + b"true,1\n" * 100 + b"maybe,2\n",
}


def outcome(path: Path) -> Any:
    """Return the rows of a file and what is said of them, or the error."""
    chosen = ["t"] if path.read_bytes().startswith(b"t") else None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            source = read_source(path, columns=chosen)
            (split,) = source.splits
            found: Any = load_split(split).tolist(), split.features, source.checksum
            found = (repr(found), source.left_out, source.converted)
        except DkdeError as error:
            found = type(error), str(error)
    return found, {str(each.message) for each in said}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_odd_text_is_read_or_refused_as_loaded_text_is(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    loaded = outcome(path)
    monkeypatch.setattr(csv, "_LOADED_BYTES", -1)
    for size in (1, 5, 2**20):
        monkeypatch.setattr(csv_blocks, "_LEAST_BYTES", size)
        monkeypatch.setattr(csv_survey, "_kept", {})
        assert outcome(path) == loaded


def test_odd_text_is_what_it_is(tmp_path: Path, small_blocks: None) -> None:
    def rows(name: str) -> Any:
        (tmp_path / "x.csv").write_bytes(ODD[name])
        return load_split(read_source(tmp_path / "x.csv").splits[0])

    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(rows("infinities"), [[inf, -inf], [1, 2], [inf, inf], [inf, 4]])
    np.testing.assert_array_equal(rows("missing"), [*[[nan, nan]] * 3, [1, nan], [nan, nan]])
    for name in ("a mark", "a mark before comments", "a mark before a name of two lines",
                 "a mark before blanks", "line ends of Windows", "line ends of old",
                 "no last line end", "blank lines", "quoted"):  # fmt: skip
        np.testing.assert_array_equal(rows(name), [[1, 2], [3, 4]])
    for name in ("a mark among the rows", "text later", "thousands later", "cells missing"):
        with pytest.raises(DataSetError, match=r"x\.csv: (column '.', )?row 2"):
            rows(name)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='",\nx#1', max_size=40), st.sampled_from([",", ";"]), st.booleans())
def test_rows_end_where_no_quote_is_open(text: str, separator: str, has_comments: bool) -> None:
    def is_closed(part: str) -> bool:
        told = part.encode()
        if has_comments:
            told, _ = uncommented(told, has_rows=True)
        try:
            return bool(Text(io.BytesIO(told), Path("x"), separator).read(1000) or 1)
        except DataSetError:
            return False

    end, is_open = rows_end(text.encode(), separator, has_comments=has_comments)
    assert end == 0 or text[end - 1] == "\n"
    if '"' not in text:
        assert end == text.rfind("\n") + 1
    # A text whose quotes are closed is cut into two whose quotes are closed.
    if is_closed(text) and not is_open:
        assert is_closed(text[:end])
        assert is_closed(text[end:])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,x,oops\n", r"column 'c', row 801: 'oops' is no number"),
        ("1,2,x\n", r"row 801 has 3 columns, and the first line has 4"),
        ("1,2,x,9007199254740993\n", r"column 'c', row 801, is 9007199254740993"),
        ('1,2,"x,3\n', r"quote that opens a cell in line \d+ is not closed"),
    ],
)
def test_what_is_wrong_far_below_is_told_with_its_row(
    path: Path, line: str, message: str, small_blocks: None
) -> None:
    path.write_text("a,b,word,c\n" + lines(0, 800) + line + lines(800))
    with pytest.raises(DkdeError, match=message) as caught:
        source_of(path)
    assert "\n" not in str(caught.value)


def test_columns_that_no_pass_checked_are_checked(path: Path, small_blocks: None) -> None:
    path.write_text("a,b,c\n1,2,3\n4,5,6\n7,x,8\n")
    assert source_of(path, features=["a", "c"]).shape == (3, 2)
    with pytest.raises(DataSetError, match="column 'b', row 3: 'x' is no number"):
        source_of(path, features=["b"])
    with pytest.raises(DataSetError, match="column 'b', row 3: 'x' is no number"):
        source_of(path, features=["a", "c"]).beside("b", "weights")
    with pytest.raises(InputError, match="has no column 'q'"):
        dkde.log_density(str(path), str(path), 1.0, features=["a"], where="q > 1")


# ---- runs ----


def test_a_file_that_changed_or_vanished_is_one_line(path: Path, small_blocks: None) -> None:
    source = source_of(path)
    source.read(0, 9)
    path.write_text("a,b,word,c\n" + lines(1))
    with pytest.raises(DataSetError, match="was changed after it was opened"):
        source.read(9, 20)
    path.unlink()
    with pytest.raises(DataSetError, match="was removed after it was opened"):
        source.read(0, 9)


def test_a_file_that_changes_while_it_is_first_read_is_refused(
    path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*args: Any) -> Any:
        for k, batch in enumerate(csv_blocks.survey(*args)):
            if k == 3:
                path.write_text("a,b,word,c\n" + lines(1))
            yield batch

    monkeypatch.setattr(csv_survey, "survey", slow)
    with pytest.raises(DataSetError, match="was changed after it was opened"):
        read_source(path)


def test_a_checksum_that_was_interrupted_is_made_again(
    path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_source(path).checksum
    table = csv_survey.TextTable(*_table_of(path), is_named=False)
    with monkeypatch.context() as broken:
        broken.setattr(type(table.files), "open", lambda *_: _Broken(path.open("rb")))
        with pytest.raises(OSError, match="no more"):
            table.checksum()
    assert table.checksum() == expected


class _Broken:
    """A file that can be read once."""

    def __init__(self, file: Any) -> None:
        self._file, self._n = file, 0

    def __enter__(self) -> _Broken:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, n: int) -> Any:
        self._n += 1
        if self._n > 1:
            raise OSError("no more")
        return self._file.read(n)


def _table_of(path: Path) -> tuple[Any, ...]:
    (table,) = (each for each in csv_survey._kept.values() if path.name in each.files.names)
    return table.files, table._layouts, table._columns


@pytest.mark.slow
def test_a_run_begun_when_the_file_was_loaded_goes_on_and_is_verified(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = path.read_text().replace(",-", ",").replace("word", "w")
    path.write_text(text)

    def score() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dkde.score(
                f"{path}[:40]", f"{path}[40:]", 0.3, features=["a", "c"], weights="b",
                output=tmp_path / "r.zarr",
            )  # fmt: skip

    monkeypatch.setattr(csv_blocks, "_LEAST_BYTES", 2**10)
    monkeypatch.setattr(csv, "_LOADED_BYTES", 10**9)
    with dkde.init_only():
        score()
    monkeypatch.setattr(csv, "_LOADED_BYTES", -1)
    done = score()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert dkde.verify(tmp_path / "r.zarr")
        monkeypatch.setattr(csv, "_LOADED_BYTES", 10**9)
        expected = dkde.score(
            f"{path}[:40]", f"{path}[40:]", 0.3, features=["a", "c"], weights="b"
        )  # fmt: skip
    np.testing.assert_array_equal(done.log_density, expected.log_density)
    monkeypatch.setattr(csv, "_LOADED_BYTES", -1)
    path.write_text(text.replace("1", "2"))
    with pytest.raises(DkdeError, match="was begun otherwise"):
        score()


@pytest.mark.slow
def test_an_import_is_that_of_a_loaded_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def imported(name: str) -> Any:
        with pytest.warns(UserWarning, match="left out: word"):
            dkde.import_dataset(path, tmp_path / name)
        dkde.import_dataset(path, tmp_path / f"l{name}", columns=["a", "c"], label="word")
        return [dkde.describe(tmp_path / each) for each in (name, f"l{name}")]

    loaded = imported("a.zarr")
    monkeypatch.setattr(csv, "_LOADED_BYTES", -1)
    monkeypatch.setattr(csv_blocks, "_LEAST_BYTES", 2**10)
    read = imported("b.zarr")
    for one, other in zip(loaded, read, strict=True):
        assert one["source_checksum"] == other["source_checksum"] is not None
        a, b = one["splits"]["train"], other["splits"]["train"]
        assert (a["checksum"], a["labels"]) == (b["checksum"], b["labels"])


@pytest.mark.slow
def test_a_bucket_is_as_a_folder(bucket: str, tmp_path: Path) -> None:
    store = from_url(bucket)
    for k in range(3):
        text = "a,b,word,c\n" + lines(300 * k, 300 * k + 300)
        obstore.put(store, f"t/part.{k}.csv", text.encode())
        obstore.put(store, f"z/part.{k}.csv.gz", gzip.compress(text.encode()))
    obstore.put(store, "t/_SUCCESS", b"")
    for name in ("t", "t/*.csv", "z", "z/part.*.gz"):
        source = source_of(f"{bucket}/{name}")
        np.testing.assert_array_equal(source.read(290, 310), X[290:310])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(5, 6), X[5:6])
    obstore.put(store, "t[1]/x[2].csv", b"a,b\n1,2\n")  # a name that is there is no pattern
    for name in ("t[1]/x[2].csv", "t[[]1]/*", "t?1?/x*.csv"):
        assert dkde.describe(f"{bucket}/{name}")["splits"]["train"]["rows"] == 1
    source = source_of(f"{bucket}/t/part.1.csv")
    np.testing.assert_array_equal(source.read(0, 300), X[300:600])
    with pytest.warns(UserWarning, match="left out"):
        dkde.import_dataset(f"{bucket}/t", tmp_path / "z")
    assert dkde.describe(f"{bucket}/t")["splits"]["train"]["rows"] == N
    kept_readers.close_readers()
    obstore.put(store, "t/part.1.csv", ("a,b,word,c\n" + lines(301, 601)).encode())
    with pytest.raises(DataSetError, match="was changed after it was opened"):
        source.read(0, 9)
    with pytest.raises(DataSetError, match="there is no such file"):
        source_of(f"{bucket}/none.csv")


def test_a_folder_of_other_files_too_is_told(path: Path, small_blocks: None) -> None:
    folder = put_as(path, "folder")
    (folder / "notes.txt").write_text("as they are")
    with pytest.warns(UserWarning, match=r"notes\.txt is no CSV by its name"):
        assert source_of(folder).shape == (N, 3)
    (folder / "store.zarr").mkdir()
    (folder / "store.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(DataSetError, match="a folder of Zarr stores; name one"):
        source_of(folder)


def test_partitions_are_told_not_to_be_columns(path: Path, small_blocks: None) -> None:
    folder = path.parent / "h" / "year=2020"
    folder.mkdir(parents=True)
    path.rename(folder / "x.csv")
    with pytest.warns(UserWarning, match="folders are named by year, which are columns of Parquet"):
        assert source_of(folder.parent).shape == (N, 3)
