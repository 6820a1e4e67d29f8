"""Nightly slots: which local date of a schedule is the newest that is due. Pure zoneinfo."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from domain.job_types import JobType


@dataclass(frozen=True)
class Schedule:
    """A job that runs once every local date, at or soon after `at` in `zone`."""

    name: str
    job_type: JobType
    at: time
    zone: str

    def newest_due(self, now: datetime) -> date:
        """The newest local date whose slot has opened at `now` (aware).

        Compared as instants: where a clock change skips or repeats `at`, the slot opens once.
        """
        today = now.astimezone(ZoneInfo(self.zone)).date()
        if self.opens(today).timestamp() <= now.timestamp():
            return today
        return today - timedelta(days=1)

    def opens(self, local_date: date) -> datetime:
        """When the slot of a local date opens, in the schedule's zone (aware)."""
        return datetime.combine(local_date, self.at, ZoneInfo(self.zone))


#: Every schedule of the program. A slot is a row, unique per (schedule, local date).
SCHEDULES = (
    Schedule("payout_reconcile", JobType.PAYOUT_RECONCILE, time(2, 0), "Asia/Kolkata"),
    Schedule("nightly", JobType.RESEARCH_NIGHT, time(2, 0), "Asia/Kolkata"),
    Schedule("jobs_prune", JobType.JOBS_PRUNE, time(4, 0), "Asia/Kolkata"),
)
