"""RabbitmqPublisher on a real RabbitMQ: what it calls confirmed is there, and nothing hangs."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika
import pytest
from dramatiq import Message
from pika.adapters.blocking_connection import BlockingChannel

from domain.ids import new_id
from domain.job_types import JobType
from jobs.publisher import RabbitmqPublisher
from jobs.rabbitmq import HardenedRabbitmqBroker, queue_arguments
from jobs.relay import Outgoing

pytestmark = pytest.mark.integration

WAIT_S = 10.0
JOB = JobType.PAYOUT_RECONCILE


@pytest.fixture
def queue(queue_prefix: str, queue_names: list[str]) -> str:
    name = queue_prefix + JOB.spec.queue
    queue_names.append(name)
    return name


@pytest.fixture
def channel(amqp_url: str) -> Iterator[BlockingChannel]:
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(amqp_url))) as connection:
        yield connection.channel()


@pytest.fixture
def publisher(amqp_url: str, queue_prefix: str) -> Iterator[RabbitmqPublisher]:
    made = RabbitmqPublisher(amqp_url, queue_prefix)
    yield made
    made.close()
    assert threads() == 0


def threads() -> int:
    return sum(thread.name == "publisher" for thread in threading.enumerate())


def some(count: int) -> list[Outgoing]:
    return [Outgoing(new_id(), JOB, 1) for _ in range(count)]


def received(channel: BlockingChannel, queue: str) -> list[str]:
    ids = []
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        ids.append(Message.decode(got[2]).message_id)
    return ids


def test_confirmed_messages_are_in_the_queue_in_their_order(
    publisher: RabbitmqPublisher, channel: BlockingChannel, queue: str
) -> None:
    channel.queue_declare(queue, durable=True, arguments=queue_arguments(queue))
    batch = some(2_000)
    assert publisher.connect()
    assert publisher.publish(batch[:1_500]) == {item.job_id for item in batch[:1_500]}
    assert publisher.publish(batch[1_500:]) == {item.job_id for item in batch[1_500:]}
    assert publisher.publish([]) == set()
    assert received(channel, queue) == [str(item.job_id) for item in batch]


def test_a_missing_queue_is_declared_and_takes_the_next_try(
    publisher: RabbitmqPublisher, channel: BlockingChannel, queue: str, amqp_url: str
) -> None:
    batch = some(3)
    epoch = publisher.connect()
    assert publisher.publish(batch) == set()
    assert publisher.connect() == epoch
    assert publisher.publish(batch) == {item.job_id for item in batch}
    assert len(received(channel, queue)) == 3
    worker = HardenedRabbitmqBroker(amqp_url, prefetch=lambda _queue: 1, middleware=[])
    worker.declare_queue(queue, ensure=True)  # of the same opinion: no PRECONDITION_FAILED
    worker.close()


def test_a_message_names_its_job_and_how_often_it_was_published(
    publisher: RabbitmqPublisher, channel: BlockingChannel, queue: str
) -> None:
    channel.queue_declare(queue, durable=True, arguments=queue_arguments(queue))
    publisher.connect()
    job_id = new_id()
    assert publisher.publish([Outgoing(job_id, JOB, 7)]) == {job_id}
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    assert method
    assert properties
    assert properties.delivery_mode == 2  # outlives the broker
    message: Message[Any] = Message.decode(body or b"")
    assert (message.actor_name, message.queue_name) == (JOB.value, queue)
    assert message.options == {"published": 7}
    assert message.kwargs == {}  # the row has the payload


def test_what_the_broker_refuses_is_not_confirmed(
    publisher: RabbitmqPublisher, channel: BlockingChannel, queue: str
) -> None:
    full = {"x-max-length": 2, "x-overflow": "reject-publish"}
    channel.queue_declare(queue, durable=True, arguments=full)
    publisher.connect()
    batch = some(5)
    confirmed = publisher.publish(batch)
    assert {str(job_id) for job_id in confirmed} == set(received(channel, queue))
    assert len(confirmed) < 5


def test_a_new_connection_is_a_new_epoch(publisher: RabbitmqPublisher) -> None:
    first = publisher.connect()
    assert publisher.connect() == first
    publisher.close()
    publisher.close()
    assert publisher.publish(some(1)) == set()
    second = publisher.connect()
    assert None not in (first, second)
    assert second != first


@pytest.fixture
def between(amqp_url: str, make_proxy: Callable[[str, int], Any]) -> Any:
    parts = urlsplit(amqp_url)
    return make_proxy(parts.hostname or "", parts.port or 5672)


def through(between: Any, amqp_url: str, prefix: str) -> RabbitmqPublisher:
    parts = urlsplit(amqp_url)
    login = parts.netloc.rpartition("@")[0]
    url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{between.port}"))
    return RabbitmqPublisher(url, prefix, connect_timeout_s=1, confirm_timeout_s=0.5)


def test_a_lost_connection_is_noticed_and_replaced(
    between: Any, amqp_url: str, queue_prefix: str, queue: str
) -> None:
    publisher = through(between, amqp_url, queue_prefix)
    first = publisher.connect()
    assert first
    between.cut()
    assert publisher.publish(some(5)) == set()
    assert publisher.connect() is None
    between.down = False
    assert publisher.connect() not in (None, first)
    publisher.close()
    assert threads() == 0


def test_a_hanging_broker_is_given_up_and_leaves_no_thread_behind(
    between: Any, amqp_url: str, queue_prefix: str, queue: str
) -> None:
    """Its old connection ends late, and must not take the new one with it."""
    publisher = through(between, amqp_url, queue_prefix)
    first = publisher.connect()
    between.flowing.clear()
    assert publisher.publish(some(5)) == set()
    assert publisher.connect() is None  # the greeting hangs as well
    between.flowing.set()
    second = publisher.connect()
    assert second not in (None, first)
    while threads() > 1:  # the old ones have their answers now, and end
        assert publisher.connect() == second
    publisher.close()
    assert threads() == 0


def test_a_server_that_never_speaks_is_no_broker(queue_prefix: str) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}/"
        publisher = RabbitmqPublisher(url, queue_prefix, connect_timeout_s=0.3)
        assert publisher.connect() is None
        assert publisher.connect() is None
        publisher.close()
        assert threads() == 0
