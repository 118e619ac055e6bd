"""Records of a run that are JSON."""

from typing import Any

from dkde.errors import DataSetError
from dkde.stores.json_text import object_from_json
from dkde.stores.store import Records


def parsed(records: Records, key: str) -> dict[str, Any] | None:
    """Return the JSON object at a key of a run; None where there is nothing, or an empty file.

    Raises
    ------
    DataSetError
        When it is damaged.
    """
    content = records.get(key)
    if not content:
        return None
    found = object_from_json(content)
    if found is None:
        raise DataSetError(f"{records.name}: {key} of its run is damaged; remove it, and go on")
    return found
