"""The database connection dies at the worst moment, and no job is lost, doubled or stuck."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg2
import pytest
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import CurrentMessage
from dramatiq.middleware.threading import raise_thread_exception
from dramatiq.middleware.time_limit import TimeLimitExceeded

from domain.errors import Transient
from domain.job_types import JobType
from jobs.claim import current_claim
from jobs.enqueue import enqueue
from jobs.inbox import declare_inbox
from jobs.runner import deliver, stopping
from models.database import connect_to, execute, fetch, reconnect, transaction

pytestmark = pytest.mark.integration

WAIT_S = 15.0
A, B = JobType.PAYOUT_RECONCILE, JobType.NOTIFICATION_INDIVIDUAL
WAYS = pytest.mark.parametrize("job_type", [A, B], ids=["A", "B"])

Handle = Callable[..., None]
Effects = Callable[[], list[str]]


@pytest.fixture
def proxy(effects: Effects, database: str, make_proxy: Callable[..., Any]) -> Iterator[Any]:
    """The program reaches its database through this proxy."""
    parts = urlsplit(database)
    assert parts.hostname
    between = make_proxy(parts.hostname, parts.port or 5432)
    user = parts.netloc.rpartition("@")[0]
    netloc = f"{user}@127.0.0.1:{between.port}" if user else f"127.0.0.1:{between.port}"
    reconnect()
    connect_to(urlunsplit(parts._replace(netloc=netloc)))
    yield between
    reconnect()
    connect_to(database)


def write_effect(**payload: str) -> None:
    execute("INSERT INTO effect VALUES ('done')")


def add(job_type: JobType) -> UUID:
    with transaction():
        return enqueue(job_type.message(*("1", "2")[: len(job_type.spec.params)])).id


def row() -> tuple[str, int]:
    [(status, attempts)] = fetch("SELECT status, attempts FROM job_queue")
    return status, attempts


@WAYS
def test_a_connection_killed_in_the_middle_refunds_the_attempt(
    job_type: JobType, handle: Handle, effects: Effects, database: str
) -> None:
    runs: list[int] = []

    def work(**payload: str) -> None:
        runs.append(1)
        if job_type is B:
            return cut_off()
        with current_claim().transaction():
            return cut_off()

    def cut_off() -> None:
        write_effect()
        [(pid,)] = fetch("SELECT pg_backend_pid()")
        if len(runs) == 1:
            with contextlib.closing(psycopg2.connect(database)) as other:
                other.cursor().execute("SELECT pg_terminate_backend(%s)", (pid,))
        write_effect()

    handle(job_type, work)
    job_id = add(job_type)
    assert deliver(job_id, job_type)
    assert effects() == []
    assert row() == ("retrying", 0)
    assert fetch("SELECT outcome FROM job_attempt") == [("refunded",)]
    execute("UPDATE job_queue SET run_at = overnight_now()")
    assert deliver(job_id, job_type)
    assert effects() == ["done", "done"]
    assert row() == ("completed", 0)


@WAYS
def test_the_idle_timeout_in_the_middle_of_an_actor_loses_nothing(
    job_type: JobType, handle: Handle, effects: Effects, database: str
) -> None:
    """A frozen worker's transaction is ended by the server; it goes on, and finds out."""

    def work(**payload: str) -> None:
        if job_type is B:
            return freeze()
        with current_claim().transaction():
            return freeze()

    def freeze() -> None:
        execute("SET idle_in_transaction_session_timeout = 50")
        [(pid,)] = fetch("SELECT pg_backend_pid()")
        write_effect()
        with contextlib.closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
            other.autocommit = True
            cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,))
            while cursor.fetchall():
                cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,))
        write_effect()

    handle(job_type, work)
    assert deliver(add(job_type), job_type)
    assert effects() == []
    assert row()[0] == "retrying"


@pytest.mark.parametrize(
    ("job_type", "statement"),
    [(A, b"SET status = 'processing'"), (A, b"COMMIT"), (B, b"COMMIT")],
    ids=["claim", "completion of A", "completion of B"],
)
def test_a_commit_whose_answer_is_lost_still_counts_once(
    job_type: JobType, statement: bytes, proxy: Any, handle: Handle, effects: Effects
) -> None:
    def work(**payload: str) -> None:
        if job_type is B:
            return write_effect()
        with current_claim().completion():
            return write_effect()

    handle(job_type, work)
    job_id = add(job_type)
    proxy.lose_answer_to = statement
    deliver(job_id, job_type)
    assert proxy.lost.is_set()
    assert row() == ("completed", 0)
    assert effects() == ["done"]
    assert fetch("SELECT 1 FROM job_attempt") == []


@WAYS
def test_a_recorded_failure_whose_answer_is_lost_is_recorded_once(
    job_type: JobType, proxy: Any, handle: Handle, effects: Effects
) -> None:
    def work(**payload: str) -> None:
        proxy.lose_answer_to = b"COMMIT"
        raise Transient("busy")

    handle(job_type, work)
    deliver(add(job_type), job_type)
    assert proxy.lost.is_set()
    assert row() == ("retrying", 1)
    assert len(fetch("SELECT 1 FROM job_attempt")) == 1


@pytest.fixture
def ending(database: str) -> Iterator[None]:
    """The process was told to end."""
    stopping.set()
    yield
    stopping.clear()


@pytest.mark.usefixtures("ending")
@WAYS
def test_a_process_that_ends_does_not_wait_for_the_database(
    job_type: JobType, proxy: Any, handle: Handle, effects: Effects
) -> None:
    """The message is acked without effect, but its job stays where a relay finds it."""
    handle(job_type, write_effect)
    job_id = add(job_type)
    proxy.cut()
    assert not deliver(job_id, job_type)
    proxy.down = False
    reconnect()
    assert row() == ("pending", 0)
    assert fetch("SELECT due_at IS NOT NULL FROM job_outbox") == [(True,)]


@pytest.mark.usefixtures("ending")
def test_an_inbox_message_in_hand_is_not_acked(proxy: Any, effects: Effects) -> None:
    """It has no row yet: only the broker can keep it."""
    broker = StubBroker(middleware=[])
    declare_inbox(broker)
    message: Any = MessageProxy(Message("inbox", "inbox", (), {"source": "treasury"}, {}))
    message.owner = "its consumer"
    current = CurrentMessage()
    current.before_process_message(broker, message)
    proxy.cut()
    broker.get_actor("inbox")(**message.kwargs)
    current.after_process_message(broker, message)
    broker.close()
    assert message.owner is None


@WAYS
def test_a_time_limit_while_the_database_is_away_does_not_lose_the_outcome(
    job_type: JobType,
    proxy: Any,
    handle: Handle,
    effects: Effects,
    spawn: Callable[[Callable[[], Any]], "Future[Any]"],
) -> None:
    """Only this worker knows how the job ended, however long it has to wait to say so."""
    thread: list[int] = []

    def work(**payload: str) -> None:
        thread.append(threading.get_ident())
        proxy.cut()
        raise Transient("busy")

    handle(job_type, work)
    job_id = add(job_type)
    delivery = spawn(lambda: deliver(job_id, job_type))
    assert proxy.refused.acquire(timeout=WAIT_S)
    raise_thread_exception(thread[0], TimeLimitExceeded)
    assert proxy.refused.acquire(timeout=WAIT_S)
    assert proxy.refused.acquire(timeout=WAIT_S)
    proxy.down = False
    assert delivery.result(WAIT_S)
    reconnect()
    status, attempts = row()
    assert (status, attempts) in {("retrying", 1), ("retrying", 0)}
