"""The in-process transport: the same promises, in one process that remembers nothing."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import dramatiq
import pytest

from domain.errors import Transient
from domain.ids import new_id
from domain.job_types import JobType
from jobs.claim import take
from jobs.embedded import EmbeddedWorker
from jobs.enqueue import enqueue, enqueue_many
from jobs.inprocess import start_over
from jobs.process import inprocess_broker
from jobs.relay import Relay
from models.database import execute, fetch, transaction

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

WAIT_S = 15.0
JOB, NOTIFY, MONEY = (
    JobType.PAYOUT_RECONCILE,
    JobType.NOTIFICATION_INDIVIDUAL,
    JobType.MATURITY_PAYMENT,
)
DEATHS_MAX = JOB.spec.deaths_max
Handle = Callable[..., None]


class Count:
    """An actor that counts its runs, and an event when there were `enough`."""

    def __init__(self, enough: int) -> None:
        self.left = enough
        self.done = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, **payload: str) -> None:
        with self._lock:
            self.left -= 1
            if self.left <= 0:
                self.done.set()


def finished() -> None:
    """Wait until the outbox is empty: the last commit comes after its actor."""
    while fetch("SELECT 1 FROM job_outbox"):
        pass


def test_jobs_run_in_this_process(handle: Handle) -> None:
    count = Count(150)
    handle(JOB, count)
    handle(NOTIFY, count)
    with transaction():
        enqueue_many(JOB, [(str(i),) for i in range(100)])
        enqueue_many(NOTIFY, [("k", str(i)) for i in range(50)])
    with EmbeddedWorker(inprocess_broker(threads=4, loops=[])):
        assert count.done.wait(WAIT_S)
        finished()
    assert count.left == 0
    assert fetch("SELECT DISTINCT status FROM job_queue") == [("completed",)]
    assert fetch("SELECT 1 FROM worker") == []


def test_a_job_of_the_near_future_and_a_retry_run_in_their_time(handle: Handle) -> None:
    count = Count(2)
    ran_at: list[datetime] = []

    def work(slot_id: str) -> None:
        ran_at.append(datetime.now(UTC))
        count()
        if len(ran_at) == 1:
            raise Transient("once")

    handle(JOB, work)
    due = datetime.now(UTC) + timedelta(seconds=0.3)
    with transaction():
        enqueue(JOB.message("1"), run_at=due)
    with EmbeddedWorker(inprocess_broker(threads=2, loops=[])):
        assert count.done.wait(WAIT_S)
        finished()
    assert ran_at[0] >= due
    assert ran_at[1] - ran_at[0] >= timedelta(seconds=0.5)


def test_what_an_earlier_process_had_in_hand_is_taken_up(handle: Handle) -> None:
    count = Count(3)
    for job_type in (JOB, NOTIFY):
        handle(job_type, count)
    with transaction():
        claimed = enqueue(JOB.message("claimed")).id
        enqueue(NOTIFY.message("k", "published"))
    before = inprocess_broker(threads=1, loops=[])
    relay = Relay(_publisher_of(before))
    relay.run_once()  # into the memory of a process that ends here
    before.close()
    assert take(claimed, JOB, new_id())
    with transaction():
        enqueue(JOB.message("waiting"))
        enqueue(JOB.message("parked", parked=True))
    with EmbeddedWorker(inprocess_broker(threads=2, loops=[])):
        assert count.done.wait(WAIT_S)
        while fetch("SELECT 1 FROM job_outbox WHERE due_at IS NOT NULL"):
            pass
    rows = fetch("SELECT payload, status, deaths FROM job_queue ORDER BY payload::text")
    assert [(status, deaths) for _, status, deaths in rows] == [
        ("completed", 0),
        ("completed", 1),
        ("pending", 0),
        ("completed", 0),
    ]


def _publisher_of(broker: dramatiq.Broker) -> Any:
    from jobs.inprocess import InProcessPublisher

    publisher = InProcessPublisher()
    publisher.broker = broker  # type: ignore[assignment]
    return publisher


def claimed(job_type: JobType) -> UUID:
    with transaction():
        job_id = enqueue(job_type.message("1")).id
    assert take(job_id, job_type, new_id())
    return job_id


def test_starting_over_leaves_the_parked_and_the_future_alone() -> None:
    with transaction():
        enqueue(JOB.message("1", parked=True))
        enqueue(JOB.message("2"), run_at=datetime.now(UTC) + timedelta(hours=1))
    before = fetch("SELECT * FROM job_outbox ORDER BY job_id")
    assert start_over() == 0
    assert fetch("SELECT * FROM job_outbox ORDER BY job_id") == before


def test_a_job_that_kills_every_process_does_not_kill_them_for_ever(handle: Handle) -> None:
    told: list[str] = []
    handle(JOB, lambda slot_id: None, lambda payload, error: told.append(error))
    claimed(JOB)
    execute("UPDATE job_queue SET deaths = %s", (DEATHS_MAX - 1,))
    assert start_over() == 1
    assert fetch("SELECT status FROM job_queue") == [("failed",)]
    assert len(told) == 1
    assert fetch("SELECT outcome FROM job_attempt") == [("died",)]


def test_a_payout_job_that_kills_every_process_waits(handle: Handle) -> None:
    handle(MONEY, lambda run_id: None)
    claimed(MONEY)
    execute("UPDATE job_queue SET deaths = %s", (DEATHS_MAX - 1,))
    start_over()
    later = "SELECT due_at > overnight_now() + interval '4 minutes' FROM job_outbox"
    assert fetch(later) == [(True,)]
    assert len(fetch("SELECT 1 FROM alert")) == 1


def test_nothing_is_sent_past_the_outbox(handle: Handle) -> None:
    handle(JOB, lambda slot_id: None)
    broker = inprocess_broker(threads=1, loops=[])
    with pytest.raises(RuntimeError, match="use enqueue"):
        broker.get_actor(JOB.value).send(slot_id="1")
    with pytest.raises(RuntimeError, match="use enqueue"):
        broker.enqueue(JOB.message("1"))
    with pytest.raises(RuntimeError, match="runs as a job"):
        broker.get_actor(JOB.value)(slot_id="1")
    broker.close()


def test_a_worker_without_a_database_at_its_start_gets_its_loops_later(handle: Handle) -> None:
    count = Count(1)
    handle(JOB, count)
    with transaction():
        enqueue(JOB.message("1"))
    broker = inprocess_broker(threads=1, loops=[])
    worker = dramatiq.Worker(broker, worker_timeout=20)
    execute("ALTER TABLE worker RENAME TO away")  # another error than a lost connection, even
    worker.start()
    execute("ALTER TABLE away RENAME TO worker")
    assert count.done.wait(WAIT_S)
    finished()
    worker.stop()
    broker.close()
