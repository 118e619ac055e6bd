"""Stores that a stranger edited, and what dkde does with them.

``python tests/hostile.py SEED EDITS`` makes many edits and prints what goes wrong; the tests make
some. An edit changes one piece of metadata at random. Each function must then work, or refuse in
one line: within 5 seconds and 1 GiB, with no request, and without touching a file elsewhere.
"""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde
from dkde.estimation import verified_blocks
from dkde.stores import buckets

SECONDS, MOST_BYTES = 5, 2**30
_READ, _WRITE = "reads", "writes"
# What an edit puts in place of a value. A callable gets the folder of the traps.
_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 10**6, 10**30, -(2**63), 1e308, -0.5, float("nan"), float("inf"),
    "", "x", "train", "é\n\x1b[31m", "\0", "x" * 5000, "a+" * 5000, "a::" * 3000, "[" * 3000,
    "1" * 5000, [], {}, [None], [[]], {"": 1}, {"x": {"y": []}}, ["train"], [1e308] * 50,
    "digits", "digits::test", "all", "gaussian", "diag", "loo",
    lambda traps: f"{traps}/fifo", lambda traps: f"{traps}/secret.npy",
    lambda traps: f"{traps}/secret.zarr", lambda traps: f"{traps}/secret.zarr::train",
    lambda traps: f"{traps}/*.npy", lambda traps: f"{traps}/**/*",
    lambda traps: f"{traps}/link.npy",
    lambda traps: f"{traps}/secret.npy[:5]", lambda traps: f"{traps}/secret.tif",
    "/dev/zero", "/dev/stdin", "/proc/kmsg", "/proc/self/mem", "/etc/passwd", "/**/*.npy", "/", ".",
    "..", "~", "~root", "../traps/secret.npy", "../traps/fifo", "fifo.npy", "s3://trap/x.zarr",
    "gs://trap/x.npy", "az://trap/*.parquet", "http://127.0.0.1:9/x.nc", "file:///etc/passwd",
    "s3://me:secret@trap/x.zarr", "/vsicurl/http://127.0.0.1:9/x.tif", "pickle", "O", "|O", "<f8",
    "float64", "bytes", "numcodecs.pickle", {"name": "numcodecs.pickle"}, {"id": "pickle"},
)  # fmt: skip
_KEYS = (
    "restart", "retry_failed", "output", "anywhere", "sources", "progress", "__class__", "", "run",
    "function", "train", "like", "covariance", "support", "_FillValue", "scale_factor", "units",
    "dtype", "storage_transformers", "where", "adaptive", "by", "weights",
)  # fmt: skip
# The keys of what names files, in records and in provenance.
_NAMING = (
    "name", "source", "folder", "place", "train", "query", "valid", "test", "like", "files", "call",
    "arguments", "weights", "by", "features", "opened", "where",
)  # fmt: skip


class Watch:
    """What this process does outside of its folder, as Python's audit events tell it."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = tuple(os.path.realpath(each) for each in allowed)
        self.seen: list[str] = []
        self.traps = ""
        self.is_on = False
        sys.addaudithook(self._event)
        opened = buckets.BucketStore.__init__

        def asked(store: Any, url: str, **options: Any) -> None:
            if self.is_on:
                self.seen.append(f"a request to {url}")
                raise AssertionError(f"a request to {url}")
            opened(store, url, **options)

        buckets.BucketStore.__init__ = asked  # type: ignore[method-assign]
        self._opened = opened

    def close(self) -> None:
        """Watch no more; requests go out again."""
        self.is_on = False
        buckets.BucketStore.__init__ = self._opened  # type: ignore[method-assign]

    def _event(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open" and isinstance(given[0], str | bytes):
            writes = bool(given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            self._file(_WRITE if writes else _READ, given[0])
        elif event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.link",
                       "os.symlink", "os.chmod"):  # fmt: skip
            for path in given[:2]:
                if isinstance(path, str | bytes):
                    self._file(_WRITE, path)
        elif event == "subprocess.Popen" and given[1][1:] == ["-P", "-m", "dkde.stores.child"]:
            pass  # where foreign codecs are tried, under a limit of memory
        elif event in ("os.system", "os.exec", "subprocess.Popen", "os.posix_spawn"):
            self.seen.append(f"{event} {given[0]}")
        elif event in ("socket.connect", "socket.getaddrinfo"):
            self.seen.append(f"{event} {given[1:]}")

    def _file(self, how: str, path: str | bytes) -> None:
        path = os.path.abspath(os.fsdecode(path))
        if how == _READ:
            is_bad = path.startswith(self.traps) or path in ("/etc/passwd", "/proc/kmsg")
            is_bad = is_bad or path.startswith(("/dev/zero", "/dev/stdin", "/proc/self/mem"))
        else:
            cache = str(verified_blocks.cache_folder())  # the user's, not the result's
            is_bad = path != os.devnull and not path.startswith((*self.allowed, cache))
        if is_bad:
            self.seen.append(f"{how} {path}")


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise a TimeoutError in what takes longer."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def make(folder: Path) -> None:
    """Write the stores that are edited, their data beside them, and the traps elsewhere."""
    rng = np.random.default_rng(0)
    home, traps = folder / "home", folder / "traps"
    home.mkdir(parents=True)
    traps.mkdir()
    labels = {f"{name}_labels": rng.integers(0, 2, n) for name, n in (("train", 30), ("test", 9))}
    rows = {"train": rng.normal(size=(30, 2)), "test": rng.normal(size=(9, 2))}
    np.savez(folder / "d.npz", **rows, **labels)
    here = os.getcwd()
    os.chdir(home)
    try:
        dkde.import_dataset(folder / "d.npz", "d.zarr")
        xr.Dataset(
            {name: ("row", rng.normal(size=12)) for name in "ab"}, {"row": np.arange(12.0)}
        ).to_zarr("foreign.zarr", zarr_format=3, consolidated=True)
        source = {"source": "d.zarr"}
        dkde.score("test", "train", bandwidth=[0.4, 0.6], output="score.zarr", **source)
        dkde.score("test", "train", bandwidth=0.5, output="other.zarr", **source)
        dkde.sweep(
            train="train", valid="test[:4]", test="test[4:]", bandwidths=[0.4, 0.6],
            output="sweep.zarr", **source,
        )  # fmt: skip
        dkde.cross_validate("train", [0.4, 0.6], folds=3, output="cv.zarr", **source)
        dkde.score(
            "foreign.zarr", "foreign.zarr", bandwidth=0.5, features=["a", "b"],
            output="variables.zarr",
        )  # fmt: skip
        dkde.classify("test", "train", 0.5, by="label", output="classify.zarr", **source)
        dkde.density_map("foreign.zarr", 0.5, cells=4, features=["a", "b"], output="map.zarr")
        with dkde.init_only():
            dkde.score("test", "train", bandwidth=0.4, block_rows=4, output="begun.zarr", **source)
    finally:
        os.chdir(here)
    np.save(traps / "secret.npy", rows["train"])
    np.save(traps / "secret.tif", rows["train"])
    dkde.import_dataset(folder / "d.npz", traps / "secret.zarr")
    os.mkfifo(traps / "fifo")
    os.mkfifo(home / "fifo.npy")
    (traps / "link.npy").symlink_to("secret.npy")


FINISHED = (
    "score.zarr", "sweep.zarr", "cv.zarr", "variables.zarr", "classify.zarr", "map.zarr",
)  # fmt: skip


def _command(*words: str) -> None:
    """Give a command; what it refuses must be one line."""
    found = CliRunner().invoke(cli, list(words))
    if found.exit_code == 0:
        return
    if not isinstance(found.exception, SystemExit):
        raise found.exception or AssertionError("no exception")
    lines = found.stderr.strip().splitlines()
    if "a defect of dkde" in found.stderr or sum(each.startswith("Error") for each in lines) != 1:
        raise AssertionError(f"{words[0]} prints {found.stderr[-400:]!r}")


FINISHED_USES: dict[str, Callable[[str], Any]] = {
    "status": dkde.status,
    "verify": lambda store: dkde.verify(store, blocks=1),
    "report": lambda store: dkde.report(store, "r.html"),
    "reports": lambda store: dkde.report([store, "other.zarr"], "r.html"),
    "compare": lambda store: dkde.compare(store, "other.zarr"),
    "export": lambda store: dkde.export(store, "r.csv", overwrite=True),
    "density": lambda store: dkde.density(store).values,
    "config": lambda store: _command("status", store, "--config"),
    "show": lambda store: _command("status", store),
    "summary": lambda store: dkde.summary(store),
    "finish": dkde.finish,
    "run_part": lambda store: dkde.run_part(store, 0, 2),
}
BEGUN_USES: dict[str, Callable[[str], Any]] = {
    "status": dkde.status,
    "verify": lambda store: dkde.verify(store, blocks=1),
    "config": lambda store: _command("status", store, "--config"),
    "show": lambda store: _command("status", store),
    "run_part": lambda store: dkde.run_part(store, 0, 1),
    "finish": dkde.finish,
}
FOREIGN_USES: dict[str, Callable[[str], Any]] = {
    "score": lambda store: dkde.log_density(store, store, 0.5, features=["a", "b"]),
    "unnamed": lambda store: dkde.log_density(store, store, 0.5),
    "describe": lambda store: dkde.describe(store),
    "info": lambda store: _command("info", store),
    "open": lambda store: dkde.export(store, "r.csv", overwrite=True),
    "import": lambda store: dkde.import_dataset(store, "i.zarr", overwrite=True),
}


class Edit:
    """One random change of the metadata of a store.

    Parameters
    ----------
    seed : int or str
    """

    def __init__(self, seed: int | str) -> None:
        self.random = random.Random(seed)
        self.said = ""
        self.leaves: tuple[str, ...] = ()

    def store(self) -> tuple[str, dict[str, Callable[[str], Any]]]:
        """Return the store that is edited, and what is done with it."""
        kind = self.random.random()
        if kind < 0.2:
            return "begun.zarr.run", BEGUN_USES
        if kind < 0.4:
            # How much may be read of other stores is another matter.
            self.leaves = ("shape", "chunk_shape")
            return "foreign.zarr", FOREIGN_USES
        return self.random.choice(FINISHED), FINISHED_USES

    def make(self, store: Path, traps: Path) -> None:
        """Change one file of JSON in a store."""
        files = sorted(store.rglob("*.json"))
        # Those that hold what a run says of itself, more often than those of single arrays.
        first = [path for path in files if path.name != "zarr.json" or path.parent == store]
        path = self.random.choice(first if self.random.random() < 0.6 else files)
        arrays = [p for p in files if p.parent.parent == store and p.name == "zarr.json"]
        if arrays and self.random.random() < 0.3:
            self._alike(store, self.random.choice(arrays), traps)
            return
        self.said = f"{path.relative_to(store.parent)}: "
        text = path.read_text()
        if self.random.random() < 0.06:
            path.write_bytes(self._broken(text))
            return
        document = json.loads(text)
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            document = self._changed(document, traps)
        path.write_text(self._deep(json.dumps(document)))

    def _alike(self, store: Path, path: Path, traps: Path) -> None:
        """Change the metadata of an array where they lie, and in the list of all arrays alike."""
        root = json.loads((store / "zarr.json").read_text())
        self.said = f"{path.relative_to(store.parent)} and its copy: "
        document = self._mutated(json.loads(path.read_text()), traps)
        path.write_text(self._deep(json.dumps(document)))
        listed = (root.get("consolidated_metadata") or {}).get("metadata", {})
        if path.parent.name in listed:
            listed[path.parent.name] = document
            (store / "zarr.json").write_text(self._deep(json.dumps(root)))

    def _broken(self, text: str) -> bytes:
        kind = self.random.choice(("cut", "empty", "zeros", "nest", "bytes", "plain"))
        self.said += kind
        cut = text[: self.random.randrange(len(text))].encode()
        plain = self.random.choice(("[]", "null", "3", '"x"', "{}", "1e999", "-" + "9" * 5000))
        return {
            "cut": cut, "empty": b"", "zeros": bytes(len(text)), "nest": b"[" * 200_000,
            "bytes": self.random.randbytes(60), "plain": plain.encode(),
        }[kind]  # fmt: skip

    def _changed(self, document: Any, traps: Path) -> Any:
        """Return JSON with one change; the record and the provenance are JSON within text."""
        attributes = document.get("attributes") if isinstance(document, dict) else None
        inner = [
            key for key in ("run", "provenance")
            if isinstance(attributes, dict) and isinstance(attributes.get(key), str)
        ]  # fmt: skip
        if inner and self.random.random() < 0.75:
            key = self.random.choice(inner)
            self.said += f"{key}: "
            try:
                parsed = json.loads(attributes[key])
            except (ValueError, RecursionError):
                return document
            if self.random.random() < 0.05:
                attributes[key] = self.random.choice(("[" * 100_000, "", "{}", "[]", "nul", "3"))
                self.said += attributes[key][:20]
                return document
            attributes[key] = self._deep(json.dumps(self._mutated(parsed, traps)))
            return document
        return self._mutated(document, traps)

    def _deep(self, text: str) -> str:
        """Put deeply nested lists where an edit marked a place for them."""
        return text.replace('"<deep>"', "[" * 900 + "]" * 900).replace(
            '"<deeper>"', "[" * 50_000 + "]" * 50_000
        )

    def _mutated(self, document: Any, traps: Path) -> Any:
        places = list(_places(document, self.leaves))
        # What names sources is few among all places, and edited more often.
        naming = [place for place in places if place[1] in _NAMING]
        if naming and self.random.random() < 0.4:
            places = naming
        if not places:
            return document
        holder, key = self.random.choice(places)
        how = self.random.choice(("value", "value", "value", "value", "remove", "add", "twin"))
        if how == "remove":
            self.said += f"{key} removed; "
            del holder[key]
        elif how == "add" and isinstance(holder, dict):
            name, value = self.random.choice(_KEYS), self._value(traps)
            self.said += f"{name} added: {str(value)[:60]!r}; "
            holder[name] = value
        elif how == "twin" and isinstance(holder, list):
            holder.extend([holder[key]] * self.random.choice((1, 3, 1000)))
            self.said += f"{key} repeated; "
        else:
            value = self._value(traps)
            self.said += f"{key} = {str(value)[:60]!r}; "
            holder[key] = value
        return document

    def _value(self, traps: Path) -> Any:
        value = self.random.choice((*_VALUES, "<deep>", "<deeper>"))
        return value(traps) if callable(value) else value


def _places(document: Any, leaves: tuple[str, ...], depth: int = 20) -> Iterator[tuple[Any, Any]]:
    """Yield each place of a value in JSON: the object or list that holds it, and its key."""
    if depth and isinstance(document, dict | list):
        keys = list(document) if isinstance(document, dict) else range(min(len(document), 5))
        for key in keys:
            if key not in leaves:
                yield document, key
                yield from _places(document[key], leaves, depth - 1)


def faults_of(
    made: Path, seed: int | str, watch: Watch, work: Path, uses: int = 3
) -> Iterator[tuple[str, str]]:
    """Yield what goes wrong with one edit: the kind, and the whole of it.

    Parameters
    ----------
    made : Path
        The folder of :func:`make`.
    work : Path
        A copy of its ``home``, in which the edited store replaces the one of its name.
    uses : int
        How many of the functions are called.
    """
    edit = Edit(seed)
    name, known = edit.store()
    traps = made / "traps"
    watch.traps = str(traps)
    for each in {name, name.removesuffix(".run")}:  # the result of a run that an edit left whole
        shutil.rmtree(work / each, ignore_errors=True)
    shutil.copytree(made / "home" / name, work / name)
    edit.make(work / name, traps)
    os.chmod(work / name, 0o777)  # so that it is no result of this user
    here = os.getcwd()
    os.chdir(work)
    try:
        for use in edit.random.sample(sorted(known), min(uses, len(known))):
            start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.process_time()
            fault = _fault_of(known[use], name, watch)
            # Of a busy machine the time is that of the processor.
            took = min(time.monotonic() - start, time.process_time() - began)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            if fault is None and took > SECONDS:
                fault = ("slow", f"took {took:.1f} s")
            if fault is None and grown > MOST_BYTES:
                fault = ("memory", f"took {grown} bytes")
            if fault is not None:
                yield f"{use}: {fault[0]}", f"seed {seed}: {edit.said}\n{fault[1]}"
    finally:
        os.chdir(here)


def settled(made: Path, work: Path) -> None:
    """Make the folder in which edited stores are used: data beside them, and a pipe."""
    shutil.copytree(made / "home", work, ignore=shutil.ignore_patterns("fifo*"))
    os.mkfifo(work / "fifo.npy")


def digest(folder: Path) -> str:
    """Return a checksum of all files of a folder, with their names."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def _fault_of(use: Callable[[str], Any], name: str, watch: Watch) -> tuple[str, str] | None:
    watch.seen.clear()
    try:
        with warnings.catch_warnings(), within(4 * SECONDS):
            warnings.simplefilter("ignore")
            watch.is_on = True
            use(name)
    except dkde.DkdeError as error:
        if "\n" in str(error):
            return "lines", str(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = [f"{frame.filename.rpartition('/')[2]}:{frame.name}" for frame in frames
               if "/dkde/" in frame.filename or "/dkde_cli/" in frame.filename]  # fmt: skip
        kind = f"{type(error).__name__} in {own[-1] if own else '?'}"
        lines = "".join(traceback.format_exception(error)).splitlines()
        return kind, "\n".join(line[:300] for line in lines[-30:])
    finally:
        watch.is_on = False
    return ("outside", "; ".join(watch.seen)) if watch.seen else None


def campaign(first: str, edits: int, uses: int = 3) -> Counter[str]:
    """Make many edits, print the first of each kind of fault, and return how many there were."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root / "made")
        settled(root / "made", root / "work")
        watch = watch_of(root)
        spared = [root / "work/d.zarr", root / "work/other.zarr", root / "made"]
        before = list(map(digest, spared))
        for number in range(edits):
            if number % 100 == 0:
                took = resource.getrusage(resource.RUSAGE_SELF)
                print(f"{number} edits, {took.ru_utime + took.ru_stime:.0f} s, "
                      f"{took.ru_maxrss // 1024} MiB", flush=True)  # fmt: skip
            for kind, whole in faults_of(
                root / "made", f"{first}-{number}", watch, root / "work", uses
            ):
                found[kind] += 1
                if found[kind] == 1:
                    print(f"---- {kind}\n{whole}", flush=True)
        assert list(map(digest, spared)) == before, "files beside were changed"
    return found


def watch_of(root: Path) -> Watch:
    """Return a watch that allows to write below a folder, and in caches."""
    caches = [os.environ[name] for name in ("XDG_CACHE_HOME",) if name in os.environ]
    homes = [os.path.expanduser(f"~/{name}") for name in (".cache", ".config/matplotlib")]
    return Watch(str(root / "work"), *homes, *caches, "/dev/shm")


if __name__ == "__main__":
    seed, number = sys.argv[1], int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    counted = campaign(seed, number, int(sys.argv[3]) if len(sys.argv) > 3 else 3)
    print(f"seed {seed}, {number} edits: {sum(counted.values())} faults, {len(counted)} kinds")
    for kind, times in counted.most_common():
        print(f"{times:6} {kind}")
