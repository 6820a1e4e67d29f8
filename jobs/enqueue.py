"""Make jobs: a row and its outbox entry, in the caller's own transaction.

    enqueue(message | pipeline) → job_queue + job_outbox → (commit) → relay

Nothing is sent here. If the caller rolls back, there never was a job.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from json.encoder import encode_basestring_ascii as quote
from typing import Any
from uuid import UUID

from dramatiq import Message, pipeline

from domain.errors import InvalidInput
from domain.ids import new_ids
from domain.job_types import JobStatus, JobType
from models.bulk import copy_rows
from models.database import db, fetch

#: Relays listen on this channel while they sleep.
WAKE_CHANNEL = "job_outbox"

#: One statement for one job or thousands: rows, outbox entries, and a wake-up if a relay sleeps.
#: A conflict on id, dedup_key or singleton_key inserts nothing for that row.
_INSERT = """
WITH given AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(payloads)s::text[], %(dedup_keys)s::text[],
                         %(singleton_keys)s::text[], %(next_steps)s::text[])
        AS g (id, payload, dedup_key, singleton_key, next_steps)
), job AS (
    INSERT INTO job_queue (id, job_type, service, queue, payload, priority, max_retries, run_at,
                           dedup_key, singleton_key, correlation, parent, next_steps)
    SELECT id, %(job_type)s, %(service)s, %(queue)s, payload::jsonb, %(priority)s, %(max_retries)s,
           CASE WHEN %(parked)s THEN NULL ELSE coalesce(%(run_at)s, overnight_now()) END,
           dedup_key, singleton_key, %(correlation)s, %(parent)s::uuid, next_steps::jsonb
    FROM given
    ON CONFLICT DO NOTHING
    RETURNING id, run_at
), entry AS (
    INSERT INTO job_outbox (job_id, queue, job_type, service, priority, due_at)
    SELECT id, %(queue)s, %(job_type)s, %(service)s, %(priority)s, run_at FROM job
    RETURNING job_id
)
SELECT job_id, (SELECT pg_notify('job_outbox', '') FROM relay_idle LIMIT 1)::text FROM entry
"""

#: Where COPY puts many jobs first: only an INSERT can pass over conflicts.
_GIVEN = """
CREATE TEMPORARY TABLE IF NOT EXISTS job_given (id uuid, payload jsonb, dedup_key text)
    ON COMMIT DELETE ROWS;
DELETE FROM job_given
"""

_INSERT_GIVEN = """
WITH job AS (
    INSERT INTO job_queue (id, job_type, service, queue, payload, priority, max_retries, run_at,
                           dedup_key, correlation)
    SELECT id, %(job_type)s, %(service)s, %(queue)s, payload, %(priority)s, %(max_retries)s,
           overnight_now(), dedup_key, %(correlation)s
    FROM job_given
    ON CONFLICT DO NOTHING
    RETURNING id, run_at
), entry AS (
    INSERT INTO job_outbox (job_id, queue, job_type, service, priority, due_at)
    SELECT id, %(queue)s, %(job_type)s, %(service)s, %(priority)s, run_at FROM job
    RETURNING 1
)
SELECT count(*), (SELECT pg_notify('job_outbox', '') FROM relay_idle LIMIT 1)::text FROM entry
"""

_FIND = """
SELECT id, status FROM job_queue
WHERE id = %(id)s OR dedup_key = %(dedup_key)s OR singleton_key = %(singleton_key)s
"""


@dataclass(frozen=True)
class Enqueued:
    """The job that a call made (`created`) or met: look at `status`, it may have failed before."""

    id: UUID
    created: bool
    status: JobStatus


def enqueue(
    item: "Message[Any] | pipeline",
    *,
    dedup_key: str | None = None,
    singleton_key: str | None = None,
    run_at: datetime | None = None,
    correlation: str | None = None,
) -> Enqueued:
    """Insert one job, or the first step of a pipeline whose later steps travel in its row.

    Each later step becomes a job in the transaction that completes the step before it, with the
    id it got when the pipeline was built. A `dedup_key` is unique for as long as the job is kept,
    a `singleton_key` among unfinished jobs; meeting one returns that job with created=False.

    Raises:
        RuntimeError: no transaction is open.
        InvalidInput: the message's actor is not a JobType, or its payload does not fit.
    """
    messages = list(item.messages) if isinstance(item, pipeline) else [item]
    first, steps = messages[0], [_step(message) for message in messages[1:]]
    keys = {"id": first.message_id, "dedup_key": dedup_key, "singleton_key": singleton_key}
    while True:
        inserted = insert_jobs(
            [first],
            dedup_keys=[dedup_key],
            singleton_keys=[singleton_key],
            next_steps=[json.dumps(steps) if steps else None],
            run_at=run_at,
            correlation=correlation,
        )
        if inserted:
            return Enqueued(UUID(first.message_id), True, JobStatus.PENDING)
        for job_id, status in fetch(_FIND, keys):  # none: what we met has just finished, so again
            return Enqueued(UUID(str(job_id)), False, JobStatus(status))


def enqueue_many(
    job_type: JobType,
    payloads: Sequence[tuple[str, ...]],
    *,
    dedup_keys: Sequence[str | None] | None = None,
    correlation: str | None = None,
) -> int:
    """Insert many jobs of one type, by COPY; returns how many were new.

    A payload is the values of the type's `params`, in their order. For hundreds and more: a few
    jobs are as quick with `enqueue`.

    Raises:
        RuntimeError: no transaction is open.
        InvalidInput: a payload has the wrong length, or there is not one dedup key for each.
    """
    if not payloads:
        return 0
    if not db.in_transaction():
        raise RuntimeError("enqueue needs an open transaction: a job commits with what caused it")
    names = job_type.spec.params
    if wrong := [payload for payload in payloads if len(payload) != len(names)]:
        raise InvalidInput(f"payload {wrong[0]}: expected values of {', '.join(names)}")
    if dedup_keys is not None and len(dedup_keys) != len(payloads):
        raise InvalidInput(f"dedup_keys: {len(dedup_keys)} for {len(payloads)} payloads")
    keys: Sequence[str | None] = dedup_keys or [None] * len(payloads)
    fetch(_GIVEN)
    copy_rows("job_given", ("id", "payload", "dedup_key"), _rows(names, payloads, keys))
    [(count, _)] = fetch(_INSERT_GIVEN, {**_of_type(job_type), "correlation": correlation})
    return int(count)


def insert_jobs(
    messages: Sequence["Message[Any]"],
    *,
    dedup_keys: Sequence[str | None] | None = None,
    singleton_keys: Sequence[str | None] | None = None,
    next_steps: Sequence[str | None] | None = None,
    run_at: datetime | None = None,
    correlation: str | None = None,
    parent: UUID | None = None,
) -> list[UUID]:
    """The statement under every way of enqueueing. All messages must be of one JobType."""
    if not db.in_transaction():
        raise RuntimeError("enqueue needs an open transaction: a job commits with what caused it")
    job_type = job_type_of(messages[0])
    if any(message.actor_name != job_type.value for message in messages):
        raise InvalidInput("one call enqueues one job type")
    parked = {bool(message.options.get("parked")) for message in messages}
    if len(parked) > 1:
        raise InvalidInput("one call enqueues messages that are all parked, or none of them")
    keys = {"dedup_keys": dedup_keys, "singleton_keys": singleton_keys, "next_steps": next_steps}
    for name, values in keys.items():
        if values is not None and len(values) != len(messages):
            raise InvalidInput(f"{name}: {len(values)} for {len(messages)} messages")
    if run_at is not None and run_at.tzinfo is None:
        raise InvalidInput(f"run_at: {run_at} has no time zone")
    spec, none = job_type.spec, [None] * len(messages)
    rows = fetch(
        _INSERT,
        {
            "ids": [message.message_id for message in messages],
            "payloads": [json.dumps(spec.payload((), message.kwargs)) for message in messages],
            "dedup_keys": list(dedup_keys or none),
            "singleton_keys": list(singleton_keys or none),
            "next_steps": list(next_steps or none),
            **_of_type(job_type),
            "parked": parked.pop(),
            "run_at": run_at,
            "correlation": correlation,
            "parent": str(parent) if parent else None,
        },
    )
    return [UUID(str(job_id)) for job_id, _ in rows]


def insert_next_step(job_id: UUID, steps: list[dict[str, Any]], correlation: str | None) -> None:
    """Insert the step that follows `job_id` in its pipeline; a second time changes nothing."""
    head, *rest = steps
    message = JobType(head["job_type"]).message_of(
        head["payload"], parked=head["parked"], message_id=head["id"]
    )
    insert_jobs(
        [message],
        next_steps=[json.dumps(rest) if rest else None],
        correlation=correlation,
        parent=job_id,
    )


def job_type_of(message: "Message[Any]") -> JobType:
    """The JobType of a message; raises InvalidInput for a name that is none."""
    try:
        return JobType(message.actor_name)
    except ValueError:
        known = ", ".join(job_type.value for job_type in JobType)
        raise InvalidInput(f"unknown job type {message.actor_name!r}; known: {known}") from None


def _of_type(job_type: JobType) -> dict[str, str | int]:
    """The columns that every job of a type has in common."""
    spec = job_type.spec
    return {
        "job_type": job_type.value,
        "service": spec.service.value,
        "queue": spec.queue,
        "priority": spec.priority,
        "max_retries": spec.max_retries,
    }


def _rows(
    names: tuple[str, ...],
    payloads: Sequence[tuple[str, ...]],
    dedup_keys: Sequence[str | None],
) -> Iterator[tuple[str, str, str | None]]:
    """What COPY reads; the JSON is put together by hand, for a third of the time."""
    heads = [f"{quote(name)}: " for name in names]
    for job_id, payload, key in zip(new_ids(len(payloads)), payloads, dedup_keys, strict=True):
        fields = [head + quote(str(value)) for head, value in zip(heads, payload, strict=True)]
        yield job_id, "{" + ", ".join(fields) + "}", key


def _step(message: "Message[Any]") -> dict[str, Any]:
    job_type = job_type_of(message)
    return {
        "id": message.message_id,
        "job_type": job_type.value,
        "payload": job_type.spec.payload((), message.kwargs),
        "parked": bool(message.options.get("parked")),
    }
