"""Run a delivered job: find its row, take it, run its actor, record how it ended.

    delivery → take (A: committed token | B: row lock) → actor → completed | retrying | failed

A delivery never raises: when it returns, the row says what happened, and the message can be acked.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog
from dramatiq.middleware.threading import Interrupt

from domain.errors import ClaimLost
from domain.ids import new_id
from domain.job_types import JobType, Way
from jobs.actor import Handler, handler_of
from jobs.claim import Claim, TakenJob, running, take
from jobs.failure import record_failure, storable
from models.database import CONNECTION_ERRORS, execute, fetch, reconnect, transaction

log = structlog.get_logger()

#: This process, in job_queue.processed_by and in the worker table.
WORKER_ID = new_id()

#: The claims that threads of this process are running or trying to commit: see rescue_once.
running_tokens: set[UUID] = set()

#: Set when the process should end: nobody waits for a lost database any more.
stopping = threading.Event()

#: While the database is away, look for it this often.
_DATABASE_RETRY_S = 0.5

#: Of a job_queue row: it may run now.
DUE = """
status IN ('pending', 'retrying') AND run_at <= overnight_now()
AND NOT EXISTS (SELECT 1 FROM pause
                WHERE scope IN ('service:' || service, 'job_type:' || job_type))
"""

_LOCK = f"""
SELECT payload, attempts, max_retries, deaths, correlation, next_steps FROM job_queue
WHERE id = %(id)s AND job_type = %(job_type)s AND {DUE}
FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - our own condition

_LOOK = "SELECT job_type, status, run_at <= overnight_now() FROM job_queue WHERE id = %s"

#: A due job that could not be taken is locked or paused: let the relay look at it a second later.
_LATER = """
UPDATE job_outbox SET due_at = overnight_now() + interval '1 second', published_at = NULL,
    due_set_at = overnight_now(),
    publish_count = least(publish_count, 1)  -- it arrived: see jobs.relay.UNCLAIMED_AFTER
WHERE job_id = %s AND due_at IS NOT NULL
"""

#: How much of a stray message is kept.
_MAX_BODY = 20_000
_MAX_REASON = 500


def deliver(job_id: UUID, job_type: JobType, *, delivered_again: bool = False) -> bool:
    """Handle one delivery to its end; True when this delivery ran the job.

    Way B is used for a first delivery of a job type that allows it; everything else commits a
    claim first, so that a job which kills its workers is seen to do so.
    """
    handler = handler_of(job_type)
    lock = job_type.spec.way is not Way.CLAIM and not delivered_again
    token = new_id()  # the same in every try: a claim whose answer was lost is still ours
    lost = ""
    with (
        _listed(token),
        structlog.contextvars.bound_contextvars(job=str(job_id), type=job_type.value),
    ):
        while True:
            try:
                if lost:
                    wait_for_database(lost)
                    lost = ""
                ran = _run_locked(job_id, handler) if lock else _run_claimed(job_id, handler, token)
                if not ran:
                    not_taken(job_id, job_type)
                return ran
            except Interrupt:
                log.warning("time limit while no actor was running")
            except CONNECTION_ERRORS as error:
                # The actor has not begun, so begin again.
                if stopping.is_set():
                    return False  # the outbox still has it, or rescue finds it
                lost = str(error) or "lost"


@contextmanager
def _listed(token: UUID) -> Iterator[None]:
    running_tokens.add(token)
    try:
        yield
    finally:
        running_tokens.discard(token)


def run_job(job_id: UUID) -> bool:
    """Deliver one job here and now, as a worker would; True if it ran."""
    rows = fetch("SELECT job_type FROM job_queue WHERE id = %s", (str(job_id),))
    if not rows:
        raise LookupError(f"no job {job_id}")
    return deliver(job_id, JobType(rows[0][0]))


def run_due(limit: int = 100_000) -> int:
    """Run what is due, in order of priority and time, in this thread, until nothing is.

    No broker and no relay: for tests, and for a command that drains the queue. Returns the count.
    """
    sql = """
        SELECT job_id FROM job_outbox WHERE due_at <= overnight_now()
        ORDER BY priority DESC, due_at, job_id LIMIT 1
    """
    count = 0
    while count < limit and (rows := fetch(sql)):
        run_job(UUID(str(rows[0][0])))
        count += 1
    return count


def _run_claimed(job_id: UUID, handler: Handler, token: UUID) -> bool:
    job = take(job_id, handler.job_type, WORKER_ID, token)
    if job is None:
        return False
    claim = Claim(job)
    try:
        with running(claim):
            if handler.job_type.spec.way is not Way.CLAIM:
                with claim.completion():
                    handler.run(**job.payload)
            else:
                handler.run(**job.payload)
                if not claim.completed:
                    with claim.completion():
                        pass
    except ClaimLost:
        log.warning("claim lost: another worker has this job")
    except (Exception, Interrupt) as error:  # noqa: BLE001 - an actor may raise anything
        if not claim.completed:
            _record(job, error, handler)
    return True


def _run_locked(job_id: UUID, handler: Handler) -> bool:
    job: TakenJob | None = None
    try:
        with transaction():
            rows = fetch(_LOCK, {"id": str(job_id), "job_type": handler.job_type.value})
            if not rows:
                return False
            job = TakenJob.of(job_id, handler.job_type, rows[0], WORKER_ID, None)
            handler.run(**job.payload)
            job.complete()
    except (Exception, Interrupt) as error:
        if job is None:
            raise
        _record(job, error, handler)
    return True


def _record(job: TakenJob, error: BaseException, handler: Handler) -> None:
    """Record a failure, however long the database is away: this worker alone knows of it.

    What is not recorded would stay `processing` for as long as this worker lives. So a time limit
    changes nothing here, and an error that can't be recorded is replaced by one that can.
    """
    lost, replaced = "", False
    while True:
        try:
            if lost:
                wait_for_database(lost)
                lost = ""
            elif isinstance(error, CONNECTION_ERRORS):
                reconnect()
            return record_failure(job, error, handler.on_failed)
        except Interrupt:
            log.warning("time limit while recording a failure")
        except CONNECTION_ERRORS as again:
            if stopping.is_set():
                return None  # rescue finds the job when this worker's heartbeat has ended
            lost = str(again) or "lost"
        except Exception as unexpected:
            if replaced:
                raise
            log.exception("a failure could not be recorded")
            replaced = True
            error = RuntimeError(f"{type(error).__name__} could not be recorded: {unexpected}")


def not_taken(job_id: UUID, job_type: JobType) -> None:
    """See to a job that a delivery could not take: stray, done, or for the relay a second later."""
    rows = fetch(_LOOK, (str(job_id),))
    if not rows or rows[0][0] != job_type.value:
        reason = "no job row" if not rows else f"the job is a {rows[0][0]}"
        keep_stray(job_type.spec.queue, reason, f"{job_type.value} {job_id}")
    elif rows[0][1] in ("pending", "retrying") and rows[0][2]:
        put_back(job_id)


def put_back(job_id: UUID) -> None:
    """Let the relay look at a job a second later, if nobody has claimed it meanwhile."""
    execute(_LATER, (str(job_id),))


def keep_stray(queue: str, reason: str, body: str) -> None:
    """Keep a delivery without a job visibly: it is acked without effect."""
    sql = "INSERT INTO stray_message (queue, reason, body) VALUES (%s, %s, %s)"
    execute(sql, (queue, storable(reason)[:_MAX_REASON], storable(body)[:_MAX_BODY]))
    log.warning("stray message", queue=queue, reason=reason)


def wait_for_database(error: str) -> None:
    """Drop the broken connection and rest a moment, or until the process should end."""
    log.warning("database connection lost", error=error.strip())
    reconnect()
    stopping.wait(_DATABASE_RETRY_S)
