"""Failures sort themselves by what the worker should do, and a failed job tells its actor."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from dramatiq.middleware.time_limit import TimeLimitExceeded

from domain.errors import InvariantBroken, Outage, Postponed, Rejected, Transient
from domain.job_types import JobType
from jobs.enqueue import enqueue
from jobs.runner import deliver
from models.database import execute, fetch, transaction

pytestmark = pytest.mark.integration

A, B = JobType.PAYOUT_RECONCILE, JobType.NOTIFICATION_INDIVIDUAL
WAYS = pytest.mark.parametrize("job_type", [A, B], ids=["A", "B"])

Handle = Callable[..., None]
Effects = Callable[[], list[str]]


def raising(error: BaseException) -> Callable[..., None]:
    def work(**payload: str) -> None:
        raise error

    return work


def add(job_type: JobType) -> UUID:
    with transaction():
        return enqueue(job_type.message(*("1", "2")[: len(job_type.spec.params)])).id


def run_with(handle: Handle, job_type: JobType, error: BaseException) -> UUID:
    handle(job_type, raising(error))
    job_id = add(job_type)
    assert deliver(job_id, job_type)
    return job_id


def row() -> tuple[str, int]:
    [(status, attempts)] = fetch("SELECT status, attempts FROM job_queue")
    return status, attempts


def delay_s() -> float:
    """Until the job runs again, by its row and by its outbox entry alike."""
    [(job, entry)] = fetch(
        "SELECT extract(epoch FROM run_at - overnight_now()), extract(epoch FROM due_at - run_at)"
        " FROM job_queue JOIN job_outbox ON job_id = id"
    )
    assert entry == 0
    return float(job)


def attempts() -> list[tuple[str, int]]:
    return [(o, n) for o, n in fetch("SELECT outcome, attempt FROM job_attempt ORDER BY id")]


@WAYS
@pytest.mark.parametrize(
    "error", [Transient("busy"), LookupError("a bug"), TimeLimitExceeded("too long")]
)
def test_what_may_work_later_is_retried_with_backoff(
    job_type: JobType, error: BaseException, handle: Handle, effects: Effects
) -> None:
    run_with(handle, job_type, error)
    assert row() == ("retrying", 1)
    assert 0 < delay_s() <= 1
    assert attempts() == [("failed", 1)]
    [(text, trace)] = fetch("SELECT error, traceback FROM job_attempt")
    assert type(error).__name__ in text
    assert "raise error" in trace


@WAYS
def test_an_outage_is_refunded(job_type: JobType, handle: Handle, effects: Effects) -> None:
    job_id = run_with(handle, job_type, Outage("node away"))
    for _ in range(job_type.spec.max_retries + 2):
        execute("UPDATE job_queue SET run_at = overnight_now()")
        assert deliver(job_id, job_type)
    assert row() == ("retrying", 0)
    assert set(attempts()) == {("refunded", 0)}
    assert 15 <= delay_s() + 1 <= 31  # grown to its bound


@WAYS
def test_a_postponed_job_is_free(job_type: JobType, handle: Handle, effects: Effects) -> None:
    run_with(handle, job_type, Postponed("not final", timedelta(minutes=3)))
    assert row() == ("retrying", 0)
    assert attempts() == []
    assert 170 < delay_s() <= 180


@WAYS
def test_a_rejected_job_fails_at_once(job_type: JobType, handle: Handle, effects: Effects) -> None:
    run_with(handle, job_type, Rejected("no such run"))
    assert row() == ("failed", 1)
    assert attempts() == [("failed", 1)]
    assert fetch("SELECT 1 FROM job_outbox") == []
    assert fetch("SELECT 1 FROM pause") == []


@WAYS
def test_a_broken_invariant_fails_alerts_and_pauses(
    job_type: JobType, handle: Handle, effects: Effects
) -> None:
    run_with(handle, job_type, InvariantBroken("paid twice"))
    assert row() == ("failed", 1)
    service = job_type.spec.service.value
    assert fetch("SELECT scope FROM pause") == [(f"service:{service}",)]
    [(alerted, message)] = fetch("SELECT service, message FROM alert")
    assert alerted == service
    assert "paid twice" in message


@WAYS
def test_after_max_retries_a_job_fails(job_type: JobType, handle: Handle, effects: Effects) -> None:
    job_id = run_with(handle, job_type, LookupError("still"))
    retries = job_type.spec.max_retries
    for _ in range(retries):
        assert row()[0] == "retrying"
        execute("UPDATE job_queue SET run_at = overnight_now()")
        assert deliver(job_id, job_type)
    assert row() == ("failed", retries + 1)
    assert attempts() == [("failed", n + 1) for n in range(retries + 1)]


@WAYS
def test_on_failed_is_told_in_the_transaction_that_fails_the_job(
    job_type: JobType, handle: Handle, effects: Effects
) -> None:
    def on_failed(payload: dict[str, str], error: str) -> None:
        execute("INSERT INTO effect VALUES (txid_current()::text)")
        execute("INSERT INTO effect VALUES (%s)", (f"{payload[job_type.spec.params[0]]} {error}",))

    handle(job_type, raising(Rejected("no")), on_failed)
    deliver(add(job_type), job_type)
    [(transaction_id,)] = fetch("SELECT xmin::text FROM job_queue WHERE status = 'failed'")
    assert effects() == sorted([transaction_id, "1 Rejected: no"])


@WAYS
def test_on_failed_is_not_told_of_a_retry(
    job_type: JobType, handle: Handle, effects: Effects
) -> None:
    told: list[str] = []
    handle(job_type, raising(Transient("busy")), lambda payload, error: told.append(error))
    deliver(add(job_type), job_type)
    assert told == []


@WAYS
def test_an_on_failed_that_raises_is_undone_and_pauses_the_service(
    job_type: JobType, handle: Handle, effects: Effects
) -> None:
    def on_failed(payload: dict[str, str], error: str) -> None:
        execute("INSERT INTO effect VALUES ('half')")
        execute("SELECT 1 / 0")

    handle(job_type, raising(Rejected("no")), on_failed)
    deliver(add(job_type), job_type)
    assert row() == ("failed", 1)
    assert effects() == []
    assert fetch("SELECT scope FROM pause") == [(f"service:{job_type.spec.service.value}",)]
    assert "on_failed raised" in fetch("SELECT message FROM alert")[0][0]


@WAYS
@pytest.mark.parametrize("text", ["nul \x00", "half a pair \ud800"])
def test_an_error_that_postgresql_can_not_store_is_recorded_all_the_same(
    text: str, job_type: JobType, handle: Handle, effects: Effects
) -> None:
    """Text of a provider, perhaps. Unrecorded, the job would be `processing` for ever."""
    run_with(handle, job_type, Transient(text))
    assert row() == ("retrying", 1)
    [(error,)] = fetch("SELECT error FROM job_attempt")
    assert text[:3] in error


@WAYS
def test_a_failure_that_can_not_be_recorded_counts_as_a_failure(
    job_type: JobType, handle: Handle, effects: Effects
) -> None:
    run_with(handle, job_type, Postponed("for ever", timedelta.max))
    assert row() == ("retrying", 1)
    [(error,)] = fetch("SELECT error FROM job_attempt")
    assert "Postponed" in error


def test_effects_before_an_error_are_undone(handle: Handle, effects: Effects) -> None:
    def work(**payload: str) -> None:
        execute("INSERT INTO effect VALUES ('half')")
        raise Transient("busy")

    handle(B, work)
    deliver(add(B), B)
    assert effects() == []


def test_an_actor_that_swallowed_a_database_error_is_not_complete(
    handle: Handle, effects: Effects
) -> None:
    """PostgreSQL answers COMMIT of a broken transaction with ROLLBACK, and no error."""

    def work(**payload: str) -> None:
        execute("INSERT INTO effect VALUES ('lost')")
        with pytest.raises(Exception, match="division"):
            execute("SELECT 1 / 0")

    handle(B, work)
    deliver(add(B), B)
    assert effects() == []
    assert row() == ("retrying", 1)
