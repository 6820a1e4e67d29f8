"""Prune: finished jobs are forgotten in small batches; dead letters and open runs never."""

from datetime import timedelta

import pytest

from domain.errors import InvalidInput, Postponed
from domain.ids import new_id
from domain.job_types import JobType
from domain.slots import SCHEDULES
from jobs.enqueue import enqueue, enqueue_many
from jobs.runner import run_due
from models.database import execute, fetch, transaction
from usecases import job_operations
from usecases.job_operations import prune, prune_nightly
from usecases.schedule import open_due_slots

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

NOTIFY = JobType.NOTIFICATION_INDIVIDUAL


def make(status: str, days: float, count: int = 1, correlation: str | None = None) -> None:
    """Jobs that ended so many days ago, each with an attempt."""
    ids = [str(new_id()) for _ in range(count)]
    execute(
        "INSERT INTO job_queue (id, job_type, service, queue, priority, max_retries, run_at,"
        " status, correlation, created_at, finished_at)"
        " SELECT id, 'PayoutReconcile', 'maturity', 'maturity', 3, 8, overnight_now(), %(status)s,"
        " %(correlation)s, overnight_now() - %(age)s - interval '1 minute',"
        " CASE WHEN %(status)s IN ('completed', 'failed', 'cancelled')"
        " THEN overnight_now() - %(age)s END FROM unnest(%(ids)s::uuid[]) AS id",
        {"ids": ids, "status": status, "correlation": correlation, "age": timedelta(days=days)},
    )
    execute(
        "INSERT INTO job_attempt (job_id, attempt, outcome, error)"
        " SELECT id, 1, 'failed', 'x' FROM unnest(%s::uuid[]) AS id",
        (ids,),
    )


def left() -> dict[str, int]:
    return dict(fetch("SELECT status, count(*) FROM job_queue GROUP BY 1"))


def make_run(state: str) -> str:
    """A payout run in a state; returns the correlation of its jobs."""
    run_id = str(new_id())
    execute(
        "INSERT INTO bond (id, name, contract, token, token_decimals, face_value_per_token,"
        " maturity_date, file_digest) VALUES ('B', 'B', '0x', 'PLT', 6, 1, '2026-01-31', '')"
        " ON CONFLICT DO NOTHING"
    )
    execute(
        "INSERT INTO wallet (chain_id, address, environment_id, next_nonce)"
        " VALUES ('c', '0x', 'e', 0) ON CONFLICT DO NOTHING"
    )
    execute(
        "INSERT INTO payout_run (id, kind, subject, bond_id, wallet_id, state, config_version,"
        " record_date, token, token_decimals, triggered_by, finished_at)"
        " SELECT %(id)s, 'maturity', %(id)s::text, 'B', id, %(state)s, '1', '2026-01-31', 'PLT', 6,"
        " 'x', CASE WHEN %(state)s = 'finished' THEN overnight_now() END FROM wallet LIMIT 1",
        {"id": run_id, "state": state},
    )
    return f"run:{run_id}"


@pytest.mark.parametrize("batch", [1, 3, 1_000])
def test_only_old_completed_and_cancelled_jobs_go(batch: int) -> None:
    for status in ("completed", "cancelled", "failed", "pending"):
        make(status, days=31, count=4)
        make(status, days=29, count=2)
    dry = prune(timedelta(days=30), batch, dry_run=True)
    assert (dry.deleted, sum(left().values())) == (8, 24)
    assert prune(timedelta(days=30), batch).deleted == 8
    assert left() == {"completed": 2, "cancelled": 2, "failed": 6, "pending": 6}
    assert fetch("SELECT count(*) FROM job_attempt") == [(16,)]
    assert prune(timedelta(days=30), batch).deleted == 0


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("planning", 1),
        ("waiting", 1),
        ("paying", 1),
        ("failed", 0),
        ("finished", 0),
        ("stopping", 1),
        ("stopped", 0),
    ],
)
def test_jobs_of_unfinished_runs_stay(state: str, kept: int) -> None:
    make("completed", days=400, correlation=make_run(state))
    make("completed", days=400, correlation="run:of-a-deleted-run")
    prune()
    assert left().get("completed", 0) == kept


def test_a_finished_job_of_many_days_is_old_since_its_end_not_since_its_start() -> None:
    make("completed", days=1)
    execute("UPDATE job_queue SET created_at = created_at - interval '90 days'")
    assert prune().deleted == 0


def test_many_jobs_of_one_instant_go_in_batches() -> None:
    with transaction():
        enqueue_many(NOTIFY, [("k", str(number)) for number in range(250)])
    execute("DELETE FROM job_outbox")
    execute(
        "UPDATE job_queue SET status = 'completed', created_at = now() - interval '40 days',"
        " finished_at = now() - interval '40 days'"
    )
    assert prune(batch=100).deleted == 250


def test_a_retention_that_is_shorter_than_a_message_lives_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 1h"):
        prune(timedelta(minutes=59))


def test_prune_goes_round_what_somebody_has_locked(spawn) -> None:  # type: ignore[no-untyped-def]
    make("completed", days=40, count=2)
    with transaction():
        fetch("SELECT 1 FROM job_queue LIMIT 1 FOR UPDATE")
        assert spawn(prune).result(10).deleted == 1


def test_every_night_there_is_a_prune(monkeypatch: pytest.MonkeyPatch) -> None:
    import actors.system  # noqa: F401 - binds the actor

    make("completed", days=40, count=3)
    only = [schedule for schedule in SCHEDULES if schedule.job_type is JobType.JOBS_PRUNE]
    assert open_due_slots(only) == 1
    assert open_due_slots(only) == 0
    run_due()
    assert fetch("SELECT job_type, status FROM job_queue") == [("JobsPrune", "completed")]


def test_a_long_prune_lets_others_have_the_thread_and_goes_on_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import actors.system  # noqa: F401 - binds the actor

    monkeypatch.setattr(job_operations, "BATCH", 2)
    make("completed", days=40, count=3)
    with pytest.raises(Postponed, match="2 jobs pruned"):
        prune_nightly(turn_s=-1)
    with transaction():
        job = enqueue(JobType.JOBS_PRUNE.message("slot"))
    run_due()
    rows = fetch("SELECT status, attempts FROM job_queue WHERE id = %s", (str(job.id),))
    assert rows == [("completed", 0)]
    assert left() == {"completed": 1}
