"""The relay beside pika: outbox to confirmed message, PostgreSQL's part included.

    python -m bench.relay → rounds: pika pipelined | our relay → messages/s, ratio → bench/results

Both publish the same persistent, mandatory messages to one durable queue, with confirms. pika's
limit is its SelectConnection with up to 1,000 unconfirmed messages, and has no database to read.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

import pika

from bench.jobs import JOB, enqueue_all
from bench.rounds import Figures, our_database, our_queues, parser, play
from jobs.frames import message_body
from jobs.publisher import RabbitmqPublisher
from jobs.rabbitmq import connection_parameters, queue_arguments
from jobs.relay import Relay
from models.database import fetch

WINDOW = 1_000


class PipelinedPublisher:
    """pika at its quickest: publishes whenever fewer than a window are unconfirmed."""

    def __init__(self, url: str, queue: str, messages: Iterator[tuple[str, bytes]]) -> None:
        self.seconds = 0.0
        self._queue = queue
        self._messages = messages
        self._sent = self._confirmed = 0
        self._exhausted = False
        self._start = 0.0
        self._connection: Any = pika.SelectConnection(
            connection_parameters(url),
            on_open_callback=lambda opened: opened.channel(on_open_callback=self._opened),
        )

    def run(self) -> float:
        """Publish everything; returns the seconds from the first message to the last confirm."""
        self._connection.ioloop.start()
        return self.seconds

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_confirm, callback=lambda _ok: self._begin())

    def _begin(self) -> None:
        self._start = time.perf_counter()
        self._publish()

    def _publish(self) -> None:
        while self._sent - self._confirmed < WINDOW:
            following = next(self._messages, None)
            if following is None:
                self._exhausted = True
                return
            job_id, body = following
            properties = pika.BasicProperties(delivery_mode=2, message_id=job_id)
            self._channel.basic_publish("", self._queue, body, properties, mandatory=True)
            self._sent += 1

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        self._confirmed = max(self._confirmed, tag) if multiple else self._confirmed + 1
        self._publish()
        if self._exhausted and self._confirmed >= self._sent:
            self.seconds = time.perf_counter() - self._start
            self._connection.add_on_close_callback(lambda *_: self._connection.ioloop.stop())
            self._connection.close()


def limit(amqp_url: str, count: int) -> Figures:
    """pika alone."""
    with our_queues(amqp_url) as prefix:
        queue = _declare(amqp_url, prefix)
        ids = [str(UUID(int=number)) for number in range(count)]
        messages = [(job_id, message_body(queue, JOB.value, job_id, 1)) for job_id in ids]
        seconds = PipelinedPublisher(amqp_url, queue, iter(messages)).run()
        assert _waiting(amqp_url, queue) == count
    return {"publish": count / seconds}


def ours(server: str, amqp_url: str, count: int) -> Figures:
    """One relay, from rows that are due to rows that are published and confirmed."""
    with our_database(server), our_queues(amqp_url) as prefix:
        queue = _declare(amqp_url, prefix)
        enqueue_all(count)
        relay = Relay(RabbitmqPublisher(amqp_url, prefix), window=2 * count)
        relay.publisher.connect()
        start = time.perf_counter()
        published = 0
        while published < count:
            published += relay.run_once()
        seconds = time.perf_counter() - start
        relay.close()
        assert fetch("SELECT DISTINCT publish_count FROM job_outbox") == [(1,)]
        assert _waiting(amqp_url, queue) == count
    return {"publish": count / seconds}


def _declare(amqp_url: str, prefix: str) -> str:
    queue: str = prefix + JOB.spec.queue
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        connection.channel().queue_declare(queue, durable=True, arguments=queue_arguments(queue))
    return queue


def _waiting(amqp_url: str, queue: str) -> int:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        declared = connection.channel().queue_declare(queue, passive=True)
        return int(declared.method.message_count)


def main() -> None:
    """Play the rounds."""
    asked = parser(__doc__, rounds=5)
    asked.add_argument("--jobs", type=int, default=20_000)
    given = asked.parse_args()
    contestants = {
        "pika pipelined": partial(limit, given.amqp, given.jobs),
        "overnight relay": partial(ours, given.postgres, given.amqp, given.jobs),
    }
    play("relay", given, contestants, base="pika pipelined")


if __name__ == "__main__":
    main()
