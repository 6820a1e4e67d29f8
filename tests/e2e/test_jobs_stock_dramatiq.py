"""Two of the three ways in which stock Dramatiq loses messages, and how ours does not.

The third (sends without confirms, a killed broker) needs a broker to kill: tests/crash.
"""

import contextlib
import logging
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Any

import dramatiq
import pika
import pytest
from dramatiq import Message, pipeline
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.stub import StubBroker

import jobs.actor
from domain.job_types import JobType
from jobs.actor import Handler
from jobs.enqueue import enqueue
from jobs.rabbitmq import HardenedRabbitmqBroker
from jobs.runner import run_due
from models.database import connect_to, execute, fetch, reconnect, transaction

pytestmark = pytest.mark.e2e

FIRST, SECOND = JobType.MATURITY_TOKEN_BURN, JobType.MATURITY_RECORD


# --- After-hooks swallow errors, then the message is acked --------------------------------------


def burn_and_pay(broker: StubBroker, result: object) -> list[object]:
    """Run a stock pipeline burn → pay on `broker`; what reached the second step."""
    paid: list[object] = []

    @dramatiq.actor(broker=broker)
    def burn() -> Any:
        return result

    @dramatiq.actor(broker=broker)
    def pay(amount: object) -> None:
        paid.append(amount)

    worker = dramatiq.Worker(broker, worker_timeout=20, worker_threads=1)
    worker.start()
    pipeline([burn.message(), pay.message()], broker=broker).run()  # type: ignore[call-arg]
    broker.join("default", timeout=10_000)
    worker.stop()
    assert broker.queues["default"].qsize() == 0
    assert broker.dead_letters == []
    broker.close()
    return paid


class FullBroker(StubBroker):
    """A broker that refuses the second message, as under a memory alarm."""

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        if message.actor_name == "pay":
            raise ConnectionError("blocked")
        return super().enqueue(message, delay=delay)


def test_stock_works_when_nothing_goes_wrong() -> None:
    assert burn_and_pay(StubBroker(), 100) == [100]


def test_stock_loses_the_step_after_a_result_that_is_not_json() -> None:
    assert burn_and_pay(StubBroker(), Decimal("100")) == []


def test_stock_loses_the_step_that_the_broker_refused() -> None:
    assert burn_and_pay(FullBroker(), 100) == []


@pytest.mark.parametrize("refused", [False, True], ids=["result", "insert"])
def test_ours_keeps_the_next_step_or_undoes_the_first(
    refused: bool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def burn(page_id: str) -> Any:
        ran.append("burn")
        return Decimal("100")

    def record(page_id: str) -> None:
        ran.append("record")

    handlers = {FIRST: Handler(FIRST, burn), SECOND: Handler(SECOND, record)}
    monkeypatch.setattr(jobs.actor, "_handlers", handlers)
    connect_to(database_url)
    with transaction():
        enqueue(FIRST.message("p") | SECOND.message("p"))
    if refused:
        execute("ALTER TABLE job_queue ADD CONSTRAINT no CHECK (job_type <> 'MaturityRecord')")
        run_due()
        assert fetch("SELECT job_type, status FROM job_queue") == [(FIRST.value, "retrying")]
        execute("ALTER TABLE job_queue DROP CONSTRAINT no")
        execute("UPDATE job_queue SET run_at = overnight_now()")
        execute("UPDATE job_outbox SET due_at = overnight_now()")
    run_due()
    reconnect()
    assert ran == ["burn"] * (2 if refused else 1) + ["record"]


# --- A stale delivery tag acks the wrong message ------------------------------------------------


@pytest.fixture
def queue(queue_prefix: str, queue_names: list[str]) -> str:
    queue_names.append(queue_prefix + "tags")
    return queue_prefix + "tags"


def left_after_a_reconnect(broker: RabbitmqBroker, queue: str, url: str) -> list[str]:
    """Z done; A, B and C in hand; the connection drops; A is done, and the process dies."""
    broker.declare_queue(queue, ensure=True)
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        for name in "ZABC":
            message: Message[None] = Message(queue, name, (), {}, {})
            channel.basic_publish("", queue, message.encode())
        first = broker.consume(queue, prefetch=4, timeout=5_000)
        received = {message.actor_name: message for message in islice(first, 4) if message}
        first.ack(received["Z"])
        first.close()  # dropped: the broker requeues A, B and C
        second = broker.consume(queue, prefetch=4, timeout=5_000)
        assert [message.actor_name for message in islice(second, 3) if message] == ["A", "B", "C"]
        second.ack(received["A"])  # as ConsumerThread.post_process_message does
        second.close()
        broker.close()
        left = []
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            left.append(Message.decode(got[2] or b"").actor_name)
    return left


def make_stock(url: str) -> RabbitmqBroker:
    return RabbitmqBroker(url=url, middleware=[])


def make_ours(url: str) -> RabbitmqBroker:
    broker = HardenedRabbitmqBroker(url, prefetch=lambda _queue: 4, middleware=[])
    for name in "ZABC":  # what no actor takes would be kept as a stray message
        dramatiq.Actor(
            lambda: None,
            broker=broker,
            actor_name=name,
            queue_name="default",
            priority=0,
            options={},
        )
    return broker


@pytest.mark.parametrize(
    ("make", "left"),
    [(make_stock, ["A", "C"]), (make_ours, ["A", "B", "C"])],
    ids=["stock loses B", "ours"],
)
def test_a_message_in_hand_during_a_reconnect(
    make: Callable[[str], RabbitmqBroker],
    left: list[str],
    queue: str,
    amqp_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    assert left_after_a_reconnect(make(amqp_url), queue, amqp_url) == left
