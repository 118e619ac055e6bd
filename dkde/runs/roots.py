"""The root of a result: the metadata by which a place is known as that of one."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from dkde.errors import Call, DataSetError
from dkde.stores.json_text import object_from_json

ROOT = "zarr.json"


def parsed_root(content: bytes | None) -> dict[str, Any]:
    """Return the metadata of a root; empty where there is none that can be read."""
    return object_from_json(content or b"") or {}


def is_result(root: Mapping[str, Any]) -> bool:
    """Return whether the metadata of a root are those of a result, complete or not."""
    attributes = root.get("attributes")
    return isinstance(attributes, dict) and are_of_result(attributes)


def are_of_result(attributes: Mapping[str, Any]) -> bool:
    """Return whether the attributes of a root are those of a result, complete or not."""
    return str(attributes.get("dkde_format")).startswith("result/")


def version_of(attributes: Mapping[str, Any]) -> str:
    """Return what tells a result from others at its place: a digest of the record of its run."""
    return sha256(str(attributes.get("run")).encode()).hexdigest()


def check_version(name: str, attributes: Any, version: str | None) -> None:
    """Refuse to replace another result than the one that was read.

    Parameters
    ----------
    name : str
        The name of the result, for messages.
    attributes : mapping
        The attributes of the root that is there.
    version : str or None
        Of the result that was read (:func:`version_of`); None if any may be replaced.

    Raises
    ------
    DataSetError
    """
    if version is not None and version_of(attributes) != version:
        raise DataSetError(
            f"{name}: rows were added by another process meanwhile; ", Call.MAKE_SAME, " again"
        )


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
