"""The relay: publishes what the outbox says is due, and publishes again what was never claimed.

    outbox (due) → lease (commit) → publish with confirms → delivery claims or completes the job
                     ↑ not confirmed, connection's epoch ended, unclaimed past its bound

Any number of relays may run: each leases other rows. A relay never locks a job row.
"""

import select
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import structlog

from domain.ids import new_id
from domain.job_types import JobType
from jobs.enqueue import WAKE_CHANNEL
from models.database import db, execute, fetch

log = structlog.get_logger()

#: At most this many jobs of a queue are with the broker and unclaimed: the rest keeps its priority
#: order in PostgreSQL, and a lost broker costs little to publish again.
WINDOW = 1_000

#: Rows per lease. Bigger batches gain nothing: confirms are pipelined.
BATCH = 500

#: Published and still unclaimed after this: published again, and three times as late each time.
UNCLAIMED_AFTER = timedelta(seconds=10)
UNCLAIMED_AFTER_MAX = timedelta(minutes=10)

#: An idle relay looks at least this often, whatever woke nobody.
IDLE_POLL_S = 0.5

#: A full window is looked at this often: workers may empty it much quicker than the idle poll.
FULL_POLL_S = 0.02

#: One statement, whoever inserted them: this relay is awake now, and looks before it sleeps again.
#: So nobody notifies for the row that a killed relay left behind.
_AWAKE = """
DELETE FROM relay_idle WHERE relay IN (SELECT relay FROM relay_idle FOR UPDATE SKIP LOCKED)
"""

_OVERDUE = """
UPDATE job_outbox SET published_at = NULL
WHERE job_id IN (
    SELECT job_id FROM job_outbox
    WHERE queue = %(queue)s AND published_at IS NOT NULL AND due_at <= overnight_now()
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""

_IN_WINDOW = """
SELECT count(*) FROM (SELECT 1 FROM job_outbox
                      WHERE queue = %s AND published_at IS NOT NULL LIMIT %s) AS published
"""

_LEASE = """
WITH picked AS (
    SELECT job_id, due_at FROM job_outbox o
    WHERE queue = %(queue)s AND published_at IS NULL AND due_at <= overnight_now()
      AND job_type = ANY(%(known)s)  -- a newer version's types are for newer relays
      AND NOT EXISTS (SELECT 1 FROM pause
                      WHERE scope IN ('service:' || o.service, 'job_type:' || o.job_type))
    ORDER BY priority DESC, due_at
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE job_outbox o
    SET published_at = overnight_now(), publish_count = publish_count + 1, epoch = %(epoch)s,
        due_at = overnight_now()
                 + least(%(after)s * power(3, least(publish_count, 10)), %(after_max)s)
    FROM picked WHERE o.job_id = picked.job_id
    RETURNING o.job_id, o.job_type, o.priority, o.publish_count, picked.due_at
)
SELECT job_id, job_type, priority, publish_count FROM leased ORDER BY priority DESC, due_at
"""

_UNLEASE = """
UPDATE job_outbox SET published_at = NULL, due_at = overnight_now(),
                      publish_count = publish_count - 1
WHERE job_id IN (SELECT job_id FROM job_outbox
                 WHERE job_id = ANY(%s::uuid[]) AND published_at IS NOT NULL
                 FOR UPDATE SKIP LOCKED)
"""

_FORGET_EPOCH = """
UPDATE job_outbox SET published_at = NULL, due_at = overnight_now()
WHERE job_id IN (SELECT job_id FROM job_outbox
                 WHERE published_at IS NOT NULL AND epoch IS NOT DISTINCT FROM %s
                 FOR UPDATE SKIP LOCKED)
"""

_NEXT_DUE = """
SELECT extract(epoch FROM min(due_at) - overnight_now()) FROM (
    SELECT min(due_at) AS due_at FROM job_outbox
    WHERE published_at IS NULL AND due_at > overnight_now()
    UNION ALL
    SELECT min(due_at) FROM job_outbox
    WHERE published_at IS NOT NULL AND due_at > overnight_now()) AS next
"""


@dataclass(frozen=True)
class Outgoing:
    """A job on its way to a broker."""

    job_id: UUID
    job_type: JobType
    priority: int
    publish_count: int


class Publisher(Protocol):
    """Where a relay publishes. One thread uses it."""

    def connect(self) -> UUID | None:
        """The epoch of an open connection, or None: the broker is away.

        An epoch names one connection: what it published may be lost once it has ended.
        """

    def publish(self, batch: Sequence[Outgoing]) -> set[UUID]:
        """Publish all; returns the ids that the broker confirmed. Never raises for its outage."""

    def close(self) -> None:
        """End the connection."""


class Relay:
    """One relay; `run_once` is one look at every queue, `wait` sleeps until there may be more."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        window: int = WINDOW,
        batch: int = BATCH,
        unclaimed_after: timedelta = UNCLAIMED_AFTER,
    ) -> None:
        self.publisher = publisher
        self.window = window
        self.batch = batch
        self.unclaimed_after = unclaimed_after
        self.queues = sorted({job_type.spec.queue for job_type in JobType})
        self._id = new_id()
        self._epoch: UUID | None = None
        self._connected = self._full = False
        self._listening: object = None

    def run_once(self) -> int:
        """Publish what is due, up to a batch a queue; returns how many the broker confirmed."""
        epoch = self.publisher.connect()
        self._connected, self._full = epoch is not None, False
        if epoch is None:
            return 0
        if self._epoch not in (None, epoch):
            lost = execute(_FORGET_EPOCH, (str(self._epoch),))
            log.warning("broker connection was lost", to_publish_again=lost)
        self._epoch = epoch
        return sum(self._publish_queue(queue) for queue in self.queues)

    def _publish_queue(self, queue: str) -> int:
        execute(_OVERDUE, {"queue": queue, "limit": self.window})
        [(published,)] = fetch(_IN_WINDOW, (queue, self.window))
        room = min(self.batch, self.window - int(published))
        if room <= 0:
            self._full = True
            return 0
        params = {
            "queue": queue,
            "limit": room,
            "known": [job_type.value for job_type in JobType],
            "epoch": str(self._epoch),
            "after": self.unclaimed_after,
            "after_max": UNCLAIMED_AFTER_MAX,
        }
        rows = fetch(_LEASE, params)
        if not rows:
            return 0
        batch = [Outgoing(UUID(str(row[0])), JobType(row[1]), row[2], row[3]) for row in rows]
        confirmed = self.publisher.publish(batch)
        failed = [str(item.job_id) for item in batch if item.job_id not in confirmed]
        if failed:
            execute(_UNLEASE, (failed,))
            log.warning("not confirmed by the broker", count=len(failed))
        return len(confirmed)

    def wait(self) -> None:
        """Sleep until an enqueue notifies, something falls due, or the poll interval is over.

        The idle row comes first and one more look follows it: a job enqueued in between is seen.
        """
        connection = db.connection()
        if self._listening is not connection:
            execute(f"LISTEN {WAKE_CHANNEL}")
            self._listening = connection
        connection.notifies.clear()
        execute("INSERT INTO relay_idle VALUES (%s) ON CONFLICT DO NOTHING", (str(self._id),))
        if not self.run_once():
            timeout = self._until_due()
            if not connection.notifies:  # a notification may have come with any answer above
                select.select([connection], [], [], timeout)
        execute(_AWAKE)

    def _until_due(self) -> float:
        if not self._connected:
            return IDLE_POLL_S
        if self._full:
            return FULL_POLL_S
        [(seconds,)] = fetch(_NEXT_DUE)
        return IDLE_POLL_S if seconds is None else min(IDLE_POLL_S, max(0.0, float(seconds)))

    def close(self) -> None:
        """Leave no idle row behind, and end the publisher's connection."""
        self.publisher.close()
        execute("DELETE FROM relay_idle WHERE relay = %s", (str(self._id),))
