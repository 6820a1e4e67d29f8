"""Heartbeats, and the rescue of jobs whose worker has stopped giving them.

    beat (1 s) → silent for 7 s → claim taken away, death counted → due again

Death is a guess: a frozen worker looks dead. The fence (jobs.claim) makes a wrong guess harmless,
and the server frees the locks of a frozen worker's transaction after 4 s.
"""

import os
import socket
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

import structlog

from domain.job_types import JobType
from jobs.actor import handler_of, is_loaded
from jobs.failure import alert, fail
from models.database import execute, fetch, transaction

log = structlog.get_logger()

BEAT_INTERVAL_S = 1.0

#: Silent for this long is dead: with the rescue's own second, a job is claimable within 10 s.
DEAD_AFTER = timedelta(seconds=7)

#: After a restart of PostgreSQL everybody was silent: give them time to be heard.
GRACE_AFTER_RESTART = timedelta(seconds=10)

#: A claim this old is in its worker's list of running claims, or was forgotten.
SETTLED_AFTER = timedelta(seconds=5)

#: How long a payout job that killed its `deaths_max` workers waits between its tries, for ever.
MONEY_RETRY = timedelta(minutes=5)

_BEAT = """
INSERT INTO worker (id, host, pid) VALUES (%s, %s, %s)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = overnight_now()
"""

_ORPHANS = """
SELECT j.id, j.job_type, j.payload, j.deaths, j.attempts, j.processed_by
FROM job_outbox o JOIN job_queue j ON j.id = o.job_id
WHERE o.due_at IS NULL AND j.status = 'processing'
  AND (NOT EXISTS (SELECT 1 FROM worker w WHERE w.id = j.processed_by
                   AND overnight_is_recent(w.heartbeat_at, %(dead_after)s))
       OR (j.processed_by = %(me)s::uuid AND j.claim_token <> ALL(%(running)s::uuid[])
           AND NOT overnight_is_recent(j.started_at, %(settled)s)))
  AND pg_postmaster_start_time() < overnight_now() - %(grace)s
  AND j.job_type = ANY(%(known)s)  -- a newer version's types are for newer workers to rescue
ORDER BY j.id LIMIT 100
FOR UPDATE OF j SKIP LOCKED
"""

_RELEASE = """
WITH job AS (
    UPDATE job_queue
    SET status = 'pending', claim_token = NULL, deaths = %(deaths)s, last_error = %(error)s,
        run_at = overnight_now() + %(delay)s
    WHERE id = %(id)s
    RETURNING id, run_at
)
UPDATE job_outbox SET due_at = job.run_at, due_set_at = overnight_now(), published_at = NULL
FROM job WHERE job_id = job.id
"""

_DIED = """
INSERT INTO job_attempt (job_id, attempt, outcome, worker, started_at, error)
SELECT id, attempts, 'died', processed_by, started_at, %(error)s FROM job_queue WHERE id = %(id)s
"""


def beat(worker: UUID) -> None:
    """Say that this process lives."""
    execute(_BEAT, (str(worker), socket.gethostname(), os.getpid()))


def sign_off(worker: UUID) -> None:
    """Say that this process ends in order: whatever it still held may be rescued at once."""
    execute("DELETE FROM worker WHERE id = %s", (str(worker),))


def rescue_once(
    dead_after: timedelta = DEAD_AFTER,
    grace: timedelta = GRACE_AFTER_RESTART,
    *,
    me: UUID | None = None,
    running: Collection[UUID] = (),
) -> int:
    """Take the jobs of silent workers away from them; returns how many.

    With `me`, also what this very worker holds by a claim that none of its threads is `running`:
    whatever made it forget, nobody else could tell.
    """
    params = {
        "dead_after": dead_after,
        "grace": grace,
        "known": [job_type.value for job_type in JobType],
        "me": str(me) if me else None,
        "running": [str(token) for token in running],
        "settled": SETTLED_AFTER,
    }
    with transaction():
        rows = fetch(_ORPHANS, params)
        for job_id, job_type, payload, deaths, attempts, worker in rows:
            _release(str(job_id), JobType(job_type), payload, deaths + 1, attempts, worker)
        execute("DELETE FROM worker WHERE heartbeat_at < overnight_now() - interval '1 hour'")
    return len(rows)


def _release(
    job_id: str, job_type: JobType, payload: dict[str, str], deaths: int, attempts: int, worker: str
) -> None:
    error = f"worker {worker} died while running this job (death {deaths})"
    log.warning("rescue", job=job_id, type=job_type.value, worker=str(worker), deaths=deaths)
    params = {"id": job_id, "deaths": deaths, "error": error, "delay": _delay(deaths)}
    execute(_DIED, params)
    if deaths >= job_type.spec.deaths_max and job_type.spec.money:
        params["delay"] = MONEY_RETRY
        alert(job_type.spec.service, f"job {job_id}", f"{error}; retried every {MONEY_RETRY}")
    elif deaths >= job_type.spec.deaths_max and is_loaded(job_type):
        fail(job_id, payload, job_type.spec, error, attempts, handler_of(job_type).on_failed)
        return
    execute(_RELEASE, params)  # also what only a worker with its actor may fail


def _delay(deaths: int) -> timedelta:
    """The first two deaths may be a deployment or bad luck: run again at once."""
    return timedelta(seconds=0 if deaths <= 2 else 2 ** min(deaths, 8))
