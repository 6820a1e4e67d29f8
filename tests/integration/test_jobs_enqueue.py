"""Enqueue: a job is a row of the caller's transaction, once per key."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from dramatiq import Message, pipeline

from domain.errors import InvalidInput, Rejected
from domain.job_types import JobStatus, JobType
from jobs.enqueue import enqueue, enqueue_many
from jobs.release import release
from jobs.runner import run_job
from models.database import execute, fetch, transaction

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

WAIT_S = 10.0
PAYMENT, RECONCILE = JobType.MATURITY_PAYMENT, JobType.PAYOUT_RECONCILE


def count(table: str) -> int:
    [(rows,)] = fetch(f"SELECT count(*) FROM {table}")
    return int(rows)


def test_it_demands_a_transaction() -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        enqueue(PAYMENT.message("run-1"))
    with pytest.raises(RuntimeError, match="transaction"):
        release([])


def test_a_rollback_leaves_nothing() -> None:
    def enqueue_and_fail() -> None:
        with transaction():
            enqueue(PAYMENT.message("run-1"))
            assert count("job_queue") == 1
            raise LookupError

    with pytest.raises(LookupError):
        enqueue_and_fail()
    assert (count("job_queue"), count("job_outbox")) == (0, 0)


def test_a_job_is_a_row_and_an_outbox_entry_of_the_same_properties() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    with transaction():
        job = enqueue(PAYMENT.message("run-1"), run_at=later, correlation="run-1")
    assert job.created
    assert job.status is JobStatus.PENDING
    both = "SELECT job_type, service, queue, priority FROM"
    row = fetch(f"{both} job_queue WHERE id = %s", (str(job.id),))
    assert row == [("MaturityPayment", "maturity", "maturity", 4)]
    assert row == fetch(f"{both} job_outbox WHERE job_id = %s", (str(job.id),))
    [(payload, run_at, correlation, due_at)] = fetch(
        "SELECT payload, run_at, correlation, due_at FROM job_queue JOIN job_outbox ON job_id = id"
    )
    assert (payload, correlation) == ({"run_id": "run-1"}, "run-1")
    assert run_at == due_at == later


def test_a_time_without_a_zone_is_refused() -> None:
    naive = datetime(2026, 3, 29, 2, 30)  # noqa: DTZ001 - that is the point
    with transaction(), pytest.raises(InvalidInput, match="run_at"):
        enqueue(PAYMENT.message("run-1"), run_at=naive)


def test_the_same_message_twice_is_one_job() -> None:
    message = PAYMENT.message("run-1")
    with transaction():
        first = enqueue(message)
    with transaction():
        again = enqueue(message)
    assert (again.id, again.created) == (first.id, False)


def test_a_dedup_key_returns_the_job_it_meets_also_a_failed_one(
    handle: Callable[..., None],
) -> None:
    def refuse(slot_id: str) -> None:
        raise Rejected(f"{slot_id} can't work")

    handle(RECONCILE, refuse)
    with transaction():
        first = enqueue(RECONCILE.message("slot-1"), dedup_key="slot-1")
        second = enqueue(RECONCILE.message("slot-1"), dedup_key="slot-1")
    assert (second.id, second.created, second.status) == (first.id, False, JobStatus.PENDING)
    run_job(first.id)
    with transaction():
        third = enqueue(RECONCILE.message("slot-1"), dedup_key="slot-1")
    assert (third.id, third.created, third.status) == (first.id, False, JobStatus.FAILED)


def test_a_singleton_is_unique_among_unfinished_jobs(handle: Callable[..., None]) -> None:
    handle(RECONCILE, lambda slot_id: None)
    with transaction():
        first = enqueue(RECONCILE.message("a"), singleton_key="sweep")
        assert not enqueue(RECONCILE.message("b"), singleton_key="sweep").created
    run_job(first.id)
    with transaction():
        assert enqueue(RECONCILE.message("c"), singleton_key="sweep").created


def test_a_key_whose_job_vanishes_while_we_look_makes_a_new_job() -> None:
    """The insert met the singleton, which finished before we read it."""
    with transaction():
        first = enqueue(RECONCILE.message("a"), singleton_key="sweep")
    # A trigger stands for the worker that finishes it between our insert and our look.
    execute(
        f"""
        CREATE FUNCTION finish_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE job_queue SET status = 'completed', finished_at = now(), singleton_key = NULL
            WHERE id = '{first.id}';
            RETURN NULL;
        END $$"""
    )
    execute(
        "CREATE TRIGGER t AFTER INSERT ON job_queue FOR EACH STATEMENT"
        " EXECUTE FUNCTION finish_first()"
    )
    with transaction():
        second = enqueue(RECONCILE.message("b"), singleton_key="sweep")
    assert second.created
    assert second.id != first.id


def test_two_transactions_with_one_key_make_one_job(
    spawn: Callable[[Callable[[], Any]], "Future[Any]"],
) -> None:
    inserted, commit = threading.Event(), threading.Event()

    def hold_open() -> UUID:
        with transaction():
            job = enqueue(PAYMENT.message("run-1"), dedup_key="run-1")
            inserted.set()
            assert commit.wait(WAIT_S)
            return job.id

    def meet() -> tuple[UUID, bool]:
        with transaction():
            job = enqueue(PAYMENT.message("run-1"), dedup_key="run-1")
            return job.id, job.created

    first = spawn(hold_open)
    assert inserted.wait(WAIT_S)
    second = spawn(meet)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while fetch(waiting) == [(0,)]:
        assert not second.done()
    commit.set()
    assert second.result(WAIT_S) == (first.result(WAIT_S), False)
    assert count("job_queue") == 1


def test_a_pipeline_fixes_every_id_when_it_is_built() -> None:
    steps = [JobType.MATURITY_TOKEN_BURN, JobType.MATURITY_PLT_TRANSFER, JobType.MATURITY_RECORD]
    messages = [step.message("page-1", parked=step is not steps[0]) for step in steps]
    with transaction():
        first = enqueue(pipeline(messages))
    assert str(first.id) == messages[0].message_id
    [(next_steps,)] = fetch("SELECT next_steps FROM job_queue")
    assert [step["id"] for step in next_steps] == [m.message_id for m in messages[1:]]
    assert [step["parked"] for step in next_steps] == [True, True]


def test_a_parked_job_waits_for_its_release() -> None:
    with transaction():
        job = enqueue(JobType.MATURITY_RECORD.message("page-1", parked=True))
    times = "SELECT run_at IS NULL, due_at IS NULL FROM job_queue JOIN job_outbox ON job_id = id"
    assert fetch(times) == [(True, True)]
    with transaction():
        assert release([job.id]) == 1
    assert fetch(times) == [(False, False)]
    with transaction():
        assert release([job.id]) == 0  # level-triggered: a second time is harmless


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((), {}, "run_id"),
        (("a", "b"), {}, "run_id"),
        (("a",), {"run_id": "b"}, "run_id"),
        ((), {"run": "a"}, "unknown.*'run'"),
    ],
)
def test_a_wrong_payload_is_refused_by_name(
    args: tuple[str, ...], kwargs: dict[str, str], named: str
) -> None:
    with pytest.raises(InvalidInput, match=named):
        PAYMENT.message(*args, parked=False, **kwargs)


def test_a_message_that_is_no_job_type_is_refused_by_name() -> None:
    foreign: Message[None] = Message("q", "Nobody", (), {}, {})
    with transaction(), pytest.raises(InvalidInput, match=r"'Nobody'.*MaturityPayment"):
        enqueue(foreign)


def test_many_jobs_are_one_statement_and_count_what_is_new() -> None:
    payloads = [(f"run-{i}",) for i in range(1_000)]
    keys = [f"key-{i // 2}" for i in range(1_000)]
    with transaction():
        assert enqueue_many(PAYMENT, payloads, dedup_keys=keys) == 500
        assert enqueue_many(PAYMENT, payloads, dedup_keys=keys) == 0
        assert enqueue_many(PAYMENT, []) == 0
    assert (count("job_queue"), count("job_outbox")) == (500, 500)


def test_many_payloads_are_kept_to_the_letter() -> None:
    texts = ['a "quoted" text', "back\\slash", "tab\tand\nnew line\r", "ünïcödé \U0001f319", ""]
    with transaction():
        assert enqueue_many(PAYMENT, [(text,) for text in texts], correlation="c") == len(texts)
    rows = fetch("SELECT payload->>'run_id' FROM job_queue WHERE correlation = 'c'")
    assert sorted(text for (text,) in rows) == sorted(texts)


def test_many_jobs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        enqueue_many(PAYMENT, [("a",)])
    with transaction(), pytest.raises(InvalidInput, match="dedup_keys"):
        enqueue_many(PAYMENT, [("a",), ("b",)], dedup_keys=["only one"])
    with transaction(), pytest.raises(InvalidInput, match="run_id"):
        enqueue_many(PAYMENT, [("a", "b")])
    assert count("job_queue") == 0
