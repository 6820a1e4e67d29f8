"""Operate the queue: requeue, discard and cancel jobs, pause and resume services, prune.

    JobFilter or one id → batches, each a transaction → Result (done, refused and why)

Rules of the queue itself: jobs/operations.py. What each command means: docs/operations-jobs.md.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.errors import InvalidInput, Postponed, Rejected
from domain.job_types import JobType, Service
from jobs.operations import TAKES_FROM, Action, Outcome, apply, objection_to
from jobs.operations import pause as pause_scope
from jobs.operations import resume as resume_scope
from jobs.prune import BATCH, Pruner
from models.database import execute, fetch, transaction
from usecases.jobs import JobFilter, resolve_job

#: Jobs of one transaction: short locks, and what was done stays done.
OPERATION_BATCH = 500

#: How long finished jobs are kept unless somebody says otherwise.
RETENTION = timedelta(days=30)

#: A message may come again minutes after its job finished: its row must still be there.
RETENTION_MIN = timedelta(hours=1)

#: The nightly prune works so long, then lets others have its thread and goes on later.
PRUNE_TURN_S = 60.0
PRUNE_PAUSE = timedelta(seconds=5)

#: A run in any other state may still want its jobs.
_RUNS_AT_AN_END = ("finished", "failed", "cancelled", "stopped")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Result:
    """What an operation did, or would do in a dry run."""

    action: str
    done: int
    refused: tuple[Outcome, ...]
    dry_run: bool = False


@dataclass(frozen=True)
class PauseResult:
    """What is paused or not now; `changed` is False when it was so before."""

    scope: str
    paused: bool
    changed: bool


@dataclass(frozen=True)
class PruneResult:
    """How many jobs were forgotten (or would be), older than `before`."""

    deleted: int
    before: datetime
    dry_run: bool = False


def operate_one(action: Action, prefix: str, by: str, reason: str | None = None) -> Result:
    """Requeue, discard or cancel one job. Raises NotFound, or Rejected with the objection."""
    job_id = str(resolve_job(prefix))
    with transaction():
        [outcome] = apply(action, [job_id], by, reason)
    if outcome.objection is not None:
        raise Rejected(f"job {job_id} is not {action.value}: {outcome.objection}")
    return Result(action.value, 1, ())


def operate_many(
    action: Action,
    wanted: JobFilter,
    by: str,
    reason: str | None = None,
    *,
    dry_run: bool = False,
) -> Result:
    """The same for every job of a filter that is in a state for it; objections are collected.

    Jobs that come to match while this runs are left alone.
    """
    done, refused = 0, []
    for batch in _batches(action, wanted):
        if dry_run:
            outcomes = [Outcome(each[0], objection_to(action, *each[1:])) for each in batch]
        else:
            with transaction():
                outcomes = apply(action, [each[0] for each in batch], by, reason)
        done += sum(outcome.objection is None for outcome in outcomes)
        refused += [outcome for outcome in outcomes if outcome.objection is not None]
    return Result(action.value, done, tuple(refused), dry_run)


def pause(name: str, reason: str, by: str) -> PauseResult:
    """Stop new work of a service or job type. What runs, settles or is rescued goes on."""
    scope = scope_of(name)
    if not reason.strip():
        raise InvalidInput("--reason: say why, for whoever finds it paused")
    return PauseResult(scope, paused=True, changed=pause_scope(scope, reason.strip(), by))


def resume(name: str) -> PauseResult:
    """Let new work of a service or job type begin again."""
    scope = scope_of(name)
    return PauseResult(scope, paused=False, changed=resume_scope(scope))


def scope_of(name: str) -> str:
    """The scope that `name` (a service or a job type) pauses. Raises InvalidInput."""
    if name in set(Service):
        return f"service:{name}"
    if name in {job_type.value for job_type in JobType}:
        return f"job_type:{name}"
    services = ", ".join(Service)
    types = ", ".join(job_type.value for job_type in JobType)
    raise InvalidInput(
        f"unknown service or job type {name!r}; services: {services}; types: {types}"
    )


def prune(
    older_than: timedelta = RETENTION, batch: int = BATCH, *, dry_run: bool = False
) -> PruneResult:
    """Forget completed and cancelled jobs of closed runs, in small batches."""
    pruner, before = _pruner(older_than, batch)
    if dry_run:
        return PruneResult(pruner.count(), before, dry_run=True)
    deleted = 0
    while gone := pruner.run_once():
        deleted += gone
    return PruneResult(deleted, before)


def prune_nightly(turn_s: float = PRUNE_TURN_S) -> int:
    """The schedule's prune: one turn. Raises Postponed while there is more."""
    pruner, _ = _pruner(_retention, BATCH)
    deleted, end = 0, time.monotonic() + turn_s
    while gone := pruner.run_once():
        deleted += gone
        if time.monotonic() > end:
            raise Postponed(f"{deleted} jobs pruned, and there are more", PRUNE_PAUSE)
    return deleted


_retention = RETENTION


def use_retention(retention: timedelta) -> None:
    """How long the nightly prune keeps finished jobs; for composition roots."""
    global _retention
    _retention = retention


def duration(text: str) -> timedelta:
    """30d, 12h, 45m, 10s or 2w. Raises InvalidInput."""
    found = re.fullmatch(r"([0-9]{1,5})([smhdw])", text.strip())
    if not found:
        raise InvalidInput(f"{text!r} is no duration such as 30d, 12h or 45m")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment(text: str, now: datetime | None = None) -> datetime:
    """A duration ago (2h), or an ISO date or time; without an offset it is UTC."""
    try:
        parsed = datetime.fromisoformat(text.strip())
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except ValueError:
        try:
            return (now or _now()) - duration(text)
        except InvalidInput:
            raise InvalidInput(f"{text!r} is neither a time such as 2026-11-30 nor 2h") from None


def forget_stray(stray_id: int | None = None, older_than: timedelta | None = None) -> int:
    """Delete one stray message, or all that are older; returns how many."""
    if stray_id is not None:
        return execute("DELETE FROM stray_message WHERE id = %s", (stray_id,))
    assert older_than is not None
    sql = "DELETE FROM stray_message WHERE received_at < overnight_now() - %s"
    return execute(sql, (older_than,))


def _batches(action: Action, wanted: JobFilter) -> Iterator[list[tuple[Any, ...]]]:
    """(id, job type, status, correlation) of what matches now, in the order of creation."""
    where, params = wanted.sql()
    rows = fetch(
        "SELECT id::text, job_type, status, correlation FROM job_queue"  # noqa: S608 - our own
        f" WHERE {where} AND status = ANY(%(from)s) ORDER BY created_at, id",
        {**params, "from": _from(action, wanted)},
    )
    for start in range(0, len(rows), OPERATION_BATCH):
        yield rows[start : start + OPERATION_BATCH]


def _from(action: Action, wanted: JobFilter) -> list[str]:
    """By filter only dead letters are requeued; a cancelled job is named, or its status is."""
    if wanted.status is not None:
        return [wanted.status]
    if action is Action.REQUEUE:
        return ["failed"]
    return [status.value for status in TAKES_FROM[action]]


def _pruner(older_than: timedelta, batch: int) -> tuple[Pruner, datetime]:
    if older_than < RETENTION_MIN:
        raise InvalidInput("--older-than: at least 1h, as a message may come again until then")
    if not 1 <= batch <= 100_000:
        raise InvalidInput("--batch: between 1 and 100000")
    before = _now() - older_than
    open_runs = fetch(
        "SELECT 'run:' || id FROM payout_run WHERE state <> ALL(%s)", (list(_RUNS_AT_AN_END),)
    )
    return Pruner(before, [correlation for (correlation,) in open_runs], batch), before


def _now() -> datetime:
    [(now,)] = fetch("SELECT overnight_now()")
    return now  # type: ignore[no-any-return]
