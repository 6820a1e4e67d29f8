"""A world of research data in one thread: fake providers with a script, a database of its own.

world.company("AAPL") → world.night() → world.items("price_refresh") | world.run("price_refresh")
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import actors.market  # noqa: F401 - binds the actors
from domain.research import ResearchJob
from jobs.runner import run_due
from models.database import execute, fetch, reconnect, transaction
from providers.market import (
    CompanyOverview,
    CorporateAction,
    DailyBar,
    DocumentRef,
    EarningsDate,
    EarningsReport,
    FailureClass,
    FxRate,
    PriceHistory,
    ProviderFailure,
    StatementPeriod,
)
from providers.ports import MarketPorts, use_market_ports
from usecases.research.policy import ResearchPolicy, use_research_policy
from usecases.research.runs import start_night

#: A Friday: New York closed at 21:00 UTC.
NOW = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
SESSION = date(2026, 11, 20)


class Crash(BaseException):
    """The process is gone: nothing tidies up."""


@dataclass
class Script:
    """What providers say, and what goes wrong, by (endpoint, symbol)."""

    calls: list[tuple[str, str | None]] = field(default_factory=list)
    wrong: dict[tuple[str, str | None], list[BaseException]] = field(default_factory=dict)
    before: dict[tuple[str, str | None], Callable[[], object]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, endpoint: str, symbol: str | None) -> None:
        with self.lock:
            self.calls.append((endpoint, symbol))
            told = self.before.pop((endpoint, symbol), None)
            errors = self.wrong.get((endpoint, symbol)) or self.wrong.get((endpoint, "*")) or []
            error = errors[0] if errors else None
            if len(errors) > 1:
                errors.pop(0)  # the last one stays
        if told is not None:
            told()
        if error is not None and not isinstance(error, _Fine):
            raise error

    def count(self, endpoint: str) -> int:
        return sum(1 for called, _ in self.calls if called == endpoint)


class _Fine(Exception):
    """In a list of what goes wrong: nothing does."""


FINE = _Fine()


def failure(
    kind: FailureClass, retry_after: timedelta | None = None, provider: str = "fake"
) -> ProviderFailure:
    return ProviderFailure(provider, kind, "as scripted", retry_after=retry_after)


class FakeMarket:
    """Implements MarketDataProvider: prices of a straight line, statements of every quarter."""

    def __init__(self, script: Script, name: str = "fake", *, full_calendar: bool = True) -> None:
        self.script, self.name, self.has_full_calendar = script, name, full_calendar
        self.dates: dict[str, list[date]] = {}
        self.bars: dict[str, list[DailyBar]] = {}
        self.actions: dict[str, list[CorporateAction]] = {}
        self.revenue: dict[str, dict[date, Decimal]] = {}
        self.shares = Decimal(1_000)

    def company_overview(self, symbol: str) -> CompanyOverview:
        self.script.meet("overview", symbol)
        return CompanyOverview(symbol, f"{symbol} Inc", "NYSE", "USD", "1", self.shares)

    def income_statement(self, symbol: str) -> Sequence[StatementPeriod]:
        self.script.meet("income", symbol)
        return [
            self._period(end, totalRevenue=revenue, netIncome=revenue / 10, grossProfit=revenue / 2)
            for end, revenue in self.revenue[symbol].items()
        ]

    def balance_sheet(self, symbol: str) -> Sequence[StatementPeriod]:
        self.script.meet("balance", symbol)
        return [
            self._period(end, commonStockSharesOutstanding=self.shares)
            for end in self.revenue[symbol]
        ]

    def cash_flow(self, symbol: str) -> Sequence[StatementPeriod]:
        self.script.meet("cash_flow", symbol)
        return [
            self._period(end, operatingCashflow=revenue / 4, capitalExpenditures=Decimal(-1))
            for end, revenue in self.revenue[symbol].items()
        ]

    def earnings(self, symbol: str) -> Sequence[EarningsReport]:
        self.script.meet("earnings", symbol)
        return [EarningsReport(end, end + timedelta(days=30), None) for end in self.revenue[symbol]]

    def daily_prices(self, symbol: str, since: date | None) -> PriceHistory:
        self.script.meet("prices", symbol)
        bars = [bar for bar in self.bars[symbol] if since is None or bar.session_date >= since]
        if not bars:
            raise failure(FailureClass.EMPTY, provider=self.name)
        return PriceHistory(bars, self.actions.get(symbol, ()))

    def earnings_calendar(self, symbol: str | None) -> Sequence[EarningsDate]:
        self.script.meet("calendar", symbol)
        found = [
            EarningsDate(name, day, None)
            for name, days in self.dates.items()
            for day in days
            if symbol in (None, name)
        ]
        if not found:
            raise failure(FailureClass.EMPTY, provider=self.name)
        return found

    @staticmethod
    def _period(end: date, **lines: Decimal) -> StatementPeriod:
        return StatementPeriod("quarter", end, "USD", lines)


class FakeDocuments:
    """Implements DocumentProvider: what is in `files`, by (symbol, key)."""

    name = "fake-documents"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.files: dict[tuple[str, str], bytes] = {}

    def documents(self, symbol: str, cik: str | None) -> Sequence[DocumentRef]:
        self.script.meet("documents", symbol)
        found = [
            DocumentRef("filing", key, f"10-Q {key}", f"fake:{symbol}/{key}", "10-Q", SESSION)
            for name, key in self.files
            if name == symbol
        ]
        if not found:
            raise failure(FailureClass.EMPTY, provider=self.name)
        return found

    @contextmanager
    def open(self, document: DocumentRef) -> Iterator[Iterator[bytes]]:
        self.script.meet("open", document.key)
        symbol = document.source.removeprefix("fake:").partition("/")[0]
        yield iter([self.files[symbol, document.key]])


class FakeFx:
    """Implements FxProvider."""

    name = "fake-fx"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.rate = Decimal("1.0823")

    def rates(self, since: date | None) -> Sequence[FxRate]:
        self.script.meet("fx", None)
        return [FxRate("EUR", "USD", SESSION, self.rate), FxRate("EUR", "INR", SESSION, self.rate)]


class World:
    """One database, three fake providers, and the clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = Script()
        self.market = FakeMarket(self.script)
        self.documents = FakeDocuments(self.script)
        self.fx = FakeFx(self.script)
        self.tiers()
        use_research_policy(ResearchPolicy(folder, concurrency=3))
        self.clock(NOW)

    def tiers(self, *market: Any) -> None:
        """Who is asked for market data, the first tier first."""
        ports = MarketPorts(market or (self.market,), (self.documents,), (self.fx,))
        use_market_ports(ports)

    def clock(self, moment: datetime) -> None:
        """From now on the database says that it is `moment`."""
        self.now = moment
        execute(
            "CREATE OR REPLACE FUNCTION overnight_now() RETURNS timestamptz LANGUAGE sql STABLE"
            f" AS $$ SELECT timestamptz '{moment.isoformat()}' $$"
        )

    def later(self, **units: float) -> None:
        """Some time passes."""
        self.clock(self.now + timedelta(**units))

    def company(self, symbol: str, *, exchange: str = "NYSE", quarters: int = 6) -> int:
        """A company that we follow, with 200 days of prices and some quarters at the provider."""
        self.market.bars[symbol] = bars(SESSION, 200)
        self.market.dates[symbol] = [date(2027, 1, 28)]
        end = date(2026, 9, 30)
        self.market.revenue[symbol] = {
            end - timedelta(days=91 * n): Decimal(1_000 - 10 * n) for n in range(quarters)
        }
        self.documents.files[symbol, f"{symbol}-1"] = f"filing of {symbol}".encode()
        rows = fetch(
            "INSERT INTO company (symbol, name, exchange, currency, shares_outstanding)"
            " VALUES (%s, %s, %s, 'USD', 1000) RETURNING id",
            (symbol, f"{symbol} Inc", exchange),
        )
        return int(rows[0][0])

    def fail(
        self,
        endpoint: str,
        symbol: str | None,
        kind: FailureClass | BaseException,
        *,
        times: int = 0,
        retry_after: timedelta | None = None,
    ) -> None:
        """What a call gets; `times` 0: from now on. Symbol "*": whichever."""
        error = kind if isinstance(kind, BaseException) else failure(kind, retry_after)
        self.script.wrong[endpoint, symbol] = [error] * times + [FINE] if times else [error]

    def crash_at(self, endpoint: str, symbol: str | None) -> None:
        """The process dies in the next such call."""
        self.script.wrong[endpoint, symbol] = [Crash(f"{endpoint} {symbol}"), FINE]

    def start(self, *jobs: ResearchJob) -> str:
        """Begin a night; its id."""
        self.later(seconds=1)  # no two nights begin at one instant
        with transaction():
            return start_night(jobs or tuple(ResearchJob), trigger="manual").nightly_id

    def work(self, limit: int = 1_000) -> None:
        """Run what is due, and what falls due within the hour."""
        for _ in range(limit):
            if run_due():
                continue
            rows = fetch("SELECT min(due_at) FROM job_outbox WHERE due_at IS NOT NULL")
            due = rows[0][0]
            if due is None or due > self.now + timedelta(hours=1):
                return
            self.clock(due)
        raise AssertionError("it never ends")

    def night(self, *jobs: ResearchJob) -> str:
        """A whole night; its id."""
        nightly_id = self.start(*jobs)
        self.work()
        return nightly_id

    def run(self, job: str, nightly_id: str | None = None) -> dict[str, Any]:
        """The newest run of a job, or that of a night."""
        names = ("outcome", "reason", "processed", "updated", "skipped", "errors")
        [row] = fetch(
            f"SELECT {', '.join(names)} FROM job_run WHERE job = %s"
            " AND (%s::uuid IS NULL OR nightly_id = %s::uuid) ORDER BY created_at DESC, id LIMIT 1",
            (job, nightly_id, nightly_id),
        )
        return dict(zip(names, row, strict=True))

    def items(self, job: str) -> dict[str, tuple[str, str | None]]:
        """Status and reason of each item of the newest run of a job."""
        rows = fetch(
            "SELECT coalesce(c.symbol, i.item_key), i.status, i.reason FROM job_run_item i"
            " LEFT JOIN company c ON c.id::text = i.item_key WHERE i.run_id = (SELECT id"
            " FROM job_run WHERE job = %s ORDER BY created_at DESC, id LIMIT 1)",
            (job,),
        )
        return {key: (status, reason) for key, status, reason in rows}

    def crash(self) -> None:
        """Run until the process dies by a Crash, then let the rescue find its job."""
        with pytest.raises(Crash):
            run_due()
        self.rescue()

    def rescue(self) -> int:
        """What the rescue does once the worker's heartbeat is silent."""
        reconnect()
        rows = fetch(
            "UPDATE job_queue SET status = 'pending', claim_token = NULL, deaths = deaths + 1,"
            " run_at = overnight_now() WHERE status = 'processing' RETURNING id::text"
        )
        for (job_id,) in rows:
            execute("UPDATE job_outbox SET due_at = overnight_now() WHERE job_id = %s", (job_id,))
        return len(rows)

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that a night writes about companies, without when it was written."""
        columns = {
            "daily_price": "company_id, session_date, close, adjusted_close, volume, provider",
            "corporate_action": "company_id, kind, effective_date, value",
            "fx_rate": "base, quote, rate_date, rate",
            "statement": "company_id, period_type, period_end_date, vintage, is_current, digest",
            "document": "company_id, kind, document_key, sha256",
            "derived_metric": "company_id, period_end_date, metric_name, value, null_reason",
            "company": "symbol, next_earnings_date, market_cap, market_cap_on, shares_outstanding",
            "research_state": "company_id, inputs_revision = metrics_revision",
        }
        return {
            table: fetch(f"SELECT {names} FROM {table} ORDER BY {names}")
            for table, names in columns.items()
        }


def bars(newest: date, count: int, *, close: int = 100) -> list[DailyBar]:
    """Bars of weekdays up to `newest`, oldest first."""
    days = [newest - timedelta(days=n) for n in range(count)]
    return [
        DailyBar(day, None, None, None, Decimal(close + n), Decimal(close + n), 10)
        for n, day in enumerate(sorted(day for day in days if day.weekday() < 5))
    ]


@pytest.fixture
def world(database: str, tmp_path: Path) -> World:
    """Fresh, without companies."""
    return World(tmp_path / "documents")
