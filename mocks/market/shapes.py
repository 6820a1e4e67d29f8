"""Write a company as a folder of answers in Alpha Vantage's shapes.

    SampleCompany → SYMBOL/overview.json, income_statement.json, … as the provider would answer

All numbers are strings, nothing is "None", newest first, as the real answers are.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

Figure = Decimal | int | None

#: A quarter to the lines of one statement.
_Lines = Callable[["SampleQuarter"], dict[str, Figure]]


@dataclass(frozen=True)
class SampleQuarter:
    """A quarter's figures, in units of `currency`. None becomes "None"."""

    ends: date
    reported: date | None
    revenue: Figure
    gross_profit: Figure
    operating_income: Figure
    net_income: Figure
    operating_cash_flow: Figure
    capital_expenditure: Figure
    eps: Figure
    cash: Figure
    short_term_debt: Figure
    long_term_debt: Figure
    shares: Figure
    currency: str = "USD"


@dataclass(frozen=True)
class SampleBar:
    """A session; prices as text, raw."""

    session: date
    open: str
    high: str
    low: str
    close: str
    volume: int


@dataclass(frozen=True)
class SampleCompany:
    """Everything of one company. Quarters and bars are oldest first."""

    symbol: str
    name: str
    exchange: str
    currency: str
    cik: str | None
    fiscal_year_end: str  # a month, in English
    quarters: Sequence[SampleQuarter]
    bars: Sequence[SampleBar]
    splits: Mapping[date, Decimal] = field(default_factory=dict)
    dividends: Mapping[date, Decimal] = field(default_factory=dict)
    annuals: Sequence[SampleQuarter] = ()
    raw_prices: bool = False  # time_series_daily.json too
    has_balance_sheet: bool = True


def write_company(folder: Path, company: SampleCompany) -> None:
    """Write the company's folder below `folder`; the same company gives the same bytes."""
    home = folder / company.symbol
    home.mkdir(parents=True, exist_ok=True)
    write_statements(home, company)
    files = ["overview.json", "earnings.json", "time_series_daily_adjusted.json"]
    if company.raw_prices:
        files.append("time_series_daily.json")
    for file in files:
        (home / file).write_text(body(company, file), encoding="utf-8")


def write_statements(home: Path, company: SampleCompany) -> None:
    """The three statements into `home`, which may be the company's `restated` folder."""
    home.mkdir(parents=True, exist_ok=True)
    files = ["income_statement.json", "cash_flow.json"]
    if company.has_balance_sheet:
        files.append("balance_sheet.json")
    for file in files:
        (home / file).write_text(body(company, file), encoding="utf-8")


def body(company: SampleCompany, file: str) -> str:
    """What a file of the company's folder holds: the provider's answer."""
    match file:
        case "overview.json":
            return json_text(_overview(company))
        case "income_statement.json":
            return json_text(_statement(company, _income))
        case "balance_sheet.json":
            return json_text(_statement(company, _balance))
        case "cash_flow.json":
            return json_text(_statement(company, _cash_flow))
        case "earnings.json":
            return json_text(_earnings(company))
        case "time_series_daily_adjusted.json":
            return _prices(company, adjusted=True)
        case "time_series_daily.json":
            return _prices(company, adjusted=False)
    raise ValueError(f"no file of a company: {file}")


def json_text(content: object) -> str:
    """One list entry a line: small, and readable in a diff."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return text.replace('},{"', '},\n{"').replace('":[{"', '":[\n{"') + "\n"


def write_json(path: Path, content: object) -> None:
    """The same into a file."""
    path.write_text(json_text(content), encoding="utf-8")


def figure(value: Figure) -> str:
    """As the provider writes it."""
    return "None" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


def _overview(company: SampleCompany) -> dict[str, str]:
    newest = company.quarters[-1] if company.quarters else None
    return {
        "Symbol": company.symbol,
        "AssetType": "Common Stock",
        "Name": company.name,
        "Description": "Sample data of Overnight: not for decisions",
        "CIK": company.cik or "None",
        "Exchange": company.exchange,
        "Currency": company.currency,
        "FiscalYearEnd": company.fiscal_year_end,
        "LatestQuarter": newest.ends.isoformat() if newest else "None",
        "MarketCapitalization": "None",
        "SharesOutstanding": figure(newest.shares if newest else None),
    }


def _statement(
    company: SampleCompany, lines: Callable[[SampleQuarter], dict[str, Figure]]
) -> dict[str, object]:
    def reports(periods: Iterable[SampleQuarter]) -> list[dict[str, str]]:
        return [
            {
                "fiscalDateEnding": period.ends.isoformat(),
                "reportedCurrency": period.currency,
                **{name: figure(value) for name, value in lines(period).items()},
            }
            for period in sorted(periods, key=lambda each: each.ends, reverse=True)
        ]

    return {
        "symbol": company.symbol,
        "annualReports": reports(company.annuals),
        "quarterlyReports": reports(company.quarters),
    }


def _income(period: SampleQuarter) -> dict[str, Figure]:
    cost = None
    if period.revenue is not None and period.gross_profit is not None:
        cost = period.revenue - period.gross_profit
    return {
        "grossProfit": period.gross_profit,
        "totalRevenue": period.revenue,
        "costOfRevenue": cost,
        "operatingIncome": period.operating_income,
        "researchAndDevelopment": None,
        "netIncome": period.net_income,
    }


def _balance(period: SampleQuarter) -> dict[str, Figure]:
    return {
        "cashAndCashEquivalentsAtCarryingValue": period.cash,
        "cashAndShortTermInvestments": period.cash,
        "inventory": None,
        "shortTermDebt": period.short_term_debt,
        "longTermDebt": period.long_term_debt,
        "commonStockSharesOutstanding": period.shares,
    }


def _cash_flow(period: SampleQuarter) -> dict[str, Figure]:
    return {
        "operatingCashflow": period.operating_cash_flow,
        "capitalExpenditures": period.capital_expenditure,
        "dividendPayout": None,
        "netIncome": period.net_income,
    }


def _earnings(company: SampleCompany) -> dict[str, object]:
    return {
        "symbol": company.symbol,
        "annualEarnings": [
            {"fiscalDateEnding": year.ends.isoformat(), "reportedEPS": figure(year.eps)}
            for year in reversed(company.annuals)
        ],
        "quarterlyEarnings": [
            {
                "fiscalDateEnding": quarter.ends.isoformat(),
                "reportedDate": quarter.reported.isoformat() if quarter.reported else "None",
                "reportedEPS": figure(quarter.eps),
                "estimatedEPS": "None",
            }
            for quarter in reversed(company.quarters)
        ],
    }


def _prices(company: SampleCompany, *, adjusted: bool) -> str:
    """Written as text, a session a line: ten times quicker than a JSON encoder's tree."""
    factors = _factors(company) if adjusted else {}
    lines = []
    for bar in reversed(company.bars):
        line = (
            f'"{bar.session}":{{"1. open":"{bar.open}","2. high":"{bar.high}",'
            f'"3. low":"{bar.low}","4. close":"{bar.close}",'
        )
        if adjusted:
            close = Decimal(bar.close) * factors.get(bar.session, 1)
            paid = company.dividends.get(bar.session, Decimal(0))
            split = company.splits.get(bar.session, Decimal(1))
            line += (
                f'"5. adjusted close":"{close:.6f}","6. volume":"{bar.volume}",'
                f'"7. dividend amount":"{paid:.4f}","8. split coefficient":"{split:f}"}}'
            )
        else:
            line += f'"5. volume":"{bar.volume}"}}'
        lines.append(line)
    newest = company.bars[-1].session if company.bars else None
    meta = {"2. Symbol": company.symbol, "3. Last Refreshed": str(newest)}
    series = ",\n".join(lines)
    return f'{{"Meta Data":{json.dumps(meta)},\n"Time Series (Daily)":{{\n{series}\n}}}}\n'


def _factors(company: SampleCompany) -> Mapping[date, Decimal]:
    """What each raw close is multiplied by: every later split, and every later dividend."""
    if not company.splits and not company.dividends:
        return {}
    factors: dict[date, Decimal] = defaultdict(lambda: Decimal(1))
    factor = Decimal(1)
    for index in range(len(company.bars) - 1, -1, -1):
        bar = company.bars[index]
        factors[bar.session] = factor
        if split := company.splits.get(bar.session):
            factor /= split
        if (paid := company.dividends.get(bar.session)) and index:
            factor *= 1 - paid / Decimal(company.bars[index - 1].close)
    return factors
