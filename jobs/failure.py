"""What becomes of a job whose run ended badly: retried, refunded, postponed or failed.

    error → one transaction: attempt recorded, job retrying or failed, on_failed, pause, alert

The domain's error classes say what a worker should do; everything else counts as a retry.
"""

import traceback
from collections.abc import Callable
from datetime import timedelta

import structlog

from domain.errors import InvariantBroken, Outage, Postponed, Rejected
from domain.ids import jitter
from domain.job_types import JobSpec, Service
from jobs.claim import TakenJob
from models.database import CONNECTION_ERRORS, db, execute, fetch, is_outage, transaction

log = structlog.get_logger()

#: What is told to an actor when its job failed for good: its payload, and why.
OnFailed = Callable[[dict[str, str], str], None]

#: Outages are retried for as long as they last, but not more often than this.
OUTAGE_DELAY_MAX = timedelta(seconds=30)

_LOCK = """
SELECT 1 FROM job_queue
WHERE id = %(id)s AND claim_token IS NOT DISTINCT FROM %(token)s::uuid
  AND status IN ('pending', 'retrying', 'processing') AND attempts = %(attempts)s
FOR UPDATE
"""

_RETRY = """
WITH job AS (
    UPDATE job_queue
    SET status = 'retrying', claim_token = NULL, attempts = %(attempts)s, last_error = %(error)s,
        run_at = overnight_now() + %(delay)s
    WHERE id = %(id)s
    RETURNING id, run_at
)
UPDATE job_outbox SET due_at = job.run_at, due_set_at = overnight_now(), published_at = NULL,
    publish_count = 0
FROM job WHERE job_id = job.id
"""

_FAIL = """
WITH job AS (
    UPDATE job_queue
    SET status = 'failed', claim_token = NULL, attempts = %(attempts)s,
        singleton_key = NULL, released_singleton_key = singleton_key,  -- for a requeue
        last_error = %(error)s, finished_at = overnight_now(),
        run_at = coalesce(run_at, overnight_now())
    WHERE id = %(id)s
    RETURNING id
)
DELETE FROM job_outbox WHERE job_id IN (SELECT id FROM job)
"""

_ATTEMPT = """
INSERT INTO job_attempt (job_id, attempt, outcome, worker, started_at, error, traceback)
SELECT id, %(attempts)s, %(outcome)s, %(worker)s, started_at, %(error)s, %(traceback)s
FROM job_queue WHERE id = %(id)s
"""


def record_failure(job: TakenJob, error: BaseException, on_failed: OnFailed | None) -> None:
    """Record how a run ended, in one transaction; nothing if the job is no longer this run's."""
    text = storable(f"{type(error).__name__}: {error}")
    with transaction():
        token = str(job.token) if job.token else None
        if not fetch(_LOCK, {"id": str(job.id), "token": token, "attempts": job.attempts}):
            return
        if isinstance(error, Postponed):
            _retry(job, job.attempts, storable(str(error)), error.delay)
            return
        refunded = isinstance(error, Outage) or is_outage(error)
        attempts = job.attempts if refunded else job.attempts + 1
        params = {
            "id": str(job.id),
            "attempts": attempts,
            "outcome": "refunded" if refunded else "failed",
            "worker": str(job.worker),
            "error": text,
            "traceback": storable("".join(traceback.format_exception(error))),
        }
        execute(_ATTEMPT, params)
        if refunded:
            _retry(job, attempts, text, _outage_delay(job))
        elif isinstance(error, Rejected | InvariantBroken) or attempts > job.max_retries:
            fail(str(job.id), job.payload, job.job_type.spec, text, attempts, on_failed)
            if isinstance(error, InvariantBroken):
                pause_service(job.job_type.spec.service, f"job {job.id}", text)
        else:
            _retry(job, attempts, text, backoff(job.job_type.spec, attempts))


def fail(
    job_id: str,
    payload: dict[str, str],
    spec: JobSpec,
    error: str,
    attempts: int,
    on_failed: OnFailed | None,
) -> None:
    """Fail a job for good, in the open transaction, and tell its actor.

    If `on_failed` raises, its effects are undone, the job fails all the same, and the service
    pauses: a person must look before more goes wrong the same way.
    """
    execute(_FAIL, {"id": job_id, "attempts": attempts, "error": error})
    log.error("job failed", job=job_id, error=error)
    if on_failed is None:
        return
    try:
        with db.savepoint():
            on_failed(payload, error)
    except CONNECTION_ERRORS:
        raise
    except Exception as cleanup_error:
        log.exception("on_failed raised", job=job_id)
        reason = storable(f"on_failed raised: {cleanup_error}")
        pause_service(spec.service, f"job {job_id}", reason)


def backoff(spec: JobSpec, attempts: int) -> timedelta:
    """Exponential with full jitter's upper half: 0.5–1 × min · 2^(attempts−1), capped at max."""
    delay: timedelta = min(spec.backoff_min * 2 ** min(attempts - 1, 30), spec.backoff_max)
    return timedelta(seconds=delay.total_seconds() * jitter(0.5, 1.0))


def alert(service: Service, subject: str, message: str) -> None:
    """Leave a message for a person, in the open transaction."""
    sql = "INSERT INTO alert (service, subject, message) VALUES (%s, %s, %s)"
    execute(sql, (service.value, subject, message))
    log.error("alert", service=service.value, subject=subject, message=message)


def pause_service(service: Service, subject: str, reason: str) -> None:
    """Stop new work of a service, and say so to a person, in the open transaction."""
    sql = "INSERT INTO pause (scope, reason) VALUES (%s, %s) ON CONFLICT DO NOTHING"
    execute(sql, (f"service:{service.value}", f"{subject}: {reason}"))
    alert(service, subject, f"service {service.value} is paused: {reason}")


def _retry(job: TakenJob, attempts: int, error: str, delay: timedelta) -> None:
    params = {"id": str(job.id), "attempts": attempts, "error": error, "delay": delay}
    execute(_RETRY, params)
    log.info("job will run again", job=str(job.id), type=job.job_type.value, error=error)


def storable(text: str) -> str:
    """Errors may quote anything; PostgreSQL's text takes no NUL and no half surrogate pair."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def _outage_delay(job: TakenJob) -> timedelta:
    sql = "SELECT count(*) FROM job_attempt WHERE job_id = %s AND outcome = 'refunded'"
    [(outages,)] = fetch(sql, (str(job.id),))
    delay = min(timedelta(seconds=0.5) * 2 ** min(int(outages), 10), OUTAGE_DELAY_MAX)
    return timedelta(seconds=delay.total_seconds() * jitter(0.5, 1.0))
