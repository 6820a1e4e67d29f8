"""The world that the providers of a schedule know: a few companies, their prices, and what changes.

    truth of now → body(endpoint, symbol) as a provider would answer; offered → all it ever said

Two tiers never say the same figure of a statement, so a period that mixes them shows.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from domain.trading_days import close_of, sessions
from mocks.market.generate import CALENDAR_HEADER, bar_of, calendar_line
from mocks.market.shapes import SampleBar, SampleCompany, SampleQuarter, body, write_json
from providers.alpha_vantage import Endpoint

PRIMARY, SECONDARY = "mock-primary", "mock-secondary"

EXCHANGE = "NYSE"
NEW_YORK = ZoneInfo("America/New_York")

#: How late a provider may have a session's final prices.
LATE = timedelta(minutes=15)

#: Nobody knows the trading days of later years yet.
CALENDAR_ENDS = date(2028, 12, 31)

#: A quarter, for ends that lie as far apart as real ones.
QUARTER = timedelta(days=91)

#: What a company of the world has at the beginning.
QUARTERS = 6

_FILES = {
    Endpoint.OVERVIEW: "overview.json",
    Endpoint.INCOME_STATEMENT: "income_statement.json",
    Endpoint.BALANCE_SHEET: "balance_sheet.json",
    Endpoint.CASH_FLOW: "cash_flow.json",
    Endpoint.EARNINGS: "earnings.json",
    Endpoint.DAILY_ADJUSTED: "time_series_daily_adjusted.json",
}

#: A statement's part as rows have it: its lines by name.
Lines = Mapping[str, Decimal | None]


@dataclass
class Truth:
    """One company, as it is now."""

    symbol: str
    number: int
    quarters: list[SampleQuarter]
    report_date: date  # announced
    in_calendar: bool = True
    closes: dict[date, int] = field(default_factory=dict)  # corrected, in cents
    splits: dict[date, Decimal] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)  # by accession number

    def cents(self, session: date) -> int:
        """The raw close of a session."""
        day = session.toordinal()
        usual = 4_000 + 1_000 * self.number + (day * (7 + self.number)) % 997
        cents = self.closes.get(session, usual)
        for effective, ratio in self.splits.items():
            if session >= effective:
                cents = int(cents / ratio)
        return cents


@cache
def _sessions(first: date, last: date) -> tuple[date, ...]:
    return tuple(sessions(EXCHANGE, first, last))


class World:
    """Everything that can be asked for. `now` is the simulated clock's."""

    def __init__(
        self, dice: random.Random, now: Callable[[], datetime], folder: Path, history_days: int
    ) -> None:
        self._dice, self._now, self._folder = dice, now, folder
        began = now().date()
        self.first = began - timedelta(days=history_days)
        self._last = min(began + timedelta(days=400), CALENDAR_ENDS)
        self.rates: dict[date, int] = {}  # corrected
        self.announced: dict[str, set[date]] = defaultdict(set)
        #: (provider, symbol, end) → feed → every version of it that was ever on offer
        self.offered: dict[tuple[str, str, date], dict[str, list[Lines]]] = {}
        self._bodies: dict[tuple[object, ...], bytes] = {}
        self.companies = [self._found(n) for n in range(dice.choice((2, 2, 3, 4)))]
        for company in self.companies:
            self.write_documents(company)
            self.changed(company)

    # What is offered.

    def by_symbol(self, symbol: str) -> Truth | None:
        """The company."""
        return next((each for each in self.companies if each.symbol == symbol), None)

    def body(self, provider: str, endpoint: Endpoint, symbol: str | None) -> bytes:
        """The answer of a market data provider, now."""
        if endpoint is Endpoint.EARNINGS_CALENDAR:
            return self._calendar(symbol)
        company = self.by_symbol(symbol or "")
        if company is None or endpoint not in _FILES:
            return b"{}"
        bars = endpoint is Endpoint.DAILY_ADJUSTED
        key = (provider, endpoint, symbol, self._offered_until() if bars else None)
        if key not in self._bodies:
            sample = self.sample(provider, company, with_bars=bars)
            self._bodies[key] = body(sample, _FILES[endpoint]).encode()
        return self._bodies[key]

    def sample(self, provider: str, company: Truth, *, with_bars: bool) -> SampleCompany:
        """The company as a provider sees it."""
        bars = list[SampleBar]()
        if with_bars:
            until, closed = self._offered_until()
            for day in _sessions(self.first, self._last):
                if day > until:
                    break
                # A session that is still open has a price, too; it will be another one.
                bars.append(self.bar(company, day) if day <= closed else _provisional(day))
        splits = {day: ratio for day, ratio in company.splits.items() if day <= bars[-1].session
                  } if bars else {}  # fmt: skip
        return SampleCompany(
            symbol=company.symbol, name=f"Company {company.number}", exchange=EXCHANGE,
            currency="USD", cik=str(9_000 + company.number), fiscal_year_end="December",
            quarters=[_as_seen_by(provider, each) for each in company.quarters],
            bars=bars, splits=splits,
        )  # fmt: skip

    def bar(self, company: Truth, day: date) -> SampleBar:
        """A session that has closed."""
        cents = company.cents(day)
        return bar_of(day, cents - 10, cents + 25, cents - 30, cents, 1_000 + day.toordinal() % 97)

    def _offered_until(self) -> tuple[date, date]:
        """The newest session that has begun, and the newest whose prices are final."""
        now = self._now()
        return now.astimezone(NEW_YORK).date(), self.closed_at(now)

    def closed_at(self, moment: datetime) -> date:
        """The newest session whose close and a quarter of an hour have passed."""
        day = moment.astimezone(NEW_YORK).date()
        while (closes := close_of(EXCHANGE, day)) is None or closes + LATE > moment:
            day -= timedelta(days=1)
        return day

    def sessions(self, last: date) -> list[date]:
        """All of them up to `last`."""
        return [day for day in _sessions(self.first, self._last) if day <= last]

    def _calendar(self, symbol: str | None) -> bytes:
        lines = [CALENDAR_HEADER]
        for company in self.companies:
            if company.in_calendar and symbol in (None, company.symbol):
                sample = self.sample(PRIMARY, company, with_bars=False)
                ends = company.quarters[-1].ends + QUARTER
                lines.append(calendar_line(sample, company.report_date, ends))
        return ("\n".join(lines) + "\n").encode()

    def rate(self, currency: str, day: date) -> Decimal:
        """Units of a currency for a euro."""
        corrected = self.rates.get(day, 0)
        base = {"USD": 10_500, "INR": 880_000}[currency]
        return Decimal(base + day.toordinal() % 89 + corrected) / 10_000

    def today(self) -> date:
        """By the simulated clock."""
        return self._now().date()

    def rate_days(self) -> list[date]:
        """The days of which the rates are known now, oldest first; they come in the afternoon."""
        newest = (self._now() - timedelta(hours=15)).date()
        days = (self.first + timedelta(days=n) for n in range((newest - self.first).days + 1))
        return [day for day in days if day.weekday() < 5]

    # What changes.

    def changed(self, company: Truth) -> None:
        """Its answers are others from now on; what can be offered is remembered."""
        self._bodies = {key: text for key, text in self._bodies.items() if key[2] != company.symbol}
        self.announced[company.symbol].add(company.report_date)
        self.announced[company.symbol] |= {q.reported for q in company.quarters if q.reported}
        for provider in (PRIMARY, SECONDARY):
            for quarter in company.quarters:
                versions = self.offered.setdefault((provider, company.symbol, quarter.ends), {})
                for feed, lines in feeds(_as_seen_by(provider, quarter)).items():
                    known = versions.setdefault(feed, [])
                    if lines not in known:
                        known.append(lines)

    def write_documents(self, company: Truth) -> None:
        """Its filings as files of the golden copy."""
        home = self._folder / company.symbol / "documents"
        home.mkdir(parents=True, exist_ok=True)
        columns: dict[str, list[str]] = {
            name: [] for name in ("accessionNumber", "filingDate", "form", "primaryDocument")
        }
        for key, content in company.documents.items():
            for column, value in zip(
                columns.values(), (key, "2027-01-04", "10-Q", "report.htm"), strict=True
            ):
                column.append(value)
            place = home / key.replace("-", "")
            place.mkdir(exist_ok=True)
            (place / "report.htm").write_bytes(content)
        listing = {"cik": str(9_000 + company.number), "filings": {"recent": columns}}
        write_json(home / "submissions.json", listing)

    def _found(self, number: int) -> Truth:
        draw = self._dice
        newest = self._now().date() - timedelta(days=draw.randint(25, 80))
        quarters = [_quarter(draw, newest - QUARTER * back) for back in reversed(range(QUARTERS))]
        symbol = f"SIM{number}"
        report = self._now().date() + timedelta(days=draw.randint(1, 40))
        documents = {f"0000000000-27-{number:03d}{n:03d}": f"<html>{symbol} {n}</html>".encode()
                     for n in range(draw.choice((0, 1, 2)))}  # fmt: skip
        return Truth(symbol, number, quarters, report, documents=documents)


def feeds(quarter: SampleQuarter) -> dict[str, Lines]:
    """A quarter's parts as a stored statement has them."""
    cost = None
    if quarter.revenue is not None and quarter.gross_profit is not None:
        cost = quarter.revenue - quarter.gross_profit
    shown: dict[str, dict[str, object]] = {
        "income_statement": {
            "grossProfit": quarter.gross_profit,
            "totalRevenue": quarter.revenue,
            "costOfRevenue": cost,
            "operatingIncome": quarter.operating_income,
            "researchAndDevelopment": None,
            "netIncome": quarter.net_income,
        },
        "balance_sheet": {
            "cashAndCashEquivalentsAtCarryingValue": quarter.cash,
            "cashAndShortTermInvestments": quarter.cash,
            "inventory": None,
            "shortTermDebt": quarter.short_term_debt,
            "longTermDebt": quarter.long_term_debt,
            "commonStockSharesOutstanding": quarter.shares,
        },
        "cash_flow": {
            "operatingCashflow": quarter.operating_cash_flow,
            "capitalExpenditures": quarter.capital_expenditure,
            "dividendPayout": None,
            "netIncome": quarter.net_income,
        },
        "earnings": {
            "eps": quarter.eps,
            "reported": quarter.reported and quarter.reported.toordinal(),
        },
    }
    return {
        feed: {
            name: None if value is None else Decimal(str(value)) for name, value in lines.items()
        }
        for feed, lines in shown.items()
    }


def _quarter(draw: random.Random, ends: date) -> SampleQuarter:
    revenue = draw.randint(1_000, 9_000) * 10
    return SampleQuarter(
        ends=ends, reported=ends + timedelta(days=20), revenue=revenue,
        gross_profit=revenue // 2, operating_income=revenue // 4 - draw.randint(0, 900),
        net_income=revenue // 8, operating_cash_flow=revenue // 5,
        capital_expenditure=-draw.randint(1, 500), eps=Decimal(draw.randint(-20, 300)) / 100,
        cash=revenue // 3, short_term_debt=draw.choice((None, 100)), long_term_debt=revenue,
        shares=10_000 + draw.randint(0, 9),
    )  # fmt: skip


def _as_seen_by(provider: str, quarter: SampleQuarter) -> SampleQuarter:
    """The second tier's figures are its own: every part of a statement differs."""
    if provider == PRIMARY:
        return quarter
    assert isinstance(quarter.shares, int)
    return replace(
        quarter,
        net_income=(quarter.net_income or 0) + 1, cash=(quarter.cash or 0) + 1,
        eps=(quarter.eps or 0) + Decimal("0.005"),
    )  # fmt: skip


def _provisional(day: date) -> SampleBar:
    return bar_of(day, 90, 110, 80, 100, 5)
