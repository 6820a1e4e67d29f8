"""The relay: publishes what the outbox says is due, and publishes again what was never claimed.

    outbox (due) → lease (commit) → publish with confirms → delivery claims or completes the job
                     ↑ not confirmed, connection's epoch ended, unclaimed past its bound

Any number of relays may run: each leases other rows. A relay never locks a job row.
"""

import select
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import structlog

from domain.ids import new_id
from domain.job_types import JobType
from jobs.enqueue import WAKE_CHANNEL
from models.database import db, execute, fetch

log = structlog.get_logger()

_TYPES = {job_type.value: job_type for job_type in JobType}
_QUEUES = {job_type.value: job_type.spec.queue for job_type in JobType}

#: At most this many jobs of a queue are with the broker and unclaimed: the rest keeps its priority
#: order in PostgreSQL, and a lost broker costs little to publish again.
WINDOW = 1_000

#: Rows per lease and queue. Bigger batches gain nothing: confirms are pipelined.
BATCH = 500

#: Published and still unclaimed after this: published again, and three times as late each time.
#: Only what did not arrive counts: after a claim, a refused delivery or a lost connection it begins
#: anew, with the second time, as that still says "published before". Else a job that went through
#: many hands and is then leased by a relay that dies at once would lie there for ten minutes.
UNCLAIMED_AFTER = timedelta(seconds=10)
UNCLAIMED_AFTER_MAX = timedelta(minutes=10)

#: An idle relay looks at least this often, whatever woke nobody.
IDLE_POLL_S = 0.5

#: A full window is looked at this often, by how much of a batch it then had room for: workers may
#: empty it much quicker than the idle poll, but each look costs as much as some jobs.
FULL_POLL_MIN_S = 0.01
FULL_POLL_MAX_S = 0.1

#: One statement, whoever inserted them: this relay is awake now, and looks before it sleeps again.
#: So nobody notifies for the row that a killed relay left behind.
_AWAKE = """
DELETE FROM relay_idle WHERE relay IN (SELECT relay FROM relay_idle FOR UPDATE SKIP LOCKED)
"""

_OVERDUE = """
UPDATE job_outbox SET published_at = NULL
WHERE job_id IN (
    SELECT job_id FROM job_outbox
    WHERE queue = ANY(%(queues)s) AND published_at IS NOT NULL AND due_at <= overnight_now()
    LIMIT %(window)s FOR UPDATE SKIP LOCKED)
"""

#: Leases from every queue what its window has room for, the best first. Before the leased rows
#: comes one that says what room there was, and whether a published job is overdue.
#: Prepared: planning it would take longer than running it, and an idle job waits for it.
_LEASE = """
PREPARE relay_lease (text[], text[], integer, integer, uuid, interval, interval) AS
WITH state AS MATERIALIZED (
    SELECT queue, $4 - (SELECT count(*) FROM (SELECT 1 FROM job_outbox o
                                              WHERE o.queue = q.queue AND published_at IS NOT NULL
                                              LIMIT $4) AS published) AS room,
           EXISTS (SELECT 1 FROM job_outbox o
                   WHERE o.queue = q.queue AND published_at IS NOT NULL
                     AND due_at <= overnight_now()) AS overdue
    FROM unnest($1) AS q (queue)
), picked AS (
    SELECT o.job_id, o.due_at
    FROM state CROSS JOIN LATERAL (
        SELECT job_id, due_at FROM job_outbox o
        WHERE o.queue = state.queue AND published_at IS NULL AND due_at <= overnight_now()
          AND job_type = ANY($2)  -- a newer version's types are for newer relays
          AND 'service:' || o.service <> ALL (ARRAY(SELECT scope FROM pause))  -- read once
          AND 'job_type:' || o.job_type <> ALL (ARRAY(SELECT scope FROM pause))
        ORDER BY priority DESC, due_at
        LIMIT least($3, state.room) FOR UPDATE SKIP LOCKED) AS o
), leased AS (
    UPDATE job_outbox o
    SET published_at = overnight_now(), publish_count = publish_count + 1, epoch = $5,
        due_at = overnight_now() + least($6 * power(3, least(publish_count, 10)), $7),
        due_set_at = overnight_now()
    FROM picked WHERE o.job_id = picked.job_id
    RETURNING o.job_id, o.job_type, o.priority, o.publish_count, picked.due_at
)
SELECT NULL, NULL, NULL, jsonb_object_agg(queue, room), bool_or(overdue), NULL, NULL FROM state
UNION ALL
SELECT job_id::text, job_type, publish_count, NULL, NULL, priority, due_at FROM leased
ORDER BY 6 DESC NULLS FIRST, 7
"""

_RUN_LEASE = """
EXECUTE relay_lease (%(queues)s, %(known)s, %(batch)s, %(window)s, %(epoch)s, %(after)s,
                     %(after_max)s)
"""

#: This connection is the relay's own. A lease that a crash of the server undoes was published, and
#: is once more; and a plan that was made while the outbox was empty must suit a full one. (A bitmap
#: scan reads the entries of all jobs since the last vacuum, an index scan those of this moment.)
_SETTINGS = """
SET synchronous_commit = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET jit = off;
SET plan_cache_mode = force_generic_plan
"""

#: Once a connection, and one statement either way: a simulated night counts statements.
_PREPARE_LEASE = f"""
DO $do$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'relay_lease') THEN
        EXECUTE $lease${_LEASE}$lease$;
    END IF;
END $do$
"""

_UNLEASE = """
UPDATE job_outbox SET published_at = NULL, due_at = overnight_now(), due_set_at = overnight_now(),
                      publish_count = publish_count - 1
WHERE job_id IN (SELECT job_id FROM job_outbox
                 WHERE job_id = ANY(%s::uuid[]) AND published_at IS NOT NULL
                 FOR UPDATE SKIP LOCKED)
"""

_FORGET_EPOCH = """
UPDATE job_outbox SET published_at = NULL, due_at = overnight_now(), due_set_at = overnight_now(),
                      publish_count = least(publish_count, 1)
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
        self._connected = self._full = self._moving = False
        self._full_poll_s = FULL_POLL_MIN_S
        self._prepared: object = None

    def run_once(self) -> int:
        """Publish what is due, up to a batch a queue; returns how many the broker confirmed."""
        epoch = self.publisher.connect()
        self._connected, self._full = epoch is not None, False
        if epoch is None:
            return 0
        self._prepare()
        if self._epoch not in (None, epoch):
            lost = execute(_FORGET_EPOCH, (str(self._epoch),))
            log.warning("broker connection was lost", to_publish_again=lost)
        self._epoch = epoch
        return self._publish()

    def _publish(self) -> int:
        params = {
            "queues": self.queues,
            "known": list(_TYPES),
            "batch": self.batch,
            "window": self.window,
            "epoch": str(self._epoch),
            "after": self.unclaimed_after,
            "after_max": UNCLAIMED_AFTER_MAX,
        }
        [(_, _, _, rooms, overdue, _, _), *rows] = fetch(_RUN_LEASE, params)
        if overdue and execute(_OVERDUE, params):
            leased, taken = rows, Counter(_QUEUES[row[1]] for row in rows)
            [(_, _, _, rooms, _, _, _), *rows] = fetch(_RUN_LEASE, params)
            rooms = {queue: room + taken[queue] for queue, room in rooms.items()}
            rows = leased + rows
        taken = Counter(_QUEUES[row[1]] for row in rows)
        self._full = any(room <= taken[queue] for queue, room in rooms.items())
        if not rows:
            return 0
        self._pace(len(rows))
        batch = [Outgoing(UUID(row[0]), _TYPES[row[1]], row[2]) for row in rows]
        confirmed = self.publisher.publish(batch)
        failed = [str(item.job_id) for item in batch if item.job_id not in confirmed]
        if failed:
            execute(_UNLEASE, (failed,))
            log.warning("not confirmed by the broker", count=len(failed))
        return len(confirmed)

    def look(self) -> bool:
        """`run_once` for a loop; whether to look again at once: there may be more, and room."""
        self._moving = bool(self.run_once())
        return self._moving and not self._full

    def wait(self) -> None:
        """Sleep until an enqueue notifies, something falls due, or the poll interval is over.

        The idle row comes first and one more look follows it: a job enqueued in between is seen.
        While workers empty a full window, there is nothing to be notified of.
        """
        if self._full and self._moving:
            time.sleep(self._full_poll_s)
            return
        connection = self._prepare()
        connection.notifies.clear()
        execute("INSERT INTO relay_idle VALUES (%s) ON CONFLICT DO NOTHING", (str(self._id),))
        if not self.run_once():
            timeout = self._until_due()
            if not connection.notifies:  # a notification may have come with any answer above
                select.select([connection], [], [], timeout)
            if self._connected:
                self.run_once()  # whoever woke us waits
        execute(_AWAKE)

    def _pace(self, leased: int) -> None:
        """Look at a full window again when a quarter to half of a batch has room."""
        if leased < self.batch // 4:
            self._full_poll_s = min(2 * self._full_poll_s, FULL_POLL_MAX_S)
        elif leased > self.batch // 2:
            self._full_poll_s = max(self._full_poll_s / 2, FULL_POLL_MIN_S)

    def _prepare(self) -> Any:
        """This thread's connection, set up for us: it listens, and its commits wait for no disk."""
        connection = db.connection()
        if self._prepared is not connection:
            execute(_SETTINGS)
            execute(_PREPARE_LEASE)
            execute(f"LISTEN {WAKE_CHANNEL}")
            self._prepared = connection
        return connection

    def _until_due(self) -> float:
        if not self._connected:
            return IDLE_POLL_S
        if self._full:
            return FULL_POLL_MAX_S
        [(seconds,)] = fetch(_NEXT_DUE)
        return IDLE_POLL_S if seconds is None else min(IDLE_POLL_S, max(0.0, float(seconds)))

    def close(self) -> None:
        """Leave no idle row behind, and end the publisher's connection."""
        self.publisher.close()
        execute("DELETE FROM relay_idle WHERE relay = %s", (str(self._id),))
