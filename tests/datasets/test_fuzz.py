"""Bytes and metadata changed at random: read to the same values, or refused in one line.

Every case is read in a child process that may take 1 GiB more than it did before, and 5 s; it
reports what it read, or what was raised. Nothing that a file holds may run there.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

MEMORY = 2**30
# Of the processor: other processes may have it in between.
SECONDS = 5
CASES = int(os.environ.get("DKDE_FUZZ_CASES", "30"))  # of every format
Files = dict[str, bytes]


class Changed(dict[str, bytes]):
    """Files, shown by their sizes: Hypothesis' blob brings them back."""

    def __repr__(self) -> str:
        return str({name: len(data) for name, data in self.items()})


# ---- in the child ----


def serve() -> None:
    """Answer cases from stdin until it ends."""
    import resource
    import warnings

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints is no answer
    warnings.simplefilter("ignore")
    import dask

    dask.config.set(scheduler="synchronous")
    signal.signal(signal.SIGPROF, _too_slow)
    ran: list[str] = []
    sys.addaudithook(lambda event, arguments: _watch(event, arguments, ran))
    for n_done, (files, entry, kind) in enumerate(iter(_received, None), 1):
        ran.clear()
        scratch = Path(tempfile.mkdtemp(prefix="fuzz"))
        try:
            for name, data in files.items():
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).write_bytes(data)
            outcomes = {
                reader.__name__: _outcome(reader, scratch / entry, scratch)
                for reader in READERS[kind]
            }
        finally:
            shutil.rmtree(scratch)
        if ran:
            outcomes["ran"] = ("escaped", ran[0])
        pickle.dump(outcomes, answers)
        answers.flush()
        # The first cases are whole files: what is imported late, and threads, are there then.
        if n_done == 2 * len(SEEDS):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            soft = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (soft, soft))


def _received() -> Any:
    try:
        return pickle.load(sys.stdin.buffer)
    except EOFError:
        return None


FORBIDDEN = {
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "subprocess.Popen", "socket.connect", "shutil.unpack_archive",
}  # fmt: skip


def _watch(event: str, arguments: Any, ran: list[str]) -> None:
    is_trial = event == "subprocess.Popen" and "dkde.stores.child" in str(arguments)  # dkde's own
    if event in FORBIDDEN and not is_trial:
        ran.append(f"{event} {str(arguments)[:200]}")


class TooSlowError(BaseException):
    """No Exception: nobody may take it for damage."""


def _too_slow(*_: Any) -> None:
    raise TooSlowError


def _outcome(reader: Callable[..., Any], path: Path, scratch: Path) -> tuple[str, Any]:
    from dkde.errors import DkdeError

    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return "read", reader(path, scratch)
    except DkdeError as error:
        link: BaseException | None = error
        while link is not None:
            if isinstance(link, MemoryError):
                return "escaped", f"more than 1 GiB: {error}"
            link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
        return "refused", str(error)
    except BaseException:
        return "escaped", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _float_rows(values: Any) -> Any:
    return np.asarray(values, dtype=np.float64)


def by_catalog(path: Path, scratch: Path) -> Any:
    """Every split and what is said of its rows, by selector."""
    from dkde.inputs.selectors import Catalog

    catalog = Catalog()
    found = {}
    for name, part in catalog.splits(str(path)).items():
        rows = catalog.rows(f"{path}::{name}")
        labels = rows.coordinates()
        assert all(values.shape == (rows.n_rows,) for values in labels.values())
        assert all(values.dtype.kind in "iu" for values in labels.values())
        values = rows.read(0, rows.n_rows, decode=True)
        assert values.shape == (len(part), rows.n_features)
        assert part.value_range is None or len(part.value_range) == 2
        found[name] = (_float_rows(values), labels)
    return found


def by_xarray(path: Path, scratch: Path) -> Any:
    """Every split of a data set through `open_dataset`."""
    from dkde.datasets.dataset import open_dataset
    from dkde.errors import DataSetError

    found = {}
    for name, node in open_dataset(path).children.items():
        try:
            arrays = {key: node[key].values for key in node.data_vars}
        except (OSError, ValueError, RuntimeError) as error:
            # A chunk is read when the user computes, and Zarr's own error says what is wrong.
            raise DataSetError(str(error)) from error
        found[name] = (_float_rows(arrays.pop("x")), arrays)
    return found


def imported(path: Path, scratch: Path) -> Any:
    """What a data set holds after the import; only what is read at all need be imported."""
    from dkde.inputs.importing import import_dataset

    import_dataset(path, scratch / "imported.zarr")
    first, second = (
        by_catalog(scratch / "imported.zarr", scratch),
        by_xarray(scratch / "imported.zarr", scratch),
    )
    for (a, _), (b, _) in zip(first.values(), second.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    return first


READERS: dict[str, tuple[Callable[..., Any], ...]] = {
    "file": (by_catalog, imported),
    "store": (by_catalog, by_xarray),
}


# ---- the files before they are changed ----

_rng = np.random.default_rng(11)
PIXELS = _rng.integers(0, 256, (6, 5, 4), dtype=np.uint8)
ROWS = PIXELS.reshape(6, 20)
REAL = _rng.normal(size=(6, 4)).astype(np.float32)
CIFAR = _rng.integers(0, 256, (3, 3072), dtype=np.uint8)


def idx(x: Any) -> bytes:
    return struct.pack(f">BBBB{x.ndim}I", 0, 0, 8, x.ndim, *x.shape) + x.astype("u1").tobytes()


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def npy(x: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def npz_of(members: Files, **options: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def tar_of(members: Files) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"cifar/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def mnist(protocol: int) -> bytes:
    x = ROWS.astype(np.float32) / 256
    return pickle.dumps(tuple((x[i : i + 2], np.arange(2)) for i in (0, 2, 4)), protocol)


def cifar_100() -> Files:
    parts = {"train": CIFAR[:2], "test": CIFAR[2:]}
    return {
        name: pickle.dumps(
            {"data": x, "fine_labels": [7] * len(x), "coarse_labels": [1] * len(x)}, 2
        )
        for name, x in parts.items()
    }


def cifar_10() -> Files:
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return {name: pickle.dumps({"data": CIFAR[:1], "labels": [7]}, 4) for name in names}


MEMBERS = {"x_train": npy(ROWS), "y_train": npy(np.arange(6)), "x_test": npy(ROWS[:2])}


def store() -> Files:
    """A data set of two splits with labels, shuffled, of one chunk an array."""
    from dkde.inputs.importing import import_dataset

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "d.zarr")
        Path(folder, "x.npz").write_bytes(npz_of(MEMBERS))
        import_dataset(
            Path(folder, "x.npz"), path, scale=0.5, offset=1.0, shuffle_seed=3, image_shape=(5, 4)
        )
        return {
            f"d.zarr/{file.relative_to(path)}": file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file()
        }


def one(data: bytes) -> Files:
    return {"file": data}


SEEDS: dict[str, tuple[Files, str, str]] = {
    "mnist.pkl.gz": (one(zipped(mnist(2))), "file", "file"),
    "mnist.pkl": (one(mnist(4)), "file", "file"),
    "idx": (one(idx(PIXELS)), "file", "file"),
    "idx.gz": (one(zipped(idx(PIXELS))), "file", "file"),
    "idx folder": (
        {
            "f/train-images-idx3-ubyte": idx(PIXELS),
            "f/train-labels-idx1-ubyte.gz": zipped(idx(np.arange(6))),
            "f/t10k-images-idx3-ubyte.gz": zipped(idx(PIXELS[:2])),
        },
        "f",
        "file",
    ),
    "cifar-10.tar.gz": (one(zipped(tar_of(cifar_10()))), "file", "file"),
    "cifar-100.tar": (one(tar_of(cifar_100())), "file", "file"),
    "cifar folder": ({f"f/{k}": v for k, v in cifar_100().items()}, "f", "file"),
    "npy": (one(npy(REAL)), "file", "file"),
    "npz": (one(npz_of(MEMBERS)), "file", "file"),
    "store": (store(), "d.zarr", "store"),
}


# ---- in the parent ----


class Child:
    """A process that reads cases; started again if one ends it."""

    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=-1, stdout=-1, env=environment
        )
        for case in [*SEEDS.values()] * 2:
            answer = self._ask(case, 60)
            assert {status for status, _ in answer.values()} == {"read"}, answer

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _ask(self, case: tuple[Files, str, str], seconds: float) -> dict[str, tuple[str, Any]]:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump(case, self.process.stdin)
        self.process.stdin.flush()
        try:
            if select.select([self.process.stdout], [], [], seconds)[0]:
                return pickle.load(self.process.stdout)
            reason = f"no answer within {seconds} s, and not to be interrupted"
        except EOFError:
            reason = f"the process ended: {self.process.wait()}"
        self.stop()
        return {"all": ("escaped", reason)}

    def ask(self, case: tuple[Files, str, str]) -> dict[str, tuple[str, Any]]:
        if self.process is None:
            self.start()
        return self._ask(case, 12 * SECONDS)


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.stop()


# ---- what may be read of a changed file ----


def same(found: Any, expected: Any) -> bool:
    return found.shape == expected.shape and np.array_equal(found, expected, equal_nan=True)


DTYPES = [
    np.dtype(order + kind + size)
    for order in "<>"
    for size in "1248"
    for kind in "uif"
    if kind + size != "f1"
]


def is_another_reading(found: Any, pictures: list[Any], scale: float) -> bool:
    """Whether all bytes of a picture, as numbers of some type, in some order, are what is found."""
    for x in pictures:
        for dtype in DTYPES:
            if x.nbytes == found.size * dtype.itemsize:
                values = np.frombuffer(x.tobytes(), dtype).astype(np.float64)
                with np.errstate(all="ignore"):
                    values *= scale
                if same(np.sort(found, axis=None), np.sort(values)):
                    return True
    return False


def rows_of(x: Any) -> Any:
    return x.reshape(len(x), -1).astype(np.float64)


def naive_idx(data: bytes) -> Any:
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    types = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
    x = np.frombuffer(data[4 + 4 * data[3] :], types[data[2]]).reshape(shape)
    return rows_of(x) * (1 / 255) if data[2] == 8 else rows_of(x)


def naive_npy(data: bytes) -> Any:
    return rows_of(np.lib.format.read_array(io.BytesIO(data), allow_pickle=False))


def is_right(seed: str, files: Files, found: dict[str, Any]) -> bool:
    """Whether the values are the file's: the same, or what its changed header says they are."""
    values = [x for x, _ in found.values()]
    if seed.startswith("idx"):
        images = [name for name in files if "labels" not in name]
        # In the order of the splits: train, then t10k.
        stored = [naive_idx(files[name]) for name in sorted(images, reverse=True)]
        return all(same(x, y) for x, y in zip(values, stored, strict=True))
    if seed == "npy":
        return same(values[0], naive_npy(files["file"]))
    if seed == "npz":
        with zipfile.ZipFile(io.BytesIO(files["file"])) as archive:
            stored = [naive_npy(archive.read(info)) for info in archive.infolist()]
        return all(any(same(x, y) for y in stored) for x in values)
    if seed.startswith("mnist"):
        pictures = [(ROWS[i : i + 2] / 256).astype(np.float32) for i in (0, 2, 4)]
        return all(is_another_reading(x, pictures, 1.0) for x in values)
    pictures = [CIFAR[:1]] if seed.startswith("cifar-10.") else [CIFAR[:2], CIFAR[2:]]
    if seed.startswith("cifar-10."):
        pictures += [np.repeat(CIFAR[:1], 5, axis=0)]
    return all(is_another_reading(x, pictures, 1 / 255) for x in values)


def check_store(found: dict[str, Any]) -> None:
    expected = {"train": ROWS[np.random.RandomState(3).permutation(6)], "test": ROWS[:2]}
    for name, (x, labels) in found.items():
        assert same(x, expected[name] * 0.5 + 1.0), f"{name}: other values"
        order = np.random.RandomState(3).permutation(6) if name == "train" else np.arange(2)
        assert all(same(values, order) for values in labels.values()), f"{name}: other labels"


def check(child: Child, seed: str, files: Files) -> None:
    _, entry, kind = SEEDS[seed]
    for reader, (status, value) in child.ask((dict(files), entry, kind)).items():
        assert status != "escaped", f"{reader}: {value}"
        if status == "refused":
            assert "\n" not in value, value
            assert len(value) < 1000, value
        elif kind == "file":
            assert is_right(seed, files, value), f"{reader} read other values"
        else:
            check_store(value)


# ---- changes ----

EXTREMES = (0, 1, 2, 7, 127, 128, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)
# Instead of a number, a name or a word in the text of a header.
WORDS = (
    "0", "1", "-1", "-6", "7", "24", "True", "None", "1e3", "2147483648", "9" * 30, "1" * 400,
    "'|O'", "'<f8'", "'>f4'", "'<f2'", "'<U5'", "'<c16'", "'<M8[s]'", "'V80'", "'descr'", "[]",
    "()", "(6, 4)", "(4, 6)", "(-6, -4)", "[('a', '<f4')]", "('<f4', (2,))", "(" * 300, "-" * 3000,
)  # fmt: skip


@st.composite
def changed(draw: Any, data: bytes, kept: tuple[bytes, ...] = ()) -> bytes:
    """One to three edits of some bytes, none of them within those that are kept."""
    allowed = np.ones(len(data), bool)
    for part in kept:
        at = data.find(part)
        while at >= 0:
            allowed[at : at + len(part)] = False
            at = data.find(part, at + len(part))
    positions = np.flatnonzero(allowed)
    for at in draw(st.lists(st.sampled_from(positions.tolist()), min_size=1, max_size=3)):
        # What is kept stays where it is, or is moved, and is never cut into but at the end.
        room = int(np.argmin(allowed[at:])) or len(data) - at
        edit = draw(st.sampled_from(["flip", "set", "number", "insert", "remove", "cut"]))
        size = min(draw(st.sampled_from([1, 2, 4, 8])), room)
        order = draw(st.sampled_from(["little", "big"]))
        number = (draw(st.sampled_from(EXTREMES)) % 256**size).to_bytes(size, order)
        new = {
            "flip": bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) if at < len(data) else b"",
            "set": draw(st.binary(min_size=1, max_size=1)),
            "number": number,
            "insert": draw(st.binary(min_size=1, max_size=8)),
        }.get(edit, b"")
        if edit == "cut":
            return data[:at]
        old = {"insert": 0, "flip": 1, "set": 1}.get(edit, size)
        data = data[:at] + new + data[at + old :]
        if len(new) != old:
            break
    return data


@st.composite
def changed_npy(draw: Any, data: bytes) -> bytes:
    """Bytes, or words of the header, which is then as long as its length says."""
    if draw(st.booleans()):
        return draw(changed(data))
    (size,) = struct.unpack_from("<H", data, 8)
    text, rest = data[10 : 10 + size].decode(), data[10 + size :]
    spans = [m.span() for m in re.finditer(r"-?\d+|'[^']*'|True|False|\([^)]*\)", text)]
    start, stop = draw(st.sampled_from(spans))
    text = text[:start] + draw(st.sampled_from(WORDS)) + text[stop:]
    version = draw(st.sampled_from([1, 2, 3]))
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return data[:6] + bytes([version, 0]) + length + text.encode() + rest


@st.composite
def changed_file(draw: Any, seed: str) -> Files:
    """One file of a seed changed: as it lies there, or within its archive, sealed again."""
    files = dict(SEEDS[seed][0])
    name = draw(st.sampled_from(sorted(files)))
    data, within = files[name], draw(st.booleans())
    pictures = tuple((ROWS[i : i + 2] / 256).astype("f4").tobytes() for i in (0, 2, 4))
    pictures += tuple(x.tobytes() for x in (CIFAR[:2], CIFAR[:1], CIFAR[2:]))
    # As they are, and as pickles of protocol 2 spell them.
    kept = (*pictures, *(x.decode("latin1").encode() for x in pictures))
    if seed == "npy":
        files[name] = draw(changed_npy(data))
    elif seed == "npz" and within:
        member = draw(st.sampled_from(sorted(MEMBERS)))
        files[name] = npz_of({**MEMBERS, member: draw(changed_npy(MEMBERS[member]))})
    elif seed.startswith("cifar-1") and within:
        members = cifar_10() if "-10." in seed else cifar_100()
        member = draw(st.sampled_from(sorted(members)))
        tar = tar_of({**members, member: draw(changed(members[member], kept))})
        files[name] = zipped(tar) if name.endswith("gz") else tar
    elif data[:2] == b"\x1f\x8b" and (within or draw(st.booleans())):
        files[name] = zipped(draw(changed(gzip.decompress(data), kept)))
    else:
        files[name] = draw(changed(data, kept))
    return Changed(files)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [name for name in SEEDS if name != "store"])
def test_a_changed_file_is_read_right_or_refused(child: Child, seed: str) -> None:
    @settings(max_examples=CASES, phases=[Phase.generate])
    @given(files=changed_file(seed))
    def run(files: Files) -> None:
        check(child, seed, files)

    run()


JSON = (
    None, True, False, "", "1", "x", "../train", "nan", "float64", "zarr.json", 0, 1, -1, 2, 0.5,
    -0.0, 6, 7, 10**9, 2**31, 2**63, 10**30, -(10**30), 1e308, float("nan"), float("inf"),
    [], {}, [0], [-1], [2**40, 2**40], ["train"], ["train", "train"], [[]], {"name": "pickle"},
    {"name": "numcodecs.pickle", "configuration": {}}, {"id": "pickle"},
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something is in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


def change(document: Any, place: tuple[Any, ...], edit: str, value: Any) -> None:
    *parents, last = place
    for key in parents:
        document = document[key]
    if edit == "delete":
        del document[last]
    elif edit == "rename" and isinstance(document, dict):
        document[str(value)] = document.pop(last)
    elif edit == "scale" and isinstance(document[last], int | float):
        document[last] *= value if isinstance(value, int | float) else 2
    else:
        document[last] = value


@st.composite
def changed_json(draw: Any) -> Files:
    files = dict(SEEDS["store"][0])
    name = draw(st.sampled_from([name for name in sorted(files) if name.endswith(".json")]))
    document = json.loads(files[name])
    place = draw(st.sampled_from([*places(document)]))
    edit = draw(st.sampled_from(["delete", "rename", "scale", "replace", "replace"]))
    change(document, place, edit, draw(st.sampled_from(JSON)))
    files[name] = json.dumps(document).encode()
    return Changed(files)


@st.composite
def changed_store(draw: Any) -> Files:
    """Bytes of a chunk or of metadata; or a file that is missing, empty or another's."""
    files = dict(SEEDS["store"][0])
    name = draw(st.sampled_from(sorted(files)))
    edit = draw(st.sampled_from(["bytes"] * 7 + ["missing", "empty", "another"]))
    if edit == "missing":
        del files[name]
    elif edit == "another":
        files[name] = files[draw(st.sampled_from(sorted(files)))]
    else:
        files[name] = draw(changed(files[name])) if edit == "bytes" else b""
    return Changed(files)


@pytest.mark.slow
def test_a_store_of_changed_metadata_is_read_right_or_refused(child: Child) -> None:
    @settings(max_examples=4 * CASES, phases=[Phase.generate])
    @given(files=changed_json())
    def run(files: Files) -> None:
        check(child, "store", files)

    run()


@pytest.mark.slow
def test_a_store_of_changed_bytes_is_read_right_or_refused(child: Child) -> None:
    @settings(max_examples=2 * CASES, phases=[Phase.generate])
    @given(files=changed_store())
    def run(files: Files) -> None:
        check(child, "store", files)

    run()


# ---- attacks: what chance does not find ----


class Runs:
    """Pickles as a call that the child's audit hook sees."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


def everywhere(array: str, edits: dict[str, Any]) -> Files:
    """The store with an array's metadata changed alike in all three places."""
    files = dict(SEEDS["store"][0])
    split, name = array.split("/")
    for file, key in (("", f"{split}/{name}"), (f"{split}/", name), (f"{array}/", None)):
        document = json.loads(files[f"d.zarr/{file}zarr.json"])
        if key is None:
            document.update(edits)
        else:
            document["consolidated_metadata"]["metadata"][key].update(edits)
        files[f"d.zarr/{file}zarr.json"] = json.dumps(document).encode()
    return files


def grid(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


def v2_array(**options: Any) -> dict[str, Any]:
    return {
        "zarr_format": 2, "shape": [6, 20], "chunks": [6, 20], "dtype": "|u1", "order": "C",
        "fill_value": 0, "compressor": None, "filters": [{"id": "pickle"}],
        "dimension_separator": "/", "attributes": {}, **options,
    }  # fmt: skip


def with_v2(name: str, *, in_root: bool) -> Files:
    """A pickle as the chunk of a Zarr v2 array that consolidated metadata name."""
    files = dict(SEEDS["store"][0])
    file = "d.zarr/zarr.json" if in_root else "d.zarr/train/zarr.json"
    document = json.loads(files[file])
    key = f"train/{name}" if in_root else name
    document["consolidated_metadata"]["metadata"][key] = v2_array()
    files[file] = json.dumps(document).encode()
    for chunk in ("0/0", "0.0", "c/0/0"):
        files[f"d.zarr/train/{name}/{chunk}"] = pickle.dumps(Runs())
    return files


def beside_v2() -> Files:
    """A split of Zarr v2 where the one of v3 was."""
    files = {k: v for k, v in SEEDS["store"][0].items() if k != "d.zarr/train/zarr.json"}
    array = v2_array()
    attributes = {"_ARRAY_DIMENSIONS": ["sample", "feature"]}
    for name in ("sample", "x"):
        files[f"d.zarr/train/{name}/.zarray"] = json.dumps(
            {k: v for k, v in array.items() if k != "attributes"}
        ).encode()
        files[f"d.zarr/train/{name}/.zattrs"] = json.dumps(attributes).encode()
        files[f"d.zarr/train/{name}/0/0"] = pickle.dumps(Runs())
    files["d.zarr/train/.zgroup"] = b'{"zarr_format": 2}'
    return files


def bomb(n_bytes: int) -> Files:
    """A chunk that unpacks to far more than a chunk, with a checksum that is right."""
    import google_crc32c
    from numcodecs import Zstd

    packed = bytes(Zstd().encode(bytes(n_bytes)))
    chunk = packed + google_crc32c.value(packed).to_bytes(4, "little")
    return {**SEEDS["store"][0], "d.zarr/train/x/c/0/0": chunk}


STORES: dict[str, Callable[[], Files]] = {
    "v2 in the root": lambda: with_v2("x", in_root=True),
    "v2 in the split": lambda: with_v2("x", in_root=False),
    "v2 as an index": lambda: with_v2("sample", in_root=False),
    "v2 beside": beside_v2,
    "bomb": lambda: bomb(2**31),
    "rows": lambda: everywhere("train/x", {"shape": [2**60, 20]}),
    "rows and chunk": lambda: everywhere(
        "train/x", {"shape": [2**40, 20], "chunk_grid": grid(2**40, 20)}
    ),
    "features": lambda: everywhere("train/x", {"shape": [6, 2**40], "chunk_grid": grid(6, 2**40)}),
    "no rows": lambda: everywhere("train/x", {"shape": [0, 20]}),
    "text": lambda: everywhere("train/x", {"data_type": "string", "fill_value": ""}),
    "gzip": lambda: everywhere(
        "train/x", {"codecs": [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]}
    ),
    "dates": lambda: everywhere("train/label", {"data_type": "float64", "fill_value": 0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", STORES.values(), ids=STORES.keys())
def test_a_hostile_store_is_refused(child: Child, make: Callable[[], Files]) -> None:
    answers = child.ask((make(), "d.zarr", "store"))
    assert {status for status, _ in answers.values()} == {"refused"}, answers


def nested(depth: int) -> bytes:
    """Opcodes of a tuple that holds itself so often that hashing or printing never ends."""
    return b")" + b"2\x86" * depth


def chain_of(name: bytes, arguments: bytes) -> bytes:
    return b"c" + name + b"\n" + arguments + b"\x85R"


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
HUGE = b"\x8b" + struct.pack("<i", 2**13) + b"\x7f" * 2**13
PICKLES: dict[str, bytes] = {
    "runs": pickle.dumps(Runs(), 2),
    "runs in an array": pickle.dumps(np.array([Runs()], dtype=object), 2),
    "nested key": b"}" + nested(70) + b"K\x01s.",
    "nested key of many": b"}(" + nested(70) + b"K\x01u.",
    "nested key at once": b"(" + nested(70) + b"K\x01d.",
    "nested in a set": b"\x8f(" + nested(70) + b"\x90.",
    "nested dtype": chain_of(b"numpy\ndtype", nested(70)) + b".",
    "nested byte order": chain_of(b"numpy\ndtype", b"U\x02f8") + b"(K\x03" + nested(70) + b"tb.",
    "nested encoding": b"c_codecs\nencode\nX\x01\x00\x00\x00a" + nested(70) + b"\x86R.",
    "product of sizes": ARRAY
    + b"(K\x01("
    + HUGE
    + b"2" * 100_000
    + b"t"
    + chain_of(b"numpy\ndtype", b"U\x02f8")
    + b"\x89U\x00tb.",
    "sets": b"(" + b"\x8f" * 4_900_000 + b"t.",
    "lists": b"(" + b"]" * 4_900_000 + b"t.",
    "dicts kept": b"(" + b"}\x94" * 2_400_000 + b"t.",
    "copies": b"(c_codecs\nencode\nq\x00X" + struct.pack("<I", 2**21) + b"a" * 2**21
    + b"\x85q\x01R" + b"h\x00h\x01R" * 1000 + b"t.",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("body", PICKLES.values(), ids=PICKLES.keys())
def test_a_hostile_pickle_is_refused(child: Child, body: bytes) -> None:
    data = body if body[:1] == b"\x80" else b"\x80\x04" + body
    cifar = {**cifar_100(), "train": data}
    for content in (data, zipped(data), zipped(tar_of(cifar))):
        answers = child.ask((one(content), "file", "file"))
        assert {status for status, _ in answers.values()} == {"refused"}, answers


def npy_header(text: str, content: bytes = b"", *, length: int | None = None) -> bytes:
    head = text.encode() if length is None else text.encode().ljust(length)
    return b"\x93NUMPY\x02\0" + struct.pack("<I", len(head)) + head + content


def of_shape(shape: str, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


NPYS = {
    "runs": npy_header(of_shape("(1, 1)", "'|O'"), pickle.dumps(np.array([[Runs()]]), 2)),
    "negative": npy_header(of_shape("(-2, -10)"), bytes(20)),
    "endless header": npy_header(of_shape("(2, 10)"), bytes(20), length=2**24),
    "nested header": npy_header("(" * 9000, bytes(20)),
    "signs": npy_header("-" * 9000 + "1", bytes(20)),
    "digits": npy_header(of_shape("(" + "9" * 4200 + ", 10)"), bytes(20)),
    "all": npy_header(of_shape("(2**9, 10)"), bytes(20)),
}


@pytest.mark.slow
@pytest.mark.parametrize("data", NPYS.values(), ids=NPYS.keys())
def test_a_hostile_npy_is_refused(child: Child, data: bytes) -> None:
    for content in (data, npz_of({"train": data})):
        answers = child.ask((one(content), "file", "file"))
        assert {status for status, _ in answers.values()} == {"refused"}, answers
        assert all(len(line) < 1000 and "\n" not in line for _, line in answers.values()), answers


@pytest.mark.slow
def test_a_hostile_tar_header_is_refused(child: Child) -> None:
    info = tarfile.TarInfo("cifar/train")
    info.type, info.size = tarfile.XHDTYPE, 2**31
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", compresslevel=1, mtime=0) as file:
        file.write(info.tobuf())
        for _ in range(2**8):
            file.write(bytes(2**20))
    answers = child.ask((one(content.getvalue()), "file", "file"))
    assert {status for status, _ in answers.values()} == {"refused"}, answers


if __name__ == "__main__":
    serve()
