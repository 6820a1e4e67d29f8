"""A claim: the right to run one job, committed as a random token and checked by every transaction.

    take (commit token) → transaction()* → completion()

A claim may be lost at any moment (a rescue believed its worker dead). Whoever lost it finds out at
the start of its next transaction, before it has changed anything: the token is the fence.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.errors import ClaimLost
from domain.ids import new_id
from domain.job_types import JobType
from jobs.enqueue import insert_next_step
from models.bulk import array_of
from models.database import fetch, transaction

#: Pending, due and not paused, and nobody holds its row: a claimed job leaves the relay's sight.
#: Or claimed with this very token: the answer to an earlier try was lost with its connection.
_TAKE = """
WITH job AS (
    SELECT id FROM job_queue
    WHERE id = %(id)s AND job_type = %(job_type)s
      AND (claim_token = %(token)s
           OR (status IN ('pending', 'retrying') AND run_at <= overnight_now()
               AND NOT EXISTS (SELECT 1 FROM pause
                               WHERE scope IN ('service:' || service, 'job_type:' || job_type))))
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE job_queue j
    SET status = 'processing', claim_token = %(token)s, processed_by = %(worker)s,
        started_at = overnight_now()
    FROM job WHERE j.id = job.id
    RETURNING j.id, j.payload, j.attempts, j.max_retries, j.deaths, j.correlation, j.next_steps
), entry AS (
    UPDATE job_outbox SET due_at = NULL, published_at = NULL,
        publish_count = least(publish_count, 1)  -- it arrived: see jobs.relay.UNCLAIMED_AFTER
    WHERE job_id IN (SELECT id FROM taken)
)
SELECT payload, attempts, max_retries, deaths, correlation, next_steps FROM taken
"""

_CHECK = "SELECT 1 FROM job_queue WHERE id = %s AND claim_token = %s FOR UPDATE"

_COMPLETE = """
WITH done AS (
    UPDATE job_queue
    SET status = 'completed', finished_at = overnight_now(), claim_token = NULL,
        singleton_key = NULL, last_error = NULL,
        processed_by = coalesce(%(worker)s::uuid, processed_by),
        started_at = coalesce(started_at, transaction_timestamp())
    WHERE id = %(id)s AND claim_token IS NOT DISTINCT FROM %(token)s::uuid
    RETURNING id
), entry AS (
    DELETE FROM job_outbox WHERE job_id IN (SELECT id FROM done)
)
SELECT id FROM done
"""


_COMPLETE_MANY = """
WITH done AS (
    UPDATE job_queue
    SET status = 'completed', finished_at = overnight_now(), singleton_key = NULL,
        last_error = NULL, processed_by = %(worker)s,
        started_at = coalesce(started_at, transaction_timestamp())
    WHERE id = ANY(%(ids)s::uuid[]) AND claim_token IS NULL
    RETURNING id
), entry AS (
    DELETE FROM job_outbox WHERE job_id IN (SELECT id FROM done)
)
SELECT id FROM done
"""


@dataclass(frozen=True)
class TakenJob:
    """A job row as its runner needs it. In way B `token` is None: the row lock is the fence."""

    id: UUID
    job_type: JobType
    payload: dict[str, str]
    attempts: int
    max_retries: int
    deaths: int
    correlation: str | None
    next_steps: list[dict[str, Any]] | None
    worker: UUID
    token: UUID | None

    @classmethod
    def of(
        cls,
        job_id: UUID,
        job_type: JobType,
        row: tuple[Any, ...],
        worker: UUID,
        token: UUID | None,
    ) -> "TakenJob":
        """From (payload, attempts, max_retries, deaths, correlation, next_steps)."""
        return cls(*(job_id, job_type, *row, worker, token))

    def complete(self) -> None:
        """Mark done and insert the pipeline's next step, in the open transaction."""
        params = {"id": str(self.id), "token": _text(self.token), "worker": str(self.worker)}
        if not fetch(_COMPLETE, params):
            raise ClaimLost(f"job {self.id} is no longer ours")
        if self.next_steps:
            insert_next_step(self.id, self.next_steps, self.correlation)


def complete_many(jobs: Sequence[TakenJob]) -> None:
    """`TakenJob.complete` for jobs of way C, in one statement but for their next steps."""
    ids = array_of(str(job.id) for job in jobs)
    if jobs and len(fetch(_COMPLETE_MANY, {"ids": ids, "worker": str(jobs[0].worker)})) < len(jobs):
        raise ClaimLost("a job that this transaction had locked is gone")
    for job in jobs:
        if job.next_steps:
            insert_next_step(job.id, job.next_steps, job.correlation)


class Claim:
    """What an actor holds while it runs a claimed job (way A)."""

    def __init__(self, job: TakenJob) -> None:
        self.job = job
        self.completed = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction that starts by locking the job row and checking the token.

        Raises:
            ClaimLost: another worker owns the job now. Never catch it.
        """
        with transaction():
            if not fetch(_CHECK, (str(self.job.id), _text(self.job.token))):
                raise ClaimLost(f"job {self.job.id} is no longer ours")
            yield

    @contextmanager
    def completion(self) -> Iterator[None]:
        """The job's last transaction: what is inside commits together with its completion."""
        with self.transaction():
            yield
            self.job.complete()
        self.completed = True


def take(
    job_id: UUID, job_type: JobType, worker: UUID, token: UUID | None = None
) -> TakenJob | None:
    """Claim a job that is due and free, and commit the claim; None: nothing to take.

    Whoever tries again after a lost connection gives the same `token`: the first try may have
    committed, and a claim that nobody knows of would keep the job from everybody.
    """
    token = token or new_id()
    params = {
        "id": str(job_id),
        "job_type": job_type.value,
        "token": str(token),
        "worker": str(worker),
    }
    rows = fetch(_TAKE, params)
    return TakenJob.of(job_id, job_type, rows[0], worker, token) if rows else None


_current: ContextVar[Claim | None] = ContextVar("current_claim", default=None)


def current_claim() -> Claim:
    """The claim of the job that this thread is running; RuntimeError outside of a claimed job."""
    claim = _current.get()
    if claim is None:
        raise RuntimeError("no claimed job is running in this thread")
    return claim


@contextmanager
def running(claim: Claim) -> Iterator[None]:
    """Make `claim` the current one while its actor runs."""
    reset = _current.set(claim)
    try:
        yield
    finally:
        _current.reset(reset)


def _text(token: UUID | None) -> str | None:
    return str(token) if token else None
