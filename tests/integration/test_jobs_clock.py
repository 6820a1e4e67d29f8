"""The server's clock steps back by an hour: what was due is due, and delays stay as long."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.errors import Postponed
from domain.ids import new_id
from domain.job_types import JobType
from jobs.clock import follow_clock
from jobs.enqueue import enqueue, enqueue_many
from jobs.rescue import beat
from jobs.runner import deliver, run_due
from models.database import execute, fetch, transaction

pytestmark = pytest.mark.integration

WAIT_S = 10.0
WORKER = new_id()
JOB = JobType.NOTIFICATION_INDIVIDUAL
HOUR = timedelta(hours=1)

Spawn = Callable[[Callable[[], Any]], "Future[Any]"]
Handle = Callable[..., None]
Effects = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _seen(effects: Effects, handle: Handle) -> None:
    """Some worker has looked at the clock before it steps back."""
    handle(JOB, lambda **payload: execute("INSERT INTO effect VALUES ('x')"))
    beat(WORKER)
    execute("UPDATE worker SET started_at = started_at - interval '1 day'")
    assert follow() == 0


def follow() -> int:
    """A turn of the worker that was there before the clock stepped back."""
    return follow_clock(WORKER)


def set_back(by: timedelta = HOUR) -> None:
    execute(
        "CREATE OR REPLACE FUNCTION overnight_now() RETURNS timestamptz LANGUAGE sql STABLE"
        f" AS $$ SELECT statement_timestamp() - interval '{by.total_seconds()} s' $$"
    )


def add(later: timedelta | None = None, *, parked: bool = False) -> UUID:
    with transaction():
        [(run_at,)] = fetch("SELECT overnight_now() + %s", (later,))
        return enqueue(JOB.message("paid", "1", parked=parked), run_at=run_at).id


def waits_s() -> list[int]:
    """How long each job waits, in whole seconds, and 0 for what is due; row and entry agree."""
    rows = fetch(
        "SELECT greatest(0, round(extract(epoch FROM due_at - overnight_now())))::int"
        " FROM job_outbox JOIN job_queue ON id = job_id AND run_at = due_at"
        " WHERE published_at IS NULL ORDER BY 1"
    )
    return [seconds for (seconds,) in rows]


def test_a_due_job_is_due_again(effects: Effects) -> None:
    add()
    set_back()
    assert run_due() == 0
    assert follow() == 1
    assert follow() == 0
    assert run_due() == 1
    assert effects() == ["x"]


def test_what_was_to_wait_waits_as_long(handle: Handle) -> None:
    def postpone(**_: str) -> None:
        raise Postponed("not yet", timedelta(seconds=300))

    handle(JOB, postpone)
    job_id = add()
    assert deliver(job_id, JOB)
    add(timedelta(seconds=500))
    set_back()
    assert follow() == 2
    assert waits_s() == [300, 500]


def test_what_the_broker_delivered_too_early_is_published_again(effects: Effects) -> None:
    job_id = add()
    execute(
        "UPDATE job_outbox SET published_at = overnight_now(), publish_count = 1,"
        " due_at = overnight_now() + interval '10 s', due_set_at = overnight_now()"
    )
    set_back()
    assert not deliver(job_id, JOB)
    assert follow() == 1
    assert waits_s() == [0]
    assert fetch("SELECT publish_count FROM job_outbox") == [(1,)]  # so it runs by claim
    assert run_due() == 1
    assert effects() == ["x"]


def test_an_entry_that_is_locked_is_found_the_next_time(spawn: Spawn) -> None:
    add()
    set_back()
    locked, looked = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction():
            fetch("SELECT 1 FROM job_outbox FOR UPDATE")
            locked.set()
            assert looked.wait(WAIT_S)

    holding = spawn(hold)
    assert locked.wait(WAIT_S)
    assert follow() == 0
    looked.set()
    holding.result(WAIT_S)
    assert follow() == 1


def test_what_is_asked_for_after_the_step_is_left_alone() -> None:
    set_back()
    add()
    add(timedelta(seconds=500))
    assert follow() == 0
    assert waits_s() == [0, 500]


def test_a_clock_that_goes_on_moves_nothing() -> None:
    add(timedelta(days=1))
    set_back(timedelta(seconds=0.5))  # it wanders
    assert follow() == 0
    assert waits_s() == [86_400]


def test_a_parked_step_stays_parked() -> None:
    add(parked=True)
    set_back()
    assert follow() == 0
    assert fetch("SELECT due_at FROM job_outbox") == [(None,)]


def test_a_backlog_is_moved_in_parts() -> None:
    with transaction():
        enqueue_many(JOB, [("paid", str(number)) for number in range(2_500)])
    set_back()
    assert follow() == 2_500
    assert set(waits_s()) == {0}


def test_a_worker_that_comes_after_the_step_looks_by_itself() -> None:
    """Nobody was there to see the higher time."""
    add()
    execute("DELETE FROM clock_mark")
    set_back()
    assert follow() == 0
    late = new_id()
    beat(late)
    assert follow_clock(late) == 1
