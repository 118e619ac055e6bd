"""A file that a run becomes when it is complete: a table, or NetCDF."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import xarray as xr

from dkde.errors import DataSetError, InputError, Remedy
from dkde.runs.opened import is_finished
from dkde.runs.parsing import parsed
from dkde.runs.place import RunPlace
from dkde.runs.publication import appear, drafted
from dkde.runs.result_files import Writer, is_written_by_dkde, write_file, writer_of, writing_file
from dkde.stores.file_kinds import RASTERS, TABLES
from dkde.stores.objects import SeenObject, digest_of, look_at_object
from dkde.stores.store import Records, is_remote
from dkde.stores.targets import check_place, is_stream, number_of

# What a run notes of the file that it is about to move to its place.
_PUBLISHED = "published.json"


@dataclass(frozen=True)
class OutputFile:
    """The file of a run, and what was at its place before.

    Parameters
    ----------
    path : path or URL
    seen : SeenObject, optional
        What was there, in a bucket.
    write : callable
        Writes a result into a file.
    is_complete : bool
        Whether the file is there, and holds a whole result with the record of its run.
    replaces : bool
        Whether a result is there that is replaced.
    """

    path: str
    write: Writer
    seen: SeenObject | None = None
    is_complete: bool = False
    replaces: bool = False

    @classmethod
    def checked(
        cls, path: str, place: RunPlace, *, tables: bool, maps: bool | None, restart: bool
    ) -> OutputFile:
        """Return the file of a run, once it is certain that it may be written.

        Parameters
        ----------
        place : RunPlace
            The place of the run.
        tables : bool
            Whether one table can hold the result.
        maps : bool
            Whether it is a map, which a raster can hold and a table cannot; None if unknown.
        restart : bool
            Whether a result that is there may be replaced, where files can be.

        Raises
        ------
        InputError, DataSetError
            When it may not be written, or the result cannot be of its kind.
        """
        write, suffix = writer_of(path), Path(path).suffix.lower()
        if suffix in TABLES and maps:
            raise InputError(
                f"{path}: a map is no table; write it as .nc, .zarr or .tif, and export the cells "
                "as a table from there"
            )
        if suffix in TABLES and not tables:
            name = path[: -len(suffix)]
            raise InputError(
                f"{path}: a table could hold the figures of each bandwidth, or the log-densities "
                f"of each row; write the result to {name}.nc or {name}.zarr, and export the rows "
                "from there (on the command line, --csv writes the figures)"
            )
        if suffix in RASTERS and maps is False:
            raise InputError(
                f"{path}: a GeoTIFF holds a map, and this result is none; write it as .nc or .zarr"
            )
        check_place(path, f"{suffix} file")
        seen = look_at_object(path) if is_remote(path) else None
        if seen is None and is_stream(path):
            raise DataSetError(f"{path}: is a pipe or a device, and no file; give another name")
        # A link whose target is missing is no file: that is written where the link leads.
        is_there = os.path.lexists(os.path.realpath(path)) if seen is None else seen.tag is not None
        is_own = is_there and _is_of_present(path, place)
        if is_there and seen is not None and not is_own:
            raise DataSetError(
                f"{path}: is there already, and a result in a bucket is not replaced; give another "
                "name, or remove it"
            )
        if is_there and not (restart or is_own or _is_to_replace(place)):
            if is_written_by_dkde(path) and is_finished(path):
                return cls(path, write, is_complete=True)
            raise DataSetError(
                f"{path}: is there already; give another name, or begin it anew ",
                Remedy("restart"),
            )
        if is_there and seen is None:
            _check_written_by_dkde(path, path)
        return cls(path, write, seen, replaces=is_there)

    def deliver(self, result: xr.Dataset, place: RunPlace, run: str) -> None:
        """Write the file, and let it appear at its place in one step.

        Parameters
        ----------
        place : RunPlace
            The place of the run.
        run : str
            The id of the run.

        Raises
        ------
        DataSetError
            When it cannot be written; the run is kept then.
        """
        try:
            if self.seen is not None:
                # A bucket has no step that names both the run and the file.
                place.check_present(run)
                write_file(result, self.path, self.seen, partial(self._noted, place.records(run)))
                return
            suffix, records = Path(self.path).suffix, place.records(run)
            with drafted(place, run, f"result{suffix}") as draft:
                with writing_file(self.path):
                    self.write(result, draft)
                target = Path(os.path.realpath(self.path))
                # By this a file is known as this run's where the process is killed after it.
                number = number_of(draft.stat())
                records.put(_PUBLISHED, json.dumps({"number": number}).encode())
                appear(draft, target, place, run, self._check)
        except DataSetError as error:
            store = f"{self.path[: -len(Path(self.path).suffix)]}.zarr"
            raise DataSetError(
                error.message,
                f"; the run is kept in {place.path}, which becomes a store if it is renamed to "
                f"{store}.run and finished as {store}",
            ) from error

    def _noted(self, records: Records, result: xr.Dataset, draft: Path) -> None:
        """Write a draft, by which the file is known as this run's once it is in its bucket."""
        self.write(result, draft)
        records.put(_PUBLISHED, json.dumps({"digest": digest_of(draft)}).encode())

    def _check(self, path: Path) -> None:
        """Refuse to replace what is at a path, if it was put there meanwhile."""
        if not self.replaces:
            raise DataSetError(
                f"{self.path}: something was put there by another process while the result was "
                "made, and stays as it is; look at it, and start the same run again"
            )
        _check_written_by_dkde(path, self.path)


def _is_to_replace(place: RunPlace) -> bool:
    """Return whether the run that is there was begun to replace a file."""
    present = place.look()
    content = None if present is None else present.content
    return isinstance(content, dict) and bool(content.get("replaces"))


def _is_of_present(path: str, place: RunPlace) -> bool:
    """Return whether the run that is there has written the file at a path itself."""
    present = place.look()
    if present is None or present.id is None or not isinstance(present.content, dict):
        return False
    try:
        known = parsed(place.records(present.id), _PUBLISHED) or {}
        if is_remote(path):
            return known.get("digest") == digest_of(path)
        return known.get("number") == number_of(os.stat(path))
    except (DataSetError, OSError):
        return False


def _check_written_by_dkde(path: str | os.PathLike[str], name: str) -> None:
    if not is_written_by_dkde(path):
        raise DataSetError(f"{name}: is there already, and is no result of dkde; give another name")
