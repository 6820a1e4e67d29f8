"""What a person may do to jobs: requeue, discard, cancel; pause and resume what is new.

    lock the rows that nobody works on → objections → change + outbox + job_action, one commit

A job of a payout is only ever retried or stopped through its run: the money has rows of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from peewee import IntegrityError

from domain.job_types import JobStatus, JobType
from models.database import db, execute, fetch

_LOCK = """
SELECT id::text, job_type, status, correlation, run_at IS NULL AS parked, released_singleton_key
FROM job_queue WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE SKIP LOCKED
"""

_RECORD = """
INSERT INTO job_action (job_id, action, by_whom, reason, attempts, deaths)
SELECT id, %(action)s, %(by)s, %(reason)s, attempts, deaths
FROM job_queue WHERE id = ANY(%(ids)s::uuid[])
"""

#: As new, with what the type allows today; a cancelled parked job is parked again.
_REQUEUE = """
WITH job AS (
    UPDATE job_queue j
    SET status = 'pending', attempts = 0, deaths = 0, max_retries = g.max_retries,
        finished_at = NULL, started_at = NULL, processed_by = NULL,
        run_at = CASE WHEN run_at IS NULL THEN NULL ELSE overnight_now() END,
        singleton_key = released_singleton_key, released_singleton_key = NULL
    FROM unnest(%(ids)s::uuid[], %(max_retries)s::integer[]) AS g (id, max_retries)
    WHERE j.id = g.id
    RETURNING j.id, j.queue, j.job_type, j.service, j.priority, j.run_at
), entry AS (
    INSERT INTO job_outbox (job_id, queue, job_type, service, priority, due_at)
    SELECT id, queue, job_type, service, priority, run_at FROM job
    RETURNING job_id
)
SELECT job_id, (SELECT pg_notify('job_outbox', '') FROM relay_idle LIMIT 1)::text FROM entry
"""

_CANCEL = """
WITH job AS (
    UPDATE job_queue
    SET status = 'cancelled', finished_at = overnight_now(), singleton_key = NULL,
        released_singleton_key = coalesce(singleton_key, released_singleton_key)
    WHERE id = ANY(%s::uuid[])
    RETURNING id
)
DELETE FROM job_outbox WHERE job_id IN (SELECT id FROM job)
"""

_BUSY = "a worker has it at this moment, or it is gone"

_KEY_TAKEN = """
SELECT other.id::text FROM job_queue j JOIN job_queue other
    ON other.singleton_key = j.released_singleton_key WHERE j.id = %s
"""


class Action(StrEnum):
    """What can be done to a job."""

    REQUEUE = "requeued"
    DISCARD = "discarded"
    CANCEL = "cancelled"


#: The statuses that an action takes a job from.
TAKES_FROM: dict[Action, tuple[JobStatus, ...]] = {
    Action.REQUEUE: (JobStatus.FAILED, JobStatus.CANCELLED),
    Action.DISCARD: (JobStatus.FAILED,),
    Action.CANCEL: (JobStatus.PENDING, JobStatus.RETRYING),
}


@dataclass(frozen=True)
class Outcome:
    """What became of one job: the action was done, or `objection` says why not."""

    job_id: str
    objection: str | None


@dataclass(frozen=True)
class _Row:
    id: str
    job_type: str
    status: str
    correlation: str | None
    parked: bool
    released_singleton_key: str | None


def apply(
    action: Action, job_ids: Sequence[str], by: str, reason: str | None = None
) -> list[Outcome]:
    """Do it to each job that allows it, in the open transaction; an objection is no error.

    What a worker holds at this moment is not waited for.
    """
    if not db.in_transaction():
        raise RuntimeError("an operation on jobs needs an open transaction")
    rows = {row.id: row for row in (_Row(*found) for found in fetch(_LOCK, (list(job_ids),)))}
    objections: dict[str, str | None] = {
        job_id: _objection(action, rows[job_id]) if job_id in rows else _BUSY for job_id in job_ids
    }
    allowed = [job_id for job_id, objection in objections.items() if objection is None]
    record = {"action": action.value, "by": by, "reason": reason}
    if action is Action.REQUEUE:
        objections.update(_requeue([rows[job_id] for job_id in allowed], record))
    elif allowed:
        execute(_RECORD, record | {"ids": allowed})
        execute(_CANCEL, (allowed,))
    return [Outcome(job_id, objection) for job_id, objection in objections.items()]


def objection_to(action: Action, job_type: str, status: str, correlation: str | None) -> str | None:
    """Why a job like this does not allow the action; None if it does."""
    return _objection(action, _Row("", job_type, status, correlation, False, None))


def _objection(action: Action, row: _Row) -> str | None:
    known = _known(row.job_type)
    about_run = (row.correlation or "").removeprefix("run:")
    is_run = row.correlation is not None and row.correlation.startswith("run:")
    if known.spec.money if known else is_run:
        run = about_run if is_run else "RUN"
        if action is Action.CANCEL:
            return f"a payout job is stopped through its run: `overnight payouts stop {run}`"
        return f"a payout job is retried through its run: `overnight payouts retry {run}`"
    if row.status not in TAKES_FROM[action]:
        return _wrong_status(action, row.status)
    if action is Action.REQUEUE and known is None:
        return f"this version does not know the job type {row.job_type}"
    return None


def _wrong_status(action: Action, status: str) -> str:
    match action, status:
        case Action.CANCEL, JobStatus.PROCESSING:
            return "a worker runs it: pause its type to stop more, or wait for its end"
        case Action.CANCEL, JobStatus.FAILED:
            return "it failed: `overnight jobs discard` takes it off the list"
        case Action.CANCEL, _:
            return f"it is {status} already"
        case _, JobStatus.PENDING | JobStatus.RETRYING | JobStatus.PROCESSING:
            return f"it is {status}: only what has failed can be {action.value}"
    return f"it is {status}, not failed"


def _requeue(rows: Sequence[_Row], record: dict[str, str | None]) -> dict[str, str]:
    """Requeue; one by one where a singleton key may be taken. Returns the objections."""
    refused: dict[str, str] = {}
    _make_due([row for row in rows if row.released_singleton_key is None], record)
    for row in rows:
        if row.released_singleton_key is None:
            continue
        for (other,) in fetch(_KEY_TAKEN, (row.id,)):
            refused[row.id] = f"job {other} of the same singleton key is unfinished"
        if row.id not in refused:
            try:
                with db.savepoint():
                    _make_due([row], record)
            except IntegrityError:
                refused[row.id] = "another job of the same singleton key has just begun"
    return refused


def _make_due(rows: Sequence[_Row], record: dict[str, str | None]) -> None:
    if not rows:
        return
    ids = [row.id for row in rows]
    limits = [JobType(row.job_type).spec.max_retries for row in rows]
    execute(_RECORD, record | {"ids": ids})
    fetch(_REQUEUE, {"ids": ids, "max_retries": limits})


def _known(job_type: str) -> JobType | None:
    try:
        return JobType(job_type)
    except ValueError:
        return None


@dataclass(frozen=True)
class Pause:
    """New work of a scope (service:NAME or job_type:NAME) is stopped."""

    scope: str
    reason: str
    paused_by: str
    paused_at: Any


def pause(scope: str, reason: str, by: str) -> bool:
    """Stop new work of a scope; False if it was stopped before, and then its reason stays."""
    sql = "INSERT INTO pause (scope, reason, paused_by) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
    return bool(execute(sql, (scope, reason, by)))


def resume(scope: str) -> bool:
    """Let new work of a scope begin again; False if it was not paused. A relay sees it at once."""
    return bool(execute("DELETE FROM pause WHERE scope = %s", (scope,)))


def pauses() -> list[Pause]:
    """What is paused, the oldest first."""
    sql = "SELECT scope, reason, paused_by, paused_at FROM pause ORDER BY paused_at, scope"
    return [Pause(*row) for row in fetch(sql)]
