"""The root of a result: the metadata by which a place is known as that of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkde.errors import DataSetError
from dkde.stores.json_text import from_json

ROOT = "zarr.json"


def parsed_root(content: bytes | None) -> dict[str, Any]:
    """Return the metadata of a root; empty where there is none that can be read."""
    try:
        found = from_json(content or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def is_result(root: Mapping[str, Any]) -> bool:
    attributes = root.get("attributes")
    known = attributes.get("dkde_format") if isinstance(attributes, dict) else None
    return str(known).startswith("result/")


def no_result_there(name: str, root: bytes | None) -> DataSetError:
    """Return the error of a place where something else is than a result of dkde.

    Parameters
    ----------
    root : bytes or None
        The metadata of the root there; None if there is none.
    """
    if root is not None and not parsed_root(root):
        return DataSetError(
            f"{name}: is there already, and its {ROOT} is damaged, so that nothing says that it "
            "is a result of dkde; move it away, or give another name"
        )
    return DataSetError(f"{name}: is there already, and is no result of dkde; give another name")
