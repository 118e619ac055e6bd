"""Result stores: one xarray Dataset, which appears whole, and the run beside it.

A finished result is a plain Zarr store, and says that it is complete. Until it appears, all that is
known of it is its run, see :mod:`dkde.runs.place`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import UnstableSpecificationWarning

from dkde.errors import Call, DataSetError, DkdeError, InputError, Message, Remedy, one_line
from dkde.runs.marks import Present
from dkde.runs.output_names import file_of, output_of
from dkde.runs.place import RunPlace
from dkde.runs.plan_schema import check_plan
from dkde.runs.roots import are_of_result
from dkde.stores.chunks import Strict
from dkde.stores.json_text import from_json
from dkde.stores.repositories import becomes_repository
from dkde.stores.store import Records, is_remote, open_store
from dkde.stores.versions import tip_of
from dkde.typing import StrPath

# A root attribute of every result. Nothing but a store that carries it is ever replaced.
RESULT_FORMAT = {"dkde_format": "result/1"}
# The variable that every result has.
MAIN = "log_density"
# The root attribute, in a bucket, of a result that is being written: the id of its run.
PUBLISHING = "publishing"
# The bytes of a chunk at most: it takes longer to make a file than to write a little more into it.
_CHUNK_BYTES = 2**21
# The variable of the weights that rows have in means, in results that have some.
ROW_WEIGHT = "row_weight"


@dataclass(frozen=True)
class State:
    """The content of a result's store, and of its run, at one moment.

    Parameters
    ----------
    name : str
        The name of the output, for messages.
    attributes : dict
        The attributes of its root group; empty where there is no group.
    content : object, optional
        The record of how its run began, as it was read; None where there is none. A damaged
        record is kept as its error, which is raised only by those who need the plan.
    present : Present, optional
        The run beside it.
    """

    name: str
    attributes: Mapping[str, Any]
    content: Any = None
    present: Present | None = None

    @property
    def holds_result(self) -> bool:
        """Return whether a result of dkde is at the place itself, complete or not."""
        return are_of_result(self.attributes)

    @property
    def is_result(self) -> bool:
        """Return whether there is a result of dkde, or a run of one."""
        return self.holds_result or self.present is not None

    @property
    def is_complete(self) -> bool:
        """Return whether the result is complete, and no other run has been begun since."""
        return self.holds_result and bool(self.attributes.get("complete")) and self._is_own

    @property
    def has_former(self) -> bool:
        """Return whether a complete result is there, which another run was begun to replace."""
        return self.holds_result and bool(self.attributes.get("complete")) and not self._is_own

    @property
    def _is_own(self) -> bool:
        if self.present is None:
            return True
        known = self.content.get("id") if isinstance(self.content, dict) else None
        return known is not None and known == self.present.id and "sessions" in self.content

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
        return check_plan(self.name, plan, "begin it anew ", Remedy("restart"))


class ResultStore:
    """The store of a result, and the run beside it.

    Parameters
    ----------
    path : path or URL
        The output, or the folder of its run.
    """

    def __init__(self, path: StrPath) -> None:
        self.name = output_of(path)
        # Whether it is an Icechunk repository, which keeps the results before it, too.
        self.is_repository = becomes_repository(self.name)
        self._records = None if self.is_repository else Records(open_store(self.name), self.name)
        self.run = RunPlace(self.name)

    @property
    def records(self) -> Records:
        """Return the records at the place itself; of a repository those of its branch now."""
        return self._records or Records(tip_of(self.name), self.name)

    @classmethod
    def at(cls, path: StrPath) -> Self:
        """Return the store at a path or URL, whatever is there."""
        return cls(path)

    @classmethod
    def found(cls, path: StrPath) -> tuple[Self, State]:
        """Return the store of a result that is there, or has a run, and what it holds.

        Raises
        ------
        DataSetError
            When there is no result of dkde.
        """
        store = cls(path)
        state = store.look()
        if not state.is_result:
            if file_of(path) is not None and not is_remote(path) and os.path.isfile(path):
                raise DataSetError(f"{path}: is complete, and its run is no longer kept")
            raise no_result(path)
        return store, state

    @classmethod
    def finished(cls, path: StrPath) -> tuple[Self, State]:
        """Return the store of a complete result, even where another run goes on beside it.

        Raises
        ------
        DataSetError
            When there is none, or it is not complete.
        """
        store, state = cls.found(path)
        if not (state.holds_result and state.attributes.get("complete")):
            raise DataSetError(
                f"{path}: is not complete; dkde status says how far it is, and ",
                Call.SAME,
                " again goes on",
            )
        return store, State(state.name, state.attributes, _recorded(state.attributes))

    def look(self) -> State:
        """Return what the store, and its run, hold now."""
        # The run first: a result appears before its run goes.
        present = self.run.look()
        attributes = self._attributes()
        own = State(self.name, attributes, _recorded(attributes), present)
        if own.is_complete or (present is None and not own.holds_result):
            return own
        if present is not None:
            return State(self.name, attributes, present.content, present)
        if attributes.get("complete"):
            return own
        return State(self.name, attributes, _unfinished(self.name, attributes))

    def has_appeared(self) -> bool:
        """Return whether a complete result is at the place, of whichever run."""
        attributes = self._attributes()
        return are_of_result(attributes) and bool(attributes.get("complete"))

    def _attributes(self) -> dict[str, Any]:
        """Return the attributes of the root group; empty where there is none to read."""
        try:
            return dict(zarr.open_group(self.records.store, mode="r", zarr_format=3).attrs)
        except InputError:  # a ValueError too, but of the environment and not of the store
            raise
        # Numbers that are too large, too.
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            return {}

    def listed_arrays(self) -> dict[str, dict[str, Any]]:
        """Return the metadata of a complete result's arrays, by name, from the consolidated list.

        In a repository the names are those of its snapshot, which is whole.

        Raises
        ------
        DataSetError
            When the list is damaged or missing.
        """
        try:
            listed = self._listed_in_snapshot() if self.is_repository else self._listed_in_root()
            found = {
                name: record
                for name, record in listed.items()
                if "/" not in name and record["node_type"] == "array"
            }
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            found = {}
        if MAIN not in found:
            raise DataSetError(
                f"{self.name}: its list of variables is missing or damaged; ",
                Call.MAKE_SAME,
                " again, or begin it anew ",
                Remedy("restart"),
            )
        return found

    def _listed_in_root(self) -> dict[str, Any]:
        root = from_json(self.records.get("zarr.json") or b"")
        listed: dict[str, Any] = root["consolidated_metadata"]["metadata"]
        return listed

    def _listed_in_snapshot(self) -> dict[str, Any]:
        records = self.records
        names = [name for name in records.names("") if name != "zarr.json"]
        return {name: from_json(records.get(f"{name}/zarr.json") or b"") for name in names}

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
            result: xr.Dataset = xr.open_zarr(
                store, consolidated=False if self.is_repository else None
            )
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


def _recorded(attributes: Mapping[str, Any]) -> Any:
    """Return the record of the run of a finished result from its attributes."""
    if "run" not in attributes:
        return None
    with suppress(ValueError, TypeError):
        return from_json(attributes["run"]) or {}
    return {}


def _unfinished(name: str, attributes: Mapping[str, Any]) -> DataSetError:
    """Return the error of a store that is not complete, and has no run beside it."""
    if PUBLISHING in attributes:
        return DataSetError(
            f"{name}: its result was being written, and the run beside it is gone; begin it anew ",
            Remedy("restart"),
        )
    return DataSetError(
        f"{name}: was begun by an earlier version of dkde, which kept its blocks in another way; "
        "finish it with that version, or begin it anew ",
        Remedy("restart"),
    )


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


def write_result(result: xr.Dataset, store: Store) -> None:
    """Write a whole result into an empty store, chunk by chunk."""
    result.drop_encoding().to_zarr(
        store,
        mode="w-",
        zarr_format=3,
        consolidated=False,
        encoding={name: _encoding(each) for name, each in result.variables.items()},
        write_empty_chunks=True,  # so that a missing chunk is damage
    )
    if store.supports_consolidated_metadata:  # a snapshot has a list of its own
        zarr.consolidate_metadata(store, zarr_format=3)


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    """Return how a variable is written: every chunk carries its checksum."""
    found: dict[str, Any] = {"compressors": [ZstdCodec(level=1), Crc32cCodec()]}
    if variable.dtype.kind in "fiub" and variable.ndim:
        found["chunks"] = _chunks(variable.shape, variable.dtype.itemsize)
    return found


def _chunks(shape: tuple[int, ...], n_bytes: int) -> tuple[int, ...]:
    """Return the shape of chunks of an array, whose longest axes are cut.

    Examples
    --------
    >>> _chunks((8, 3_000_000), 8)
    (8, 23438)
    """
    chunk = list(shape)
    while prod(chunk) * n_bytes > _CHUNK_BYTES:
        longest = chunk.index(max(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    return tuple(chunk)
