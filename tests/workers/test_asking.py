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
        self.events: dict[str, list[tuple[float, Any]]] = {}
        self.there = {"tcp://w:1"}
        self.asked = 0

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"workers": {name: {"memory_limit": self.limit} for name in self.there}}

    def get_events(self, topic: str) -> Any:
        # The scheduler cannot send those of "all" once something was sent to all workers.
        assert topic != "all"
        return tuple(self.events.get(topic, ()))

    def leaves(self, worker: str, *, expected: bool) -> None:
        self.there.discard(worker)
        event = {"action": "remove-worker", "expected": expected}
        self.events[worker] = [(1.0, "logged by somebody else"), (2.0, event)]

    def run(self, call: Any, argument: Any, on_error: str) -> dict[str, Any]:
        self.asked += 1
        # Each time other workers have come in their place.
        answers = {f"{name}{self.asked}": each for name, each in self.rounds.pop(0).items()}
        for worker, answer in answers.items():
            if isinstance(answer, OSError):
                self.leaves(worker, expected=self.expected)
        return answers


GONE = OSError("Timed out trying to connect")


def ask(client: Any) -> Any:
    return on_every_worker(client, len, "")


def test_workers_that_leave_are_no_error() -> None:
    assert ask(Scripted({"a": 0, "b": GONE}, limit=100)) == {"a1": 0}
    assert ask(Scripted({"a": GONE, "b": GONE}, expected=True, limit=100)) == {}
    assert ask(Scripted({})) == {}


def test_if_all_die_those_that_come_after_are_asked() -> None:
    client = Scripted({"a": GONE}, {"b": GONE, "c": 0})
    assert ask(client) == {"c2": 0}
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
        ClusterError, match=r"^worker a1 cannot take part \(PermissionError: .*/data"
    ):
        ask(Scripted({"a": error}))


def test_departures_are_counted_by_their_kind() -> None:
    client: Any = Scripted()
    client.leaves("before", expected=False)
    client.there |= {"a", "b"}
    departures = Departures(client)
    departures.saw(["c", "unknown"])
    assert (departures.retired, departures.died) == (0, 0)  # those before are not
    for worker, expected in (("a", True), ("b", False), ("c", True)):
        client.leaves(worker, expected=expected)
    client.there.add("d")
    for _ in range(2):
        departures.look()
        assert (departures.retired, departures.died) == (2, 1)
    client.leaves("d", expected=False)
    departures.look()
    assert (departures.retired, departures.died) == (2, 2)


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
