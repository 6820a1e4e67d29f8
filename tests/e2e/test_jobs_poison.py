"""Poison on a real RabbitMQ: kept as stray messages, acked, without effect, and in nobody's way."""

import contextlib
import json
import os
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dramatiq
import pika
import pytest

import jobs.actor
from domain.errors import Transient
from domain.ids import new_id
from domain.job_types import JobType
from jobs.actor import Handler
from jobs.enqueue import enqueue
from jobs.process import rabbitmq_broker
from models.database import connect_to, execute, fetch, reconnect, transaction

pytestmark = pytest.mark.e2e

WAIT_S = 20.0
JOB, OTHER = JobType.PAYOUT_RECONCILE, JobType.JOBS_PRUNE


def wait_for(query: str, *params: object) -> list[tuple[Any, ...]]:
    """The rows of a query, once there are any."""
    end = time.monotonic() + WAIT_S
    while not (rows := fetch(query, params)):
        assert time.monotonic() < end, f"never: {query}"
        time.sleep(0.02)
    return rows


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class Desk:
    """A worker's queues, seen by another program with plain pika."""

    def __init__(self, channel: Any, prefix: str) -> None:
        self.channel, self.prefix = channel, prefix
        self.ran: list[str] = []
        self.running = threading.Event()

    def send(self, body: object, queue: str = "maturity") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.channel.basic_publish("", self.prefix + queue, data, mandatory=True)

    def ready(self, queue: str) -> int:
        found = self.channel.queue_declare(self.prefix + queue, passive=True)
        return int(found.method.message_count)

    def work(self, slot_id: str) -> None:
        self.ran.append(slot_id)
        self.running.set()


@pytest.fixture
def desk(
    database_url: str,
    amqp_url: str,
    queue_prefix: str,
    queue_names: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    connect_to(database_url)
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(amqp_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        desk = Desk(channel, queue_prefix)
        monkeypatch.setattr(jobs.actor, "_handlers", {JOB: Handler(JOB, desk.work)})
        broker = rabbitmq_broker(amqp_url, queue_prefix=queue_prefix, threads=2, loops=[])
        queue_names += broker.get_declared_queues()
        worker = dramatiq.Worker(broker, worker_timeout=50)
        worker.start()
        broker.declare_queue(queue_prefix + "maturity", ensure=True)
        yield desk
        worker.stop(timeout=10_000)
        broker.close()
    reconnect()


def message(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "queue_name": "maturity",
        "actor_name": JOB.value,
        "args": [],
        "kwargs": {},
        "options": {},
        "message_id": str(new_id()),
        "message_timestamp": 0,
    }
    return made | changes


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xfe no text", "undecodable: not UTF-8"),
        (b"{not json", "undecodable: not JSON"),
        (b"[" * 100_000, "undecodable: not JSON"),
        (b"9" * 10_000, "undecodable"),
        (b"", "undecodable: not JSON"),
        ([message()], "undecodable: not an object"),
        ({"actor_name": JOB.value}, "no Dramatiq message: "),
        (message(surprise=1), "no Dramatiq message: "),
        (message(actor_name="Nobody"), "unknown actor 'Nobody'"),
        (message(actor_name=["a", "list"]), "actor_name must be a text"),
        (message(args="text"), "args must be a list"),
        (message(kwargs=[1]), "kwargs must be an object"),
        (message(message_id={"a": 1}), "its id is no job's"),
        (message(message_id="half a pair \ud800 and \x00"), "its id is no job's"),
        (message(), "no job row"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_poison_is_kept_and_in_nobodys_way(body: Any, reason: str, desk: Desk) -> None:
    for _ in range(3):  # more than there are threads
        desk.send(body)
    with transaction():
        enqueue(JOB.message("after"))
    assert desk.running.wait(WAIT_S)
    wait_for("SELECT 1 FROM stray_message HAVING count(*) = 3")
    rows = fetch("SELECT DISTINCT reason, queue, length(body) FROM stray_message")
    assert len(rows) == 1
    assert reason in rows[0][0]
    assert rows[0][1].endswith("maturity")
    assert rows[0][2] <= 20_000
    assert desk.ran == ["after"]
    assert (desk.ready("maturity"), desk.ready("maturity.XQ")) == (0, 0)


def test_a_pickle_is_never_loaded(desk: Desk, tmp_path: Path) -> None:
    desk.send(pickle.dumps(Bomb(tmp_path / "exploded")))
    [(reason, body)] = wait_for("SELECT reason, body FROM stray_message")
    assert reason == "undecodable: a pickle, never loaded"
    assert "exploded" in body
    assert not (tmp_path / "exploded").exists()


def test_a_rows_id_under_another_actors_name_runs_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a forger knew the id of a job that waits, and of an actor that would like to run."""
    with transaction():
        other = enqueue(OTHER.message("not yours", parked=True))
    desk.send(message(message_id=str(other.id)))
    [(reason,)] = wait_for("SELECT reason FROM stray_message")
    assert reason == f"the job is a {OTHER.value}"
    execute("UPDATE job_queue SET run_at = overnight_now()")
    desk.send(message(message_id=str(other.id), args=["x"], kwargs={"slot_id": "forged"}))
    wait_for("SELECT 1 FROM stray_message HAVING count(*) = 2")
    assert fetch("SELECT status, attempts FROM job_queue") == [("pending", 0)]
    assert desk.ran == []


def test_a_message_with_the_right_id_runs_the_rows_payload_and_not_its_own(desk: Desk) -> None:
    with transaction():
        job = enqueue(JOB.message("the row's", parked=True))
    execute("UPDATE job_queue SET run_at = overnight_now()")
    desk.send(message(message_id=str(job.id), kwargs={"slot_id": "forged"}))
    assert desk.running.wait(WAIT_S)
    assert desk.ran == ["the row's"]


def test_a_job_of_a_newer_version_goes_back_and_is_no_stray(desk: Desk) -> None:
    """Two versions share the queue during a deployment: the other worker will take it."""
    with transaction():
        job = enqueue(JOB.message("s", parked=True))
    execute("UPDATE job_queue SET run_at = overnight_now(), job_type = 'Newer'")
    execute("UPDATE job_outbox SET due_at = overnight_now() - interval '1 h', job_type = 'Newer'")
    desk.send(message(message_id=str(job.id), actor_name="Newer"))
    wait_for("SELECT 1 FROM job_outbox WHERE due_at > overnight_now() - interval '1 minute'")
    assert fetch("SELECT count(*) FROM stray_message") == [(0,)]


def test_poison_that_can_not_be_kept_yet_stays_with_the_broker(desk: Desk) -> None:
    execute("ALTER TABLE stray_message RENAME TO away")
    desk.send(b"no json")
    with transaction():
        enqueue(JOB.message("after"))
    time.sleep(0.5)
    execute("ALTER TABLE away RENAME TO stray_message")
    wait_for("SELECT 1 FROM stray_message")
    assert desk.running.wait(WAIT_S)
    assert desk.ready("maturity.XQ") == 0


def test_a_retry_and_a_job_of_the_future_wait_in_rows_and_not_in_a_delayed_queue(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(slot_id: str) -> None:
        raise Transient("try again")

    monkeypatch.setitem(jobs.actor._handlers, JOB, Handler(JOB, fail))
    with transaction():
        enqueue(JOB.message("retry"))
        enqueue(JOB.message("later"), run_at=datetime.now(UTC) + timedelta(hours=1))
    wait_for("SELECT 1 FROM job_queue WHERE status = 'retrying'")
    found = desk.channel.queue_declare(desk.prefix + "maturity.DQ", passive=True).method
    assert (found.message_count, found.consumer_count) == (0, 0)
    assert desk.ready("maturity") == 0
