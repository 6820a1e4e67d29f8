"""Publish to RabbitMQ with pipelined confirms: a window of messages, one wait.

    publish(batch) → one write of all frames → acks, nacks and returns come back → confirmed ids

pika's SelectConnection runs in a thread of its own; every callback below runs there. One confirm
per message on a blocking connection would cost about ten times the rate.
"""

import threading
import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any
from uuid import UUID

import pika
import structlog

from domain.ids import new_id
from jobs.frames import message_body, message_frames
from jobs.rabbitmq import connection_parameters, queue_arguments
from jobs.relay import Outgoing

log = structlog.get_logger()

#: How long a batch may wait for its confirms before the connection is given up.
CONFIRM_TIMEOUT_S = 15.0

#: How often a waiting publish looks whether its connection still lives.
_LIVENESS_S = 0.25

#: How long a connection attempt may take.
CONNECT_TIMEOUT_S = 10.0

#: How long an orderly close may take.
_CLOSE_TIMEOUT_S = 2.0


class _Batch:
    """What is not yet confirmed of one publish call."""

    def __init__(self) -> None:
        self.open: dict[int, UUID] = {}
        self.confirmed: set[UUID] = set()
        self.returned: set[str] = set()
        self.sent = False
        self.done = threading.Event()

    def resolve(self, tag: int, multiple: bool, acked: bool) -> None:
        tags = list(takewhile(tag.__ge__, self.open)) if multiple else [tag]
        for each in tags:
            job_id = self.open.pop(each, None)
            if job_id is None or not acked:
                continue
            if not self.returned or str(job_id) not in self.returned:
                self.confirmed.add(job_id)
        if self.sent and not self.open:
            self.done.set()


class _Link:
    """One connection from its start to its end: epoch, channel, and the thread of its loop.

    Nothing of it is used again, so a connection that takes long to end disturbs no later one.
    """

    def __init__(self, parameters: pika.URLParameters, prefix: str) -> None:
        self.epoch = new_id()
        self.error = ""
        self.settled = threading.Event()  # open, or at its end
        self._prefix = prefix
        self._channel: Any = None
        self._batch: _Batch | None = None
        self._next_tag = 1
        self._ending = False
        self._connection = pika.SelectConnection(
            parameters,
            on_open_callback=lambda opened: opened.channel(on_open_callback=self._opened),
            on_open_error_callback=self._closed,
            on_close_callback=self._closed,
        )
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread still runs; what is not confirmed after that never will be."""
        return self._thread.is_alive()

    @property
    def usable(self) -> bool:
        """Whether it is open for publishing."""
        return self.alive and self.settled.is_set() and self._channel is not None

    def send(self, work: _Batch, batch: Sequence[Outgoing]) -> None:
        """Publish in the connection's thread."""
        self._connection.ioloop.add_callback_threadsafe(lambda: self._send(work, batch))

    def close(self) -> None:
        """Close the connection and wait for its thread, but not for a broker that hangs.

        Such a thread ends by itself, when the heartbeats fail.
        """
        self._connection.ioloop.add_callback_threadsafe(self._close)
        self._thread.join(_CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._connection.ioloop.start()
        except Exception as error:
            if not self._ending:
                log.exception("publisher connection failed")
            else:  # pika asserts that nobody gives up while it connects
                log.debug("publisher connection ended", error=repr(error))
        self._channel = None
        self.settled.set()
        if self._batch is not None:
            self._batch.done.set()
        self._connection.ioloop.close()

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(lambda _channel, reason: self._lost(reason))
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda _ok: self.settled.set())

    def _send(self, work: _Batch, batch: Sequence[Outgoing]) -> None:
        self._batch = work
        if batch and self._channel is not None and self._channel.is_open:  # else: unconfirmed
            wire = []
            for item in batch:
                work.open[self._next_tag] = item.job_id
                self._next_tag += 1
                queue, actor = self._prefix + item.job_type.spec.queue, item.job_type.value
                number, job_id = self._channel.channel_number, str(item.job_id)
                wire.append(message_frames(number, queue, actor, job_id, item.publish_count))
            hidden: Any = self._connection  # pika would write each frame by itself
            hidden._output_marshaled_frames([b"".join(wire)])
        work.sent = True
        if not work.open or self._channel is None:
            work.done.set()

    def _confirmed(self, frame: Any) -> None:
        if self._batch is not None:
            acked = isinstance(frame.method, pika.spec.Basic.Ack)
            self._batch.resolve(frame.method.delivery_tag, frame.method.multiple, acked)

    def _returned(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """The queue does not exist (yet): declare it as the workers would, and try again later."""
        if self._batch is not None:
            self._batch.returned.add(properties.message_id)
        queue = method.routing_key
        if channel.is_open:  # a closing one still hears what was returned before
            channel.queue_declare(queue, durable=True, arguments=queue_arguments(queue))

    def _lost(self, reason: object) -> None:
        self.error = str(reason)
        self._channel = None
        if self._batch is not None:
            self._batch.done.set()
        self._close()

    def _closed(self, connection: Any, reason: object) -> None:
        self.error = self.error or str(reason) or repr(reason)
        self._channel = None
        connection.ioloop.stop()

    def _close(self) -> None:
        self._ending = True
        if not (self._connection.is_closing or self._connection.is_closed):
            self._connection.close()


class RabbitmqPublisher:
    """Implements `jobs.relay.Publisher`. Reconnects by itself; each connection is a new epoch."""

    def __init__(
        self,
        url: str,
        queue_prefix: str = "",
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        confirm_timeout_s: float = CONFIRM_TIMEOUT_S,
    ) -> None:
        self._parameters = connection_parameters(url)
        self._prefix = queue_prefix
        self._connect_timeout_s = connect_timeout_s
        self._confirm_timeout_s = confirm_timeout_s
        self._link: _Link | None = None

    def connect(self) -> UUID | None:
        """The epoch of the open connection, opened if need be; None while the broker is away."""
        if self._link is not None and self._link.usable:
            return self._link.epoch
        self.close()
        self._link = _Link(self._parameters, self._prefix)
        if self._link.settled.wait(self._connect_timeout_s) and self._link.usable:
            return self._link.epoch
        log.warning("broker unreachable", error=self._link.error or "no answer")
        self.close()
        return None

    def publish(self, batch: Sequence[Outgoing]) -> set[UUID]:
        """Publish all and wait for the confirms; what is not in the answer was not confirmed."""
        if self._link is None or not self._link.usable:
            return set()
        work = _Batch()
        self._link.send(work, batch)
        deadline = time.monotonic() + self._confirm_timeout_s
        while not work.done.wait(_LIVENESS_S) and self._link.alive:
            if time.monotonic() > deadline:
                log.warning("no confirms in time: giving the connection up")
                self.close()
                break
        return set(work.confirmed)

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._link is not None:
            self._link.close()
        self._link = None


def encode(item: Outgoing, queue: str) -> bytes:
    """The message of a job, for a broker that is no connection away."""
    return message_body(queue, item.job_type.value, str(item.job_id), item.publish_count)
