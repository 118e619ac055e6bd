"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


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
