"""The thirteen metrics of one company in exact fractions: what the SQL is checked against.

    Company (quarters, bars, splits) → calculate → one Metric per quarter and name

Written to be read beside docs/metrics.md, by other means than the SQL of usecases.research.metrics.
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from math import prod

from domain.metrics import (
    PRIOR_QUARTER_DAYS,
    REPORTED_WITHIN_DAYS,
    YEAR_AGO_DAYS,
    Metric,
    NullReason,
    stored,
)
from domain.research import MetricName

#: What a formula gives before it is stored.
_Result = Fraction | NullReason

_MARGINS = {
    MetricName.GROSS_MARGIN: ("gross_profit", NullReason.GROSS_PROFIT_MISSING),
    MetricName.OPERATING_MARGIN: ("operating_income", NullReason.OPERATING_INCOME_MISSING),
    MetricName.NET_MARGIN: ("net_income", NullReason.NET_INCOME_MISSING),
    MetricName.OCF_TO_REVENUE: ("operating_cash_flow", NullReason.OPERATING_CASH_FLOW_MISSING),
}
_MOMENTA = {MetricName.MOMENTUM_1M: 1, MetricName.MOMENTUM_3M: 3, MetricName.MOMENTUM_6M: 6}


@dataclass(frozen=True)
class Quarter:
    """The current vintage of a company's quarter; None is "not given"."""

    period_end_date: date
    vintage: int
    currency: str
    reported_date: date | None = None
    revenue: Decimal | None = None
    gross_profit: Decimal | None = None
    operating_income: Decimal | None = None
    net_income: Decimal | None = None
    has_balance_sheet: bool = False
    cash: Decimal | None = None
    short_term_debt: Decimal | None = None
    long_term_debt: Decimal | None = None
    operating_cash_flow: Decimal | None = None
    capital_expenditure: Decimal | None = None
    eps_diluted: Decimal | None = None


@dataclass(frozen=True)
class Bar:
    """A session's closes: raw, and the vendor's adjusted one."""

    session_date: date
    close: Decimal
    adjusted_close: Decimal | None


@dataclass(frozen=True)
class Split:
    """`ratio` new shares for one old one, from the start of that session."""

    effective_date: date
    ratio: Decimal


@dataclass(frozen=True)
class Company:
    """Everything that one company's metrics are made of. `currency` is what its shares trade in."""

    id: int
    currency: str
    quarters: tuple[Quarter, ...]
    bars: tuple[Bar, ...] = ()
    splits: tuple[Split, ...] = ()


def calculate(company: Company) -> list[Metric]:
    """All metrics of all quarters; those of prices with the newest quarter only."""
    metrics = []
    for quarter in company.quarters:
        for name, result, vintage in _of_statements(company, quarter):
            metrics.append(_metric(company, quarter, name, result, vintage))
    if company.quarters:
        newest = max(company.quarters, key=lambda quarter: quarter.period_end_date)
        for name, result, vintage in _of_prices(company, newest):
            metrics.append(_metric(company, newest, name, result, vintage))
    return metrics


def _metric(
    company: Company, quarter: Quarter, name: MetricName, result: _Result, vintage: str
) -> Metric:
    value, reason = (None, result) if isinstance(result, NullReason) else (stored(result), None)
    return Metric(company.id, quarter.period_end_date, name, value, reason, vintage)


def _earlier(company: Company, quarter: Quarter | None, days: tuple[int, int]) -> Quarter | None:
    """The newest quarter whose end lies that many days earlier, never just the row before."""
    if quarter is None:
        return None
    found = [
        other
        for other in company.quarters
        if days[0] <= (quarter.period_end_date - other.period_end_date).days <= days[1]
    ]
    return max(found, key=lambda other: other.period_end_date, default=None)


def _vintages(*quarters: Quarter | None) -> str:
    return "/".join("-" if quarter is None else str(quarter.vintage) for quarter in quarters)


def _of_statements(company: Company, quarter: Quarter) -> Iterator[tuple[MetricName, _Result, str]]:
    prior = _earlier(company, quarter, PRIOR_QUARTER_DAYS)
    year_ago = _earlier(company, quarter, YEAR_AGO_DAYS)
    prior_year_ago = _earlier(company, prior, YEAR_AGO_DAYS)
    yoy = _growth(quarter, year_ago)
    yield MetricName.YOY_REVENUE_GROWTH, yoy, _vintages(quarter, year_ago)
    yield MetricName.QOQ_REVENUE_GROWTH, _growth(quarter, prior), _vintages(quarter, prior)
    yield (
        MetricName.GROWTH_ACCELERATION,
        _acceleration(yoy, prior, prior_year_ago),
        _vintages(quarter, year_ago, prior, prior_year_ago),
    )
    for name, (line, reason) in _MARGINS.items():
        yield name, _of_revenue(quarter, getattr(quarter, line), reason), _vintages(quarter)
    yield MetricName.FCF_TO_REVENUE, _free_cash_flow(quarter), _vintages(quarter)
    yield MetricName.REVENUE_MINUS_NET_DEBT_TO_REVENUE, _less_net_debt(quarter), _vintages(quarter)


def _growth(quarter: Quarter, base: Quarter | None) -> _Result:
    if quarter.revenue is None:
        return NullReason.REVENUE_MISSING
    if base is None:
        return NullReason.BASE_PERIOD_MISSING
    if base.revenue is None:
        return NullReason.BASE_REVENUE_MISSING
    if base.currency != quarter.currency:
        return NullReason.BASE_CURRENCY_DIFFERS
    if base.revenue <= 0:
        return NullReason.BASE_REVENUE_NOT_POSITIVE
    return Fraction(quarter.revenue) / Fraction(base.revenue) - 1


def _acceleration(yoy: _Result, prior: Quarter | None, prior_year_ago: Quarter | None) -> _Result:
    if isinstance(yoy, NullReason):
        return NullReason.GROWTH_MISSING
    if prior is None:
        return NullReason.PRIOR_QUARTER_MISSING
    before = _growth(prior, prior_year_ago)
    return NullReason.PRIOR_GROWTH_MISSING if isinstance(before, NullReason) else yoy - before


def _of_revenue(quarter: Quarter, line: Decimal | None, missing: NullReason) -> _Result:
    if quarter.revenue is None:
        return NullReason.REVENUE_MISSING
    if quarter.revenue <= 0:
        return NullReason.REVENUE_NOT_POSITIVE
    return missing if line is None else Fraction(line) / Fraction(quarter.revenue)


def _free_cash_flow(quarter: Quarter) -> _Result:
    """Feeds disagree on the sign of capital expenditure, so it counts without."""
    operating = _of_revenue(
        quarter, quarter.operating_cash_flow, NullReason.OPERATING_CASH_FLOW_MISSING
    )
    spent = _of_revenue(
        quarter, quarter.capital_expenditure, NullReason.CAPITAL_EXPENDITURE_MISSING
    )
    if isinstance(operating, NullReason) or isinstance(spent, NullReason):
        return operating if isinstance(operating, NullReason) else spent
    return operating - abs(spent)


def _less_net_debt(quarter: Quarter) -> _Result:
    """A balance sheet without a line of debt says that there is none; every company has cash."""
    revenue = _of_revenue(quarter, quarter.revenue, NullReason.REVENUE_MISSING)
    if isinstance(revenue, NullReason):
        return revenue
    if not quarter.has_balance_sheet:
        return NullReason.BALANCE_SHEET_MISSING
    cash = _of_revenue(quarter, quarter.cash, NullReason.CASH_MISSING)
    if isinstance(cash, NullReason):
        return cash
    debt = sum(Fraction(each or 0) for each in (quarter.short_term_debt, quarter.long_term_debt))
    return revenue - debt / Fraction(quarter.revenue or 0) + cash


def _of_prices(company: Company, newest: Quarter) -> Iterator[tuple[MetricName, _Result, str]]:
    chain: list[Quarter | None] = [newest]
    for _ in range(3):
        chain.append(_earlier(company, chain[-1], PRIOR_QUARTER_DAYS))
    last = max(company.bars, key=lambda bar: bar.session_date, default=None)
    session = "-" if last is None else last.session_date.isoformat()
    yield MetricName.PE_RATIO, _pe(company, chain, last), f"{_vintages(*chain)}@{session}"
    for name, months in _MOMENTA.items():
        base = None if last is None else _bar_on(company, _months_before(last, months))
        from_session = "-" if base is None else base.session_date.isoformat()
        yield name, _momentum(last, base), f"@{session}/{from_session}"


def _pe(company: Company, chain: list[Quarter | None], last: Bar | None) -> _Result:
    if last is None:
        return NullReason.PRICE_MISSING
    quarters = [quarter for quarter in chain if quarter is not None]
    if len(quarters) < len(chain):
        return NullReason.FEWER_THAN_FOUR_QUARTERS
    if any(quarter.currency != company.currency for quarter in quarters):
        return NullReason.TRADING_CURRENCY_DIFFERS
    if any(quarter.eps_diluted is None for quarter in quarters):
        return NullReason.EPS_MISSING
    earnings = Fraction(0)
    for quarter in quarters:
        after = [
            split
            for split in company.splits
            if (quarter.reported_date or quarter.period_end_date) < split.effective_date
            and split.effective_date <= last.session_date
        ]
        unsure_until = quarter.period_end_date + timedelta(REPORTED_WITHIN_DAYS)
        if quarter.reported_date is None and any(s.effective_date <= unsure_until for s in after):
            return NullReason.SPLIT_BASIS_UNKNOWN
        ratio = prod((Fraction(split.ratio) for split in after), start=Fraction(1))
        earnings += Fraction(quarter.eps_diluted or 0) / ratio
    return NullReason.EARNINGS_NOT_POSITIVE if earnings <= 0 else Fraction(last.close) / earnings


def _months_before(bar: Bar, months: int) -> date:
    """The same day of an earlier month, or that month's last day."""
    year, month = divmod(bar.session_date.year * 12 + bar.session_date.month - 1 - months, 12)
    return date(year, month + 1, min(bar.session_date.day, monthrange(year, month + 1)[1]))


def _bar_on(company: Company, day: date) -> Bar | None:
    """The last bar on or before that day."""
    before = [bar for bar in company.bars if bar.session_date <= day]
    return max(before, key=lambda bar: bar.session_date, default=None)


def _momentum(last: Bar | None, base: Bar | None) -> _Result:
    if last is None:
        return NullReason.PRICE_MISSING
    if base is None:
        return NullReason.HISTORY_TOO_SHORT
    if last.adjusted_close is None or base.adjusted_close is None:
        return NullReason.ADJUSTED_CLOSE_MISSING
    return Fraction(last.adjusted_close) / Fraction(base.adjusted_close) - 1
