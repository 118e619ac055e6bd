"""Places that nothing may be written at are refused before the work."""

import os
from functools import partial

import pytest

import dkde
from dkde.errors import DataSetError, InputError

check_file = partial(dkde.check_place, what="report")
check_store = partial(dkde.check_place, what="result", is_store=True)


def test_a_place_that_is_free(tmp_path):
    check_file(tmp_path / "r.html", suffixes=(".html",), overwrite=False)
    check_store(tmp_path / "r.zarr", overwrite=False)


def test_what_is_there_is_replaced_where_it_may_be(tmp_path):
    (tmp_path / "r.html").write_text("old")
    (tmp_path / "r.zarr").mkdir()
    for check, name in ((check_file, "r.html"), (check_store, "r.zarr")):
        check(tmp_path / name)
        with pytest.raises(DataSetError, match=r"is there already; .* replace it \(overwrite\)"):
            check(tmp_path / name, overwrite=False)


@pytest.mark.parametrize("check", [check_file, check_store])
def test_a_missing_folder_is_named(tmp_path, check):
    with pytest.raises(DataSetError, match=r"there is no folder .*no to write it into"):
        check(tmp_path / "no/r")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("check", [check_file, check_store])
@pytest.mark.parametrize("mode", [0o500, 0o600])
def test_a_folder_that_may_not_be_written_to(tmp_path, check, mode):
    (tmp_path / "shut").mkdir(mode=mode)
    with pytest.raises(DataSetError, match=r"the folder .*shut may not be written to"):
        check(tmp_path / "shut/r")


def test_another_kind_is_in_the_way(tmp_path):
    (tmp_path / "r").write_text("all of it")
    with pytest.raises(DataSetError, match="is a file; give another name"):
        check_store(tmp_path / "r")
    with pytest.raises(DataSetError, match="is a folder; give the report a name in it"):
        check_file(tmp_path)


def test_a_device_is_written_into():
    check_file(os.devnull, overwrite=False)


def test_another_suffix(tmp_path):
    with pytest.raises(InputError, match=r"reports are written as \.html or \.htm files"):
        check_file(tmp_path / "r.pdf", suffixes=(".html", ".htm"))
    check_file(tmp_path / "R.HTM", suffixes=(".html", ".htm"))


def test_within_another_store(tmp_path):
    dkde.import_dataset("digits", tmp_path / "d.zarr")
    for place in ("d.zarr/r.zarr", "d.zarr/train/r.zarr", "d.zarr/no/r.zarr"):
        with pytest.raises(DataSetError, match=r"lies in the Zarr store .*d\.zarr"):
            check_store(tmp_path / place)


def test_an_unknown_url():
    with pytest.raises(InputError, match="ftp:// is not known"):
        check_store("ftp://host/r.zarr")
