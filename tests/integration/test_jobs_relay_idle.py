"""An idle relay: it sleeps, wakes by a notification, and leaves nothing behind."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.ids import new_id
from domain.job_types import JobType
from jobs.enqueue import enqueue
from jobs.relay import IDLE_POLL_S, Outgoing, Relay
from models.database import CONNECTION_ERRORS, execute, fetch, reconnect, transaction

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

WAIT_S = 10.0
JOB = JobType.PAYOUT_RECONCILE


class FakePublisher:
    """A broker that confirms everything, while it is there."""

    def __init__(self) -> None:
        self.epoch: UUID | None = new_id()
        self.ids: list[UUID] = []
        self.got_one = threading.Event()
        self.connects = 0

    def connect(self) -> UUID | None:
        self.connects += 1
        return self.epoch

    def publish(self, batch: Sequence[Outgoing]) -> set[UUID]:
        self.ids += [item.job_id for item in batch]
        self.got_one.set()
        return {item.job_id for item in batch}

    def close(self) -> None:
        self.epoch = None


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


def add() -> UUID:
    with transaction():
        return enqueue(JOB.message("1")).id


def test_without_a_broker_it_rests(publisher: FakePublisher) -> None:
    """Overdue entries must not make it try again without a pause."""
    relay = Relay(publisher)
    add()
    relay.run_once()
    execute("UPDATE job_outbox SET due_at = overnight_now() - interval '1 ms'")
    publisher.epoch = None
    before = publisher.connects
    [(started,)] = fetch("SELECT clock_timestamp()")
    relay.wait()
    [(slept,)] = fetch("SELECT clock_timestamp() - %s", (started,))
    assert slept >= timedelta(seconds=IDLE_POLL_S)
    assert publisher.connects == before + 1


def test_an_idle_relay_is_woken_by_an_enqueue(
    publisher: FakePublisher, spawn: Callable[[Callable[[], Any]], "Future[Any]"]
) -> None:
    relay = Relay(publisher)
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            if not relay.run_once():
                relay.wait()
        relay.close()

    looping = spawn(loop)
    while not fetch("SELECT 1 FROM relay_idle"):
        assert not looping.done()
    job_id = add()
    assert publisher.got_one.wait(WAIT_S)
    stop.set()
    looping.result(WAIT_S)
    assert publisher.ids == [job_id]
    assert fetch("SELECT 1 FROM relay_idle") == []


def test_a_relay_listens_again_after_its_connection_was_lost(
    publisher: FakePublisher, spawn: Callable[[Callable[[], Any]], "Future[Any]"]
) -> None:
    relay = Relay(publisher)
    listening = "SELECT pg_backend_pid(), count(*) FROM pg_listening_channels()"

    def lose_and_go_on() -> list[tuple[Any, ...]]:
        relay.wait()
        [(pid, channels)] = fetch(listening)
        with pytest.raises(CONNECTION_ERRORS):
            execute("SELECT pg_terminate_backend(pg_backend_pid())")
        reconnect()
        relay.wait()
        [(other, again)] = fetch(listening)
        return [(pid != other, channels, again)]

    assert spawn(lose_and_go_on).result(WAIT_S) == [(True, 1, 1)]


def test_a_notification_that_comes_while_it_looks_is_not_slept_over() -> None:
    """It arrives with the answer to another statement, so the socket stays silent."""

    class Notified(FakePublisher):
        def connect(self) -> UUID | None:
            execute("NOTIFY job_outbox")  # our own session hears it with this very answer
            return super().connect()

    heard = Relay(Notified())
    started = fetch("SELECT clock_timestamp()")[0][0]
    for _ in range(10):
        heard.wait()
    [(slept,)] = fetch("SELECT clock_timestamp() - %s", (started,))
    assert slept < timedelta(seconds=10 * IDLE_POLL_S)


def test_a_killed_relays_idle_row_does_not_stay(publisher: FakePublisher) -> None:
    """Each enqueue would notify for ever, which halves the rate of commits."""
    execute("INSERT INTO relay_idle VALUES (%s)", (str(new_id()),))
    Relay(publisher).wait()
    assert fetch("SELECT 1 FROM relay_idle") == []


def test_while_workers_empty_a_full_window_it_only_rests(publisher: FakePublisher) -> None:
    """Looking, listening and being notified all the while costs more than the jobs themselves."""
    relay = Relay(publisher, window=3)
    for _ in range(5):
        add()
    assert not relay.look(), "the window is full: no reason to look again at once"
    assert len(publisher.ids) == 3
    relay.wait()
    assert publisher.connects == 1
    assert not relay.look()
    relay.wait()  # nobody empties it, so another queue's job must be able to wake the relay
    assert publisher.connects > 2
    execute("DELETE FROM job_outbox WHERE job_id = %s", (str(publisher.ids[0]),))
    assert not relay.look()
    assert len(publisher.ids) == 4
    assert relay.run_once() == 0


def test_it_looks_again_at_once_while_there_is_room(publisher: FakePublisher) -> None:
    relay = Relay(publisher, batch=2)
    for _ in range(3):
        add()
    assert [relay.look() for _ in range(3)] == [True, True, False]
