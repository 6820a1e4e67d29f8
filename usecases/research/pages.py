"""Pages: a run is worked by a chain of short jobs, each company committed with its own item.

    page → waiting items → calls in a few threads → record | retry | leave out → next page | finish

A crash loses the answers of the calls in hand and nothing else: their items still wait. An item
that fails, for whatever reason, ends as an item with a reason, and the others go on.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import structlog

from domain.errors import ClaimLost, InvariantBroken
from jobs.claim import current_claim
from models.database import CONNECTION_ERRORS, execute, fetch
from models.research import JobRun
from usecases.research.page import (
    OUTAGES_IN_A_ROW,
    PAUSES_MAX,
    RETRY_PAUSE,
    STALL_PAUSE,
    STALLS_MAX,
    Item,
    Page,
    end_item,
    failed_for_all,
    no_answer,
    not_now,
    unexpected,
    write_item,
)
from usecases.research.policy import ResearchPolicy
from usecases.research.runs import enqueue_page, finish
from usecases.research.sources import NoAnswer, NotNow
from usecases.research.work import Work, error, left_out

log = structlog.get_logger()

#: Items that are read at once.
LOAD = 200

#: Deaths of a page's workers after which it works one item at a time, to find what kills them,
#: and after so many deaths with only this item in hand, it is believed to be the one.
CAREFUL_AFTER_DEATHS = 3
ITEM_DEATHS_MAX = 3

_WAITING = """
SELECT item_key, position, tries, deaths FROM job_run_item
WHERE run_id = %s AND status = 'waiting' AND position > %s AND (at IS NULL OR at < %s)
ORDER BY position LIMIT %s
"""

_IN_HAND = "UPDATE job_run_item SET deaths = deaths + 1 WHERE run_id = %s AND item_key = %s"

_LEFT = """
SELECT count(*), min(tries) FROM job_run_item WHERE run_id = %s AND status = 'waiting'
"""

_STALLED = "UPDATE job_run SET stalls = stalls + 1 WHERE id = %s RETURNING stalls"


def work_page(run_id: str, page: int, work: Work, policy: ResearchPolicy) -> None:
    """Work one page of a run; the last one finishes it. Runs as a claimed job."""
    claim = current_claim()
    run = JobRun.load(run_id)
    if run.finished_at is not None:
        return  # its night was abandoned, or an operator requeued an old page
    if run.started_at is None:
        with claim.transaction():
            work.open_items(run_id)
            execute("UPDATE job_run SET started_at = overnight_now() WHERE id = %s", (run_id,))
    careful = claim.job.deaths >= CAREFUL_AFTER_DEATHS
    [(began,)] = fetch("SELECT overnight_now()")
    state = Page(run, claim, work, began, policy.clock() + policy.page_s, policy, careful=careful)
    with structlog.contextvars.bound_contextvars(run=run_id, research_job=run.job):
        _work_items(state)
        _close(state, page)


def _work_items(page: Page) -> None:
    if not fetch(_LEFT, (str(page.run.id),))[0][0]:
        return
    try:
        prepared = page.work.prepare()
    except (NotNow, NoAnswer) as failure:
        failed_for_all(page, failure)
        return
    if not page.work.asks(prepared):
        _work_batches(page, prepared)
        return
    waiting = _waiting(page, prepared)
    with page.policy.calls(lambda item: page.work.ask(item.task), page.threads) as calls:
        while True:
            while calls.open < 2 * page.threads - page.careful and not page.is_over:
                item = next(waiting, None)
                if item is None:
                    break
                calls.submit(item)
            if not calls.open:
                return
            _settle(page, *calls.take())


def _work_batches(page: Page, prepared: Any) -> None:
    """For work that calls nobody: many items a commit, and one by one where that fails."""
    run_id, after = str(page.run.id), -1
    size = 1 if page.careful else page.work.batch_size
    while rows := fetch(_WAITING, (run_id, after, page.began, size)):
        # Not before the first: `prepare` may have taken all the time, and would again.
        if after >= 0 and page.is_over:
            break
        after = rows[-1][1]
        tasks = page.work.load([row[0] for row in rows], prepared)
        for key, *_ in rows:
            if key not in tasks:
                end_item(page, key, left_out("no longer tracked"))
        items = [Item(key, tries, tasks[key]) for key, _, tries, _ in rows if key in tasks]
        if page.careful:
            if rows[0][3] >= ITEM_DEATHS_MAX:
                end_item(page, rows[0][0], error("its worker died each time it was tried"))
                continue
            with page.claim.transaction():
                execute(_IN_HAND, (run_id, rows[0][0]))
        try:
            with page.claim.transaction():
                for key, result in page.work.record_many([item.task for item in items]).items():
                    write_item(page, key, result)
        except (ClaimLost, InvariantBroken, *CONNECTION_ERRORS):
            raise
        except Exception:  # one of them: find it
            log.exception("a batch failed: one by one", items=len(items))
            for item in items:
                _settle(page, item, page.work.ask(item.task))


def _waiting(page: Page, prepared: Any) -> Iterator[Item]:
    """Items that wait and were not tried by this page, each once."""
    run_id, after = str(page.run.id), -1
    while rows := fetch(_WAITING, (run_id, after, page.began, LOAD)):
        tasks = page.work.load([row[0] for row in rows], prepared)
        for key, position, tries, deaths in rows:
            after = position
            if key not in tasks:
                end_item(page, key, left_out("no longer tracked"))
            elif deaths >= ITEM_DEATHS_MAX:
                end_item(page, key, error("its worker died each time it was tried"))
            else:
                if page.careful:
                    with page.claim.transaction():
                        execute(_IN_HAND, (run_id, key))
                yield Item(key, tries, tasks[key])


def _settle(page: Page, item: Item, answer: Any) -> None:
    """Bring one answer home: recorded, tried again later, or ended with a reason."""
    if isinstance(answer, NotNow):
        not_now(page, item, answer)
        return
    if isinstance(answer, CONNECTION_ERRORS):
        raise answer  # our own database, not the provider: the page begins again
    if isinstance(answer, InvariantBroken | ClaimLost):
        raise answer
    page.outages = 0
    page.answered += 1
    if isinstance(answer, NoAnswer):
        no_answer(page, item, answer)
        return
    if isinstance(answer, Exception):
        end_item(page, item.key, unexpected(answer))
        return
    try:
        with page.claim.transaction():
            result = page.work.record(item.task, answer)
            write_item(page, item.key, result)
    except (ClaimLost, InvariantBroken, *CONNECTION_ERRORS):
        raise
    except Exception as problem:  # noqa: BLE001 - one company, not the run
        end_item(page, item.key, unexpected(problem))


def _close(page: Page, number: int) -> None:
    """The page's last transaction: the next page, or the run's end and the next run's first."""
    run_id = str(page.run.id)
    with page.claim.completion():
        [(left, tries)] = fetch(_LEFT, (run_id,))
        stalled = page.outages >= OUTAGES_IN_A_ROW
        if stalled or (page.resume_after is not None and not page.answered):
            [(stalls,)] = fetch(_STALLED, (run_id,))
            if stalls >= (STALLS_MAX if stalled else PAUSES_MAX):
                page.hopeless = page.hopeless or page.trouble
                page.broken |= stalled
        elif page.answered:
            execute("UPDATE job_run SET stalls = 0 WHERE id = %s AND stalls > 0", (run_id,))
        if page.hopeless is not None or not left:
            finish(page.run, page.hopeless, broken=page.broken)
            return
        pause = timedelta(0)
        if page.resume_after is not None:
            pause = page.resume_after
        elif stalled:
            pause = STALL_PAUSE
        elif tries and not page.is_late:  # all that is left was tried
            pause = RETRY_PAUSE * 4 ** (tries - 1)
        [(run_at,)] = fetch("SELECT overnight_now() + %s", (pause,))
        enqueue_page(run_id, page.run.research_job, str(page.run.nightly_id), number + 1, run_at)
