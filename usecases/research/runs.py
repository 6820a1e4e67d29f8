"""Runs: a night is a row per job, in order; the commit that ends one makes the next one's job.

    start_night → page job → begin → … → finish (outcome, counts) → next run's page job → …

A run ends once, whatever became of it, and the night goes on. A job that is under way is never
run beside itself: the second night is stored as refused, and names the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from domain.ids import new_id
from domain.job_types import JobType
from domain.research import ResearchJob, RunOutcome
from jobs.enqueue import enqueue
from models.database import execute, fetch
from models.research import JobRun

log = structlog.get_logger()

JOB_TYPES = {
    ResearchJob.EARNINGS_POLL: JobType.EARNINGS_POLL,
    ResearchJob.PRICE_REFRESH: JobType.PRICE_REFRESH,
    ResearchJob.FX_REFRESH: JobType.FX_REFRESH,
    ResearchJob.DOCUMENT_REFRESH: JobType.DOCUMENT_REFRESH,
    ResearchJob.FINANCIALS_REFRESH: JobType.FINANCIALS_REFRESH,
    ResearchJob.METRICS_RECALC: JobType.METRICS_RECALC,
}

#: How many different reasons a run's own line names; the items have them all.
REASONS_SHOWN = 3

_INSERT = """
INSERT INTO job_run (id, job, nightly_id, position, trigger, slot_id)
SELECT id, job, %(nightly_id)s, position, %(trigger)s, %(slot_id)s
FROM unnest(%(ids)s::uuid[], %(jobs)s::text[], %(positions)s::integer[]) AS g (id, job, position)
ORDER BY position
ON CONFLICT (job) WHERE finished_at IS NULL DO NOTHING
RETURNING id::text, job
"""

_REFUSE = """
INSERT INTO job_run (id, job, nightly_id, position, trigger, slot_id, finished_at, outcome, reason)
SELECT id, job, %(nightly_id)s, position, %(trigger)s, %(slot_id)s,
       overnight_now(), 'refused', %(reason)s
FROM unnest(%(ids)s::uuid[], %(jobs)s::text[], %(positions)s::integer[]) AS g (id, job, position)
"""

_UNDER_WAY = """
SELECT id::text, job, nightly_id::text, created_at FROM job_run
WHERE finished_at IS NULL AND (%(jobs)s::text[] IS NULL OR job = ANY(%(jobs)s))
ORDER BY position LIMIT 1
"""

_COUNTS = """
SELECT count(*), count(*) FILTER (WHERE status = 'updated'),
       count(*) FILTER (WHERE status = 'skipped'), count(*) FILTER (WHERE status = 'error'),
       count(*) FILTER (WHERE left_out OR status = 'error'),
       count(*) FILTER (WHERE at IS NOT NULL AND NOT left_out AND status <> 'error')
FROM job_run_item WHERE run_id = %s
"""

_REASONS = """
SELECT reason, count(*) FROM job_run_item
WHERE run_id = %s AND (left_out OR status = 'error') AND reason IS NOT NULL
GROUP BY reason ORDER BY count(*) DESC, reason
"""

_FINISH = """
UPDATE job_run SET started_at = coalesce(started_at, overnight_now()),
    finished_at = overnight_now(), outcome = %(outcome)s, reason = %(reason)s,
    processed = %(updated)s + %(skipped)s + %(errors)s,
    updated = %(updated)s, skipped = %(skipped)s, errors = %(errors)s
WHERE id = %(id)s AND finished_at IS NULL
"""

_GIVE_UP = """
UPDATE job_run_item SET status = 'skipped', left_out = true, reason = %s, at = overnight_now()
WHERE run_id = %s AND status = 'waiting'
"""

_NEXT = """
SELECT id::text, job FROM job_run
WHERE nightly_id = %s AND finished_at IS NULL ORDER BY position LIMIT 1
"""

#: Runs whose turn it is and that no job works for: somebody cancelled or discarded it.
_STRANDED = """
SELECT DISTINCT nightly_id::text FROM job_run r
WHERE finished_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM job_queue j JOIN job_outbox o ON o.job_id = j.id
    WHERE j.correlation = 'nightly:' || r.nightly_id)
"""

_PAGES = """
SELECT count(*) FROM job_queue WHERE correlation = %s AND payload ->> 'run_id' = %s
"""


@dataclass(frozen=True)
class Night:
    """A night that was started, or `refused`: with the reason that its rows have."""

    nightly_id: str
    refused: str | None = None


def start_night(jobs: Sequence[ResearchJob], *, trigger: str, slot_id: str | None = None) -> Night:
    """Write the rows of a night and the first job, in the open transaction.

    Refused as a whole, and stored so, when one of its jobs is under way.
    """
    ordered = [job for job in ResearchJob if job in jobs]
    close_stranded()
    nightly_id = str(new_id())
    params = {
        "nightly_id": nightly_id,
        "trigger": trigger,
        "slot_id": slot_id,
        "ids": [str(new_id()) for _ in ordered],
        "jobs": [job.value for job in ordered],
        "positions": list(range(len(ordered))),
    }
    refused = under_way(ordered)
    if refused is None:
        inserted = fetch(_INSERT, params)
        if len(inserted) == len(ordered):
            log.info("night started", nightly=nightly_id, trigger=trigger, jobs=params["jobs"])
            enqueue_next(nightly_id)
            return Night(nightly_id)
        execute("DELETE FROM job_run WHERE nightly_id = %s", (nightly_id,))
        refused = under_way(ordered) or "another night started at the same moment"
    execute(_REFUSE, params | {"reason": refused})
    log.warning("night refused", nightly=nightly_id, trigger=trigger, reason=refused)
    return Night(nightly_id, refused)


def under_way(jobs: Sequence[ResearchJob] | None = None) -> str | None:
    """Why a night of these jobs would be refused now; None: nothing is in its way."""
    wanted = None if jobs is None else [job.value for job in jobs]
    for run_id, job, nightly_id, created_at in fetch(_UNDER_WAY, {"jobs": wanted}):
        since: datetime = created_at
        return (
            f"run {run_id[:8]} of {job} (night {nightly_id[:8]}, of {since:%Y-%m-%d %H:%M} UTC)"
            " is under way: `overnight nightly --resume` goes on with it"
        )
    return None


def objection_to_night() -> str | None:
    """Why a whole night can't begin, in the transaction that would begin it."""
    close_stranded()
    return under_way()


def enqueue_next(nightly_id: str) -> bool:
    """Make the job of the night's first unfinished run; False: the night is over."""
    for run_id, job in fetch(_NEXT, (nightly_id,)):
        # A run that was stranded has had pages: those ids stay taken.
        [(pages,)] = fetch(_PAGES, (f"nightly:{nightly_id}", run_id))
        enqueue_page(run_id, ResearchJob(job), nightly_id, int(pages))
        return True
    log.info("night is over", nightly=nightly_id)
    return False


def enqueue_page(
    run_id: str,
    job: ResearchJob,
    nightly_id: str,
    page: int,
    run_at: datetime | None = None,
) -> None:
    """Make a run's next job, in the open transaction; a second time changes nothing."""
    enqueue(
        JOB_TYPES[job].message(run_id, str(page)),
        dedup_key=f"research:{run_id}:{page}",
        correlation=f"nightly:{nightly_id}",
        run_at=run_at,
    )


def finish(run: JobRun, reason: str | None = None, *, broken: bool = False) -> RunOutcome:
    """End a run in the open transaction, by what became of its items, and let the next one begin.

    With a `reason`, what still waits is left out for it. It failed when nothing at all went right
    and something is `broken` or in error; a used up budget or an empty answer leaves it partial.
    """
    if reason is not None:
        execute(_GIVE_UP, (reason, str(run.id)))
    [(total, updated, skipped, errors, bad, good)] = fetch(_COUNTS, (str(run.id),))
    if updated + skipped + errors != total:
        raise RuntimeError(f"run {run.id} has items that still wait")
    grouped = fetch(_REASONS, (str(run.id),))
    # What was up to date from the start was not worked on: it says nothing about this run.
    outcome = RunOutcome.PARTIAL if bad else RunOutcome.COMPLETED
    if bad and not good and (errors or broken):
        outcome = RunOutcome.FAILED
    told = "; ".join(f"{count:,} × {text}" for text, count in grouped[:REASONS_SHOWN])
    if len(grouped) > REASONS_SHOWN:
        told += f"; and {len(grouped) - REASONS_SHOWN} other reasons"
    if not total:
        told = reason or "nothing was due"
    end(run, outcome, told or None, (updated, skipped, errors))
    return outcome


def end(run: JobRun, outcome: RunOutcome, reason: str | None, counts: tuple[int, int, int]) -> None:
    """Store how a run ended, once, and make the job of the one after it."""
    updated, skipped, errors = counts
    told = {
        "outcome": outcome.value, "reason": reason,
        "updated": updated, "skipped": skipped, "errors": errors,
    }  # fmt: skip
    if not execute(_FINISH, told | {"id": str(run.id)}):
        return
    log.info("run finished", run=str(run.id), research_job=run.job, **told)
    enqueue_next(str(run.nightly_id))


def job_failed(payload: dict[str, str], error: str) -> None:
    """A page failed for good: its run failed, with what it had done; the night goes on."""
    run = JobRun.load(payload["run_id"])
    if run.finished_at is not None:
        return
    reason = f"the job failed: {error}"
    execute(_GIVE_UP, ("the job failed", str(run.id)))
    _end_failed(run, reason)


def close_stranded() -> int:
    """End nights whose job somebody cancelled, in the open transaction; returns how many runs."""
    closed = 0
    for (nightly_id,) in fetch(_STRANDED):
        for run in (
            JobRun.select()
            .where(JobRun.nightly_id == nightly_id, JobRun.finished_at.is_null())
            .order_by(JobRun.position.desc())
        ):
            # From the last to the first: no next one is left to get a job.
            execute(_GIVE_UP, ("the night was abandoned", str(run.id)))
            _end_failed(run, "abandoned: its job was cancelled or discarded")
            closed += 1
    return closed


def _end_failed(run: JobRun, reason: str) -> None:
    [(_, updated, skipped, errors, *_)] = fetch(_COUNTS, (str(run.id),))
    end(run, RunOutcome.FAILED, reason, (int(updated), int(skipped), int(errors)))


def revive_stranded() -> int:
    """Give such nights a job again, in the open transaction; returns how many."""
    return sum(enqueue_next(nightly_id) for (nightly_id,) in fetch(_STRANDED))
