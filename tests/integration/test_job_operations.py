"""What a person does to jobs: requeue, discard, cancel, pause, resume; and what is refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.errors import InvalidInput, NotFound, Rejected
from domain.job_types import JobType
from jobs.claim import current_claim, take
from jobs.enqueue import enqueue
from jobs.operations import Action
from jobs.rescue import rescue_once
from jobs.runner import WORKER_ID, run_due
from models.database import execute, fetch, transaction
from usecases.job_operations import moment, operate_many, operate_one, pause, resume
from usecases.jobs import JobFilter, list_jobs, show_job, stats

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

Handle = Callable[..., None]
Effects = Callable[[], list[str]]
Spawn = Callable[..., Any]

MONEY, NOTIFY, OTHER = (
    JobType.MATURITY_PAYMENT,
    JobType.NOTIFICATION_INDIVIDUAL,
    JobType.PAYOUT_RECONCILE,
)


def ask(job_type: JobType, *args: str, **options: Any) -> str:
    with transaction():
        return str(enqueue(job_type.message(*args), **options).id)


def refuse(**_payload: str) -> None:
    raise Rejected("no such leg: timeout of patience")


def write(**payload: str) -> None:
    execute("INSERT INTO effect VALUES (%s)", (" ".join(payload.values()),))


def status(job_id: str) -> str:
    [(found,)] = fetch("SELECT status FROM job_queue WHERE id = %s", (job_id,))
    return str(found)


def failed(handle: Handle, job_type: JobType = NOTIFY, **options: Any) -> str:
    """A job of the type that has failed for good."""
    handle(job_type, refuse)
    args = [str(number) for number, _ in enumerate(job_type.spec.params)]
    job_id = ask(job_type, *args, **options)
    run_due()
    assert status(job_id) == "failed"
    return job_id


# --- Requeue --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dedup_key", [None, "once"])
def test_a_requeued_job_begins_anew_and_keeps_its_history(
    dedup_key: str | None, handle: Handle, effects: Effects
) -> None:
    job_id = failed(handle, dedup_key=dedup_key)
    result = operate_one(Action.REQUEUE, job_id[:8], "ada", "SMTP is back")
    assert (result.done, result.refused) == (1, ())
    detail = show_job(job_id)
    assert (detail.job.status, detail.job.attempts, detail.job.finished_at) == ("pending", 0, None)
    assert [a.outcome for a in detail.attempts] == ["failed"]
    assert "Traceback" in (detail.attempts[0].traceback or "")
    [action] = detail.actions
    assert (action.action, action.by_whom, action.reason) == ("requeued", "ada", "SMTP is back")
    assert action.attempts == 1
    handle(NOTIFY, write)
    run_due()
    assert effects() == ["0 1"]
    assert status(job_id) == "completed"


def test_a_requeued_job_that_fails_again_can_be_requeued_again(handle: Handle) -> None:
    job_id = failed(handle)
    operate_one(Action.REQUEUE, job_id, "ada")
    run_due()
    operate_one(Action.REQUEUE, job_id, "ada")
    assert [a.action for a in show_job(job_id).actions] == ["requeued", "requeued"]
    assert [a.attempt for a in show_job(job_id).attempts] == [1, 1]


def test_a_requeued_step_goes_on_with_its_pipeline(handle: Handle, effects: Effects) -> None:
    handle(NOTIFY, refuse)
    handle(OTHER, write)
    with transaction():
        job = enqueue(NOTIFY.message("a", "b") | OTHER.message("after"))
    run_due()
    handle(NOTIFY, write)
    operate_one(Action.REQUEUE, str(job.id), "ada")
    run_due()
    assert effects() == ["a b", "after"]


def test_requeue_takes_todays_limit_of_retries(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = failed(handle)
    execute("UPDATE job_queue SET max_retries = 99, deaths = 3 WHERE id = %s", (job_id,))
    operate_one(Action.REQUEUE, job_id, "ada")
    rows = fetch("SELECT max_retries, deaths FROM job_queue WHERE id = %s", (job_id,))
    assert rows == [(NOTIFY.spec.max_retries, 0)]


def test_a_singleton_takes_its_key_back_unless_another_has_it(handle: Handle) -> None:
    first = failed(handle, singleton_key="one")
    second = ask(NOTIFY, "c", "d", singleton_key="one")
    with pytest.raises(Rejected, match=second):
        operate_one(Action.REQUEUE, first, "ada")
    assert show_job(first).actions == ()
    operate_one(Action.CANCEL, second, "ada")
    operate_one(Action.REQUEUE, first, "ada")
    third = fetch("SELECT singleton_key FROM job_queue WHERE id = %s", (first,))
    assert third == [("one",)]
    with pytest.raises(Rejected, match=first):
        operate_one(Action.REQUEUE, second, "ada")


def test_of_two_failed_singletons_a_filter_requeues_one(handle: Handle) -> None:
    failed(handle, singleton_key="one")
    failed(handle, singleton_key="one")
    result = operate_many(Action.REQUEUE, JobFilter(), "ada")
    assert (result.done, len(result.refused)) == (1, 1)


def test_a_payout_job_is_retried_through_its_run(handle: Handle) -> None:
    job_id = failed(handle, MONEY, correlation="run:abc")
    for action in (Action.REQUEUE, Action.DISCARD):
        with pytest.raises(Rejected, match="overnight payouts retry abc"):
            operate_one(action, job_id, "ada")
    waiting = ask(MONEY, "r", correlation="run:def")
    with pytest.raises(Rejected, match="overnight payouts stop def"):
        operate_one(Action.CANCEL, waiting, "ada")
    assert (status(job_id), status(waiting)) == ("failed", "pending")


def test_what_has_not_failed_is_not_requeued(handle: Handle) -> None:
    waiting, parked = ask(NOTIFY, "a", "b"), ""
    with transaction():
        parked = str(enqueue(NOTIFY.message("a", "c", parked=True)).id)
    for job_id in (waiting, parked):
        with pytest.raises(Rejected, match="it is pending"):
            operate_one(Action.REQUEUE, job_id, "ada")
    with pytest.raises(NotFound):
        operate_one(Action.REQUEUE, "00000000", "ada")


def test_a_type_that_this_version_lost_is_not_requeued_but_can_go(handle: Handle) -> None:
    job_id = failed(handle)
    execute("UPDATE job_queue SET job_type = 'Ancient' WHERE id = %s", (job_id,))
    with pytest.raises(Rejected, match="does not know"):
        operate_one(Action.REQUEUE, job_id, "ada")
    execute("UPDATE job_queue SET correlation = 'run:x' WHERE id = %s", (job_id,))
    with pytest.raises(Rejected, match="payouts retry x"):
        operate_one(Action.DISCARD, job_id, "ada")
    execute("UPDATE job_queue SET correlation = NULL WHERE id = %s", (job_id,))
    assert operate_one(Action.DISCARD, job_id, "ada").done == 1


# --- Filters --------------------------------------------------------------------------------------


def test_a_filter_takes_what_fits_and_says_what_it_refused(handle: Handle) -> None:
    mine, money = failed(handle), failed(handle, MONEY, correlation="run:abc")
    other = failed(handle, OTHER)
    late = moment("1h")
    dry = operate_many(Action.REQUEUE, JobFilter(error="TIMEOUT", since=late), "ada", dry_run=True)
    assert (dry.done, [o.job_id for o in dry.refused], dry.dry_run) == (2, [money], True)
    assert {status(mine), status(other)} == {"failed"}
    one = operate_many(Action.REQUEUE, JobFilter(service="notifications"), "ada")
    assert (one.done, one.refused) == (1, ())
    rest = operate_many(Action.DISCARD, JobFilter(), "ada")
    assert (rest.done, [o.job_id for o in rest.refused]) == (1, [money])
    assert (status(mine), status(other), status(money)) == ("pending", "cancelled", "failed")


@pytest.mark.parametrize(
    "nothing",
    [
        JobFilter(error="100%"),
        JobFilter(job_type=OTHER.value),
        JobFilter(since=datetime(2999, 1, 1, tzinfo=UTC)),
        JobFilter(status="completed"),
    ],
)
def test_a_filter_that_fits_nothing_does_nothing(nothing: JobFilter, handle: Handle) -> None:
    failed(handle)
    assert list_jobs(wanted=nothing) == []
    assert operate_many(Action.REQUEUE, nothing, "ada").done == 0


def test_by_filter_only_the_failed_are_requeued_not_the_cancelled(handle: Handle) -> None:
    operate_one(Action.CANCEL, ask(NOTIFY, "a", "b"), "ada")
    assert operate_many(Action.REQUEUE, JobFilter(), "ada").done == 0


@pytest.mark.parametrize(
    "words", [{"status": "dead"}, {"job_type": "Nobody"}, {"service": "nobody"}]
)
def test_a_filter_with_an_unknown_word_is_refused(words: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="known are"):
        JobFilter(**words)  # type: ignore[arg-type] # named by the test


def test_moments() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert moment("2h", now) == now - timedelta(hours=2)
    assert moment("2026-11-30", now) == now - timedelta(hours=12)
    assert moment("2026-11-30T12:00:00+05:30", now) == now - timedelta(hours=5, minutes=30)
    for wrong in ("yesterday", "2 h", "-1h", ""):
        with pytest.raises(InvalidInput):
            moment(wrong, now)


# --- Discard and cancel ---------------------------------------------------------------------------


def test_a_discarded_job_is_no_dead_letter_and_can_come_back(handle: Handle) -> None:
    job_id = failed(handle)
    operate_one(Action.DISCARD, job_id, "ada")
    assert list_jobs("failed") == []
    assert "timeout of patience" in (show_job(job_id).job.last_error or "")
    operate_one(Action.REQUEUE, job_id, "ada")
    assert status(job_id) == "pending"
    with pytest.raises(Rejected, match="only what has failed"):
        operate_one(Action.DISCARD, job_id, "ada")


def test_a_cancelled_job_never_runs_and_its_keys_are_free(handle: Handle, effects: Effects) -> None:
    handle(NOTIFY, write)
    job_id = ask(NOTIFY, "a", "b", singleton_key="one")
    operate_one(Action.CANCEL, job_id, "ada")
    assert ask(NOTIFY, "c", "d", singleton_key="one") != job_id
    run_due()
    assert effects() == ["c d"]
    assert fetch("SELECT count(*) FROM job_outbox") == [(0,)]
    with pytest.raises(Rejected, match="cancelled already"):
        operate_one(Action.CANCEL, job_id, "ada")


def test_a_parked_job_is_cancelled_and_parked_again_by_a_requeue(handle: Handle) -> None:
    with transaction():
        job_id = str(enqueue(NOTIFY.message("a", "b", parked=True)).id)
    operate_one(Action.CANCEL, job_id, "ada")
    operate_one(Action.REQUEUE, job_id, "ada")
    assert fetch("SELECT due_at FROM job_outbox") == [(None,)]
    assert show_job(job_id).job.run_at is None


def test_a_running_job_is_not_cancelled() -> None:
    job_id = ask(OTHER, "s")
    [(found,)] = fetch("SELECT id FROM job_queue")
    assert take(found, OTHER, WORKER_ID)
    with pytest.raises(Rejected, match="a worker runs it"):
        operate_one(Action.CANCEL, job_id, "ada")


def test_a_job_whose_row_is_locked_is_not_waited_for(spawn: Spawn) -> None:
    job_id = ask(NOTIFY, "a", "b")
    with transaction():
        fetch("SELECT 1 FROM job_queue WHERE id = %s FOR UPDATE", (job_id,))  # way B at work

        def cancel() -> None:
            operate_one(Action.CANCEL, job_id, "ada")

        with pytest.raises(Rejected, match="at this moment"):
            spawn(cancel).result(10)


def test_a_worker_that_lost_its_job_to_a_requeue_changes_nothing(
    handle: Handle, effects: Effects
) -> None:
    """Frozen, rescued five times, failed, requeued; then it wakes up."""

    def meanwhile(slot_id: str) -> None:
        claim = current_claim()
        execute(
            "UPDATE job_queue SET status = 'failed', claim_token = NULL,"
            " finished_at = overnight_now() WHERE id = %s",
            (str(claim.job.id),),
        )
        execute("DELETE FROM job_outbox")
        operate_one(Action.REQUEUE, str(claim.job.id), "ada")
        with claim.transaction():
            write(slot_id=slot_id)

    handle(OTHER, meanwhile)
    job_id = ask(OTHER, "s")
    run_due(limit=1)
    assert effects() == []
    assert (status(job_id), show_job(job_id).attempts) == ("pending", ())


# --- Pause and resume -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notifications", "NotificationIndividualProcessor"])
def test_pausing_stops_new_work_and_says_why(name: str, handle: Handle, effects: Effects) -> None:
    handle(NOTIFY, write)
    handle(OTHER, write)
    ask(NOTIFY, "a", "b")
    ask(OTHER, "s")
    assert pause(name, "SMTP is down", "ada").changed
    assert not pause(name, "again", "bob").changed
    run_due(limit=10)
    assert effects() == ["s"]
    [found] = stats().pauses
    assert (found.scope.partition(":")[2], found.reason, found.paused_by) == (
        name, "SMTP is down", "ada",
    )  # fmt: skip
    assert resume(name).changed
    assert not resume(name).changed
    execute("UPDATE job_outbox SET due_at = overnight_now()")
    run_due()
    assert effects() == ["a b", "s"]


def test_a_pause_names_something_that_exists_and_a_reason() -> None:
    with pytest.raises(InvalidInput, match="unknown service or job type"):
        pause("notification", "typing error", "ada")
    with pytest.raises(InvalidInput, match="--reason"):
        pause("notifications", " ", "ada")


def test_a_paused_services_jobs_are_rescued_all_the_same() -> None:
    job_id = ask(OTHER, "s")
    [(found,)] = fetch("SELECT id FROM job_queue")
    assert take(found, OTHER, WORKER_ID)
    pause("maturity", "a look at the chain", "ada")
    assert rescue_once(timedelta(0), timedelta(0)) == 1
    assert status(job_id) == "pending"
