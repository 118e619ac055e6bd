"""Compiled code: the same whether a process compiles it or loads it from the cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dkde.numerics.compiling import digest_of
from dkde.numerics.limits import limit

SCRIPT = """
import hashlib
import numpy as np
import dkde

found = hashlib.sha256()
for d in (1, 3, 5, 9):
    rng = np.random.default_rng(d)
    query, train = rng.normal(size=(700, d)), rng.normal(size=(900, d))
    for kernel in ("gaussian", "exponential", "epanechnikov", "cosine"):
        densities = dkde.log_density(query, train, [0.4, 0.9], kernel=kernel)
        found.update(densities.tobytes())
print(found.hexdigest())
"""


@pytest.mark.slow
def test_code_from_the_cache_gives_the_same_bits(tmp_path: Path) -> None:
    """Sums may be in any order, but not in one order here and in another one there."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, loaded = (
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert compiled == loaded


@pytest.mark.slow
def test_processes_that_start_together_share_an_empty_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    together = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    found = {process.communicate()[0] for process in together}
    assert [process.returncode for process in together] == [0, 0, 0]
    later = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True, text=True
    )
    assert found == {later.stdout}


def test_a_function_within_others_runs_in_python_too() -> None:
    """A call from Python must not end in machine code that is not there."""
    assert limit(2, 4.0, 0.0, 1.0, 1.0) == pytest.approx(0.25)


def test_code_of_other_sources_is_in_another_folder(tmp_path: Path) -> None:
    """Also where only a function's callee is another one, and files are as old as before."""
    for folder, text in (("a", "1"), ("b", "2"), ("c", "1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "loops.py").write_text(text)
        os.utime(tmp_path / folder / "loops.py", (0, 0))
    of_a, of_b, of_c = (digest_of(tmp_path / folder) for folder in "abc")
    assert of_a == of_c != of_b
