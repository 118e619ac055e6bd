"""What tests of the engine share."""

from collections.abc import Iterator

import pytest
from work import close_stages


@pytest.fixture(autouse=True)
def no_stage_stays() -> Iterator[None]:
    """End the threads that commit the blocks of stages."""
    yield
    close_stages()
