"""The in-process transport: Dramatiq's StubBroker under the same rules, for the embedded default.

It remembers nothing: whoever starts it holds the data folder's lock, and `start_over` makes what
an earlier process had taken or published due again.
"""

from collections.abc import Sequence
from uuid import UUID

import dramatiq
from dramatiq import Message
from dramatiq.brokers.stub import StubBroker

from domain.ids import new_id
from jobs.publisher import encode
from jobs.rabbitmq import refuse_jobs
from jobs.relay import Outgoing
from models.database import execute, transaction


class InProcessBroker(StubBroker):
    """Queues in memory. Delayed queues are hidden: nothing waits in a broker."""

    def __init__(self, *, middleware: list[dramatiq.Middleware]) -> None:
        super().__init__(middleware=middleware, fail_fast_default=False)

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
        released = execute(
            """
            UPDATE job_queue SET status = 'pending', claim_token = NULL, deaths = deaths + 1
            WHERE status = 'processing'
            """
        )
        execute(
            """
            UPDATE job_outbox o SET due_at = j.run_at, published_at = NULL, publish_count = 0
            FROM job_queue j WHERE j.id = o.job_id AND j.run_at IS NOT NULL
            """
        )
    return released
