"""Statements of a company: three feeds become one row a period, and a restatement a new vintage.

    income, balance sheet, cash flow, earnings → periods (ends within 10 days are one) → digest
    → as stored: nothing | changed: new vintage, which is the current one from now on

All of a row is of one provider. What a fallback says never replaces what the first one said:
two feeds differ without any restatement. A feed that gave nothing this time erases nothing.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from domain.metrics import diluted_eps
from models.bulk import change_rows
from models.database import execute, fetch
from providers.market import EarningsReport, StatementPeriod

#: Feeds write the month's end for a quarter that ended some days before or after it.
SAME_PERIOD_DAYS = 10

QUARTER = "quarter"

_STORED = """
SELECT period_type, period_end_date, digest, provider, provider_reason,
       (SELECT max(vintage) FROM statement v WHERE v.company_id = s.company_id
            AND v.period_type = s.period_type AND v.period_end_date = s.period_end_date),
       array_remove(ARRAY[
           CASE WHEN has_balance_sheet THEN 'balance sheet' END,
           CASE WHEN lines -> 'cash_flow' <> '{}' THEN 'cash flow' END,
           CASE WHEN lines ->> 'reported_eps' <> '' OR lines ->> 'reported_date' <> ''
                THEN 'earnings' END], NULL)
FROM statement s WHERE company_id = %s AND is_current
"""

_SUPERSEDE = """
UPDATE statement s SET is_current = false
FROM unnest(%(types)s::text[], %(ends)s::date[]) AS g (period_type, period_end_date)
WHERE s.company_id = %(company)s AND s.period_type = g.period_type
  AND s.period_end_date = g.period_end_date AND s.is_current
"""

_INSERT = """
INSERT INTO statement (company_id, period_type, period_end_date, vintage, is_current, provider,
    provider_reason, currency, reported_date, revenue, gross_profit, operating_income, net_income,
    has_balance_sheet, cash, short_term_debt, long_term_debt, shares_outstanding,
    operating_cash_flow, capital_expenditure, eps_diluted, eps_basis, lines, digest)
VALUES %s
"""


@dataclass(frozen=True)
class Period:
    """One company-period of one provider, as it will be stored."""

    period_type: str
    end: date
    currency: str
    reported_date: date | None
    income: Mapping[str, Decimal | None]
    balance: Mapping[str, Decimal | None] | None
    cash_flow: Mapping[str, Decimal | None]
    reported_eps: Decimal | None

    @property
    def lines(self) -> dict[str, Any]:
        """All there is, for the record and for the digest; one number is written one way."""
        return {
            "income_statement": _plain(self.income),
            "balance_sheet": None if self.balance is None else _plain(self.balance),
            "cash_flow": _plain(self.cash_flow),
            "reported_eps": _number(self.reported_eps),
            "reported_date": None if self.reported_date is None else self.reported_date.isoformat(),
            "currency": self.currency,
        }


@dataclass(frozen=True)
class Written:
    """What became of a company's periods."""

    new: int
    restated: int
    kept: int  # of another provider that stays the current one
    poorer: int = 0  # what is known has a feed that the answer lacks: it stays


def merge(
    income: Sequence[StatementPeriod],
    balance: Sequence[StatementPeriod],
    cash_flow: Sequence[StatementPeriod],
    earnings: Sequence[EarningsReport],
) -> list[Period]:
    """Bring the feeds of one provider together, period by period; oldest first.

    A statement in another currency than the period's income statement is left out of it.
    """
    periods = []
    for period_type in sorted({each.period_type for each in (*income, *balance, *cash_flow)}):
        feeds = [[s for s in feed if s.period_type == period_type]
                 for feed in (income, balance, cash_flow)]  # fmt: skip
        for end in _distinct([s.period_end_date for feed in feeds for s in feed]):
            of_income, of_balance, of_cash_flow = (
                nearest(end, feed, lambda s: s.period_end_date) for feed in feeds
            )
            first = of_income or of_balance or of_cash_flow
            assert first is not None  # `end` is one of theirs
            if of_balance is not None and of_balance.currency != first.currency:
                of_balance = None
            if of_cash_flow is not None and of_cash_flow.currency != first.currency:
                of_cash_flow = None
            report = None
            if period_type == QUARTER:
                report = nearest(end, earnings, lambda e: e.period_end_date)
            periods.append(
                Period(
                    period_type,
                    first.period_end_date,
                    first.currency,
                    None if report is None else report.reported_date,
                    {} if of_income is None else of_income.lines,
                    None if of_balance is None else of_balance.lines,
                    {} if of_cash_flow is None else of_cash_flow.lines,
                    None if report is None else report.reported_eps,
                )
            )
    return periods


def write_statements(
    company_id: int,
    periods: Sequence[Period],
    provider: str,
    provider_reason: str | None,
    lacking: Collection[str] = (),
) -> Written:
    """Store what is new or changed, in the open transaction. `lacking`: feeds that gave nothing."""
    stored: dict[str, list[tuple[Any, ...]]] = {}
    for period_type, *row in fetch(_STORED, (company_id,)):
        stored.setdefault(period_type, []).append(tuple(row))
    rows, ends, restated, kept, poorer = [], [], 0, 0, 0
    taken: set[tuple[str, date]] = set()
    for period in periods:
        known = nearest(period.end, stored.get(period.period_type, ()), lambda row: row[0])
        end, vintage = (period.end, 0) if known is None else (known[0], known[4])
        if (period.period_type, end) in taken:
            continue  # two periods of the answer are one: the first stands
        taken.add((period.period_type, end))
        digest = _digest(period)
        if known is not None:
            if known[1] == digest:
                continue
            if known[2] != provider and provider_reason is not None and known[3] is None:
                kept += 1
                continue
            if not set(lacking).isdisjoint(known[5]):
                poorer += 1
                continue
            restated += 1
            ends.append((period.period_type, end))
        rows.append(_row(company_id, period, end, vintage + 1, provider, provider_reason, digest))
    if ends:
        execute(
            _SUPERSEDE,
            {"company": company_id, "types": [e[0] for e in ends], "ends": [e[1] for e in ends]},
        )
    if rows:
        change_rows(_INSERT, rows)
    return Written(len(rows) - restated, restated, kept, poorer)


def nearest(end: date, rows: Iterable[Any], end_of: Any) -> Any:
    """The row whose end is nearest to `end`, if it is the same period; None otherwise."""
    found = min(rows, key=lambda row: abs((end_of(row) - end).days), default=None)
    if found is None or abs((end_of(found) - end).days) > SAME_PERIOD_DAYS:
        return None
    return found


def _distinct(ends: Sequence[date]) -> list[date]:
    """One end for each period; where they differ by days, the first feed's."""
    found: list[date] = []
    for end in ends:  # income statements come first
        if not any(abs((end - other).days) <= SAME_PERIOD_DAYS for other in found):
            found.append(end)
    return sorted(found)


def _row(
    company_id: int,
    period: Period,
    end: date,
    vintage: int,
    provider: str,
    provider_reason: str | None,
    digest: str,
) -> tuple[Any, ...]:
    income, balance, cash_flow = period.income, period.balance or {}, period.cash_flow
    net_income = income.get("netIncome")
    shares = balance.get("commonStockSharesOutstanding")
    eps, basis = None, None
    if period.period_type == QUARTER:
        eps, basis = diluted_eps(period.reported_eps, net_income, shares)
    return (
        company_id,
        period.period_type,
        end,
        vintage,
        True,
        provider,
        provider_reason,
        period.currency,
        period.reported_date,
        income.get("totalRevenue"),
        income.get("grossProfit"),
        income.get("operatingIncome"),
        net_income,
        period.balance is not None,
        balance.get("cashAndCashEquivalentsAtCarryingValue"),
        balance.get("shortTermDebt"),
        balance.get("longTermDebt"),
        shares,
        cash_flow.get("operatingCashflow"),
        cash_flow.get("capitalExpenditures"),
        eps,
        None if basis is None else basis.value,
        json.dumps(period.lines),
        digest,
    )


def _digest(period: Period) -> str:
    canonical = json.dumps(period.lines, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(lines: Mapping[str, Decimal | None]) -> dict[str, str | None]:
    return {name: _number(value) for name, value in sorted(lines.items())}


def _number(value: Decimal | None) -> str | None:
    """One text for one number: 1.50 and 1.5 are no restatement."""
    if value is None:
        return None
    return format(value.normalize(), "f") if value else "0"
