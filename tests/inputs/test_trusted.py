"""Which data of a result are opened without asking, by their place and that of the result."""

import json
import os
import shutil
import time
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde
from dkde.inputs.trusted import Trust, UntrustedError, is_own
from dkde.numerics import cache_folder

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* share rows"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata"),
]
ROWS = np.random.default_rng(0).normal(size=(30, 2))


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """A result of a stranger, with its data beside it, and other files elsewhere."""
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    np.save(home / "x.npy", ROWS)
    np.save(other / "x.npy", ROWS)
    os.mkfifo(other / "fifo.npy")
    os.mkfifo(home / "fifo.npy")
    monkeypatch.chdir(home)
    dkde.score("x.npy[:10]", "x.npy[10:]", 0.5, output="r.zarr")
    os.chmod(home / "r.zarr", 0o777)
    return home / "r.zarr"


def naming(store, train, **more):
    """Let the record of a result name other training rows."""
    root = zarr.open_group(store, use_consolidated=False)
    record = json.loads(root.attrs["run"])
    record["call"]["arguments"] |= {"train": train, **more}
    root.attrs["run"] = json.dumps(record)
    with warnings.catch_warnings(action="ignore"):
        zarr.consolidate_metadata(store)
    os.chmod(store, 0o777)


def beside(store, **options):
    return Trust.of(str(store), None, options.pop("told", {}), everything=False, **options)


def test_data_beside_the_result_are_opened(strange):
    assert dkde.verify(strange)["blocks"] == 1
    assert dkde.status(strange)["sources"]["x.npy"] == str(strange.parent / "x.npy")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("form", ["{}/x.npy", "{}/*.npy", "{}/**/x.npy", "../other/x.npy"])
def test_data_elsewhere_are_not_opened_unless_the_user_says_so(strange, form):
    elsewhere = strange.parents[1] / "other"
    naming(strange, form.format(elsewhere))
    (elsewhere / "fifo.npy").unlink()
    with pytest.raises(dkde.InputError, match=r"does not lie beside it.*\(trust_sources\)$"):
        dkde.verify(strange)
    dkde.status(strange)
    with pytest.raises(dkde.DkdeError) as refused:  # it is opened now, and other rows than then
        dkde.verify(strange, trust_sources=True)
    assert "trust_sources" not in str(refused.value)


def test_a_name_elsewhere_that_is_gone_is_not_opened_to_see(strange):
    """To open it would look for an unfinished replacement there, and complete it."""
    gone = strange.parents[1] / "other" / "gone.npy"
    with pytest.raises(dkde.DataSetError, match=r"gone.npy: no such file or folder$"):
        beside(strange).check(str(gone))
    with pytest.raises(UntrustedError):
        beside(strange).check(str(gone.with_name("x.npy")))


def test_data_that_the_user_names_are_opened(strange):
    shutil.move(strange.parent / "x.npy", strange.parents[1] / "other" / "y.npy")
    moved = strange.parents[1] / "other" / "y.npy"
    naming(strange, "x.npy[10:]")
    assert dkde.verify(strange, sources={"x.npy": str(moved)})["blocks"] == 1


@pytest.mark.slow
def test_a_result_of_the_user_opens_what_it_names(strange):
    elsewhere = strange.parents[1] / "other" / "z.npy"
    shutil.move(strange.parent / "x.npy", elsewhere)
    dkde.score(f"{elsewhere}[:10]", f"{elsewhere}[10:]", 0.5, output="own.zarr")
    assert dkde.verify("own.zarr")["blocks"] == 1
    os.chmod("own.zarr", 0o777)
    with pytest.raises(dkde.InputError, match="trust_sources"):
        dkde.verify("own.zarr")
    line = CliRunner().invoke(cli, ["verify", "own.zarr"]).stderr
    assert line.endswith("if you trust whoever made the result, allow it with --trust-sources\n")
    assert CliRunner().invoke(cli, ["verify", "own.zarr", "--trust-sources"]).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False])
def test_pipes_and_devices_never_block(strange, own):
    os.chmod(strange, 0o700 if own else 0o777)
    for name in ("fifo.npy", str(strange.parents[1] / "other" / "fifo.npy"), "/dev/zero",
                 "/proc/kmsg", "/dev/stdin"):  # fmt: skip
        naming(strange, name)
        os.chmod(strange, 0o700 if own else 0o777)
        start = time.monotonic()
        with pytest.raises(UntrustedError):
            dkde.verify(strange)
        dkde.status(strange)
        assert time.monotonic() - start < 5


def test_links_that_lead_elsewhere_are_not_followed(strange):
    home, other = strange.parent, strange.parents[1] / "other"
    (home / "link.npy").symlink_to(other / "x.npy")
    (home / "inner.npy").symlink_to("x.npy")
    (home / "folder").mkdir()
    (home / "folder" / "x.npy").symlink_to(other / "x.npy")
    trust = beside(strange)
    trust.check(str(home / "inner.npy"))
    trust.check(str(home / "x*.npy"))
    for name in ("link.npy", "folder", "folder/*.npy", "l*.npy", "**/*.npy"):
        with pytest.raises(UntrustedError, match="result"):
            trust.check(str(home / name))


def test_no_request_to_a_bucket_that_only_the_result_names(strange, monkeypatch):
    def asked(*_, **__):
        raise AssertionError("a request")

    monkeypatch.setattr("dkde.stores.store.open_store", asked)
    naming(strange, "s3://theirs/x.zarr::train")
    with pytest.raises(dkde.InputError, match="no request is made"):
        dkde.verify(strange)
    dkde.status(strange)
    trust = beside("s3://mine/r.zarr")
    trust.check("s3://mine/x.zarr::train")
    for url in ("s3://theirs/x.zarr", "gs://mine/x.zarr", "s3://mine2/x.zarr"):
        with pytest.raises(UntrustedError):
            trust.check(url)
    beside("s3://mine/r.zarr", told={"old": "s3://theirs/x.zarr"}).check("s3://theirs/x.zarr::a")
    with pytest.raises(UntrustedError, match="does not lie beside"):
        trust.check(str(strange.parent / "x.npy"))


def test_an_unpacked_result_may_not_name_buckets(strange):
    os.chmod(strange, 0o700)
    here = str(strange)
    assert Trust.of(here, here, {}, everything=False).admits("s3://any/x.zarr")
    assert not Trust.of(here, "/packed/r.zarr", {}, everything=False).admits("s3://any/x.zarr")
    assert not Trust.of(here, None, {}, everything=False).admits("s3://any/x.zarr")


def test_a_comparison_and_a_report_say_what_they_did_not_open(strange):
    other = strange.parents[1] / "other" / "x.npy"
    root = zarr.open_group(strange, use_consolidated=False)
    root.attrs["provenance"] = root.attrs["provenance"].replace('"x.npy"', json.dumps(str(other)))
    with warnings.catch_warnings(action="ignore"):
        zarr.consolidate_metadata(strange)
    os.chmod(strange, 0o777)
    os.remove("x.npy")  # which the same data elsewhere may stand for
    dkde.report(strange, "r.html")
    with open("r.html") as page:
        assert "does not lie beside it" in page.read()
    dkde.report(strange, "r.html", trust_sources=True)
    with open("r.html") as page:
        assert "does not lie beside it" not in page.read()


class TestOwn:
    def test_of_this_user_alone(self, strange):
        assert not is_own(str(strange))
        os.chmod(strange, 0o755)
        assert is_own(str(strange))
        os.chmod(strange / "zarr.json", 0o666)
        assert not is_own(str(strange))
        assert not is_own(str(strange.parent / "none.zarr"))

    def test_of_another_user(self, strange, monkeypatch):
        os.chmod(strange, 0o755)
        me = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: me + 1)
        assert not is_own(str(strange))

    def test_a_group_of_the_user_alone_is_no_other(self, strange, monkeypatch):
        os.chmod(strange, 0o775)
        monkeypatch.setattr(cache_folder, "_is_own_group", lambda number: True)
        assert is_own(str(strange))
        monkeypatch.setattr(cache_folder, "_is_own_group", lambda number: False)
        assert not is_own(str(strange))

    def test_a_record_that_is_a_link_is_not(self, strange):
        os.chmod(strange, 0o755)
        shutil.move(strange / "zarr.json", strange.parent / "root.json")
        (strange / "zarr.json").symlink_to(strange.parent / "root.json")
        assert not is_own(str(strange))

    def test_of_a_run_beside_its_output(self, strange):
        folder = strange.parent / "s.csv.run"
        folder.mkdir(mode=0o755)
        (folder / "dkde-run-1.json").write_text("{}")
        assert is_own(str(strange.parent / "s.csv"))
        os.chmod(folder / "dkde-run-1.json", 0o646)
        assert not is_own(str(strange.parent / "s.csv"))
        os.chmod(folder / "dkde-run-1.json", 0o644)
        # The copy of its plan is read where the mark is damaged.
        copy = folder / ("0" * 32) / "plan.json"
        copy.parent.mkdir(mode=0o755)
        copy.write_text("{}")
        assert is_own(str(strange.parent / "s.csv"))
        for path, open_to_all, mode in ((copy, 0o646, 0o644), (copy.parent, 0o777, 0o755)):
            os.chmod(path, open_to_all)
            assert not is_own(str(strange.parent / "s.csv"))
            os.chmod(path, mode)


@pytest.mark.slow
def test_a_template_of_a_map_is_data_too(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    axes = {"a": ("a", np.arange(3.0)), "b": ("b", np.arange(3.0))}
    xr.Dataset(coords=axes).to_zarr(tmp_path / "grid.zarr")
    values = {name: ("row", ROWS[:, i]) for i, name in enumerate("ab")}
    xr.Dataset(values).to_zarr("x.zarr")
    rows = {"features": ["a", "b"]}
    dkde.density_map("x.zarr", 0.5, like=tmp_path / "grid.zarr", output="m.zarr", **rows)
    assert dkde.verify("m.zarr")["blocks"] == 1
    os.chmod("m.zarr", 0o777)
    with pytest.raises(UntrustedError, match=r"grid\.zarr"):
        dkde.verify("m.zarr")
    assert dkde.verify("m.zarr", trust_sources=True)["blocks"] == 1


@pytest.mark.parametrize("way", ["link", "virtual", "raw"])
def test_variables_that_lie_elsewhere_are_not_read(strange, way):
    h5py = pytest.importorskip("h5py")
    other = strange.parent.parent / "other"
    ROWS.tofile(other / "raw.bin")
    with h5py.File(other / "o.h5", "w") as file:
        file["v"] = ROWS
    with h5py.File("x.h5", "w") as file:
        file["near"] = ROWS
        if way == "link":
            file["v"] = h5py.ExternalLink(str(other / "o.h5"), "v")
        elif way == "raw":
            file.create_dataset("v", ROWS.shape, "f8", external=[(str(other / "raw.bin"), 0, 480)])
        else:
            layout = h5py.VirtualLayout(ROWS.shape, "f8")
            layout[:] = h5py.VirtualSource(str(other / "o.h5"), "v", ROWS.shape)
            file.create_virtual_dataset("v", layout)
    trust = beside(strange)
    with pytest.raises(UntrustedError, match=r"x\.h5: .* its variables lead to .*other"):
        trust.check("x.h5")
    with h5py.File("x.h5", "a") as file:
        del file["v"]
    trust.check("x.h5")
