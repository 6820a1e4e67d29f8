"""Priorities and fairness with real workers: on RabbitMQ and in-process, and across processes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dramatiq
import pytest

import jobs.actor
from domain.job_types import JobType
from jobs.actor import Handler
from jobs.enqueue import enqueue, enqueue_many
from jobs.process import inprocess_broker, rabbitmq_broker
from models.database import connect_to, fetch, reconnect, transaction

pytestmark = pytest.mark.e2e

WAIT_S = 20.0
SLOW, QUICK = JobType.NOTIFICATION_INDIVIDUAL, JobType.PAYOUT_RECONCILE
LOW, HIGH = JobType.PAYOUT_RECONCILE, JobType.MATURITY_PAYMENT  # of one queue


class Hanging:
    """A body that hangs until it is let go, and one that does not."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.hanging = threading.Semaphore(0)
        self.quick = threading.Event()

    def hang(self, **_: str) -> None:
        self.hanging.release()
        self.go.wait(WAIT_S)

    def run(self, **_: str) -> None:
        self.quick.set()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    work = Hanging()
    handlers = {SLOW: Handler(SLOW, work.hang), QUICK: Handler(QUICK, work.run)}
    monkeypatch.setattr(jobs.actor, "_handlers", handlers)
    yield work
    work.go.set()


@pytest.fixture(params=["rabbitmq", "in-process"])
def start(
    request: pytest.FixtureRequest, database_url: str, work: Hanging
) -> Iterator[Callable[[int], None]]:
    """start(threads): a worker on either transport."""
    connect_to(database_url)
    with ExitStack() as stack:

        def run(threads: int) -> None:
            broker: dramatiq.Broker
            if request.param == "in-process":
                broker = inprocess_broker(threads=threads, loops=[])
            else:
                prefix = request.getfixturevalue("queue_prefix")
                url = request.getfixturevalue("amqp_url")
                broker = rabbitmq_broker(url, queue_prefix=prefix, threads=threads, loops=[])
                names = request.getfixturevalue("queue_names")
                names += broker.get_declared_queues()
            worker = dramatiq.Worker(broker, worker_timeout=50)
            worker.start()
            stack.callback(broker.close)
            stack.callback(worker.stop, timeout=10_000)
            stack.callback(work.go.set)

        yield run
    reconnect()


@pytest.mark.parametrize("threads", [2, 4])
def test_a_service_that_hangs_leaves_a_thread_to_the_others(
    threads: int, start: Callable[[int], None], work: Hanging
) -> None:
    with transaction():
        enqueue_many(SLOW, [("k", str(number)) for number in range(300)])
    start(threads)
    for _ in range(threads - 1):
        assert work.hanging.acquire(timeout=WAIT_S)
    assert not work.hanging.acquire(timeout=0.3)  # the last thread waits for somebody else
    with transaction():
        enqueue(QUICK.message("s"))
    assert work.quick.wait(WAIT_S)
    work.go.set()


@pytest.fixture
def processes(
    database_url: str, amqp_url: str, queue_prefix: str, queue_names: list[str], tmp_path: Path
) -> Iterator[Callable[[int], None]]:
    """processes(n): so many `overnight worker` with two threads each and a window of four."""
    connect_to(database_url)
    logicals = {job_type.spec.queue for job_type in JobType} | {"inbox", "ticks"}
    queue_names += [queue_prefix + name for name in logicals]
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "QUEUE_PREFIX": queue_prefix,
        "OVERNIGHT_HOME": str(tmp_path),
        "WORKER_THREADS": "2",
        "RELAY_WINDOW": "4",
        "LOOP_INTERVAL_MS": "60000",
    }
    started: list[subprocess.Popen[bytes]] = []

    def start(count: int) -> None:
        for number in range(count):
            with (tmp_path / f"worker-{number}.log").open("wb") as log:
                command = [sys.executable, "-m", "cli.main", "worker"]
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=60)
    server, _, name = database_url.rpartition("/")
    connect_to(f"{server}/postgres")
    from models.database import db

    db.connection().autocommit = True
    fetch(f'DROP DATABASE IF EXISTS "{name}_chain" WITH (FORCE)')
    reconnect()


def test_a_job_of_high_priority_overtakes_what_waits_across_processes(
    processes: Callable[[int], None],
) -> None:
    """Only what is in the window and in the workers' hands is before it, not what was first."""
    with transaction():
        enqueue_many(LOW, [(str(number),) for number in range(1_500)])
    processes(2)
    count = f"SELECT count(*) FROM job_queue WHERE job_type = '{LOW.value}' AND status = "
    end = time.monotonic() + 40
    while fetch(count + "'completed'")[0][0] < 20:
        assert time.monotonic() < end, "the workers did not start"
        time.sleep(0.02)
    with transaction():
        enqueue(HIGH.message("00000000-0000-4000-8000-000000000000"))
    while not fetch(f"SELECT 1 FROM job_queue WHERE job_type = '{HIGH.value}' AND attempts > 0"):
        assert time.monotonic() < end
        time.sleep(0.01)
    [(overtaken_by,)] = fetch(
        "SELECT count(*) FROM job_queue low JOIN job_queue high ON high.job_type = %s"
        " WHERE low.job_type = %s AND low.started_at BETWEEN high.created_at AND high.started_at",
        (HIGH.value, LOW.value),
    )
    assert overtaken_by <= 12  # window, two prefetched, and what began at the same moment
    assert fetch(count + "'pending'")[0][0] > 100, "too few were waiting for a proof"
