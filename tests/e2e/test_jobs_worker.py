"""A whole worker on RabbitMQ: inbox, jobs and ticks in, nothing but effects out."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import dramatiq
import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

import domain.job_types
import jobs.actor
from domain.ids import new_id
from domain.job_types import JobType
from jobs.actor import Handler
from jobs.enqueue import enqueue
from jobs.process import rabbitmq_broker
from models.database import connect_to, fetch, reconnect, transaction

pytestmark = pytest.mark.e2e

WAIT_S = 20.0
JOB, NOTIFY = JobType.PAYOUT_RECONCILE, JobType.NOTIFICATION_INDIVIDUAL


class Ran:
    """What the actors were given, and an event for the next of them."""

    def __init__(self) -> None:
        self.payloads: list[dict[str, str]] = []
        self.again = threading.Semaphore(0)

    def __call__(self, **payload: str) -> None:
        self.payloads.append(payload)
        self.again.release()

    def wait(self) -> dict[str, str]:
        assert self.again.acquire(timeout=WAIT_S)
        return self.payloads[-1]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    work = Ran()
    handlers = {job_type: Handler(job_type, work) for job_type in (JOB, NOTIFY)}
    monkeypatch.setattr(jobs.actor, "_handlers", handlers)
    monkeypatch.setitem(domain.job_types._SPECS, JOB, replace(JOB.spec, from_inbox=True))
    return work


@pytest.fixture
def worker(
    database_url: str, amqp_url: str, queue_prefix: str, queue_names: list[str], ran: Ran
) -> Iterator[dramatiq.Worker]:
    connect_to(database_url)
    broker = rabbitmq_broker(amqp_url, queue_prefix=queue_prefix, threads=2, loops=[])
    queue_names += broker.get_declared_queues()
    running = dramatiq.Worker(broker, worker_timeout=50)
    running.start()
    yield running
    running.stop(timeout=10_000)
    broker.close()
    reconnect()


@pytest.fixture
def publish(
    amqp_url: str, queue_prefix: str, worker: dramatiq.Worker
) -> Iterator[Callable[..., None]]:
    """publish(queue, body): what another program sends with plain pika, confirmed."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(amqp_url))) as connection:
        channel: BlockingChannel = connection.channel()
        channel.confirm_delivery()

        def send(queue: str, body: Any) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            while True:  # the worker declares its queues as it starts
                try:
                    channel.basic_publish("", queue_prefix + queue, data, mandatory=True)
                except pika.exceptions.UnroutableError:
                    continue
                return

        yield send


def foreign(**changes: Any) -> dict[str, Any]:
    """A Dramatiq message for the inbox, as docs/jobs.md tells other programs to write it."""
    envelope = {
        "version": 1,
        "source": "treasury",
        "id": "42",
        "job_type": JOB.value,
        "payload": {"slot_id": "s-1"},
    }
    message = {
        "queue_name": "inbox",
        "actor_name": "inbox",
        "args": [],
        "kwargs": envelope,
        "options": {},
        "message_id": str(new_id()),
        "message_timestamp": 0,
    }
    return message | changes


def test_a_message_of_plain_pika_becomes_a_job_that_runs_once(
    publish: Callable[..., None], ran: Ran
) -> None:
    publish("inbox", foreign())
    publish("inbox", foreign())
    assert ran.wait() == {"slot_id": "s-1"}
    publish("inbox", foreign(kwargs={}, args=[foreign()["kwargs"] | {"id": "43"}]))
    ran.wait()
    assert fetch("SELECT message_id FROM inbox_message ORDER BY 1") == [("42",), ("43",)]
    assert len(ran.payloads) == 2


@pytest.mark.parametrize(
    "bad",
    [
        foreign(options=None),
        foreign(options={"eta": 9_999_999_999_999, "throws": "x", "time_limit": "y"}),
        foreign(queue_name="elsewhere"),
        foreign(kwargs=["no", "object"]),
        foreign(actor_name="Nobody"),
        foreign(message_id=None),
        {"version": 1, "source": "treasury"},
        b"no json \xff",
    ],
    ids=["options", "eta", "queue", "kwargs", "actor", "id", "bare envelope", "bytes"],
)
def test_no_message_stops_the_inbox(bad: Any, publish: Callable[..., None], ran: Ran) -> None:
    for _ in range(3):  # more than there are threads
        publish("inbox", bad)
    envelope = foreign()["kwargs"] | {"id": "after"}
    publish("inbox", foreign(kwargs=envelope))
    while not fetch("SELECT 1 FROM inbox_message WHERE message_id = 'after'"):
        assert ran.again.acquire(timeout=WAIT_S)


@pytest.mark.parametrize("bad_id", ["42", None, str(new_id())])
def test_a_forged_job_message_is_kept_as_stray(
    bad_id: str | None, publish: Callable[..., None], ran: Ran
) -> None:
    message = foreign(queue_name="maturity", actor_name=JOB.value, message_id=bad_id)
    publish("maturity", message)
    with transaction():
        enqueue(JOB.message("s-2"))
    assert ran.wait() == {"slot_id": "s-2"}
    while not fetch("SELECT 1 FROM stray_message WHERE queue LIKE '%%maturity'"):
        pass


def test_jobs_of_both_ways_run_and_complete(worker: dramatiq.Worker, ran: Ran) -> None:
    with transaction():
        for number in range(20):
            enqueue(JOB.message(str(number)))
            enqueue(NOTIFY.message("paid", str(number)))
    for _ in range(40):
        ran.wait()
    while fetch("SELECT 1 FROM job_outbox"):
        pass
    assert fetch("SELECT status, count(*) FROM job_queue GROUP BY 1") == [("completed", 40)]
    assert len(ran.payloads) == 40
    assert fetch("SELECT count(*) FROM worker") == [(1,)]


def test_a_worker_that_ends_in_order_leaves_nothing_behind(
    worker: dramatiq.Worker, ran: Ran
) -> None:
    with transaction():
        enqueue(JOB.message("1"))
    ran.wait()
    worker.stop(timeout=10_000)
    assert fetch("SELECT count(*) FROM worker") == [(0,)]
    assert fetch("SELECT count(*) FROM relay_idle") == [(0,)]
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"relay", "heartbeat", "rescue", "publisher"}
