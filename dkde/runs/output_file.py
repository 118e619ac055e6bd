"""A file that a run becomes when it is complete: a table, or NetCDF."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from dkde.errors import DataSetError, InputError, Remedy
from dkde.runs.opened import is_finished
from dkde.runs.output_names import run_of
from dkde.runs.result_files import Writer, is_written_by_dkde, write_file, writer_of
from dkde.stores.file_kinds import RASTERS, TABLES
from dkde.stores.objects import SeenObject, look_at_object
from dkde.stores.publishing import say_what_is_left
from dkde.stores.staging import staged
from dkde.stores.store import Records, is_remote, open_store
from dkde.stores.targets import Seen, check_place, look


@dataclass(frozen=True)
class OutputFile:
    """The file of a run, and what was at its place before.

    Parameters
    ----------
    path : path or URL
    seen : Seen or SeenObject
    write : callable
        Writes a result into a file.
    is_complete : bool
        Whether the file is there, and holds a whole result with the record of its run.
    """

    path: str
    seen: Seen | SeenObject
    write: Writer
    is_complete: bool = False

    @classmethod
    def checked(
        cls, path: str, *, tables: bool, maps: bool | None, replaces: Callable[[], bool]
    ) -> OutputFile:
        """Return the file of a run, once it is certain that it may be written.

        Parameters
        ----------
        tables : bool
            Whether one table can hold the result.
        maps : bool
            Whether it is a map, which a raster can hold and a table cannot; None if unknown.
        replaces : callable
            Returns whether a result that is there may be replaced.

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
        if not is_remote(path):
            say_what_is_left(run_of(path), remove=True)  # of a run that was being dropped
        seen = look_at_object(path) if is_remote(path) else look(path)
        is_there = (seen.tag if isinstance(seen, SeenObject) else seen.what) is not None
        if is_there and isinstance(seen, SeenObject):
            raise DataSetError(
                f"{path}: is there already, and a result in a bucket is not replaced; give another "
                "name, or remove it"
            )
        if is_there and not replaces():
            if is_written_by_dkde(path) and is_finished(path):
                return cls(path, seen, write, is_complete=True)
            raise DataSetError(
                f"{path}: is there already; give another name, or begin it anew ",
                Remedy("restart"),
            )
        if is_there and not is_written_by_dkde(path):
            raise DataSetError(
                f"{path}: is there already, and is no result of dkde; give another name"
            )
        return cls(path, seen, write)

    def deliver(self, result: xr.Dataset, run: str) -> None:
        """Write the file.

        Raises
        ------
        DataSetError
            When it cannot be written; the run is kept then.
        """
        try:
            write_file(result, self.path, self.seen, self.write)
        except DataSetError as error:
            store = f"{self.path[: -len(Path(self.path).suffix)]}.zarr"
            raise DataSetError(
                error.message,
                f"; the run is kept in {run}, which becomes a store if it is renamed to {store} "
                "and finished there",
            ) from error

    def drop(self, run: str) -> None:
        """Drop the run that is kept beside the file.

        Raises
        ------
        DataSetError
            When it cannot be removed.
        """
        if is_remote(run):
            Records(open_store(run), run).delete_all("")
            return
        # Renamed first: if the process is killed meanwhile, the next command drops the rest.
        try:
            with staged(Path(os.path.realpath(run))) as stage:
                os.rename(run, stage.new)
                shutil.rmtree(stage.new)
        except OSError as error:
            raise DataSetError(
                f"{run}: could not be removed ({error}); {self.path} is complete, remove it"
            ) from error
