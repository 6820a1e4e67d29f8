"""Poll the earnings calendar: when does each company report next?

    calendar (one call, or one per company) → dates of a company → old date, new date → company

No answer erases a date: an empty calendar is a failure, and a company that is missing in a full
one keeps what is known. A date that has passed makes the company's statements due.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import structlog

from domain.research import ResearchJob
from models.database import execute, fetch
from providers.market import FailureClass
from providers.ports import market_ports
from usecases.research.sources import NoAnswer, answer_of, tiers
from usecases.research.tiers import Answer
from usecases.research.work import (
    CompanyWork,
    ItemResult,
    checked,
    open_companies,
    source,
    unchanged,
    updated,
)

log = structlog.get_logger()

_KNOWN = """
SELECT id::text, symbol, next_earnings_date, last_report_date, overnight_now()::date
FROM company WHERE id = ANY(%s::integer[]) AND active AND tracked
"""

_WRITE = """
UPDATE company SET next_earnings_date = %s, last_report_date = %s
WHERE id = %s AND (next_earnings_date, last_report_date) IS DISTINCT FROM (%s, %s)
"""


@dataclass(frozen=True)
class _Task:
    key: str
    symbol: str
    next_date: date | None
    last_report: date | None
    today: date
    calendar: Answer[Mapping[str, Sequence[date]]] | None


def choose(
    known: date | None, last_report: date | None, announced: Sequence[date], today: date
) -> tuple[date | None, date | None]:
    """The next report's date and the newest one that has passed, from what is announced now.

    The earliest date from today on; without one, the newest that is known, which may have passed.
    """
    coming = [day for day in announced if day >= today]
    passed = [day for day in (*announced, known, last_report) if day is not None and day < today]
    if coming:
        following: date | None = min(coming)
    else:
        following = max([day for day in (*announced, known) if day is not None], default=None)
    return following, max(passed, default=None)


class EarningsPoll(CompanyWork):
    """One calendar call where the provider has it, else a call for each company."""

    job = ResearchJob.EARNINGS_POLL
    batch_size = 100

    def open_items(self, run_id: str) -> None:
        """Every company that we follow."""
        open_companies(run_id, self.job)

    def calls(self, items: int) -> tuple[int, int | None]:
        """One for all, or one each."""
        whole = any(tier.has_full_calendar for tier in market_ports().market)
        return (min(items, 1),) * 2 if whole else (items, items)

    def prepare(self) -> Answer[Mapping[str, Sequence[date]]] | None:
        """The whole calendar by symbol, if one call has it."""
        if not any(tier.has_full_calendar for tier in market_ports().market):
            return None
        found = answer_of(tiers().calendar(None))
        by_symbol: dict[str, list[date]] = defaultdict(list)
        for line in found.value:
            by_symbol[line.symbol.upper()].append(line.report_date)
        return Answer(by_symbol, found.provider, found.reason)

    def asks(self, prepared: Any) -> bool:
        """Nobody any more, once the whole calendar is there."""
        return prepared is None

    def load(self, keys: Sequence[str], prepared: Any) -> Mapping[str, _Task]:
        """What is known."""
        return {
            key: _Task(key, symbol, following, last_report, today, prepared)
            for key, symbol, following, last_report, today in fetch(_KNOWN, (list(keys),))
        }

    def ask(self, task: _Task) -> Answer[Sequence[date]]:
        """Its dates: of the whole calendar, or asked for."""
        if task.calendar is not None:
            dates = task.calendar.value.get(task.symbol, ())
            return Answer(dates, task.calendar.provider, task.calendar.reason)
        try:
            found = answer_of(tiers().calendar(task.symbol))
        except NoAnswer as none:
            if none.failed.failure_class is FailureClass.EMPTY:
                return Answer((), market_ports().market[0].name, None)  # nothing is announced
            raise
        dates = [line.report_date for line in found.value if line.symbol.upper() == task.symbol]
        return Answer(dates, found.provider, found.reason)

    def record(self, task: _Task, answer: Answer[Sequence[date]]) -> ItemResult:
        """Move the company's date, and say so."""
        company_id = int(task.key)
        checked(company_id, self.job)
        new = choose(task.next_date, task.last_report, answer.value, task.today)
        wrote = execute(_WRITE, (*new, company_id, *new))
        if new[0] == task.next_date:
            if not answer.value:
                return unchanged("no date is announced; what was known stays", **source(answer))
            if not wrote:
                return unchanged("the date is as known", **source(answer))
            return updated("the report's date has passed", **source(answer))
        log.info(
            "earnings date",
            company_id=company_id,
            old_date=None if task.next_date is None else task.next_date.isoformat(),
            new_date=None if new[0] is None else new[0].isoformat(),
        )
        return updated(f"{task.next_date or 'none'} → {new[0]}", **source(answer))

    def record_many(self, tasks: Sequence[_Task]) -> Mapping[str, ItemResult]:
        """Companies of the whole calendar."""
        return {task.key: self.record(task, self.ask(task)) for task in tasks}
