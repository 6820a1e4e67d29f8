"""What a night would do now, and how many calls it would cost; nothing is written.

begin each run in a transaction that is rolled back → items that wait → calls
"""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.ids import new_id
from domain.research import ResearchJob
from models.database import db, execute, fetch
from usecases.research.jobs import WORKS
from usecases.research.report import BudgetLeft, budgets_left
from usecases.research.runs import under_way

_RUN = """
INSERT INTO job_run (id, job, nightly_id, position, trigger, finished_at, outcome)
VALUES (%s, %s, %s, 0, 'manual', overnight_now(), 'completed')
"""


@dataclass(frozen=True)
class RunPreview:
    """One job: companies (or what else) it would work for, and calls, at least and at most."""

    job: str
    would_work: int
    would_skip: int
    calls_min: int
    calls_max: int | None  # None: nobody knows before asking


@dataclass(frozen=True)
class Preview:
    """A night that did not happen. `refused`: why it would be."""

    runs: Sequence[RunPreview]
    refused: str | None
    budgets: Sequence[BudgetLeft]


def preview_night(jobs: Sequence[ResearchJob]) -> Preview:
    """What `start_night` would begin. Later jobs of a night may find more than is known now."""
    runs = []
    for job in ResearchJob:
        if job in jobs:
            with db.atomic() as transaction:
                runs.append(_preview(job))
                transaction.rollback()
    return Preview(runs, under_way(list(jobs)), budgets_left())


def _preview(job: ResearchJob) -> RunPreview:
    run_id, work = str(new_id()), WORKS[job]
    execute(_RUN, (run_id, job.value, str(new_id())))
    work.open_items(run_id)
    [(waiting, total)] = fetch(
        "SELECT count(*) FILTER (WHERE status = 'waiting'), count(*) FROM job_run_item"
        " WHERE run_id = %s",
        (run_id,),
    )
    low, high = work.calls(int(waiting))
    return RunPreview(job.value, int(waiting), int(total) - int(waiting), low, high)
