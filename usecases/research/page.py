"""A page at work: what it has found out so far, and what becomes of an item that got no answer.

    NotNow | NoAnswer | a bug → waits for its budget | tried again in a later page | ended, and why

Some failures are about one company, others about everybody: a page that learns the latter stops.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from domain.research import ItemStatus
from jobs.claim import Claim
from models.database import execute
from models.research import JobRun
from providers.market import FailureClass
from usecases.research.policy import ResearchPolicy
from usecases.research.sources import NoAnswer, NotNow, grouped
from usecases.research.work import ItemResult, Work, error, left_out

log = structlog.get_logger()

#: A budget that opens again within this is waited for, as a later page; a later one never is.
PATIENCE = timedelta(minutes=15)

#: An item that met an outage or nonsense is tried again in later pages, so often in all.
TRIES_MAX = 3

#: Between such pages: the first pause, then four times as long each time.
RETRY_PAUSE = timedelta(seconds=30)

#: Outages in a row, without any answer between them: the provider is down, not the companies.
OUTAGES_IN_A_ROW = 12

#: After so many pages that ended that way, what is left is left out.
STALLS_MAX = 6
STALL_PAUSE = timedelta(minutes=5)

#: The same for pages that a used up budget ended before their first answer.
PAUSES_MAX = 60

_DONE = """
UPDATE job_run_item SET status = %(status)s, reason = %(reason)s, detail = %(detail)s,
    left_out = %(left_out)s, provider = %(provider)s, provider_reason = %(provider_reason)s,
    tries = tries + 1, at = overnight_now()
WHERE run_id = %(run_id)s AND item_key = %(key)s AND status = 'waiting'
"""

_AGAIN = """
UPDATE job_run_item SET tries = tries + 1, reason = %s, detail = %s, at = overnight_now()
WHERE run_id = %s AND item_key = %s AND status = 'waiting'
"""


@dataclass
class Item:
    key: str
    tries: int
    task: Any


@dataclass
class Page:
    """What a page has found out that concerns more than one item."""

    run: JobRun
    claim: Claim
    work: Work
    began: datetime
    stop_at: float
    policy: ResearchPolicy
    careful: bool
    hopeless: str | None = None  # leave out the rest, for this reason
    resume_after: timedelta | None = None  # a budget is used up for so long
    outages: int = 0  # in a row
    answered: int = 0
    broken: bool = False  # … and not only because a budget is used up or an answer is empty
    trouble: str | None = None  # what ended it early, as a reason

    @property
    def threads(self) -> int:
        """How many calls at once."""
        return 1 if self.careful else self.policy.concurrency

    @property
    def is_late(self) -> bool:
        """Whether its time is up."""
        return self.policy.clock() > self.stop_at

    @property
    def is_over(self) -> bool:
        """Whether it should begin no other item."""
        return (
            self.hopeless is not None
            or self.resume_after is not None
            or self.outages >= OUTAGES_IN_A_ROW
            or self.is_late
        )


def not_now(page: Page, item: Item, failure: NotNow) -> None:
    """Nobody answers now: an outage may be this item's alone, a used up budget is everybody's."""
    if failure.again.failure_class is not FailureClass.OUTAGE:
        _wait_or_give_up(page, failure)  # a budget or a block: the item was not tried, and waits
        return
    page.outages += 1
    page.trouble = grouped(str(failure))
    _try_later(page, item, str(failure))


def no_answer(page: Page, item: Item, failure: NoAnswer) -> None:
    """Nobody has an answer for this item; without the right plan, for none."""
    kind, told = failure.failed.failure_class, str(failure)
    if kind is FailureClass.NOT_ENTITLED:
        page.hopeless = page.hopeless or grouped(told)  # with this plan, for nobody
        page.broken = True
        end_item(page, item.key, left_out(grouped(told), told))
    elif kind is FailureClass.MALFORMED:
        _try_later(page, item, told)
    elif kind is FailureClass.EMPTY:
        end_item(page, item.key, left_out(grouped(told), told))
    else:
        end_item(page, item.key, error(grouped(told), told))


def _try_later(page: Page, item: Item, told: str) -> None:
    """In a later page; for the last time, it is an error."""
    if item.tries + 1 >= TRIES_MAX:
        end_item(page, item.key, error(grouped(told), told))
        return
    with page.claim.transaction():
        execute(_AGAIN, (grouped(told), told, str(page.run.id), item.key))


def failed_for_all(page: Page, failure: NotNow | NoAnswer) -> None:
    """What the page asked for all its items failed: the same rules, for all at once."""
    page.trouble = grouped(str(failure))
    if isinstance(failure, NotNow) and failure.again.failure_class is not FailureClass.OUTAGE:
        _wait_or_give_up(page, failure)
    elif isinstance(failure, NotNow) or failure.failed.failure_class is FailureClass.MALFORMED:
        page.outages = OUTAGES_IN_A_ROW
    else:
        page.hopeless = page.trouble
        page.broken = failure.failed.failure_class is not FailureClass.EMPTY


def _wait_or_give_up(page: Page, failure: NotNow) -> None:
    """A budget that opens soon is waited for, outside of any job; another one is not."""
    page.trouble = grouped(str(failure))
    wait = failure.again.wait
    if wait > PATIENCE:
        page.hopeless = page.hopeless or page.trouble
        page.broken |= failure.again.failure_class is FailureClass.AUTH
    else:
        page.resume_after = max(wait, page.resume_after or wait)


def unexpected(problem: Exception) -> ItemResult:
    """A bug, or data that the database refuses: one company's, and in the log."""
    log.error("unexpected error for one item", exc_info=problem)
    return error(f"unexpected {type(problem).__name__}", " ".join(str(problem).split())[:500])


def end_item(page: Page, key: str, result: ItemResult) -> None:
    """End an item by itself, in a transaction of the page's claim."""
    with page.claim.transaction():
        write_item(page, key, result)


def write_item(page: Page, key: str, result: ItemResult) -> None:
    """End an item, in the open transaction: with what became of it."""
    execute(_DONE, {**vars(result), "run_id": str(page.run.id), "key": key})
    if result.status is ItemStatus.ERROR or result.left_out:
        log.warning("item", item=key, status=result.status.value, reason=result.reason,
                    detail=result.detail)  # fmt: skip
