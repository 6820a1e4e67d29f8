"""The in-process transport: Dramatiq's StubBroker under the same rules, for the embedded default.

It remembers nothing: whoever starts it holds the data folder's lock, and `start_over` makes what
an earlier process had taken or published due again.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

import dramatiq
from dramatiq import Consumer, Message
from dramatiq.brokers.stub import StubBroker

from domain.ids import new_id
from jobs.publisher import encode
from jobs.rabbitmq import refuse_jobs
from jobs.relay import Outgoing
from jobs.rescue import rescue_once
from models.database import execute, transaction


class InProcessBroker(StubBroker):
    """Queues in memory. Delayed queues are hidden: nothing waits in a broker."""

    def __init__(
        self, *, prefetch: Callable[[str], int], middleware: list[dramatiq.Middleware]
    ) -> None:
        super().__init__(middleware=middleware, fail_fast_default=False)
        self.prefetch = prefetch

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        """Consume with our prefetch of this queue."""
        return super().consume(queue_name, prefetch=self.prefetch(queue_name), timeout=timeout)

    def get_declared_queues(self) -> set[str]:
        """The queues that workers consume."""
        return {name for name in self.queues if not name.endswith(".DQ")}

    def get_declared_delay_queues(self) -> set[str]:
        """None."""
        return set()

    def enqueue(self, message: "Message[object]", *, delay: int | None = None) -> "Message[object]":
        """Publish a tick or an inbox message. A job is refused: it needs a row."""
        refuse_jobs(self, message, delay)
        return super().enqueue(message)


class InProcessPublisher:
    """Implements `jobs.relay.Publisher` for an InProcessBroker; a put is its own confirm."""

    broker: InProcessBroker  # set by whoever makes both

    def __init__(self) -> None:
        self._epoch = new_id()

    def connect(self) -> UUID | None:
        """Always the one epoch: this process."""
        return self._epoch

    def publish(self, batch: Sequence[Outgoing]) -> set[UUID]:
        """Put every message on its queue in memory."""
        for item in batch:
            queue = item.job_type.spec.queue
            self.broker.declare_queue(queue)
            self.broker.queues[queue].put(encode(item, queue))
        return {item.job_id for item in batch}

    def close(self) -> None:
        """Nothing to end."""


def start_over() -> int:
    """Make everything due that an earlier process had claimed or published; returns how many.

    Only under the data folder's lock: nobody else may be running jobs of this database.
    """
    with transaction():
        execute("DELETE FROM worker")
        execute("TRUNCATE relay_idle")
    released = 0
    while rescued := rescue_once(timedelta(0), timedelta(0)):  # also counts and punishes deaths
        released += rescued
    # The publish count stays: what was published before runs by claim, so its deaths are seen.
    execute(
        """
        UPDATE job_outbox o SET due_at = j.run_at, published_at = NULL
        FROM job_queue j WHERE j.id = o.job_id AND o.published_at IS NOT NULL
        """
    )
    return released
