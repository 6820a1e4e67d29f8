"""The RabbitMQ transport: Dramatiq's broker, hardened, and a publisher with pipelined confirms.

Stock Dramatiq loses messages in three ways (docs/jobs.md). Here only the relay publishes, always
with confirms; middleware carries nothing; and a consumer that is gone can't ack for its successor.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import dramatiq
import pika
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.rabbitmq import _RabbitmqConsumer as StockConsumer
from dramatiq.common import q_name, xq_name

from jobs.actor import JobActor

#: A broker that holds our publishes (memory or disk alarm) is a broker that is away.
BLOCKED_CONNECTION_TIMEOUT_S = 30

#: Seconds between heartbeats; a dead peer is noticed after about two.
HEARTBEAT_S = 10

#: The message options of our own publishers: the relay's and periodiq's.
_OPTIONS = ("published", "scheduled_at")


def connection_parameters(url: str) -> pika.URLParameters:
    """pika's parameters for `url`, with our timeouts where the URL says nothing."""
    parameters = pika.URLParameters(url)
    if "heartbeat" not in url:
        parameters.heartbeat = HEARTBEAT_S
    if "blocked_connection_timeout" not in url:
        parameters.blocked_connection_timeout = BLOCKED_CONNECTION_TIMEOUT_S
    return parameters


def queue_arguments(queue: str) -> dict[str, str]:
    """How a queue is declared, by workers and relays alike: RabbitMQ refuses two opinions."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": xq_name(queue)}


class OwnedConsumer(StockConsumer):
    """Stamps every message with the consumer that received it, and acks no other's.

    A delivery tag is a small integer that every channel counts anew: acked on the channel of the
    next connection, it would ack some other message that never ran.
    """

    def __next__(self) -> Any:
        message = super().__next__()  # type: ignore[no-untyped-call]
        if message is not None:
            message.owner = self
            _make_harmless(message, self.queue_name)
        return message

    def ack(self, message: Any) -> None:
        """Ack, if this consumer received it; else the broker delivers it again anyway."""
        if message.owner is self:
            super().ack(message)  # type: ignore[no-untyped-call]

    def nack(self, message: Any) -> None:
        """Reject, if this consumer received it."""
        if message.owner is self:
            super().nack(message)  # type: ignore[no-untyped-call]

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Nothing: RabbitMQ requeues what a closed channel had not acked."""


def _make_harmless(message: Any, queue: str) -> None:
    """Repair what another program may have got wrong.

    Dramatiq's worker thread dies of a message whose queue_name is not the queue that it came from,
    its consumer stops at options that are no object, again at every delivery, and an `eta` waits
    in memory. Only the options of our own publishers are kept.
    """
    given = message._message
    options = given.options if isinstance(given.options, dict) else {}
    message._message = replace(
        given,
        queue_name=queue,
        options={key: options[key] for key in _OPTIONS if key in options},
        kwargs=given.kwargs if isinstance(given.kwargs, dict) else {},
    )


class HardenedRabbitmqBroker(RabbitmqBroker):
    """Dramatiq's broker for consuming jobs. `prefetch` says what a worker may hold of a queue."""

    def __init__(
        self,
        url: str,
        *,
        prefetch: Callable[[str], int],
        middleware: list[dramatiq.Middleware],
    ) -> None:
        super().__init__(confirm_delivery=True, url=url, middleware=middleware)
        self.parameters = [connection_parameters(url)]
        self.prefetch = prefetch

    @property
    def consumer_class(self) -> type[OwnedConsumer]:
        """Consumers that ack only what they received."""
        return OwnedConsumer

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        """Consume with our prefetch of this queue."""
        return super().consume(queue_name, prefetch=self.prefetch(queue_name), timeout=timeout)

    def _build_queue_arguments(self, queue_name: str) -> dict[str, str]:
        return queue_arguments(q_name(queue_name))

    def get_declared_delay_queues(self) -> set[str]:
        """None: nothing waits in a broker queue, so nothing consumes one."""
        return set()

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        """Publish a tick or an inbox message, with a confirm. A job is refused: it needs a row."""
        refuse_jobs(self, message, delay)
        return super().enqueue(message)


def refuse_jobs(broker: dramatiq.Broker, message: "Message[Any]", delay: int | None) -> None:
    """Raise for what may not be sent past the outbox."""
    if isinstance(broker.actors.get(message.actor_name), JobActor):
        raise RuntimeError(f"{message.actor_name} is a job: use enqueue inside a transaction")
    if delay is not None:
        raise RuntimeError("nothing waits in a broker: use enqueue(run_at=…)")
