"""Result stores: one xarray Dataset, marked as complete when it is.

A store is made before the first block, and says that it is not complete. The variables are
written at the end, then the mark, in one piece of metadata; only then do the blocks go.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import UnstableSpecificationWarning

from dkde.errors import Call, DataSetError, DkdeError, Message, Remedy, one_line
from dkde.runs.output_names import file_of, run_of
from dkde.runs.stages import PLAN, RUN, parsed
from dkde.stores.chunks import Strict
from dkde.stores.store import Records, is_remote, open_store
from dkde.typing import StrPath

# A root attribute of every result. Nothing but a store that carries it is ever replaced.
RESULT_FORMAT = {"dkde_format": "result/1"}
# The variable that every result has.
MAIN = "log_density"
# The variable of the weights that rows have in means, in results that have some.
ROW_WEIGHT = "row_weight"


@dataclass(frozen=True)
class State:
    """The content of a result's store at one moment.

    Parameters
    ----------
    name : str
        The name of the store, for messages.
    attributes : dict
        The attributes of its root group; empty where there is no group.
    content : object, optional
        The record of how its run began, as it was read; None where there is none. A damaged
        record is kept as its error, which is raised only by those who need the plan.
    """

    name: str
    attributes: Mapping[str, Any]
    content: Any = None

    @property
    def is_result(self) -> bool:
        """Return whether the store was a result of dkde, complete or not."""
        return str(self.attributes.get("dkde_format", "")).startswith("result/")

    @property
    def is_complete(self) -> bool:
        """Return whether the result was marked as complete."""
        return bool(self.attributes.get("complete"))

    @property
    def plan(self) -> dict[str, Any] | None:
        """Return the record of how its run began; None where there is none.

        Raises
        ------
        DataSetError
            When the record is damaged.
        """
        plan = self.content
        if plan is None:
            return None
        if isinstance(plan, DataSetError):
            raise plan
        if not isinstance(plan, dict) or not {"asked", "machine", "call"} <= set(plan):
            raise DataSetError(
                f"{self.name}: the record of how it was begun is damaged; begin it anew ",
                Remedy("restart"),
            )
        return plan


class ResultStore:
    """The store of a result: begun with its plan, complete, or not there.

    Parameters
    ----------
    records : Records
    """

    def __init__(self, records: Records) -> None:
        self.records, self.name = records, records.name

    @classmethod
    def at(cls, path: StrPath) -> Self:
        """Return the store at a path or URL, whatever is there."""
        return cls(Records(open_store(path), os.fspath(path)))

    @classmethod
    def found(cls, path: StrPath) -> tuple[Self, State]:
        """Return the store of a result that is there, and what it holds.

        Raises
        ------
        DataSetError
            When there is no result of dkde.
        """
        store = cls.at(run_of(path))
        state = store.look()
        if not state.is_result:
            if file_of(path) is not None and not is_remote(path) and os.path.isfile(path):
                raise DataSetError(f"{path}: is complete, and its run is no longer kept")
            raise no_result(path)
        return store, state

    def look(self) -> State:
        """Return what the store holds now."""
        attributes = self._attributes()
        state = State(self.name, attributes)
        if not state.is_result:
            return state
        if not state.is_complete:
            try:
                plan = parsed(self.records, PLAN)
            except DataSetError as error:
                return replace(state, content=error)
            if plan is not None:
                return replace(state, content=plan)
            # The attributes are read again: another process may have finished the run in between,
            # and the plan, with the sessions, is then among them.
            attributes = self._attributes()
        if "run" not in attributes:
            return State(self.name, attributes)
        with suppress(ValueError, TypeError):
            return State(self.name, attributes, json.loads(attributes["run"]) or {})
        return State(self.name, attributes, {})

    def _attributes(self) -> dict[str, Any]:
        """Return the attributes of the root group; empty where there is none to read."""
        try:
            return dict(zarr.open_group(self.records.store, mode="r", zarr_format=3).attrs)
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def start(self) -> None:
        """Create a store that is marked as not complete, unless one is there.

        Raises
        ------
        DataSetError
            When it cannot be written, or something else was put there meanwhile.
        """
        # Written as one record, and not by Zarr: of two processes at once only one can claim it.
        attributes = {**RESULT_FORMAT, "complete": 0}
        root = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        with writing(self.records):
            if not self.records.claim("zarr.json", json.dumps(root).encode()):
                self._check()

    def _check(self) -> None:
        """Refuse to go on where the store is not a result of dkde."""
        if not self.look().is_result:
            raise DataSetError(
                f"{self.name}: another process meanwhile put something there that is no result of "
                "dkde; it stays as it is, give another name"
            )

    def drop_run(self, spare: Collection[str] = ()) -> None:
        """Mark the store as not complete, and drop its run.

        Its variables stay until others are written. Whenever this is interrupted, no block is
        left without the plan that it belongs to.

        Parameters
        ----------
        spare : collection of str
            Keys that stay: the session that calls this, and its lock.
        """
        with writing(self.records):
            self._check()  # again: the store may have been replaced since it was looked at
            root = zarr.open_group(self.records.store, mode="r+", use_consolidated=False)
            root.attrs.put({**RESULT_FORMAT, "complete": 0})
            # The order matters: first the stages, then the plan, then what else is there.
            stays = {key.split("/")[1] for key in (PLAN, *spare)}
            self._drop({key.split("/")[1] for key in self.records.keys(RUN)} - stays, f"{RUN}/")
            self.records.delete(PLAN)
            for key in set(self.records.keys(RUN)).difference(spare):
                self.records.delete(key)
            if not spare:
                self.records.delete_all(RUN)

    def write(self, result: xr.Dataset) -> None:
        """Write all variables into a store that was started; it may be repeated.

        Raises
        ------
        DataSetError
            When they cannot be written: the disk is full, or Zarr cannot store what they hold.
        """
        # Every chunk carries its checksum.
        codecs = {"compressors": [ZstdCodec(level=1), Crc32cCodec()]}
        encoding = {name: dict(codecs) for name in result.variables}
        with writing(self.records):
            # Variables of an earlier result, or of an interrupted write, go first: they may have
            # other shapes. Other stores that lie below this one are left alone.
            there = self.records.keys("")
            mine = self._arrays(there) | {str(name) for name in result.variables}
            self._drop(mine & {key.split("/")[0] for key in there})
            result.assign_attrs({**RESULT_FORMAT, "complete": 0}).drop_encoding().to_zarr(
                self.records.store,
                mode="a",
                zarr_format=3,
                consolidated=False,
                encoding=encoding,
                write_empty_chunks=True,  # so that a missing chunk is damage
            )

    def _arrays(self, keys: Iterable[str]) -> set[str]:
        """Return the names of a store's own arrays; other stores may lie below it."""
        found = set()
        for key in keys:
            name, _, rest = key.partition("/")
            if rest != "zarr.json":
                continue
            with suppress(ValueError):
                if json.loads(self.records.get(key) or b"null").get("node_type") == "array":
                    found.add(name)
        return found

    def _drop(self, names: set[str], prefix: str = "") -> None:
        """Delete files and folders directly below a prefix, by name."""
        for name in names:
            if self.records.has(f"{prefix}{name}"):
                self.records.delete(f"{prefix}{name}")
            else:
                self.records.delete_all(f"{prefix}{name}")

    def mark_complete(self) -> None:
        """Mark a store as complete, and drop the run's own records; it may be repeated."""
        with writing(self.records):
            # In this order: blocks go only from a store that says that it is complete. The list of
            # variables comes last, so that `is_tidy` sees whether all of this was done.
            zarr.open_group(self.records.store, mode="r+").attrs["complete"] = 1
            self.records.delete_all(RUN)
            zarr.consolidate_metadata(self.records.store, zarr_format=3)

    def listed_arrays(self) -> dict[str, dict[str, Any]]:
        """Return the metadata of a complete result's arrays, by name, from the consolidated list.

        Raises
        ------
        DataSetError
            When the list is damaged or missing.
        """
        try:
            root = json.loads(self.records.get("zarr.json") or b"")
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
                f"{self.name}: its list of variables is missing or damaged; ",
                Call.MAKE_SAME,
                " again, or begin it anew ",
                Remedy("restart"),
            )
        return found

    def is_tidy(self) -> bool:
        """Return whether nothing is left to do after a result was marked as complete."""
        try:
            listed = json.loads(self.records.get("zarr.json") or b"").get("consolidated_metadata")
        except (ValueError, AttributeError):
            return False
        return bool(listed) and not self.records.keys(RUN)

    def open(self) -> xr.Dataset:
        """Open a complete result lazily; reading a missing chunk will be refused.

        Raises
        ------
        DataSetError
            When it cannot be opened, or lacks its variables.
        """
        # Checked against the list: xarray would open a store that has lost a variable without it.
        listed = self.listed_arrays()
        try:
            remedy = Message("make the result again ", Remedy("restart"))
            store = Strict(self.records.store, remedy=remedy)
            result: xr.Dataset = xr.open_zarr(store)
        except DkdeError:
            raise
        except Exception as error:  # damaged metadata raise almost anything
            raise DataSetError(
                f"{self.name}: could not be opened ({one_line(error)}); make the result again ",
                Remedy("restart"),
            ) from error
        if lost := sorted(set(listed).difference(map(str, result.variables))):
            raise DataSetError(
                f"{self.name}: lacks {', '.join(lost)}; make the result again ",
                Remedy("restart"),
            )
        return result


def no_result(path: StrPath) -> DataSetError:
    """Return the error of a path at which there is no result, or nothing at all."""
    if is_remote(path) or os.path.lexists(path):
        return DataSetError(f"{path}: is no result of dkde")
    return DataSetError(f"{path}: is no result of dkde; there is no file or folder of this name")


@contextmanager
def writing(records: Records) -> Iterator[None]:
    """Raise what goes wrong while a store is written as one DataSetError of one line."""
    try:
        with warnings.catch_warnings():
            # zarr notes that consolidated metadata, and text of a fixed length, are no part
            # of the v3 specification yet; xarray reads both, and a store without the first
            # opens slowly over a network.
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            warnings.simplefilter("ignore", UnstableSpecificationWarning)
            # Users may keep other files below a result; zarr warns of them when it lists the group.
            warnings.filterwarnings("ignore", message="Object at .* is not recognized")
            yield
    except DkdeError:
        raise
    except Exception as error:  # xarray and zarr raise many kinds for what they cannot encode
        raise DataSetError(f"{records.name}: could not be written ({one_line(error)})") from error
