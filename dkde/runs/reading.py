"""How often a call read each side of its work, as its result says it."""

import json
from collections.abc import Mapping

from dkde.rows.tally import BytesRead


def reading_noted(read: Mapping[str, BytesRead], sides: Mapping[str, BytesRead]) -> dict[str, str]:
    """Return the attribute that says how much was read; none where all rows were in memory.

    Parameters
    ----------
    read : mapping
        The bytes that were read, by the names of works.
    sides : mapping
        The bytes that reading each side once would take.

    Examples
    --------
    >>> reading_noted({"score": BytesRead(800, 2400)}, {"score": BytesRead(800, 800)})["bytes_read"]
    '{"score": {"query": [800, 800], "train": [2400, 800]}}'
    """
    noted = {
        name: {
            role: [getattr(read.get(name, BytesRead()), role), getattr(side, role)]
            for role in BytesRead._fields
        }
        for name, side in sides.items()
        if any(side)
    }
    return {"bytes_read": json.dumps(noted)} if noted else {}
