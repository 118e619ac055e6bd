"""Results of groups: the name of their variable, and the result of each value."""

from collections.abc import Iterator
from typing import Any


def grouped_by(result: Any) -> str | None:
    """Return the name of the variable of a result's groups; None where it has none."""
    name = result.attrs.get("grouped_by")
    return name if isinstance(name, str) and name in result.dims else None


def groups(result: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the value of each group, as JSON has it, and its result."""
    import dkde

    for value, one in dkde.groups_of(result).items():
        is_plain = isinstance(value, bool | int | float | str)
        yield (value if is_plain else str(value).removesuffix("T00:00:00.000000000")), one
