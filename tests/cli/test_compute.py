"""Where the work runs."""

from contextlib import contextmanager

import pytest
from dkde_cli.compute import attach, compute
from dkde_cli.options import Where

NOWHERE = Where(None, None, None, None, None)


class Client:
    dashboard_link = "http://there:8787/status"

    def nthreads(self):
        return {"a": 1, "b": 1}


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


def never():
    pytest.fail("nothing to estimate where the place is given")


def test_short_work_stays_in_the_process(connected):
    with compute(NOWHERE, lambda: 3.0):
        assert not connected


def test_where_nothing_is_estimated_as_well(connected):
    with compute(NOWHERE):
        assert not connected


def test_long_work_gets_a_cluster(connected, capsys):
    with compute(NOWHERE, lambda: 600.0):
        assert len(connected) == 1
    assert capsys.readouterr().err.splitlines() == [
        "This will take about 10 min",
        "Workers: 2, threads: 2, dashboard: http://there:8787/status",
    ]


def test_what_is_said_is_done(connected):
    with compute(Where("tcp://there:8786", None, None, None, None), never):
        assert connected[0]["address"] == "tcp://there:8786"
    with compute(Where(None, None, 3, 2, "1GB"), never):
        options = ("workers", "threads_per_worker", "memory_limit")
        assert [connected[1][name] for name in options] == [3, 2, "1GB"]


def test_the_configuration_comes_next(connected, monkeypatch):
    monkeypatch.setattr("dkde.configured_scheduler", lambda: "tcp://there:8786")
    with compute(NOWHERE, never), attach(NOWHERE):
        assert len(connected) == 2


def test_a_plan_starts_no_cluster(connected):
    with attach(NOWHERE), attach(Where(None, None, 3, None, None)):
        assert not connected
