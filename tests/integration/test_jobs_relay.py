"""The relay: what is due is published, and published again until a worker has claimed it."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from domain.ids import new_id
from domain.job_types import JobType
from jobs.claim import take
from jobs.enqueue import enqueue, enqueue_many
from jobs.relay import Outgoing, Relay
from jobs.rescue import rescue_once
from jobs.runner import put_back
from models.database import execute, fetch, transaction

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

WAIT_S = 10.0
JOB = JobType.PAYOUT_RECONCILE


class FakePublisher:
    """A broker that confirms what it is told to, and remembers what it was given."""

    def __init__(self) -> None:
        self.epoch: UUID | None = new_id()
        self.confirms = True
        self.batches: list[list[Outgoing]] = []
        self.got_one = threading.Event()
        self.connects = 0

    def connect(self) -> UUID | None:
        self.connects += 1
        return self.epoch

    def publish(self, batch: Sequence[Outgoing]) -> set[UUID]:
        self.batches.append(list(batch))
        self.got_one.set()
        return {item.job_id for item in batch} if self.confirms else set()

    def close(self) -> None:
        self.epoch = None

    @property
    def ids(self) -> list[UUID]:
        return [item.job_id for batch in self.batches for item in batch]


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def relay(publisher: FakePublisher) -> Relay:
    return Relay(publisher)


def add(slot: str = "1", job_type: JobType = JOB) -> UUID:
    with transaction():
        return enqueue(job_type.message(slot)).id


def entry() -> tuple[bool, int]:
    """Whether the one entry is with the broker, and how often it was published."""
    [(published, count)] = fetch("SELECT published_at IS NOT NULL, publish_count FROM job_outbox")
    return published, count


def make_overdue() -> None:
    execute("UPDATE job_outbox SET due_at = overnight_now() - interval '1 ms'")


def test_a_due_job_is_published_once(relay: Relay, publisher: FakePublisher) -> None:
    job_id = add()
    assert [relay.run_once(), relay.run_once()] == [1, 0]
    assert publisher.ids == [job_id]
    assert entry() == (True, 1)


def test_the_future_and_the_parked_are_not_published(
    relay: Relay, publisher: FakePublisher
) -> None:
    with transaction():
        enqueue(JOB.message("parked", parked=True))
        [(later,)] = fetch("SELECT overnight_now() + interval '1 hour'")
        enqueue(JOB.message("later"), run_at=later)
    assert relay.run_once() == 0
    assert publisher.batches == []


def test_what_is_not_confirmed_is_published_again(relay: Relay, publisher: FakePublisher) -> None:
    job_id = add()
    publisher.confirms = False
    assert relay.run_once() == 0
    assert entry() == (False, 0)
    publisher.confirms = True
    assert relay.run_once() == 1
    assert publisher.ids == [job_id, job_id]


def test_an_unconfirmed_job_that_a_worker_claimed_all_the_same_stays_claimed(
    relay: Relay, publisher: FakePublisher
) -> None:
    job_id = add()

    class Overtaken(FakePublisher):
        def publish(self, batch: Sequence[Outgoing]) -> set[UUID]:
            assert take(job_id, JOB, new_id())
            return set()

    assert Relay(Overtaken()).run_once() == 0
    assert relay.run_once() == 0
    assert publisher.batches == []


def test_without_a_broker_nothing_is_leased(relay: Relay, publisher: FakePublisher) -> None:
    add()
    publisher.epoch = None
    assert relay.run_once() == 0
    assert entry() == (False, 0)


def test_a_new_connection_publishes_again_what_the_old_one_had(
    relay: Relay, publisher: FakePublisher
) -> None:
    job_id = add()
    relay.run_once()
    publisher.epoch = new_id()
    assert relay.run_once() == 1
    assert publisher.ids == [job_id, job_id]
    assert [batch[0].publish_count for batch in publisher.batches] == [1, 2]


def test_another_relays_connection_is_not_forgotten(relay: Relay) -> None:
    add()
    Relay(FakePublisher()).run_once()
    relay.run_once()
    assert isinstance(relay.publisher, FakePublisher)
    relay.publisher.epoch = new_id()
    assert relay.run_once() == 0


def test_an_unclaimed_job_is_published_again_and_ever_later(
    relay: Relay, publisher: FakePublisher
) -> None:
    add()
    bounds = []
    for _ in range(6):
        assert relay.run_once() == 1
        [(bound,)] = fetch("SELECT extract(epoch FROM due_at - published_at) FROM job_outbox")
        bounds.append(float(bound))
        assert relay.run_once() == 0
        make_overdue()
    assert bounds == [10, 30, 90, 270, 600, 600]
    assert [batch[0].publish_count for batch in publisher.batches] == [1, 2, 3, 4, 5, 6]


def test_only_what_did_not_arrive_is_published_later_each_time(
    relay: Relay, publisher: FakePublisher
) -> None:
    """A relay that dies between lease and publish must not cost a much-travelled job minutes."""

    def publish() -> float:
        assert relay.run_once() == 1
        [(bound,)] = fetch("SELECT extract(epoch FROM due_at - published_at) FROM job_outbox")
        return float(bound)

    def lose_the_connection() -> None:
        publisher.epoch = new_id()

    def die_with_it() -> None:
        assert take(job_id, JOB, new_id())
        rescue_once(grace=timedelta(seconds=-1))

    def find_it_locked() -> None:
        put_back(job_id)
        execute("UPDATE job_outbox SET due_at = overnight_now()")

    job_id = add()
    publish()
    for happens in (lose_the_connection, die_with_it, find_it_locked) * 2:
        happens()
        assert publish() == 30
    assert {batch[0].publish_count for batch in publisher.batches} == {1, 2}


def test_a_claimed_job_is_never_published(relay: Relay, publisher: FakePublisher) -> None:
    job_id = add()
    relay.run_once()
    assert take(job_id, JOB, new_id())
    publisher.epoch = new_id()
    assert relay.run_once() == 0


def test_the_window_bounds_each_queue_on_its_own() -> None:
    publisher = FakePublisher()
    relay = Relay(publisher, window=3, batch=2)
    with transaction():
        enqueue_many(JOB, [(str(i),) for i in range(5)])
        enqueue_many(JobType.NOTIFICATION_INDIVIDUAL, [("k", str(i)) for i in range(5)])
    assert [relay.run_once() for _ in range(3)] == [4, 2, 0]
    assert take(publisher.ids[0], publisher.batches[0][0].job_type, new_id())
    assert relay.run_once() == 1


def test_priority_comes_first_then_time(relay: Relay, publisher: FakePublisher) -> None:
    types = [JOB, JobType.MATURITY_PAYMENT, JobType.MATURITY_PLT_TRANSFER]
    with transaction():
        for job_type in types:
            enqueue_many(job_type, [(str(i),) for i in range(150)])
    execute("UPDATE job_outbox SET due_at = due_at - random() * interval '1 minute'")
    wanted = fetch("SELECT job_id FROM job_outbox ORDER BY priority DESC, due_at")
    execute("ANALYZE job_outbox")  # a plan that hashes must keep the order too
    relay.run_once()
    assert publisher.ids == [UUID(str(job_id)) for (job_id,) in wanted]


@pytest.mark.parametrize("scope", ["service:maturity", "job_type:PayoutReconcile"])
def test_a_paused_type_is_skipped_until_it_is_resumed(
    scope: str, relay: Relay, publisher: FakePublisher
) -> None:
    add()
    execute("INSERT INTO pause (scope, reason) VALUES (%s, 'test')", (scope,))
    assert relay.run_once() == 0
    execute("DELETE FROM pause")
    assert relay.run_once() == 1


def test_a_type_of_a_newer_version_does_not_stop_the_others(
    relay: Relay, publisher: FakePublisher
) -> None:
    add()
    execute("UPDATE job_queue SET job_type = 'FromTheFuture'")
    execute("UPDATE job_outbox SET job_type = 'FromTheFuture'")
    job_id = add("2")
    assert relay.run_once() == 1
    assert publisher.ids == [job_id]


def test_two_relays_at_once_publish_each_row_once(
    spawn: Callable[[Callable[[], Any]], "Future[Any]"],
) -> None:
    with transaction():
        enqueue_many(JOB, [(str(i),) for i in range(600)])
    publishers = [FakePublisher() for _ in range(4)]
    together = threading.Barrier(len(publishers))

    def drain(relay: Relay) -> None:
        together.wait(WAIT_S)
        while relay.run_once():
            pass

    drained = [spawn(partial(drain, Relay(p, batch=50))) for p in publishers]
    for each in drained:
        each.result(WAIT_S)
    ids = [job_id for publisher in publishers for job_id in publisher.ids]
    assert len(ids) == len(set(ids)) == 600
