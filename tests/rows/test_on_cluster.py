"""The one private call of distributed that tasks make, and why it works."""

import inspect

from distributed import Client, Scheduler


def test_distributed_takes_the_message_that_a_task_waits_for_keys() -> None:
    # `dkde.rows.on_cluster` sends it. If this fails, look at how distributed's client tells a
    # scheduler to which it connects again that it waits for its futures.
    assert list(inspect.signature(Client._send_to_scheduler).parameters) == ["self", "msg"]
    wanted = set(inspect.signature(Scheduler.client_desires_keys).parameters)
    assert {"keys", "client"} <= wanted
    assert '"client-desires-keys"' in inspect.getsource(Client._inform_scheduler_of_futures)
    assert '"client-desires-keys": self.client_desires_keys' in inspect.getsource(Scheduler)
