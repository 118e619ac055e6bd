"""JSON from stores: read so that whatever it holds is a value, or a ValueError."""

import json
from typing import Any


def from_json(text: str | bytes) -> Any:
    """Return the value of a text in JSON.

    Raises
    ------
    ValueError
        When it is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
