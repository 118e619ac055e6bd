"""Compiled code: the same whether a process compiles it or loads it from the cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
