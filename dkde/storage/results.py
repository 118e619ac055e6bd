"""Result stores: one xarray Dataset, there whole or not at all."""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import xarray as xr

from dkde.errors import DataSetError


def check_free(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a result's path early, before hours of work.

    Raises
    ------
    DataSetError
        When something is there that is not to be overwritten, or the folder above is not.
    """
    target = Path(path)
    if target.exists() or target.is_symlink():
        if not overwrite:
            raise DataSetError(f"{path}: is there already; give another name, or overwrite it")
        if not (target / "zarr.json").is_file():
            raise DataSetError(f"{path}: is no Zarr store; remove it yourself if it can go")
    parent = target.absolute().parent
    if not parent.is_dir():
        raise DataSetError(f"{path}: there is no folder {parent} to write it into")
    if not os.access(parent, os.W_OK):
        raise DataSetError(f"{path}: the folder {parent} may not be written to")


def write_result(
    result: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a result as a Zarr v3 store.

    It is written beside its place and moved there when complete, so that what stands under
    its name is whole.

    Raises
    ------
    DataSetError
        As :func:`check_free`, and when the disk cannot take it.
    """
    check_free(path, overwrite=overwrite)
    target = Path(path).absolute()
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with warnings.catch_warnings():
            # zarr notes that consolidated metadata are no part of the v3 specification yet;
            # xarray reads them, and a store without them opens slowly over a network.
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            result.to_zarr(draft / "result", zarr_format=3, consolidated=True)
        if target.exists():
            os.replace(target, draft / "old")
        os.replace(draft / "result", target)
    except OSError as error:
        raise DataSetError(f"{path}: could not be written ({error})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
