"""Pipelines: a step and the step after it commit together, once."""

from collections.abc import Callable
from uuid import UUID

import pytest
from dramatiq import Message, pipeline

from domain.errors import Transient
from domain.job_types import JobType
from jobs.claim import take
from jobs.enqueue import enqueue
from jobs.release import release
from jobs.runner import WORKER_ID, deliver
from models.database import execute, fetch, transaction

pytestmark = pytest.mark.integration

BURN, TRANSFER, RECORD = (
    JobType.MATURITY_TOKEN_BURN,
    JobType.MATURITY_PLT_TRANSFER,
    JobType.MATURITY_RECORD,
)
NOTIFY = JobType.NOTIFICATION_INDIVIDUAL

Handle = Callable[..., None]
Effects = Callable[[], list[str]]


def steps() -> list[Message[None]]:
    return [
        BURN.message("page-1"),
        TRANSFER.message("page-1", parked=True),
        RECORD.message("page-1"),
    ]


def add(messages: list[Message[None]]) -> UUID:
    with transaction():
        return enqueue(pipeline(messages), correlation="run-1").id


def ids() -> list[str]:
    return [str(job_id) for (job_id,) in fetch("SELECT id FROM job_queue ORDER BY created_at")]


def test_each_step_becomes_a_job_when_the_one_before_it_is_done(
    handle: Handle, effects: Effects
) -> None:
    ran: list[str] = []
    for job_type in (BURN, TRANSFER, RECORD):
        handle(job_type, lambda page_id, job_type=job_type: ran.append(job_type.value))
    messages = steps()
    wanted = [message.message_id for message in messages]
    deliver(add(messages), BURN)
    assert ids() == wanted[:2]
    assert not deliver(UUID(wanted[1]), TRANSFER)  # parked
    with transaction():
        release([UUID(wanted[1])])
    deliver(UUID(wanted[1]), TRANSFER)
    assert ids() == wanted
    deliver(UUID(wanted[2]), RECORD)
    assert ran == [BURN.value, TRANSFER.value, RECORD.value]
    parents = fetch("SELECT parent::text, correlation FROM job_queue ORDER BY created_at")
    assert parents == [(None, "run-1"), (wanted[0], "run-1"), (wanted[1], "run-1")]


@pytest.mark.parametrize("first", [BURN, NOTIFY], ids=["A", "B"])
def test_the_next_step_is_in_the_transaction_that_completes(
    first: JobType, handle: Handle, effects: Effects
) -> None:
    handle(first, lambda **payload: None)
    args = ("page-1",) if first is BURN else ("kind", "1")
    deliver(add([first.message(*args), RECORD.message("page-1")]), first)
    transactions = fetch("SELECT xmin::text FROM job_queue ORDER BY created_at")
    assert len(transactions) == 2
    assert transactions[0] == transactions[1]


def test_a_step_that_fails_has_no_next_step(handle: Handle, effects: Effects) -> None:
    def work(page_id: str) -> None:
        raise Transient("not yet")

    handle(BURN, work)
    deliver(add(steps()), BURN)
    assert len(ids()) == 1


def test_a_next_step_that_can_not_be_inserted_undoes_the_completion(
    handle: Handle, effects: Effects
) -> None:
    handle(NOTIFY, lambda **payload: execute("INSERT INTO effect VALUES ('half')"))
    job_id = add([NOTIFY.message("kind", "1"), RECORD.message("page-1")])
    execute("ALTER TABLE job_queue ADD CHECK (job_type <> 'MaturityRecord')")
    deliver(job_id, NOTIFY)
    assert effects() == []
    assert fetch("SELECT status FROM job_queue") == [("retrying",)]


def test_a_completion_delivered_twice_inserts_one_next_step(
    handle: Handle, effects: Effects
) -> None:
    handle(BURN, lambda page_id: None)
    job_id = add(steps())
    deliver(job_id, BURN)
    deliver(job_id, BURN, delivered_again=True)
    assert len(ids()) == 2
    # Even a row that was put back, as by a restore or by hand, finds its next step there.
    execute(
        "UPDATE job_queue SET status = 'pending', finished_at = NULL WHERE id = %s", (str(job_id),)
    )
    job = take(job_id, BURN, WORKER_ID)
    assert job
    with transaction():
        job.complete()
    assert len(ids()) == 2
