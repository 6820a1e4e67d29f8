"""Rescue: a silent worker's jobs run again; deaths are counted, and money is never given up."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.ids import new_id
from domain.job_types import JobType
from jobs.claim import take
from jobs.enqueue import enqueue
from jobs.rescue import MONEY_RETRY, beat, rescue_once, sign_off
from models.database import execute, fetch, transaction

pytestmark = pytest.mark.integration

WAIT_S = 10.0
NO_GRACE = timedelta(0)
JOB, MONEY = JobType.PAYOUT_RECONCILE, JobType.MATURITY_PAYMENT
DEATHS_MAX = JOB.spec.deaths_max
WORKER = new_id()

Handle = Callable[..., None]
Effects = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _ready(effects: Effects) -> None:
    beat(WORKER)


def claimed(job_type: JobType = JOB) -> UUID:
    with transaction():
        job_id = enqueue(job_type.message("1")).id
    assert take(job_id, job_type, WORKER)
    return job_id


def fall_silent(seconds: float = 8) -> None:
    execute("UPDATE worker SET heartbeat_at = overnight_now() - %s", (timedelta(seconds=seconds),))


def rescue() -> int:
    return rescue_once(grace=NO_GRACE)


def row() -> tuple[str, int, int]:
    [(status, attempts, deaths)] = fetch("SELECT status, attempts, deaths FROM job_queue")
    return status, attempts, deaths


def delay_s() -> int:
    [(seconds,)] = fetch(
        "SELECT round(extract(epoch FROM run_at - overnight_now())) FROM job_queue"
        " JOIN job_outbox ON job_id = id AND due_at = run_at AND published_at IS NULL"
    )
    return max(0, int(seconds))


def test_a_silent_workers_job_is_due_at_once() -> None:
    claimed()
    fall_silent()
    assert rescue() == 1
    assert row() == ("pending", 0, 1)
    assert delay_s() == 0
    [(outcome, error)] = fetch("SELECT outcome, error FROM job_attempt")
    assert outcome == "died"
    assert str(WORKER) in error
    assert rescue() == 0


def test_a_living_workers_job_is_left_alone() -> None:
    claimed()
    fall_silent(5)
    assert rescue() == 0
    fall_silent()
    beat(WORKER)
    assert rescue() == 0
    assert row()[0] == "processing"


def test_a_clock_that_stepped_back_keeps_no_dead_worker_alive() -> None:
    """Its last heartbeat is in the future then: that is old, not fresh for an hour."""
    claimed()
    fall_silent(-3600)
    assert rescue() == 1


def test_a_worker_that_ended_in_order_is_not_waited_for() -> None:
    claimed()
    sign_off(WORKER)
    assert rescue() == 1


def test_after_a_restart_of_postgresql_everybody_gets_time() -> None:
    claimed()
    fall_silent()
    assert rescue_once(grace=timedelta(days=3650)) == 0
    assert rescue_once(grace=NO_GRACE) == 1


def test_deaths_are_followed_by_longer_and_longer_rests(handle: Handle) -> None:
    handle(JOB, lambda slot_id: None)
    job_id = claimed()
    delays = []
    for _ in range(DEATHS_MAX - 1):
        fall_silent()
        assert rescue() == 1
        delays.append(delay_s())
        execute("UPDATE job_queue SET run_at = overnight_now()")
        assert take(job_id, JOB, WORKER)
    assert delays == [0, 0, 8, 16]


def test_a_job_that_kills_every_worker_fails_and_tells_its_actor(handle: Handle) -> None:
    told: list[tuple[dict[str, str], str]] = []
    handle(JOB, lambda slot_id: None, lambda payload, error: told.append((payload, error)))
    claimed()
    execute("UPDATE job_queue SET deaths = %s", (DEATHS_MAX - 1,))
    fall_silent()
    assert rescue() == 1
    assert row()[0] == "failed"
    [(payload, error)] = told
    assert payload == {"slot_id": "1"}
    assert "died" in error
    assert fetch("SELECT 1 FROM job_outbox") == []


def test_money_is_retried_slowly_for_ever_and_says_so(handle: Handle) -> None:
    handle(MONEY, lambda run_id: None)
    job_id = claimed(MONEY)
    execute("UPDATE job_queue SET deaths = %s", (DEATHS_MAX - 1,))
    for deaths in (DEATHS_MAX, DEATHS_MAX + 1):
        fall_silent()
        assert rescue() == 1
        assert row() == ("pending", 0, deaths)
        assert delay_s() == MONEY_RETRY.total_seconds()
        execute("UPDATE job_queue SET run_at = overnight_now()")
        assert take(job_id, MONEY, WORKER)
    alerts = fetch("SELECT service, message FROM alert")
    assert len(alerts) == 2
    assert alerts[0][0] == "maturity"


def test_a_job_whose_row_is_locked_is_left_for_later(
    spawn: Callable[[Callable[[], Any]], "Future[Any]"],
) -> None:
    """Its worker may just be committing; the others are rescued meanwhile."""
    locked, let_go = threading.Event(), threading.Event()
    held = claimed()

    def hold() -> None:
        with transaction():
            fetch("SELECT 1 FROM job_queue WHERE id = %s FOR UPDATE", (str(held),))
            locked.set()
            assert let_go.wait(WAIT_S)

    holder = spawn(hold)
    assert locked.wait(WAIT_S)
    claimed()
    fall_silent()
    assert rescue() == 1
    let_go.set()
    holder.result(WAIT_S)
    assert rescue() == 1


def test_two_rescues_at_once_count_one_death(
    spawn: Callable[[Callable[[], Any]], "Future[Any]"],
) -> None:
    claimed()
    fall_silent()
    together = threading.Barrier(4)

    def race() -> int:
        together.wait(WAIT_S)
        return rescue()

    rescued = [spawn(race) for _ in range(4)]
    assert sum(each.result(WAIT_S) for each in rescued) == 1
    assert row() == ("pending", 0, 1)


def test_a_type_of_a_newer_version_does_not_stop_the_rescue_of_others() -> None:
    claimed()
    execute("UPDATE job_queue SET job_type = 'FromTheFuture'")
    claimed()
    fall_silent()
    assert rescue() == 1


def test_a_worker_without_the_actor_leaves_the_failing_to_others(handle: Handle) -> None:
    claimed()
    execute("UPDATE job_queue SET deaths = %s", (DEATHS_MAX - 1,))
    fall_silent()
    assert rescue() == 1
    assert row()[0] == "pending"


def test_workers_that_are_long_gone_are_forgotten() -> None:
    fall_silent(3_601)
    rescue()
    assert fetch("SELECT 1 FROM worker") == []


def test_a_claim_that_its_living_worker_forgot_is_released() -> None:
    job_id = claimed()
    [(token,)] = fetch("SELECT claim_token FROM job_queue")
    running = UUID(str(token))

    def look(me: UUID, *tokens: UUID) -> int:
        return rescue_once(grace=NO_GRACE, me=me, running=tokens)

    assert look(WORKER) == 0, "it may have been claimed a moment ago"
    execute("UPDATE job_queue SET started_at = started_at - interval '6 seconds'")
    assert look(WORKER, running) == 0, "a thread runs it"
    assert look(new_id()) == 0, "another worker can't know"
    assert look(WORKER) == 1
    assert row() == ("pending", 0, 1)
    assert take(job_id, JOB, WORKER)
