"""Refresh statements: companies that reported, and once a week all others, for restatements.

    due → overview, income, balance sheet, cash flow, earnings (one provider) → vintages → metrics

A company is due when its statements were never fetched; when the date of a report has passed that
the last fetch did not see; for ten days after a report whose quarter the feed does not have yet;
and when the last fetch is a week old.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from domain.research import ResearchJob
from models.database import execute, fetch
from providers.market import CompanyOverview
from usecases.research.companies import refresh_market_cap
from usecases.research.metrics import bump_inputs
from usecases.research.sources import NoAnswer, answer_of, tiers
from usecases.research.statements import Period, merge, write_statements
from usecases.research.tiers import Answer
from usecases.research.work import (
    CompanyWork,
    ItemResult,
    checked,
    left_out,
    open_companies,
    source,
    unchanged,
    updated,
)

#: A week, less half a day: no night begins at the second of an earlier one.
RECHECK = timedelta(days=6, hours=12)

#: Feeds have a quarter some days after the company reported it.
LATE_DAYS = 10

_DUE = """
(k.checked_at IS NULL
 OR k.checked_at < overnight_now() - %(recheck)s
 OR EXISTS (
    SELECT 1 FROM unnest(ARRAY[c.last_report_date, c.next_earnings_date]) AS report (day)
    WHERE report.day < overnight_now()::date AND (
        k.checked_at::date <= report.day
        OR (report.day + %(late)s >= overnight_now()::date AND NOT EXISTS (
            SELECT 1 FROM statement s WHERE s.company_id = c.id AND s.period_type = 'quarter'
                AND s.fetched_at::date > report.day AND s.period_end_date > report.day - 100)))))
"""

_KNOWN = """
SELECT id::text, symbol FROM company WHERE id = ANY(%s::integer[]) AND active AND tracked
"""

#: What an overview may say anew. A missing number keeps the old one.
_COMPANY = """
UPDATE company SET shares_outstanding = coalesce(%(shares)s, shares_outstanding),
    shares_as_of = coalesce(CASE WHEN %(shares)s IS NOT NULL THEN %(as_of)s::date END,
                            shares_as_of),
    cik = coalesce(cik, %(cik)s),
    last_report_date = greatest(last_report_date, %(reported)s::date)
WHERE id = %(id)s
"""


@dataclass(frozen=True)
class Fundamentals:
    """Everything about a company from one provider."""

    overview: CompanyOverview | None
    periods: Sequence[Period]
    reported: date | None  # the newest report that the provider knows
    lacking: Sequence[str]


@dataclass(frozen=True)
class _Task:
    key: str
    symbol: str


class FinancialsRefresh(CompanyWork):
    """Five calls a company; the four that make a period go to one provider."""

    job = ResearchJob.FINANCIALS_REFRESH

    def open_items(self, run_id: str) -> None:
        """Companies that are due by the rule above; the others are counted."""
        open_companies(
            run_id,
            self.job,
            due=_DUE,
            not_due="no report since the last check",
            params={"recheck": RECHECK, "late": LATE_DAYS},
        )

    def calls(self, items: int) -> tuple[int, int | None]:
        """Four kinds of statements, and the overview."""
        return 5 * items, 5 * items

    def load(self, keys: Sequence[str], prepared: Any) -> Mapping[str, _Task]:
        """Their symbols."""
        return {row[0]: _Task(*row) for row in fetch(_KNOWN, (list(keys),))}

    def ask(self, task: _Task) -> Answer[Fundamentals]:
        """All feeds of the first provider that has them all."""
        found = answer_of(tiers().financials_of(task.symbol))
        reported = [e.reported_date for e in found.value.earnings if e.reported_date is not None]
        periods = merge(
            found.value.income, found.value.balance, found.value.cash_flow, found.value.earnings
        )
        try:
            overview = answer_of(tiers().overview(task.symbol)).value
        except NoAnswer:
            overview = None  # the statements count all the same
        whole = Fundamentals(
            overview, periods, max(reported, default=None), tuple(found.value.lacking)
        )
        return Answer(whole, found.provider, found.reason)

    def record(self, task: _Task, answer: Answer[Fundamentals]) -> ItemResult:
        """Store what is new, and what follows from it."""
        company_id = int(task.key)
        checked(company_id, self.job)
        found = answer.value
        written = write_statements(
            company_id, found.periods, answer.provider, answer.reason, found.lacking
        )
        overview = found.overview
        execute(
            _COMPANY,
            {
                "id": company_id,
                "shares": None if overview is None else overview.shares_outstanding,
                "as_of": None if overview is None else overview.latest_quarter,
                "cik": None if overview is None else overview.cik,
                "reported": found.reported,
            },
        )
        refresh_market_cap(company_id)
        told = f"{written.new} new, {written.restated} restated"
        if found.lacking:
            told += f"; no provider has its {', '.join(found.lacking)}"
        if written.new or written.restated:
            bump_inputs([company_id])
        if written.poorer:
            return left_out(
                "the answer lacks what is known of a statement",
                f"{told}; {written.poorer} periods kept",
                **source(answer),
            )
        if written.new or written.restated:
            return updated(told, **source(answer))
        if written.kept:
            return left_out(
                "only a fallback answered, and it differs from what the first provider said",
                f"{written.kept} periods kept",
                **source(answer),
            )
        return unchanged("no statement is new or changed", **source(answer))
