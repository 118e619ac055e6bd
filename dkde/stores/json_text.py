"""JSON from stores: read so that whatever it holds is a value, or a ValueError."""

import json
from typing import Any


def object_from_json(text: str | bytes) -> dict[str, Any] | None:
    """Return the object that a text in JSON is; None where it is anything else."""
    try:
        found = from_json(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


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
