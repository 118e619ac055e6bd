"""Profiles of Hypothesis, what tests share, and the real data."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings
from numpy.random import Generator

if TYPE_CHECKING:
    from buckets import Server

_ALWAYS = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
# The same few examples everywhere; and, for .ci/run, all of them, others each time.
settings.register_profile("quick", max_examples=20, derandomize=True, **_ALWAYS)
settings.register_profile("ci", max_examples=100, **_ALWAYS)
settings.load_profile("quick")


@pytest.fixture(scope="session", autouse=True)
def _own_cache_of_verified_blocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests verify out of the user's cache; compiled code stays in it."""
    folder = tmp_path_factory.mktemp("verified")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dkde.estimation.verified_blocks.cache_folder", lambda: folder)
        yield


# The random generators of test modules, and where each begins.
_STARTS: dict[int, tuple[Generator, Any]] = {}


@pytest.fixture(scope="module", autouse=True)
def _generators(request: pytest.FixtureRequest) -> list[Generator]:
    """The random generators of a module, before its first fixture takes numbers from them."""
    found = [each for each in vars(request.module).values() if isinstance(each, Generator)]
    for each in found:
        # A module can have its turn twice.
        _STARTS.setdefault(id(each), (each, each.bit_generator.state))
    return found


@pytest.fixture(autouse=True)
def _same_rows_for_each_test(_generators: list[Generator]) -> None:
    """Give a test the same random rows, whichever tests ran before it."""
    for each in _generators:
        each.bit_generator.state = _STARTS[id(each)][1]


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make most cases of sampled tests slow; keep tests of a server of buckets in one process."""
    n_cases: Counter[str] = Counter()
    for item in items:
        sampled = item.get_closest_marker("sampled")
        if sampled is not None and item.get_closest_marker("slow") is None:
            function = item.nodeid.partition("[")[0]
            # Not every n-th: of two parameters, one could always have the same value.
            is_chosen = crc32(item.nodeid.encode()) % sampled.args[0] == 0
            if n_cases[function] and not is_chosen:
                item.add_marker(pytest.mark.slow)
            n_cases[function] += 1
        if "served" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("buckets"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of several whether to compile its share first: of all tests, the first time.

    pytest-xdist calls this in the process that starts the others.
    """
    config = node.config
    if not hasattr(config, "shares_compilation"):
        from warming import is_anything_compiled

        all_tests = config.args_source is config.ArgsSource.TESTPATHS
        config.shares_compilation = all_tests and not is_anything_compiled()
    node.workerinput["shares_compilation"] = config.shares_compilation


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let Ctrl-C work in the processes that tests start: jobs in a shell's background ignore it."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given = getattr(session.config, "workerinput", None)
    if given is not None and given["shares_compilation"]:
        from warming import warm

        warm(int(given["workerid"].removeprefix("gw")), given["workercount"])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the collector of garbage away from modules and tests: they stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data sets: ``DKDE_TEST_DATA``, or ``shared/data`` in or beside the checkout."""
    root = Path(__file__).resolve().parents[1]
    named = os.environ.get("DKDE_TEST_DATA")
    candidates = [Path(named)] if named else [root / "shared/data", root.parent / "shared/data"]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    pytest.skip("no data sets here; DKDE_TEST_DATA can name their folder")


@pytest.fixture(scope="session")
def served() -> Iterator[Server]:
    """A server of buckets, which all tests share."""
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    from buckets import serving

    with serving() as server:
        yield server


@pytest.fixture
def bucket(served: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a place of its own in a bucket; the environment leads there, and nowhere else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in served.environment().items():
        monkeypatch.setenv(name, value)
    served.clear()
    return f"s3://bucket/{uuid4().hex}"


@pytest.fixture(scope="session")
def mnist_store(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST as a data set, its train split shuffled as the second article shuffles it."""
    from dkde import import_dataset

    store = tmp_path_factory.mktemp("mnist") / "mnist.zarr"
    import_dataset(data_dir / "mnist/mnist.pkl.gz", store, shuffle_seed=1573368177)
    return store
