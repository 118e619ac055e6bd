"""What every worker is asked, while workers leave, end and join."""

from typing import Any

import pytest

from dkde.errors import ClusterError, MemoryLimitError
from dkde.workers.asking import on_every_worker
from dkde.workers.clients import Departures, in_words


class Scripted:
    """A client whose workers answer as they are told to; those that raise leave."""

    def __init__(self, *rounds: dict[str, Any], expected: bool = False, limit: int = 0) -> None:
        self.rounds, self.expected, self.limit = list(rounds), expected, limit
        self.status, self.scheduler = "running", type("Scheduler", (), {"address": "tcp://s:1"})
        self.events: list[tuple[float, Any]] = [(1.0, "logged by somebody else")]
        self.asked = 0

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"workers": {"tcp://w:1": {"memory_limit": self.limit}}}

    def get_events(self, topic: str) -> Any:
        return tuple(self.events)

    def run(self, call: Any, argument: Any, on_error: str) -> dict[str, Any]:
        self.asked += 1
        answers = self.rounds.pop(0)
        for answer in answers.values():
            if isinstance(answer, OSError):
                event = {"action": "remove-worker", "expected": self.expected}
                self.events.append((1.0 + len(self.events), event))
        return answers


GONE = OSError("Timed out trying to connect")


def ask(client: Any) -> Any:
    return on_every_worker(client, len, "")


def test_workers_that_leave_are_no_error() -> None:
    assert ask(Scripted({"a": 0, "b": GONE}, limit=100)) == {"a": 0}
    assert ask(Scripted({"a": GONE, "b": GONE}, expected=True, limit=100)) == {}
    assert ask(Scripted({})) == {}


def test_if_all_die_those_that_come_after_are_asked() -> None:
    client = Scripted({"a": GONE}, {"b": GONE, "c": 0})
    assert ask(client) == {"c": 0}
    assert client.asked == 2


def test_memory_is_blamed_only_where_all_die_again_and_again() -> None:
    dying = [{"a": GONE}] * 10
    with pytest.raises(MemoryLimitError, match=r"ended 3 times while they were load.*200 B may be"):
        ask(Scripted(*dying, limit=200))
    # Nor where they have enough of it.
    for limit in (0, 10**9):
        with pytest.raises(ClusterError, match=r"ended 10 times .* libraries; see the log of one$"):
            ask(Scripted(*dying, limit=limit))


def test_an_error_of_a_workers_own_names_it() -> None:
    error = PermissionError(13, "Permission denied", "/data")
    with pytest.raises(
        ClusterError, match=r"^worker a cannot take part \(PermissionError: .*/data"
    ):
        ask(Scripted({"a": error}))


def test_departures_are_counted_by_their_kind() -> None:
    client: Any = Scripted()
    client.events.append((2.0, {"action": "remove-worker", "expected": False}))
    departures = Departures(client)
    assert (departures.retired, departures.died) == (0, 0)  # those before are not
    for moment, expected in ((3.0, True), (4.0, False), (5.0, True)):
        client.events.append((moment, {"action": "remove-worker", "expected": expected}))
    client.events.append((6.0, {"action": "add-worker"}))
    for _ in range(2):
        departures.look()
        assert (departures.retired, departures.died) == (2, 1)


def leave(client: Any, status: str, error: Exception) -> Exception:
    client.status = status
    return error


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        ("closed", RuntimeError("IOLoop is closed"), "tcp://s:1 was closed during the call; make"),
        ("closed", KeyError("workers"), "tcp://s:1 was closed during the call; make the call ag"),
        ("connecting", RuntimeError("x"), r"tcp://s:1 does not answer \(x\); start it again"),
        ("running", TimeoutError(), r"tcp://s:1 does not answer \(TimeoutError\); start it"),
    ],
)
def test_a_lost_cluster_is_said_in_a_line(status: str, error: Exception, words: str) -> None:
    client: Any = Scripted()
    with pytest.raises(ClusterError, match=words) as caught, in_words(client):
        raise leave(client, status, error)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyError("a bug"), MemoryLimitError("too much")])
def test_other_errors_pass(error: Exception) -> None:
    client: Any = Scripted()
    with pytest.raises(type(error)) as caught, in_words(client):
        raise error
    assert caught.value is error
