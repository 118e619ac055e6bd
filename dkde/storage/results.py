"""Result stores: one xarray Dataset, there whole or not at all."""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import xarray as xr
import zarr
from zarr.errors import UnstableSpecificationWarning

from dkde.errors import DataSetError, DkdeError

# A root attribute of every result: only what carries it is ever replaced.
RESULT_FORMAT = {"dkde_format": "result/1"}


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
        if not _is_result(target):
            raise DataSetError(
                f"{path}: is no result of dkde, and only these are overwritten; remove it "
                "yourself if it can go"
            )
    parent = target.absolute().parent
    if not parent.is_dir():
        raise DataSetError(f"{path}: there is no folder {parent} to write it into")
    if not os.access(parent, os.W_OK):
        raise DataSetError(f"{path}: the folder {parent} may not be written to")


def write_result(
    result: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a result as a Zarr v3 store, marked as one by `RESULT_FORMAT`.

    It is written beside its place and moved there when complete, so that what stands under
    its name is whole.

    Raises
    ------
    DataSetError
        As :func:`check_free`, and when it cannot be written: the disk is full, or the result
        holds what Zarr cannot store.
    """
    check_free(path, overwrite=overwrite)
    target = Path(path).absolute()
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            with warnings.catch_warnings():
                # zarr notes that consolidated metadata, and text of a fixed length, are no part
                # of the v3 specification yet; xarray reads both, and a store without the first
                # opens slowly over a network.
                warnings.filterwarnings("ignore", message="Consolidated metadata")
                warnings.simplefilter("ignore", UnstableSpecificationWarning)
                result.assign_attrs(RESULT_FORMAT).to_zarr(
                    draft / "result", zarr_format=3, consolidated=True
                )
            _move_into_place(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except DkdeError:
        raise
    except Exception as error:  # xarray and zarr raise many kinds for what they cannot encode
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataSetError(f"{path}: could not be written ({reason[:200]})") from error


def _is_result(path: Path) -> bool:
    try:
        root = zarr.open_group(path.absolute(), mode="r", zarr_format=3)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return str(root.attrs.get("dkde_format", "")).startswith("result/")


def _move_into_place(draft: Path, target: Path) -> None:
    replaced = target.exists()
    if replaced:
        os.replace(target, draft / "old")
    try:
        os.replace(draft / "result", target)
    except BaseException:
        if replaced:
            os.replace(draft / "old", target)
        raise
