"""Open the slots that are due: a row and its job in one transaction, once per local date.

    periodiq tick (each minute) → open_due_slots → schedule_slot + job

A missed tick loses nothing: the next one opens what is due. Two schedulers make one run.
"""

from collections.abc import Sequence

import structlog

from domain.slots import SCHEDULES, Schedule
from jobs.enqueue import enqueue
from models.database import execute, fetch, transaction

log = structlog.get_logger()

_OPEN = """
INSERT INTO schedule_slot (schedule, local_date, job_id) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""


def open_due_slots(schedules: Sequence[Schedule] = SCHEDULES) -> int:
    """Open the newest due slot of every schedule, unless it was opened; returns how many."""
    [(now,)] = fetch("SELECT overnight_now()")
    opened = 0
    for schedule in schedules:
        local_date = schedule.newest_due(now)
        slot_id = f"{schedule.name}:{local_date.isoformat()}"
        message = schedule.job_type.message(slot_id)
        with transaction():
            if execute(_OPEN, (schedule.name, local_date, message.message_id)):
                enqueue(message, dedup_key=f"slot:{slot_id}", correlation=f"slot:{slot_id}")
                log.info("slot opened", schedule=schedule.name, local_date=str(local_date))
                opened += 1
    return opened
