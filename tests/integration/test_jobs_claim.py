"""Claims: who lost one finds out before it has changed anything, and a crash leaves one."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from domain.ids import new_id
from domain.job_types import JobType
from jobs.claim import current_claim
from jobs.enqueue import enqueue
from jobs.rescue import rescue_once
from jobs.runner import deliver
from models.database import db, execute, fetch, reconnect, transaction

pytestmark = pytest.mark.integration

NOW = timedelta(0)
A, B = JobType.PAYOUT_RECONCILE, JobType.NOTIFICATION_INDIVIDUAL

Handle = Callable[..., None]
Effects = Callable[[], list[str]]


class Crash(BaseException):
    """The process is gone: nothing may tidy up after it."""


def crash() -> None:
    """Close the socket first, so that no `finally` can reach the database."""
    db.connection().close()
    raise Crash


def add(job_type: JobType = A) -> UUID:
    with transaction():
        return enqueue(job_type.message(*("1", "2")[: len(job_type.spec.params)])).id


def effect(what: str) -> None:
    execute("INSERT INTO effect VALUES (%s)", (what,))


def steal() -> None:
    """What a rescue and the next worker's claim leave in the row."""
    execute("UPDATE job_queue SET claim_token = %s", (str(new_id()),))


def row() -> tuple[str, int, int]:
    [(status, attempts, deaths)] = fetch("SELECT status, attempts, deaths FROM job_queue")
    return status, attempts, deaths


def test_a_lost_claim_stops_the_next_transaction_before_any_effect(
    handle: Handle, effects: Effects
) -> None:
    def work(slot_id: str) -> None:
        with current_claim().transaction():
            effect("first")
        steal()
        with current_claim().transaction():
            effect("second")

    handle(A, work)
    deliver(add(), A)
    assert effects() == ["first"]
    assert row()[0] == "processing"  # the thief's: nothing was recorded against it
    assert fetch("SELECT 1 FROM job_attempt") == []


@pytest.mark.parametrize("explicit", [True, False], ids=["own completion", "after return"])
def test_a_lost_claim_can_not_complete(explicit: bool, handle: Handle, effects: Effects) -> None:
    def work(slot_id: str) -> None:
        steal()
        if explicit:
            with current_claim().completion():
                effect("never")

    handle(A, work)
    deliver(add(), A)
    assert effects() == []
    assert row()[0] == "processing"


def test_a_lost_claim_can_not_fail_the_job(handle: Handle, effects: Effects) -> None:
    def work(slot_id: str) -> None:
        steal()
        raise LookupError("too late to matter")

    handle(A, work)
    deliver(add(), A)
    assert row() == ("processing", 0, 0)


def test_completion_commits_the_last_effects_and_the_job_together(
    handle: Handle, effects: Effects
) -> None:
    def work(slot_id: str) -> None:
        with current_claim().completion():
            effect("last")
        raise LookupError("after its completion: nothing is left to fail")

    handle(A, work)
    deliver(add(), A)
    assert effects() == ["last"]
    assert row() == ("completed", 0, 0)


def test_a_transaction_that_swallowed_an_error_does_not_look_committed(
    handle: Handle, effects: Effects
) -> None:
    """PostgreSQL would answer COMMIT with ROLLBACK, and the actor would go on to broadcast."""
    went_on: list[bool] = []

    def work(slot_id: str) -> None:
        with current_claim().transaction():
            effect("intent")
            with pytest.raises(Exception, match="division"):
                execute("SELECT 1 / 0")
        went_on.append(True)

    handle(A, work)
    deliver(add(), A)
    assert went_on == []
    assert row()[:2] == ("retrying", 1)


def test_there_is_no_claim_outside_of_a_job(handle: Handle, effects: Effects) -> None:
    seen: list[bool] = []

    def work(**payload: str) -> None:
        with pytest.raises(RuntimeError):
            current_claim()
        seen.append(True)

    handle(B, work)
    deliver(add(B), B)
    assert seen
    with pytest.raises(RuntimeError):
        current_claim()


def test_a_crash_between_transactions_is_rescued_and_run_again(
    handle: Handle, effects: Effects
) -> None:
    runs: list[int] = []

    def work(slot_id: str) -> None:
        runs.append(1)
        with current_claim().transaction():
            effect(f"run {len(runs)}")
        if len(runs) == 1:
            crash()

    handle(A, work)
    job_id = add()
    with pytest.raises(Crash):
        deliver(job_id, A)
    reconnect()
    assert row() == ("processing", 0, 0)
    assert not deliver(job_id, A, delivered_again=True)  # rescue owns it
    assert rescue_once(NOW, NOW) == 1
    assert row() == ("pending", 0, 1)
    assert deliver(job_id, A, delivered_again=True)
    assert effects() == ["run 1", "run 2"]
    assert row() == ("completed", 0, 1)


DIE = """
import os, signal, sys
from uuid import UUID
import jobs.actor
from domain.job_types import JobType
from jobs.actor import Handler
from jobs.runner import deliver
from models.database import connect_to, execute

def work(**payload):
    execute("INSERT INTO effect VALUES ('in vain')")
    os.kill(os.getpid(), signal.SIGKILL)

connect_to(sys.argv[1])
job_type = JobType.NOTIFICATION_INDIVIDUAL
jobs.actor._handlers[job_type] = Handler(job_type, work)
deliver(UUID(sys.argv[2]), job_type, delivered_again=sys.argv[3] == "again")
"""


def die_running(url: str, job_id: UUID, project: Path, again: str) -> None:
    command = [sys.executable, "-c", DIE, url, str(job_id), again]
    done = subprocess.run(command, cwd=project, timeout=60, check=False)
    assert done.returncode == -9


def test_a_killed_b_job_leaves_nothing_and_its_redelivery_counts_deaths(
    database: str, project: Path, handle: Handle, effects: Effects
) -> None:
    job_id = add(B)
    die_running(database, job_id, project, "first")
    while fetch(
        "SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = relation"
        " WHERE relname = 'job_queue' AND mode = 'RowShareLock'"
    ):
        pass  # the server has not seen the end of its client yet
    assert effects() == []
    assert row() == ("pending", 0, 0)
    die_running(database, job_id, project, "again")  # the same message, redelivered: way A
    assert effects() == []
    assert row()[0] == "processing"
    assert rescue_once(NOW, NOW) == 1
    assert row() == ("pending", 0, 1)
    handle(B, lambda **payload: effect("at last"))
    assert deliver(job_id, B, delivered_again=True)
    assert effects() == ["at last"]
    assert row() == ("completed", 0, 1)
