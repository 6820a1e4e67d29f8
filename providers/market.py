"""Market data, documents and exchange rates: what we ask of providers, and how they fail.

    protocol → mock over a golden copy | real client → tiered provider (fallback, budgets)

Numbers are Decimal as the provider wrote them; None is "not given", never zero.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from domain.errors import OvernightError


class FailureClass(StrEnum):
    """Why a call gave nothing; decides who is asked next and when this provider is asked again."""

    BURST = "BURST"  # too many at once: later today
    QUOTA_EXHAUSTED = "QUOTA_EXHAUSTED"  # not before the provider's next day
    NOT_ENTITLED = "NOT_ENTITLED"  # never with this plan
    BAD_REQUEST = "BAD_REQUEST"
    AUTH = "AUTH"  # the key is wrong: nothing will work
    NOT_FOUND = "NOT_FOUND"
    EMPTY = "EMPTY"  # an answer without rows: erases nothing
    OUTAGE = "OUTAGE"  # no answer, 5xx, timeout
    MALFORMED = "MALFORMED"  # an answer that is not what was promised


class ProviderFailure(OvernightError):
    """A call that gave nothing. The text never holds a key: it was redacted where it came in."""

    def __init__(
        self,
        provider: str,
        failure_class: FailureClass,
        detail: str,
        *,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(f"{provider}: {failure_class.value}: {detail}")
        self.provider = provider
        self.failure_class = failure_class
        self.detail = detail
        self.retry_after = retry_after


@dataclass(frozen=True)
class CompanyOverview:
    """Who a company is. `cik` has digits only."""

    symbol: str
    name: str
    exchange: str
    currency: str
    cik: str | None = None
    shares_outstanding: Decimal | None = None
    latest_quarter: date | None = None


@dataclass(frozen=True)
class StatementPeriod:
    """One period of one kind of statement: every line as given, None where it was not."""

    period_type: str  # quarter | annual
    period_end_date: date
    currency: str
    lines: Mapping[str, Decimal | None]


@dataclass(frozen=True)
class EarningsReport:
    """What a company reported for a quarter. `reported_eps` may leave out what GAAP counts."""

    period_end_date: date
    reported_date: date | None
    reported_eps: Decimal | None


@dataclass(frozen=True)
class DailyBar:
    """One session. `close` is raw; `adjusted_close` is the vendor's, for splits and dividends."""

    session_date: date
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal
    adjusted_close: Decimal | None
    volume: int | None


@dataclass(frozen=True)
class CorporateAction:
    """A split (`value` new shares per old one) or a cash dividend (`value` per share)."""

    kind: str  # split | dividend
    effective_date: date
    value: Decimal


@dataclass(frozen=True)
class PriceHistory:
    """Bars, oldest first, and the events among them."""

    bars: Sequence[DailyBar]
    actions: Sequence[CorporateAction] = field(default=())


@dataclass(frozen=True)
class EarningsDate:
    """One line of an earnings calendar."""

    symbol: str
    report_date: date
    period_end_date: date | None


class MarketDataProvider(Protocol):
    """Prices and fundamentals. Every call may raise ProviderFailure. Safe from any thread.

    `name` is what budgets, rows and reports call it; `has_full_calendar` says that one call of
    `earnings_calendar(None)` returns every symbol.
    """

    @property
    def name(self) -> str:
        """A short, stable name."""

    @property
    def has_full_calendar(self) -> bool:
        """Whether `earnings_calendar(None)` answers for all symbols at once."""

    def company_overview(self, symbol: str) -> CompanyOverview:
        """Who the company is."""

    def income_statement(self, symbol: str) -> Sequence[StatementPeriod]:
        """Quarterly and annual income statements, newest first."""

    def balance_sheet(self, symbol: str) -> Sequence[StatementPeriod]:
        """Quarterly and annual balance sheets, newest first."""

    def cash_flow(self, symbol: str) -> Sequence[StatementPeriod]:
        """Quarterly and annual cash flow statements, newest first."""

    def earnings(self, symbol: str) -> Sequence[EarningsReport]:
        """Reported earnings per quarter, newest first."""

    def daily_prices(self, symbol: str, since: date | None) -> PriceHistory:
        """Bars from `since` on (None: all there is), with splits and dividends."""

    def earnings_calendar(self, symbol: str | None) -> Sequence[EarningsDate]:
        """Coming reports of one symbol, or of all. EMPTY is a failure, and erases nothing."""


@dataclass(frozen=True)
class DocumentRef:
    """A document that a provider offers. `key` is unique per company and kind."""

    kind: str  # filing | transcript
    key: str
    title: str
    source: str  # a URL, or a path of the golden copy
    form: str | None = None
    filed_on: date | None = None


class DocumentProvider(Protocol):
    """Filings and transcripts. Every call may raise ProviderFailure."""

    @property
    def name(self) -> str:
        """A short, stable name."""

    def documents(self, symbol: str, cik: str | None) -> Sequence[DocumentRef]:
        """What there is for a company, newest first."""

    def open(self, document: DocumentRef) -> AbstractContextManager[Iterator[bytes]]:
        """The document in chunks; the caller counts bytes and time, and may stop at any chunk."""


@dataclass(frozen=True)
class FxRate:
    """`rate` units of `quote` for one of `base`, of that day."""

    base: str
    quote: str
    rate_date: date
    rate: Decimal


class FxProvider(Protocol):
    """Exchange rates. Every call may raise ProviderFailure."""

    @property
    def name(self) -> str:
        """A short, stable name."""

    def rates(self, since: date | None) -> Sequence[FxRate]:
        """Daily rates from `since` on (None: the newest day only)."""
