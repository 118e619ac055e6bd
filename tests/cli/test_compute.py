"""Where the work runs."""

from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

import pytest
from dkde_cli.compute import attach, compute
from dkde_cli.options import Where

NOWHERE = Where(None, None, None, None, None)


class Client:
    dashboard_link = "http://there:8787/status"
    packages: ClassVar = {"bokeh": "3.6"}

    def nthreads(self):
        return {"a": 1, "b": 1}

    def run_on_scheduler(self, function, name):
        assert function is version
        if name not in self.packages:
            raise PackageNotFoundError(name)
        return self.packages[name]


@pytest.fixture
def connected(monkeypatch):
    """The arguments of every connection that is made."""
    calls = []

    @contextmanager
    def connect(address, **options):
        calls.append({"address": address, **options})
        yield Client()

    monkeypatch.setattr("dkde.connect", connect)
    monkeypatch.setattr("dkde.configured_scheduler", lambda: None)
    return calls


def test_work_stays_in_the_process(connected, capsys):
    with compute(NOWHERE):
        assert not connected
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "command",
    [
        ("score", "digits", "--query", "valid", "--bandwidth", "1"),
        ("sweep", "digits", "--bandwidths", "1,2,4", "--no-plot"),
        ("cv", "digits", "--bandwidths", "1,2,4"),
    ],
    ids=lambda command: command[0],
)
def test_long_work_as_well(run, connected, monkeypatch, command):
    monkeypatch.setattr("dkde.plan", lambda **_: pytest.fail("nothing depends on the cost"))
    run(*command)
    assert not connected


def test_what_is_said_is_done(connected, capsys):
    with compute(Where("tcp://there:8786", None, None, None, None)):
        assert connected[0]["address"] == "tcp://there:8786"
    said = capsys.readouterr().err
    assert said == "Workers: 2, threads: 2, dashboard: http://there:8787/status\n"
    with compute(Where(None, None, 3, 2, "1GB")):
        options = ("workers", "threads_per_worker", "memory_limit")
        assert [connected[1][name] for name in options] == [3, 2, "1GB"]


def test_a_dashboard_is_named_only_where_there_is_one(connected, capsys, monkeypatch):
    """Without bokeh the scheduler serves a page that says so."""
    monkeypatch.setattr(Client, "packages", {})
    with compute(Where("tcp://there:8786", None, None, None, None)):
        assert capsys.readouterr().err == "Workers: 2, threads: 2\n"


def test_the_configuration_comes_next(connected, monkeypatch):
    monkeypatch.setattr("dkde.configured_scheduler", lambda: "tcp://there:8786")
    with compute(NOWHERE), attach(NOWHERE):
        assert len(connected) == 2


def test_a_plan_starts_no_cluster(connected):
    with attach(NOWHERE), attach(Where(None, None, 3, None, None)):
        assert not connected
