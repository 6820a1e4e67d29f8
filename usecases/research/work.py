"""What a nightly job is made of: which items, what is asked for each, and what is written.

    open_items (once a run) → per page: prepare → per item: load → ask (no transaction) → record

The machinery around it (pages, resuming, isolation, outcomes) is the same for all: pages.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from domain.research import ItemStatus, ResearchJob
from models.database import execute
from usecases.research.sources import grouped
from usecases.research.tiers import Answer


@dataclass(frozen=True)
class ItemResult:
    """What became of one item. `reason` has no ids or dates in it: reports group by it.

    `left_out`: it was wanted and is missing, so the run is partial.
    """

    status: ItemStatus
    reason: str | None = None
    detail: str | None = None
    left_out: bool = False
    provider: str | None = None
    provider_reason: str | None = None


def updated(detail: str | None = None, **more: Any) -> ItemResult:
    """Something was written."""
    return ItemResult(ItemStatus.UPDATED, detail=detail, **more)


def unchanged(reason: str, **more: Any) -> ItemResult:
    """Nothing had to be written, and nothing is missing."""
    return ItemResult(ItemStatus.SKIPPED, reason, **more)


def left_out(reason: str, detail: str | None = None, **more: Any) -> ItemResult:
    """It was wanted, and was not done."""
    return ItemResult(ItemStatus.SKIPPED, reason, detail, left_out=True, **more)


def error(reason: str, detail: str | None = None, **more: Any) -> ItemResult:
    """It went wrong."""
    return ItemResult(ItemStatus.ERROR, reason, detail, **more)


def source(answer: Answer[Any]) -> dict[str, str | None]:
    """Who answered, and why not the first tier, as an item keeps it."""
    reason = None if answer.reason is None else grouped(answer.reason)
    return {"provider": answer.provider, "provider_reason": reason}


class Work(Protocol):
    """One nightly job. `task` and `answer` are what `load` and `ask` of the same job return."""

    @property
    def job(self) -> ResearchJob:
        """Which one."""

    @property
    def batch_size(self) -> int:
        """How many items it writes in one commit, where it asks nobody."""

    def asks(self, prepared: Any) -> bool:
        """Whether `ask` calls a provider, after what `prepare` has got."""

    def open_items(self, run_id: str) -> None:
        """Write the run's items, stalest first, in the open transaction."""

    def calls(self, items: int) -> tuple[int, int | None]:
        """How many calls so many items cost, at least and at most (None: nobody knows)."""

    def prepare(self) -> Any:
        """What a page asks once for all its items; may raise NotNow or NoAnswer. No transaction."""

    def load(self, keys: Sequence[str], prepared: Any) -> Mapping[str, Any]:
        """What is known about some items: a task for each key. One query for all."""

    def ask(self, task: Any) -> Any:
        """Ask the provider, in any thread; may raise NotNow or NoAnswer. No transaction."""

    def record(self, task: Any, answer: Any) -> ItemResult:
        """Write the answer, in the open transaction."""

    def record_many(self, tasks: Sequence[Any]) -> Mapping[str, ItemResult]:
        """The same for a batch that asks nobody: results by key."""


class CompanyWork:
    """What most jobs share: an item is a company, asked for alone."""

    batch_size = 1

    def asks(self, prepared: Any) -> bool:
        """A call for each."""
        return True

    def prepare(self) -> Any:
        """Nothing is asked for all companies at once."""
        return None

    def record_many(self, tasks: Sequence[Any]) -> Mapping[str, ItemResult]:
        """Not in batches."""
        raise NotImplementedError


#: Companies that are not due are counted, and not worked on: their `at` stays empty.
_OPEN_COMPANIES = """
INSERT INTO job_run_item (run_id, item_key, position, status, reason)
SELECT %(run_id)s, c.id::text,
       row_number() OVER (ORDER BY NOT ({due}), k.checked_at NULLS FIRST, c.id),
       CASE WHEN {due} THEN 'waiting' ELSE 'skipped' END,
       CASE WHEN {due} THEN NULL ELSE %(not_due)s END
FROM company c LEFT JOIN research_check k ON k.company_id = c.id AND k.job = %(job)s
WHERE c.active AND c.tracked
"""


def open_companies(
    run_id: str,
    job: ResearchJob,
    *,
    due: str = "true",
    not_due: str = "not due",
    params: Mapping[str, Any] | None = None,
) -> None:
    """An item for every company we follow, in the open transaction; stalest first.

    `due` is a condition on `c` (company) and `k` (its last check by this job).
    """
    given = {"run_id": run_id, "job": job.value, "not_due": not_due, **(params or {})}
    execute(_OPEN_COMPANIES.format(due=due), given)


_CHECKED = """
INSERT INTO research_check (company_id, job, checked_at) VALUES (%s, %s, overnight_now())
ON CONFLICT (company_id, job) DO UPDATE SET checked_at = excluded.checked_at
"""


def checked(company_id: int, job: ResearchJob) -> None:
    """Say, in the open transaction, that the job heard about the company just now."""
    execute(_CHECKED, (company_id, job.value))
