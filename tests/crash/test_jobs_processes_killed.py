"""SIGKILL to a worker in the middle of a job, and to the broker in the middle of publishing."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import dramatiq
import pika
import pika.exceptions
import pytest
from dramatiq import Message
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.errors import BrokerConnectionError

from domain.job_types import JobType
from jobs.enqueue import enqueue, enqueue_many
from jobs.publisher import RabbitmqPublisher
from jobs.relay import Outgoing, Relay
from models.database import connect_to, execute, fetch, reconnect, transaction
from servers.discover import private_rabbitmq
from servers.errors import ServerMissing
from servers.rabbitmq import PrivateRabbitMQ

pytestmark = pytest.mark.crash

JOBS = 20_000
RUNS_AGAIN_S = 15.0
WAIT_S = 60.0
A, B = JobType.PAYOUT_RECONCILE, JobType.NOTIFICATION_INDIVIDUAL


@pytest.fixture
def database(database_url: str) -> Iterator[str]:
    connect_to(database_url)
    execute("CREATE TABLE effect (what text)")
    yield database_url
    reconnect()


WORKER = """
import sys, threading
import jobs.actor
from domain.job_types import JobType
from jobs.actor import Handler
from jobs.process import rabbitmq_broker, run_worker
from models.database import connect_to
import psycopg2

url, amqp, prefix, name, hangs = sys.argv[1:]

def work(**payload):
    other = psycopg2.connect(url)  # visible at once, whatever becomes of the job's transaction
    with other, other.cursor() as cursor:
        cursor.execute("INSERT INTO effect VALUES (%s)", (name,))
    other.close()
    if hangs == "hangs":
        threading.Event().wait()

connect_to(url)
types = (JobType.PAYOUT_RECONCILE, JobType.NOTIFICATION_INDIVIDUAL)
jobs.actor._handlers.update({each: Handler(each, work) for each in types})
run_worker(rabbitmq_broker(amqp, queue_prefix=prefix, threads=2, loops=[]))
"""


@contextlib.contextmanager
def worker(project: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", WORKER, *arguments], cwd=project) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(sql: str) -> float:
    """Wait until a query has a row; how many seconds it took."""
    started = time.monotonic()
    while not fetch(sql):
        assert time.monotonic() - started < WAIT_S, sql
        time.sleep(0.02)
    return time.monotonic() - started


@pytest.mark.parametrize("job_type", [A, B], ids=["A", "B"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_dead_workers_job_runs_again_within_15_seconds(
    job_type: JobType,
    number: signal.Signals,
    database: str,
    amqp_url: str,
    queue_prefix: str,
    queue_names: list[str],
    project: Path,
) -> None:
    queue_names += [queue_prefix + name for name in ("maturity", "notifications", "inbox")]
    arguments = (database, amqp_url, queue_prefix)
    with transaction():
        enqueue(job_type.message(*("1", "2")[: len(job_type.spec.params)]))
    with worker(project, *arguments, "first", "hangs") as first:
        wait_for("SELECT 1 FROM effect WHERE what = 'first'")
        with worker(project, *arguments, "second", "works"):
            wait_for("SELECT 1 FROM worker OFFSET 1")
            first.send_signal(number)
            assert wait_for("SELECT 1 FROM effect WHERE what = 'second'") < RUNS_AGAIN_S
            wait_for("SELECT 1 FROM job_queue WHERE status = 'completed'")
        first.send_signal(signal.SIGCONT)
    assert fetch("SELECT what FROM effect ORDER BY what") == [("first",), ("second",)]


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ for this module to kill; each test restarts it."""
    try:
        server = private_rabbitmq(tmp_path_factory.mktemp("rabbitmq"))
    except ServerMissing as error:
        pytest.skip(str(error))
    server.start()
    yield server
    server.delete()


def ids_in(url: str, queue: str) -> set[str]:
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        ids: set[str] = set()
        for method, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=1):
            if method is None:
                return ids
            ids.add(Message.decode(body or b"").message_id)
    return ids


def test_stock_sends_return_and_the_messages_are_lost(rabbitmq: PrivateRabbitMQ) -> None:
    broker = RabbitmqBroker(url=rabbitmq.url, middleware=[])
    sent: set[str] = set()
    enough = threading.Event()

    @dramatiq.actor(broker=broker, queue_name="stock")
    def pay() -> None: ...

    def send() -> None:
        with contextlib.suppress(BrokerConnectionError, pika.exceptions.AMQPError):
            for _ in range(1_000_000):
                sent.add(pay.send().message_id)
                if len(sent) == 3_000:
                    enough.set()

    sender = threading.Thread(target=send)
    sender.start()
    assert enough.wait(WAIT_S)
    rabbitmq.kill9()
    sender.join(WAIT_S)
    broker.close()
    rabbitmq.restart()
    assert sent - ids_in(rabbitmq.url, "stock")


def test_what_was_confirmed_survives_the_brokers_death(rabbitmq: PrivateRabbitMQ) -> None:
    publisher = RabbitmqPublisher(rabbitmq.url, "confirmed_")
    confirmed: set[UUID] = set()
    enough = threading.Event()

    def publish() -> None:
        while publisher.connect():
            batch = [Outgoing(UUID(m.message_id), A, 1) for m in map(A.message, "x" * 500)]
            confirmed.update(publisher.publish(batch))
            if len(confirmed) > 3_000:
                enough.set()

    sender = threading.Thread(target=publish)
    sender.start()
    assert enough.wait(WAIT_S)
    rabbitmq.kill9()
    sender.join(WAIT_S)
    publisher.close()
    rabbitmq.restart()
    assert {str(job_id) for job_id in confirmed} <= ids_in(rabbitmq.url, "confirmed_maturity")


def test_ours_loses_no_job_when_the_broker_dies(rabbitmq: PrivateRabbitMQ, database: str) -> None:
    with transaction():
        enqueue_many(A, [(str(number),) for number in range(JOBS)])
    relay = Relay(RabbitmqPublisher(rabbitmq.url, "ours_"), window=JOBS)
    published = 0
    while published < JOBS // 4:
        published += relay.run_once()
    killer = threading.Thread(target=rabbitmq.kill9)
    killer.start()
    while relay.run_once():  # until it notices
        pass
    killer.join(WAIT_S)
    rabbitmq.restart()
    while fetch("SELECT 1 FROM job_outbox WHERE published_at IS NULL LIMIT 1"):
        relay.run_once()
    relay.close()
    wanted = {str(job_id) for (job_id,) in fetch("SELECT id FROM job_queue")}
    assert ids_in(rabbitmq.url, "ours_maturity") == wanted
