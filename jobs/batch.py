"""Way C: what already waits in this worker, in one transaction.

    first delivery + up to 99 more of its type from the worker's memory → lock all → run → complete

It takes only what is there: a batch of one is way B, so low load pays no latency. On an error the
batch is rolled back and its jobs run one by one, so one bad job harms no other. Never for payouts:
their lock order is per job.
"""

import time
from collections.abc import Sequence
from itertools import islice
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import structlog
from dramatiq import Broker, Worker
from dramatiq.middleware.threading import Interrupt

from domain.job_types import JobType
from jobs.actor import Handler, handler_of
from jobs.claim import TakenJob, complete_many
from jobs.fairness import FairQueue
from jobs.runner import WORKER_ID, deliver, not_taken
from models.bulk import array_of
from models.database import CONNECTION_ERRORS, fetch, transaction

log = structlog.get_logger()

#: Jobs of one batch. More gains little: what is left per job is its own body.
BATCH_MAX = 100

#: A batch holds its locks no longer than this, plus one body: the rest goes into the next one.
BATCH_TIME_S = 0.05

#: A worker's memory of a batched queue: enough for every thread's batch and the next.
PREFETCH = 4 * BATCH_MAX

#: The condition is `jobs.runner.DUE`, but reads the pauses once and not for each job.
_LOCK = """
SELECT id::text, payload, attempts, max_retries, deaths, correlation, next_steps FROM job_queue
WHERE id = ANY(%(ids)s::uuid[]) AND job_type = %(job_type)s
  AND status IN ('pending', 'retrying') AND run_at <= overnight_now()
  AND 'service:' || service <> ALL (ARRAY(SELECT scope FROM pause))
  AND 'job_type:' || job_type <> ALL (ARRAY(SELECT scope FROM pause))
ORDER BY id
FOR UPDATE SKIP LOCKED
"""

#: How many jobs of a type are locked at a time: twice as many as last had time, so that slow bodies
#: do not lock again and again what they can't get to.
_fitting: dict[JobType, int] = {}

_workers: "WeakKeyDictionary[Broker, Worker]" = WeakKeyDictionary()


def attach(broker: Broker, worker: Worker) -> None:
    """Remember whose memory the waiting messages of `broker` are in."""
    _workers[broker] = worker


def memory_of(broker: Broker) -> FairQueue | None:
    """Where the worker of `broker` keeps its waiting messages, if it is one of ours."""
    worker = _workers.get(broker)
    memory = worker.work_queue if worker is not None else None
    return memory if isinstance(memory, FairQueue) else None


def deliver_waiting(broker: Broker, message: Any, job_type: JobType) -> None:
    """Handle a first delivery together with those of its type that wait in this worker.

    Like `deliver`, it never raises for what an actor did: every row says what happened.
    """
    memory = memory_of(broker)
    waiting: list[Any] = []
    if memory is not None:
        waiting = memory.take_along(message, BATCH_MAX - 1, _is_like)
    try:
        deliver_batch(job_type, [UUID(each.message_id) for each in (message, *waiting)])
    finally:
        if memory is not None and waiting:
            _ack(_workers[broker], waiting)
            memory.task_done(len(waiting))


def deliver_batch(job_type: JobType, job_ids: Sequence[UUID]) -> None:
    """Run jobs of one type in as few transactions as their time allows."""
    handler = handler_of(job_type)
    left = {str(job_id): job_id for job_id in job_ids}
    while len(left) > 1:
        fitting = _fitting.get(job_type, BATCH_MAX)
        part = dict(islice(left.items(), fitting))
        try:
            done = _run(handler, part)
        except (Exception, Interrupt) as error:  # noqa: BLE001 - an actor may raise anything
            if not isinstance(error, CONNECTION_ERRORS):
                log.info("batch rolled back: one by one", jobs=len(left), error=str(error))
            break
        if len(done) < len(part):
            _fitting[job_type] = max(2, 2 * len(done))
        elif len(part) == fitting:
            _fitting[job_type] = min(BATCH_MAX, 2 * fitting)
        for each in done:
            del left[each]
    for job_id in left.values():
        deliver(job_id, job_type)


def _run(handler: Handler, job_ids: dict[str, UUID]) -> list[str]:
    """One transaction; returns the jobs that need no further look, by the text of their ids."""
    stop_at = time.monotonic() + BATCH_TIME_S
    params = {"ids": array_of(job_ids), "job_type": handler.job_type.value}
    with transaction():
        rows = fetch(_LOCK, params)
        jobs = [
            TakenJob.of(job_ids[row[0]], handler.job_type, row[1:], WORKER_ID, None) for row in rows
        ]
        if handler.run_many is not None:
            handler.run_many([job.payload for job in jobs])
        else:
            for number, job in enumerate(jobs, start=1):
                handler.run(**job.payload)
                if time.monotonic() > stop_at:
                    jobs = jobs[:number]
                    break
        complete_many(jobs)
    locked = {row[0] for row in rows}
    missed = [job_id for job_id in job_ids if job_id not in locked]
    for job_id in missed:
        not_taken(job_ids[job_id], handler.job_type)
    return missed + [row[0] for row in rows[: len(jobs)]]


def _ack(worker: Worker, messages: list[Any]) -> None:
    """Ack all at once where the transport can, through the consumer that received them."""
    consumers = {getattr(each, "owner", None) for each in messages}
    for consumer in consumers:
        if consumer is not None:
            consumer.ack_all([each for each in messages if each.owner is consumer])
    for each in messages:
        if getattr(each, "owner", None) is None:
            worker.consumers[each.queue_name].post_process_message(each)


def _is_like(first: Any, other: Any) -> bool:
    return (
        other.actor_name == first.actor_name
        and not getattr(other, "redelivered", False)
        and other.options.get("published", 1) == 1
    )
