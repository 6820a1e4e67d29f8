"""The RabbitMQ transport: Dramatiq's broker, hardened, and a publisher with pipelined confirms.

Stock Dramatiq loses messages in three ways (docs/jobs.md). Here only the relay publishes, always
with confirms; middleware carries nothing; and a consumer that is gone can't ack for its successor.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import dramatiq
import pika
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqMessage
from dramatiq.brokers.rabbitmq import _RabbitmqConsumer as StockConsumer
from dramatiq.common import q_name, xq_name
from dramatiq.errors import ConnectionClosed
from dramatiq.logging import get_logger
from dramatiq.worker import _WorkQueueItem
from pika import frame, spec
from pika.adapters.blocking_connection import _ConsumerDeliveryEvt
from pika.exceptions import AMQPChannelError, AMQPConnectionError

from jobs.actor import JobActor
from jobs.batch import memory_of
from jobs.fairness import FairQueue
from jobs.frames import DeliveryConnection
from jobs.poison import Poison, Reader, keep
from models.database import CONNECTION_ERRORS, reconnect

#: A broker that holds our publishes (memory or disk alarm) is a broker that is away.
BLOCKED_CONNECTION_TIMEOUT_S = 30

#: Seconds between heartbeats; a dead peer is noticed after about two.
HEARTBEAT_S = 4

#: RabbitMQ's code for a queue that does not exist (any more).
_NOT_FOUND = 404


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


class Received(_RabbitmqMessage):
    """A delivered message that knows the consumer which received it.

    What is asked of each message is its own: Dramatiq's proxy would look for it twice each time.
    """

    def __init__(self, owner: "OwnedConsumer", method: Any, message: "Message[Any]") -> None:
        super().__init__(method.redelivered, method.delivery_tag, message)  # type: ignore[no-untyped-call]
        self.owner = owner
        self.actor_name = message.actor_name
        self.message_id = message.message_id
        self.options = message.options


class OwnedConsumer(StockConsumer):
    """Stamps every message with the consumer that received it, and acks no other's; keeps poison.

    A delivery tag is a small integer that every channel counts anew: acked on the channel of the
    next connection, it would ack some other message that never ran.
    """

    def __init__(self, broker: Any, queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker, self.queue_name = broker, queue_name
        self.logger = get_logger(__name__, type(self))
        self.known_tags: set[int] = set()
        self._reader = Reader(queue_name, broker.actors)
        self._acks = threading.Lock()
        self._to_ack: list[int] = []
        deliveries: Any = DeliveryConnection
        try:
            self.connection = pika.BlockingConnection(broker.parameters, _impl_class=deliveries)
            self.channel = self.connection.channel()
            self.channel.basic_qos(prefetch_count=prefetch)
            self.iterator = self.channel.consume(queue_name, inactivity_timeout=timeout / 1000)
        except (AMQPConnectionError, AMQPChannelError) as error:
            raise ConnectionClosed(error) from None

    def __next__(self) -> Any:
        """None: nothing came in time, or it was poison, or it is in the worker's memory already.

        All that has arrived is put there at once. Handed out one by one through Dramatiq's thread,
        each would wake a thread, which then found little to batch.
        """
        try:
            method, _properties, body = next(self.iterator)
            if method is None:
                return None
            received = self._receive(method, body)
            memory = memory_of(self.broker)
            if memory is None:
                return received
            self._put_all(memory, received)
        except (AssertionError, AMQPConnectionError, AMQPChannelError) as error:
            if getattr(error, "reply_code", None) == _NOT_FOUND:
                self.broker.queues_pending.add(q_name(self.queue_name))  # declared at the restart
            raise ConnectionClosed(error) from None
        return None

    def _receive(self, method: Any, body: bytes) -> Any:
        message = self._read(method.delivery_tag, body)
        if message is None:
            return None
        with self._acks:
            self.known_tags.add(method.delivery_tag)
        return Received(self, method, message)

    def _put_all(self, memory: FairQueue, first: Any) -> None:
        hidden: Any = self.channel  # pika's iterator would hand them out one by one
        arrived = hidden._queue_consumer_generator.pending_events
        received = [first]
        while arrived and type(arrived[0]) is _ConsumerDeliveryEvt:
            delivery = arrived.popleft()
            received.append(self._receive(delivery.method, delivery.body))
        actors = self.broker.actors
        items = [
            _WorkQueueItem(actors[each.actor_name].priority, each)
            for each in received
            if each is not None
        ]
        if items:
            memory.put_all(items)

    def _read(self, tag: int, body: bytes) -> "Message[Any] | None":
        try:
            return self._reader.read(body)
        except Poison as poison:
            try:
                keep(poison, body, self.queue_name)
            except CONNECTION_ERRORS as error:  # not acked: the broker delivers it again
                raise ConnectionClosed(error) from None
            finally:
                reconnect()
        self.channel.basic_ack(tag)
        return None

    def ack(self, message: Any) -> None:
        """Ack, if this consumer received it; else the broker delivers it again anyway."""
        if message.owner is self:
            self.ack_all([message])

    def ack_all(self, messages: Sequence[Any]) -> None:
        """Ack what this consumer received.

        What threads ack before the connection's own thread gets to it travels together.
        """
        tags = [message._tag for message in messages]
        with self._acks:
            self.known_tags.difference_update(tags)
            self._to_ack += tags
            if len(self._to_ack) > len(tags):
                return  # the callback is on its way
        with suppress(AMQPConnectionError, AMQPChannelError):  # then it is delivered again
            self.connection.add_callback_threadsafe(self._send_acks)

    def _send_acks(self) -> None:
        """One frame for all below the first tag that is still open, one each for the others."""
        with self._acks:
            tags, self._to_ack = sorted(self._to_ack), []
            first_open = min(self.known_tags, default=tags[-1] + 1)
        below = bisect_left(tags, first_open)
        acks = [spec.Basic.Ack(tags[below - 1], multiple=True)] if below else []
        acks += [spec.Basic.Ack(tag) for tag in tags[below:]]
        number, blocking = self.channel.channel_number, self.connection
        hidden: Any = blocking._impl  # type: ignore[attr-defined] # one write for all of them
        hidden._output_marshaled_frames(
            [b"".join(frame.Method(number, each).marshal() for each in acks)]
        )

    def nack(self, message: Any) -> None:
        """Reject, if this consumer received it."""
        if message.owner is self:
            super().nack(message)  # type: ignore[no-untyped-call]

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Nothing: RabbitMQ requeues what a closed channel had not acked."""


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
