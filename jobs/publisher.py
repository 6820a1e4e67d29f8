"""Publish to RabbitMQ with pipelined confirms: a window of messages, one wait.

    publish(batch) → channel.basic_publish × n → acks, nacks and returns come back → confirmed ids

pika's SelectConnection runs in a thread of its own; every callback below runs there. One confirm
per message on a blocking connection would cost about ten times the rate.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pika
import structlog
from dramatiq import Message

from domain.ids import new_id
from jobs.rabbitmq import connection_parameters, queue_arguments
from jobs.relay import Outgoing

log = structlog.get_logger()

#: How long a batch may wait for its confirms before the connection is given up.
CONFIRM_TIMEOUT_S = 15.0

#: How often a waiting publish looks whether its connection still lives.
_LIVENESS_S = 0.25

#: How long a connection attempt may take.
_CONNECT_TIMEOUT_S = 10.0


class _Batch:
    """What is not yet confirmed of one publish call."""

    def __init__(self) -> None:
        self.open: dict[int, UUID] = {}
        self.confirmed: set[UUID] = set()
        self.returned: set[str] = set()
        self.sent = False
        self.done = threading.Event()

    def resolve(self, tag: int, multiple: bool, acked: bool) -> None:
        tags = [t for t in self.open if t <= tag] if multiple else [tag]
        for each in tags:
            job_id = self.open.pop(each, None)
            if job_id is not None and acked and str(job_id) not in self.returned:
                self.confirmed.add(job_id)
        if self.sent and not self.open:
            self.done.set()


class RabbitmqPublisher:
    """Implements `jobs.relay.Publisher`. Reconnects by itself; each connection is a new epoch."""

    def __init__(self, url: str, queue_prefix: str = "") -> None:
        self._epoch = new_id()
        self._parameters = connection_parameters(url)
        self._prefix = queue_prefix
        self._connection: pika.SelectConnection | None = None
        self._channel: Any = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._batch: _Batch | None = None
        self._next_tag = 1
        self._error = ""

    def connect(self) -> UUID | None:
        """The epoch of the open connection, opened if need be; None while the broker is away."""
        if self._alive() and self._channel is not None:
            return self._epoch
        self.close()
        self._ready.clear()
        self._batch, self._error, self._epoch = None, "", new_id()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()
        if self._ready.wait(_CONNECT_TIMEOUT_S) and self._channel is not None:
            return self._epoch
        log.warning("broker unreachable", error=self._error)
        return None

    def publish(self, batch: Sequence[Outgoing]) -> set[UUID]:
        """Publish all and wait for the confirms; what is not in the answer was not confirmed."""
        work = _Batch()
        if not self._call(lambda: self._send(work, batch)):
            return set()
        patience = CONFIRM_TIMEOUT_S
        while not work.done.wait(_LIVENESS_S) and self._alive():
            patience -= _LIVENESS_S
            if patience <= 0:
                log.warning("no confirms in time: giving the connection up")
                self.close()
        return work.confirmed

    def close(self) -> None:
        """Close the connection and wait for its thread."""
        if self._call(lambda: _close(self._connection)) and self._thread is not None:
            self._thread.join(_CONNECT_TIMEOUT_S)
        self._thread = None

    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _call(self, callback: Callable[[], None]) -> bool:
        """Run `callback` in the connection's thread; False when that thread has ended."""
        with self._lock:
            if self._connection is None:
                return False
            self._connection.ioloop.add_callback_threadsafe(callback)
            return True

    def _run(self) -> None:
        self._channel = None
        connection = pika.SelectConnection(
            self._parameters,
            on_open_callback=lambda opened: opened.channel(on_open_callback=self._opened),
            on_open_error_callback=self._closed,
            on_close_callback=self._closed,
        )
        with self._lock:
            self._connection = connection
        connection.ioloop.start()
        with self._lock:
            self._connection = None
        connection.ioloop.close()

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        self._next_tag = 1
        channel.add_on_close_callback(lambda _channel, reason: self._lost(reason))
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda _ok: self._ready.set())

    def _send(self, work: _Batch, batch: Sequence[Outgoing]) -> None:
        self._batch = work
        try:
            for item in batch:
                work.open[self._next_tag] = item.job_id
                self._next_tag += 1
                queue = self._prefix + item.job_type.spec.queue
                self._channel.basic_publish(
                    exchange="",
                    routing_key=queue,
                    body=encode(item, queue),
                    properties=pika.BasicProperties(delivery_mode=2, message_id=str(item.job_id)),
                    mandatory=True,
                )
            work.sent = True
            if not work.open:
                work.done.set()
        except pika.exceptions.AMQPError as error:  # closed under us: what is open is unconfirmed
            self._lost(error)

    def _confirmed(self, frame: Any) -> None:
        if self._batch is not None:
            acked = isinstance(frame.method, pika.spec.Basic.Ack)
            self._batch.resolve(frame.method.delivery_tag, frame.method.multiple, acked)

    def _returned(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """The queue does not exist (yet): declare it as the workers would, and try again later."""
        if self._batch is not None:
            self._batch.returned.add(properties.message_id)
        queue = method.routing_key
        channel.queue_declare(queue, durable=True, arguments=queue_arguments(queue))

    def _lost(self, reason: object) -> None:
        self._error = str(reason)
        self._channel = None
        if self._connection is not None:
            _close(self._connection)

    def _closed(self, connection: Any, reason: object) -> None:
        self._error = self._error or str(reason)
        self._channel = None
        connection.ioloop.stop()
        self._ready.set()
        if self._batch is not None:
            self._batch.done.set()


def encode(item: Outgoing, queue: str) -> bytes:
    """The message on the wire: which job, and how often it was published. The row has the rest."""
    return Message(
        queue_name=queue,
        actor_name=item.job_type.value,
        args=(),
        kwargs={},
        options={"published": item.publish_count},
        message_id=str(item.job_id),
        message_timestamp=0,
    ).encode()


def _close(connection: Any) -> None:
    if connection.is_open:
        connection.close()
    elif not connection.is_closing:
        connection.ioloop.stop()
