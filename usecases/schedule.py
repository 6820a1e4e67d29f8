"""Open the slots that are due: a row and its job in one transaction, once per local date.

    periodiq tick (each minute) → open_due_slots → schedule_slot (+ job), or refused, and why

A missed tick loses nothing: the next one opens what is due. After downtime the newest slot opens
and those before it are stored as superseded. Two schedulers make one run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import structlog

from domain.job_types import JobType
from domain.slots import SCHEDULES, Schedule
from jobs.enqueue import enqueue
from models.database import execute, fetch, transaction
from usecases.research.runs import objection_to_night

log = structlog.get_logger()

#: Why a slot of such a job can't open now; in the transaction that would open it.
_OBJECTIONS: dict[JobType, Callable[[], str | None]] = {JobType.RESEARCH_NIGHT: objection_to_night}

#: Not behind a newer one, that is there or due by now: whoever looked stood still since then, or
#: the clock went back.
_OPEN = """
INSERT INTO schedule_slot (schedule, local_date, job_id, outcome, reason)
SELECT %(schedule)s, %(local_date)s::date, %(job_id)s::uuid, %(outcome)s, %(reason)s
WHERE overnight_now() < %(next)s AND NOT EXISTS (
    SELECT FROM schedule_slot WHERE schedule = %(schedule)s AND local_date > %(local_date)s)
ON CONFLICT DO NOTHING
"""

#: The days between the newest slot of before and this one: nobody looked while they were due.
_SUPERSEDE = """
INSERT INTO schedule_slot (schedule, local_date, job_id, outcome, reason)
SELECT schedule, day::date, NULL, 'superseded', %(reason)s
FROM (SELECT schedule, max(local_date) AS newest FROM schedule_slot
      WHERE schedule = %(schedule)s AND local_date < %(local_date)s GROUP BY schedule) AS before,
     generate_series(newest + 1, %(local_date)s::date - 1, interval '1 day') AS day
ON CONFLICT DO NOTHING
"""

_LAST = """
SELECT s.local_date, s.opened_at, s.outcome, s.reason, j.status, j.last_error, j.finished_at,
       (SELECT string_agg(DISTINCT r.outcome, ', ') FROM job_run r
        WHERE r.slot_id = s.schedule || ':' || s.local_date)
FROM schedule_slot s LEFT JOIN job_queue j ON j.id = s.job_id
WHERE s.schedule = %s ORDER BY s.local_date DESC LIMIT 1
"""

_SUPERSEDED = """
SELECT count(*) FROM schedule_slot
WHERE schedule = %s AND outcome = 'superseded'
  AND local_date > (SELECT coalesce(max(local_date), '-infinity') FROM schedule_slot
                    WHERE schedule = %s AND outcome <> 'superseded' AND local_date < %s)
"""


@dataclass(frozen=True)
class LastSlot:
    """The newest slot of a schedule. `outcome`: opened, refused; `job`: what became of its job."""

    local_date: date
    at: datetime  # when it was to open
    opened_at: datetime  # when somebody looked
    outcome: str
    reason: str | None
    job: str | None
    runs: str | None  # outcomes of its research runs
    superseded_before: int


@dataclass(frozen=True)
class ScheduleState:
    """A schedule with its last and its next slot; times are aware, in the schedule's zone."""

    name: str
    job_type: str
    zone: str
    last: LastSlot | None
    next_at: datetime
    overdue: bool  # its slot is due, and nobody has looked for two minutes
    why: str


def open_due_slots(schedules: Sequence[Schedule] = SCHEDULES) -> int:
    """Open the newest due slot of every schedule, unless it was opened; returns how many."""
    [(now,)] = fetch("SELECT overnight_now()")
    return sum(_open(schedule, schedule.newest_due(now)) for schedule in schedules)


def _open(schedule: Schedule, local_date: date) -> bool:
    slot_id = f"{schedule.name}:{local_date.isoformat()}"
    message = schedule.job_type.message(slot_id)
    known = "SELECT 1 FROM schedule_slot WHERE schedule = %s AND local_date = %s"
    if fetch(known, (schedule.name, local_date)):
        return False
    with transaction():
        objection = _OBJECTIONS.get(schedule.job_type, lambda: None)()
        outcome = "opened" if objection is None else "refused"
        job_id = message.message_id if objection is None else None
        slot = {
            "schedule": schedule.name, "local_date": local_date, "job_id": job_id,
            "outcome": outcome, "reason": objection,
            "next": schedule.opens(local_date + timedelta(days=1)),
        }  # fmt: skip
        if not execute(_OPEN, slot):
            return False
        reason = f"nobody looked while it was due; {local_date} took its place"
        superseded = execute(
            _SUPERSEDE, {"schedule": schedule.name, "local_date": local_date, "reason": reason}
        )
        if objection is None:
            enqueue(message, dedup_key=f"slot:{slot_id}", correlation=f"slot:{slot_id}")
    log.info(
        f"slot {outcome}", schedule=schedule.name, local_date=str(local_date), reason=objection,
        superseded=superseded,
    )  # fmt: skip
    return objection is None


def schedule_states(schedules: Sequence[Schedule] = SCHEDULES) -> list[ScheduleState]:
    """Every schedule, with its last and next slot and why they are as they are."""
    [(now,)] = fetch("SELECT overnight_now()")
    return [_state(schedule, now) for schedule in schedules]


def _state(schedule: Schedule, now: datetime) -> ScheduleState:
    due = schedule.newest_due(now)
    last = _last(schedule)
    is_open = last is not None and last.local_date >= due
    overdue = not is_open and last is not None and now - schedule.opens(due) > timedelta(minutes=2)
    next_at = schedule.opens(due + timedelta(days=1)) if is_open else schedule.opens(due)
    return ScheduleState(
        schedule.name,
        schedule.job_type.value,
        schedule.zone,
        last,
        next_at,
        overdue,
        _why(last, overdue),
    )


def _last(schedule: Schedule) -> LastSlot | None:
    for day, opened_at, outcome, reason, status, error, finished_at, runs in fetch(
        _LAST, (schedule.name,)
    ):
        [(superseded,)] = fetch(_SUPERSEDED, (schedule.name, schedule.name, day))
        job = status
        if status == "failed" and error:
            job = f"failed: {error}"
        elif status == "completed" and finished_at is not None:
            job = f"completed {finished_at:%Y-%m-%d %H:%M} UTC"
        at = schedule.opens(day)
        return LastSlot(
            day, at, opened_at.astimezone(at.tzinfo), outcome, reason, job, runs, int(superseded)
        )
    return None


def _why(last: LastSlot | None, overdue: bool) -> str:
    if overdue:
        return "due, and nobody looks: is a scheduler and a worker running?"
    if last is None:
        return "its first slot opens with the next tick of a scheduler"
    told = last.reason or last.runs or last.job or last.outcome
    if last.superseded_before:
        told += f"; {last.superseded_before} before it superseded"
    return told
