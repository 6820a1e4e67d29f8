"""Run a night here and now: this process is a worker for its own night, and for nothing else.

    rows and first job → claim and run what is due, with heartbeat and rescue → report

A job is a row first, so whatever kills this process, `--resume` or any worker goes on with it, and
with workers beside it nothing runs twice. Where another process runs the jobs of this folder, that
one does the work, and this one looks on.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from uuid import UUID

from cli import compose
from cli.folder import sole_worker
from cli.logs import configure_logs
from cli.output import remark
from cli.progress import Progress
from domain.errors import Rejected
from domain.research import ResearchJob
from models.database import fetch, reconnect, transaction
from settings import Settings

#: How often it looks for due jobs, and shows progress.
LOOK_S = 0.1
SHOW_S = 0.5

_DUE = """
SELECT id::text FROM job_queue WHERE correlation = %s AND status IN ('pending', 'retrying')
AND run_at <= overnight_now() AND NOT EXISTS (
    SELECT 1 FROM pause WHERE scope IN ('service:' || service, 'job_type:' || job_type))
ORDER BY run_at LIMIT 1
"""

_OPEN = "SELECT 1 FROM job_run WHERE nightly_id = %s AND finished_at IS NULL LIMIT 1"

_WAITS_FOR = """
SELECT j.job_type, j.run_at, j.status, j.last_error, p.reason, j.run_at - overnight_now()
FROM job_queue j LEFT JOIN pause p
    ON p.scope IN ('service:' || j.service, 'job_type:' || j.job_type)
WHERE j.correlation = %s AND j.status IN ('pending', 'retrying', 'processing')
ORDER BY j.run_at LIMIT 1
"""

_UNFINISHED = """
SELECT nightly_id::text FROM job_run WHERE finished_at IS NULL
GROUP BY nightly_id ORDER BY min(created_at)
"""

#: A person asked for it: what waits only because its workers died runs at once.
_AT_ONCE = """
WITH job AS (
    UPDATE job_queue SET run_at = overnight_now()
    WHERE correlation = %s AND status = 'pending' AND deaths > 0 AND run_at > overnight_now()
    RETURNING id, run_at
)
UPDATE job_outbox SET due_at = job.run_at, due_set_at = overnight_now(), published_at = NULL
FROM job WHERE job_id = job.id
"""

_SEEN = """
SELECT r.id::text, r.job, r.outcome, r.started_at IS NOT NULL,
       (SELECT count(*) FROM job_run_item i WHERE i.run_id = r.id),
       (SELECT count(*) FROM job_run_item i WHERE i.run_id = r.id AND i.status <> 'waiting'),
       r.updated, r.skipped, r.errors, r.reason
FROM job_run r WHERE nightly_id = %s ORDER BY position
"""


@contextmanager
def worker_for_itself(wanted: Settings | None = None) -> Iterator[bool]:
    """A connected process that may run jobs; False: another one does, and this one looks on."""
    from settings import load_settings

    settings = wanted or load_settings()
    with ExitStack() as stack:
        works = True
        if settings.amqp_url is None:
            try:
                stack.enter_context(sole_worker(settings.overnight_home))
            except Rejected as busy:
                remark(f"{busy}\nthat one does the work; this command looks on")
                works = False
        stack.enter_context(compose.research(wanted, own_server=works))
        stack.enter_context(_logging_beside_the_progress(settings))
        if works:
            stack.enter_context(_working(alone=settings.amqp_url is None))
        yield works


@contextmanager
def _logging_beside_the_progress(settings: Settings) -> Iterator[None]:
    """On a terminal, logs go to a file: the screen shows the progress."""
    if not sys.stderr.isatty():
        yield
        return
    settings.overnight_home.mkdir(parents=True, exist_ok=True)
    with (settings.overnight_home / "nightly.log").open("a", encoding="utf-8") as log:
        configure_logs("json", settings.log_level, log)
        try:
            yield
        finally:
            configure_logs(settings.log_format, settings.log_level)


@contextmanager
def _working(*, alone: bool) -> Iterator[None]:
    from actors.wiring import load_actors
    from jobs.inprocess import start_over
    from jobs.loops import LoopThreads, worker_loops
    from jobs.rescue import beat
    from jobs.runner import WORKER_ID, stopping

    load_actors()
    stopping.clear()
    if alone:
        start_over()
    beat(WORKER_ID)
    loops = LoopThreads(worker_loops())
    loops.start()
    try:
        yield
    finally:
        stopping.set()
        loops.stop()  # signs off: what is in hand may be rescued at once


def begin(jobs: Sequence[ResearchJob]) -> str:
    """Start a night of these jobs; its id. A refused one is stored as such."""
    from usecases.research.runs import start_night

    with transaction():
        night = start_night(jobs, trigger="manual")
    if night.refused is not None:
        remark(f"refused: {night.refused}")
    return night.nightly_id


def unfinished() -> list[str]:
    """Nights that are not over, oldest first; those without a job get one again."""
    from usecases.research.runs import revive_stranded

    with transaction():
        revive_stranded()
    return [nightly_id for (nightly_id,) in fetch(_UNFINISHED)]


def follow(nightly_id: str, *, works: bool, say: Callable[[str], None]) -> None:
    """Work a night to its end, or watch it being worked."""
    from jobs.runner import run_job

    correlation = f"nightly:{nightly_id}"
    told = ""
    with _shown(nightly_id, say):
        if works:
            with transaction():
                fetch(_AT_ONCE, (correlation,))
        while fetch(_OPEN, (nightly_id,)):
            due = fetch(_DUE, (correlation,)) if works else []
            if due and run_job(UUID(due[0][0])):
                told = ""
                continue
            if (why := _why_it_waits(correlation)) and why != told:
                told = why
                remark(why)
            time.sleep(LOOK_S)


def _why_it_waits(correlation: str) -> str | None:
    """What a person who looks on should know; None: nothing is unusual."""
    for job_type, run_at, status, error, paused, wait in fetch(_WAITS_FOR, (correlation,)):
        if paused is not None:
            return f"{job_type} is paused ({paused}): `overnight jobs resume market` lets it go on"
        if status == "processing" or wait is None or wait.total_seconds() < 2:
            return None
        because = f" after {error.partition(chr(10))[0][:200]}" if error else ""
        return f"{job_type} goes on at {run_at:%H:%M:%S} UTC{because}"
    return None


@contextmanager
def _shown(nightly_id: str, say: Callable[[str], None]) -> Iterator[None]:
    """Tell each run's end, and show the progress of the one under way, while inside."""
    over = threading.Event()
    view = _View(nightly_id, say)

    def watch() -> None:
        try:
            while not over.wait(SHOW_S):
                view.look()
        finally:
            view.close()
            reconnect()

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        view.look()
        view.close()


class _View:
    def __init__(self, nightly_id: str, say: Callable[[str], None]) -> None:
        self._nightly_id, self._say = nightly_id, say
        self._told: set[str] = set()
        self._bar: Progress | None = None
        self._run, self._done = "", 0

    def look(self) -> None:
        for run_id, job, outcome, started, total, done, *counts in fetch(
            _SEEN, (self._nightly_id,)
        ):
            if outcome is not None and run_id not in self._told:
                self.close()
                self._told.add(run_id)
                self._say(_line(job, outcome, *counts))
            elif outcome is None and started:
                self._advance(run_id, job, int(total), int(done))

    def _advance(self, run_id: str, job: str, total: int, done: int) -> None:
        if run_id != self._run:
            self.close()
            self._run, self._done = run_id, 0
            self._bar = Progress(job, total, "companies").__enter__()
        if self._bar is not None and done > self._done:
            self._bar.advance(done - self._done)
            self._done = done

    def close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


def _line(
    job: str, outcome: str, updated: int, skipped: int, errors: int, reason: str | None
) -> str:
    counts = f"{updated:,} updated, {skipped:,} skipped, {errors:,} errors"
    return f"{job:<19} {outcome:<9} {counts}" + (f" ({reason})" if reason else "")
