"""What the job queue is doing: counts, lists, one job with every failed attempt, strays.

Reads only. States and columns: docs/jobs.md.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.errors import InvalidInput, NotFound
from domain.job_types import JobStatus, JobType, Service
from jobs.operations import Pause, pauses
from models.database import fetch

#: A worker that was not heard of for this long is not counted as alive.
ALIVE_WITHIN = timedelta(seconds=10)

MAX_LISTED = 10_000
MIN_PREFIX_DIGITS = 4


@dataclass(frozen=True)
class Count:
    """Jobs of one type in one status."""

    service: str
    job_type: str
    status: str
    jobs: int


@dataclass(frozen=True)
class QueueStats:
    """The queue at a glance. Outbox rows exist for unfinished jobs only."""

    counts: tuple[Count, ...]
    pauses: tuple[Pause, ...]
    oldest_due_age: timedelta | None  # of what could run now and does not
    workers_alive: int
    waiting: int  # due and not with the broker
    later: int  # due in the future: delayed, or between retries
    published: int  # with the broker
    parked: int  # until somebody releases them
    claimed: int  # in a worker's hands
    paused: list[str]  # scopes
    stray_messages: int


@dataclass(frozen=True)
class JobLine:
    """A job in a list."""

    id: str
    job_type: str
    service: str
    status: str
    priority: int
    attempts: int
    deaths: int
    created_at: datetime
    run_at: datetime | None  # None: parked
    finished_at: datetime | None
    last_error: str | None


@dataclass(frozen=True)
class Attempt:
    """An attempt that did not complete its job."""

    attempt: int
    outcome: str  # failed, refunded (an outage, at no cost) or died (with its worker)
    worker: str | None
    started_at: datetime | None
    ended_at: datetime
    error: str
    traceback: str | None


@dataclass(frozen=True)
class JobAction:
    """What a person did to a job, and how often it had been tried and died until then."""

    action: str  # requeued, discarded or cancelled
    at: datetime
    by_whom: str
    reason: str | None
    attempts: int
    deaths: int


@dataclass(frozen=True)
class JobDetail:
    """A job with everything that is known of it."""

    job: JobLine
    attempts: tuple[Attempt, ...]
    actions: tuple[JobAction, ...]
    queue: str
    payload: dict[str, Any]
    max_retries: int
    dedup_key: str | None
    singleton_key: str | None
    correlation: str | None
    parent: str | None
    next_steps: list[Any] | None
    processed_by: str | None
    started_at: datetime | None


@dataclass(frozen=True)
class Stray:
    """A delivery that had no job: kept as it came, acked, without effect."""

    id: int
    received_at: datetime
    queue: str
    reason: str
    body: str


_LINE = "id::text, job_type, service, status, priority, attempts, deaths, created_at, run_at,"
_LINE += " finished_at, last_error"


def stats() -> QueueStats:
    """Counts by service, type and status, and how the open ones stand."""
    counts = fetch(
        "SELECT service, job_type, status, count(*) FROM job_queue"
        " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    row: Any = fetch(
        """
        SELECT overnight_now() - min(o.due_at) FILTER (WHERE o.due_at <= overnight_now()),
               (SELECT count(*) FROM worker WHERE overnight_is_recent(heartbeat_at, %s)),
               count(*) FILTER (WHERE o.published_at IS NULL AND o.due_at <= overnight_now()),
               count(*) FILTER (WHERE o.published_at IS NULL AND o.due_at > overnight_now()),
               count(*) FILTER (WHERE o.published_at IS NOT NULL AND o.due_at IS NOT NULL),
               count(*) FILTER (WHERE o.due_at IS NULL AND j.run_at IS NULL),
               count(*) FILTER (WHERE o.due_at IS NULL AND j.run_at IS NOT NULL),
               (SELECT coalesce(array_agg(scope ORDER BY scope), '{}') FROM pause),
               (SELECT count(*) FROM stray_message)
        FROM job_outbox o JOIN job_queue j ON j.id = o.job_id
        """,
        (ALIVE_WITHIN,),
    )[0]
    return QueueStats(tuple(Count(*count) for count in counts), tuple(pauses()), *row)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs; every part that is given must fit. Raises InvalidInput for an unknown word.

    `since` compares when a job ended or, if it has not, when it was made. `error` is a part of the
    last error, in any case.
    """

    status: str | None = None
    job_type: str | None = None
    service: str | None = None
    since: datetime | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        _one_of(self.status, [known.value for known in JobStatus], "status")
        _one_of(self.job_type, [known.value for known in JobType], "job type")
        _one_of(self.service, [known.value for known in Service], "service")

    def sql(self) -> tuple[str, dict[str, Any]]:
        """A condition on job_queue and its parameters."""
        parts = {
            "status": "status = %(status)s",
            "job_type": "job_type = %(job_type)s",
            "service": "service = %(service)s",
            "since": "coalesce(finished_at, created_at) >= %(since)s",
            "error": "position(lower(%(error)s) IN lower(last_error)) > 0",
        }
        given = {name: getattr(self, name) for name in parts if getattr(self, name) is not None}
        return " AND ".join(parts[name] for name in given) or "true", given


def list_jobs(
    status: str | None = None,
    job_type: str | None = None,
    limit: int = 50,
    wanted: JobFilter | None = None,
) -> list[JobLine]:
    """The newest jobs, optionally of one status or type or filter. Raises InvalidInput."""
    wanted = wanted or JobFilter(status, job_type)
    if not 1 <= limit <= MAX_LISTED:
        raise InvalidInput(f"the limit must be between 1 and {MAX_LISTED}")
    where, params = wanted.sql()
    rows = fetch(
        f"SELECT {_LINE} FROM job_queue WHERE {where}"  # noqa: S608 - our own text
        " ORDER BY created_at DESC, id LIMIT %(limit)s",
        {**params, "limit": limit},
    )
    return [JobLine(*row) for row in rows]


def show_job(prefix: str) -> JobDetail:
    """The job whose id begins with `prefix`. Raises NotFound, or InvalidInput for several."""
    job_id = resolve_job(prefix)
    rows = fetch(
        f"SELECT {_LINE}, queue, payload, max_retries, dedup_key, singleton_key, correlation,"  # noqa: S608
        " parent::text, next_steps, processed_by::text, started_at FROM job_queue WHERE id = %s",
        (job_id,),
    )
    if not rows:
        raise _unknown(prefix)
    attempts = fetch(
        "SELECT attempt, outcome, worker::text, started_at, ended_at, error, traceback"
        " FROM job_attempt WHERE job_id = %s ORDER BY id",
        (job_id,),
    )
    actions = fetch(
        "SELECT action, at, by_whom, reason, attempts, deaths FROM job_action"
        " WHERE job_id = %s ORDER BY id",
        (job_id,),
    )
    width = len(JobLine.__dataclass_fields__)
    line, rest = rows[0][:width], rows[0][width:]
    return JobDetail(
        JobLine(*line),
        tuple(Attempt(*attempt) for attempt in attempts),
        tuple(JobAction(*action) for action in actions),
        *rest,
    )


def list_stray(limit: int = 50) -> list[Stray]:
    """The newest stray messages."""
    if not 1 <= limit <= MAX_LISTED:
        raise InvalidInput(f"the limit must be between 1 and {MAX_LISTED}")
    sql = "SELECT id, received_at, queue, reason, body FROM stray_message ORDER BY id DESC LIMIT %s"
    return [Stray(*row) for row in fetch(sql, (limit,))]


def resolve_job(prefix: str) -> UUID:
    """The one job whose id begins so. Raises NotFound, or InvalidInput for several."""
    digits = prefix.strip().lower().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits) or len(digits) < MIN_PREFIX_DIGITS:
        raise InvalidInput(
            f"{prefix!r} is no job id: give at least {MIN_PREFIX_DIGITS} of its hex digits"
        )
    low, high = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    found = fetch("SELECT id FROM job_queue WHERE id BETWEEN %s AND %s LIMIT 2", (low, high))
    if not found:
        raise _unknown(prefix)
    if len(found) > 1:
        raise InvalidInput(f"several jobs begin with {prefix!r}: give more digits")
    return UUID(str(found[0][0]))


def _unknown(prefix: str) -> NotFound:
    return NotFound(f"no job {prefix}; `overnight jobs list` shows the newest")


def _one_of(value: str | None, known: list[str], what: str) -> None:
    if value is not None and value not in known:
        raise InvalidInput(f"unknown {what} {value!r}; known are {', '.join(known)}")
