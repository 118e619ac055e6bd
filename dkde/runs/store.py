"""Result stores: one xarray Dataset, marked as complete when it is.

A store is made before the first block, and says that it is not complete. The variables are
written at the end, then the mark, in one piece of metadata; only then do the blocks go.
"""

import json
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import UnstableSpecificationWarning

from dkde.errors import Call, DataSetError, DkdeError, Message, Remedy, one_line
from dkde.runs.stages import PLAN, RUN
from dkde.stores.chunks import Strict
from dkde.stores.store import Records

# A root attribute of every result: only what carries it is ever replaced.
RESULT_FORMAT = {"dkde_format": "result/1"}
# What no result is without.
MAIN = "log_density"


def is_result(records: Records) -> bool:
    """Return whether a store is a result of dkde, complete or not."""
    return str(root_attributes(records).get("dkde_format", "")).startswith("result/")


def root_attributes(records: Records) -> dict[str, Any]:
    """Return the attributes of a store's root; none where that is not a group."""
    try:
        return dict(zarr.open_group(records.store, mode="r", zarr_format=3).attrs)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def start_result(records: Records) -> None:
    """Make a store that is marked as not complete, unless one is there.

    Raises
    ------
    DataSetError
        When it cannot be written, or what came there meanwhile is no result.
    """
    attributes = {**RESULT_FORMAT, "complete": 0}
    root = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    with writing(records):
        if not records.claim("zarr.json", json.dumps(root).encode()):
            _check_result(records)


def _check_result(records: Records) -> None:
    if not is_result(records):
        raise DataSetError(
            f"{records.name}: something that is no result of dkde was put there by another "
            "meanwhile, and stays as it is; give another name"
        )


def drop_run(records: Records, spare: Collection[str] = ()) -> None:
    """Mark a store as not complete, and drop its run; its variables stay until others are written.

    At whatever moment this is interrupted, no block is there without the plan it belongs to.

    Parameters
    ----------
    spare : collection of str
        Keys that stay: the session that drops the rest, and its lock.
    """
    with writing(records):
        _check_result(records)  # asked again: it was looked at some requests ago
        root = zarr.open_group(records.store, mode="r+", use_consolidated=False)
        root.attrs.put({**RESULT_FORMAT, "complete": 0})
        stays = {key.split("/")[1] for key in (PLAN, *spare)}
        _drop(records, {key.split("/")[1] for key in records.keys(RUN)} - stays, f"{RUN}/")
        records.delete(PLAN)
        for key in set(records.keys(RUN)).difference(spare):
            records.delete(key)
        if not spare:
            records.delete_all(RUN)


def write_variables(result: xr.Dataset, records: Records) -> None:
    """Write all variables into a store that was started; again, if it was interrupted.

    Raises
    ------
    DataSetError
        When they cannot be written: the disk is full, or the result holds what Zarr cannot store.
    """
    # Every chunk carries its checksum.
    codecs = {"compressors": [ZstdCodec(level=1), Crc32cCodec()]}
    encoding = {name: dict(codecs) for name in result.variables}
    with writing(records):
        there = records.keys("")
        mine = _arrays(records, there) | {str(name) for name in result.variables}
        _drop(records, mine & {key.split("/")[0] for key in there})
        result.assign_attrs({**RESULT_FORMAT, "complete": 0}).drop_encoding().to_zarr(
            records.store,
            mode="a",
            zarr_format=3,
            consolidated=False,
            encoding=encoding,
            write_empty_chunks=True,  # so that a missing chunk is damage
        )


def _arrays(records: Records, keys: Iterable[str]) -> set[str]:
    """Return which keys of a store are of its own arrays: other stores may lie below it."""
    found = set()
    for key in keys:
        name, _, rest = key.partition("/")
        if rest != "zarr.json":
            continue
        with suppress(ValueError):
            if json.loads(records.get(key) or b"null").get("node_type") == "array":
                found.add(name)
    return found


def _drop(records: Records, names: set[str], prefix: str = "") -> None:
    for name in names:
        if records.has(f"{prefix}{name}"):
            records.delete(f"{prefix}{name}")
        else:
            records.delete_all(f"{prefix}{name}")


def mark_complete(records: Records) -> None:
    """Mark a store as complete, and drop the run's own records; it may be repeated."""
    with writing(records):
        zarr.open_group(records.store, mode="r+").attrs["complete"] = 1
        records.delete_all(RUN)
        zarr.consolidate_metadata(records.store, zarr_format=3)


def listed_arrays(records: Records) -> dict[str, dict[str, Any]]:
    """The metadata of the arrays that a complete result was written with, by name.

    Raises
    ------
    DataSetError
        When that is damaged or not there.
    """
    try:
        root = json.loads(records.get("zarr.json") or b"")
        listed = root["consolidated_metadata"]["metadata"]
        found = {
            name: record
            for name, record in listed.items()
            if "/" not in name and record["node_type"] == "array"
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        found = {}
    if MAIN not in found:
        raise DataSetError(
            f"{records.name}: does not list its variables; ",
            Call.MAKE_SAME,
            " again, if need be anew ",
            Remedy("restart"),
        )
    return found


def is_tidy(records: Records) -> bool:
    """Return whether a result was marked as complete to the end: the list is written last."""
    try:
        listed = json.loads(records.get("zarr.json") or b"").get("consolidated_metadata")
    except (ValueError, AttributeError):
        return False
    return bool(listed) and not records.keys(RUN)


def open_result(records: Records) -> xr.Dataset:
    """A complete result, lazily; reading a chunk that is missing is refused.

    Raises
    ------
    DataSetError
        When it cannot be opened, or lacks its variables.
    """
    listed = listed_arrays(records)
    try:
        store = Strict(records.store, remedy=Message("make the result again ", Remedy("restart")))
        result: xr.Dataset = xr.open_zarr(store)
    except DkdeError:
        raise
    except Exception as error:  # damaged metadata raise almost anything
        raise DataSetError(
            f"{records.name}: could not be opened ({one_line(error)}); make the result again ",
            Remedy("restart"),
        ) from error
    if lost := sorted(set(listed).difference(map(str, result.variables))):
        raise DataSetError(
            f"{records.name}: lacks {', '.join(lost)}; make the result again ",
            Remedy("restart"),
        )
    return result


@contextmanager
def writing(records: Records) -> Iterator[None]:
    """Report what was wrong when a store could not be written."""
    try:
        with warnings.catch_warnings():
            # zarr notes that consolidated metadata, and text of a fixed length, are no part
            # of the v3 specification yet; xarray reads both, and a store without the first
            # opens slowly over a network.
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            warnings.simplefilter("ignore", UnstableSpecificationWarning)
            # Other files that lie below a result are left, and are no matter of its.
            warnings.filterwarnings("ignore", message="Object at .* is not recognized")
            yield
    except DkdeError:
        raise
    except Exception as error:  # xarray and zarr raise many kinds for what they cannot encode
        raise DataSetError(f"{records.name}: could not be written ({one_line(error)})") from error
