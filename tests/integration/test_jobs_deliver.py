"""Deliveries: however often and wherever a message arrives, its job takes effect once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from domain.ids import new_id
from domain.job_types import JobType
from jobs.enqueue import enqueue
from jobs.runner import deliver, run_due
from models.database import execute, fetch, transaction

pytestmark = pytest.mark.integration

WAIT_S = 10.0
B, A = JobType.NOTIFICATION_INDIVIDUAL, JobType.PAYOUT_RECONCILE

Spawn = Callable[[Callable[[], Any]], "Future[Any]"]
Handle = Callable[..., None]
Effects = Callable[[], list[str]]


def write_effect(**payload: str) -> None:
    execute("INSERT INTO effect VALUES (%s)", ("-".join(payload.values()),))


def add(job_type: JobType, run_at: datetime | None = None) -> UUID:
    args = ("paid", "1") if job_type is B else ("1",)
    with transaction():
        return enqueue(job_type.message(*args), run_at=run_at).id


def state(job_id: UUID) -> tuple[str, int]:
    """The status, and how many outbox entries are left."""
    [(status,)] = fetch("SELECT status FROM job_queue WHERE id = %s", (str(job_id),))
    return status, len(fetch("SELECT 1 FROM job_outbox WHERE job_id = %s", (str(job_id),)))


@pytest.mark.parametrize("again", [False, True], ids=["first", "redelivered"])
@pytest.mark.parametrize("job_type", [A, B], ids=["A", "B"])
def test_a_message_that_arrives_twice_takes_effect_once(
    job_type: JobType, again: bool, handle: Handle, effects: Effects
) -> None:
    handle(job_type, write_effect)
    job_id = add(job_type)
    assert deliver(job_id, job_type, delivered_again=again)
    assert not deliver(job_id, job_type)
    assert not deliver(job_id, job_type, delivered_again=True)
    assert len(effects()) == 1
    assert state(job_id) == ("completed", 0)


@pytest.mark.parametrize("again", [False, True], ids=["first", "redelivered"])
@pytest.mark.parametrize("job_type", [A, B], ids=["A", "B"])
def test_a_message_that_arrives_while_its_job_runs_elsewhere_has_no_effect(
    job_type: JobType, again: bool, handle: Handle, effects: Effects, spawn: Spawn
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(**payload: str) -> None:
        write_effect(**payload)
        begun.set()
        assert go_on.wait(WAIT_S)

    handle(job_type, work)
    job_id = add(job_type)
    first = spawn(lambda: deliver(job_id, job_type))
    assert begun.wait(WAIT_S)
    assert not deliver(job_id, job_type, delivered_again=again)
    go_on.set()
    assert first.result(WAIT_S)
    assert len(effects()) == 1
    assert state(job_id) == ("completed", 0)


@pytest.mark.parametrize("job_type", [A, B], ids=["A", "B"])
def test_eight_deliveries_at_once_run_one_job(
    job_type: JobType, handle: Handle, effects: Effects, spawn: Spawn
) -> None:
    handle(job_type, write_effect)
    job_id = add(job_type)
    together = threading.Barrier(8)

    def arrive(number: int) -> bool:
        together.wait(WAIT_S)
        return deliver(job_id, job_type, delivered_again=bool(number % 2))

    arrived = [spawn(partial(arrive, number)) for number in range(8)]
    ran = [each.result(WAIT_S) for each in arrived]
    while state(job_id)[1]:  # all met the row while another one looked at it
        execute("UPDATE job_outbox SET due_at = overnight_now()")
        run_due()
    assert ran.count(True) <= 1
    assert len(effects()) == 1


def test_a_locked_job_comes_back_a_second_later(
    handle: Handle, effects: Effects, spawn: Spawn
) -> None:
    """A lock is no sign of work: a person's query or a dying connection may hold it."""
    handle(B, write_effect)
    job_id = add(B)
    execute("UPDATE job_outbox SET published_at = overnight_now(), due_at = 'infinity'")
    locked, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction():
            fetch("SELECT 1 FROM job_queue FOR UPDATE")
            locked.set()
            assert let_go.wait(WAIT_S)

    holder = spawn(hold)
    assert locked.wait(WAIT_S)
    assert not deliver(job_id, B)
    again = fetch(
        "SELECT published_at IS NULL, due_at - overnight_now() BETWEEN '0' AND '1 second'"
        " FROM job_outbox"
    )
    assert again == [(True, True)]
    let_go.set()
    holder.result(WAIT_S)
    assert deliver(job_id, B)


@pytest.mark.parametrize("scope", ["service:maturity", "job_type:PayoutReconcile"])
def test_a_paused_job_stays_in_the_outbox(scope: str, handle: Handle, effects: Effects) -> None:
    handle(A, write_effect)
    job_id = add(A)
    execute("INSERT INTO pause (scope, reason) VALUES (%s, 'test')", (scope,))
    assert not deliver(job_id, A)
    assert state(job_id) == ("pending", 1)
    execute("DELETE FROM pause")
    assert deliver(job_id, A)
    assert effects() == ["1"]


def test_a_job_of_the_future_or_parked_does_not_run(handle: Handle, effects: Effects) -> None:
    handle(A, write_effect)
    later = add(A, datetime.now(UTC) + timedelta(hours=1))
    with transaction():
        parked = enqueue(A.message("2", parked=True)).id
    before = fetch("SELECT * FROM job_outbox ORDER BY job_id")
    assert not deliver(later, A)
    assert not deliver(parked, A)
    assert fetch("SELECT * FROM job_outbox ORDER BY job_id") == before
    assert effects() == []


def test_a_message_without_a_row_is_kept_as_stray(handle: Handle, effects: Effects) -> None:
    handle(A, write_effect)
    job_id = new_id()
    assert not deliver(job_id, A)
    [(queue, reason, body)] = fetch("SELECT queue, reason, body FROM stray_message")
    assert (queue, reason) == ("maturity", "no job row")
    assert str(job_id) in body


def test_a_message_of_the_wrong_type_is_kept_as_stray(handle: Handle, effects: Effects) -> None:
    handle(A, write_effect)
    handle(B, write_effect)
    job_id = add(A)
    assert not deliver(job_id, B)
    assert fetch("SELECT reason FROM stray_message") == [("the job is a PayoutReconcile",)]
    assert state(job_id) == ("pending", 1)
    assert effects() == []


def test_a_cancelled_job_does_not_run(handle: Handle, effects: Effects) -> None:
    handle(A, write_effect)
    job_id = add(A)
    execute("UPDATE job_queue SET status = 'cancelled', finished_at = overnight_now()")
    assert not deliver(job_id, A)
    assert effects() == []


def test_due_jobs_run_by_priority_then_time(handle: Handle, effects: Effects) -> None:
    order: list[str] = []
    handle(A, lambda slot_id: order.append(slot_id))
    handle(JobType.MATURITY_PLT_TRANSFER, lambda page_id: order.append(page_id))
    with transaction():
        enqueue(A.message("second"))
    with transaction():
        enqueue(A.message("third"))
    with transaction():
        enqueue(JobType.MATURITY_PLT_TRANSFER.message("first"))
    assert run_due() == 3
    assert order == ["first", "second", "third"]
