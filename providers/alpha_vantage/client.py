"""Alpha Vantage as a MarketDataProvider, over any transport: HTTP, or a folder in its place.

    question → transport → check (is it a refusal?) → reader → dataclasses

One call is one request, so that one call costs one unit of a budget. Every failure leaves as a
ProviderFailure whose text was redacted, and without the error it came from: that one may hold
the key.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import TypeVar

from providers.alpha_vantage.calendar import read_calendar
from providers.alpha_vantage.company import read_earnings, read_overview, read_statement
from providers.alpha_vantage.failures import check
from providers.alpha_vantage.prices import read_daily, starting
from providers.alpha_vantage.transport import Endpoint, Transport
from providers.answers import NoAnswer, Refusal, as_failure
from providers.fields import Malformed
from providers.market import (
    CompanyOverview,
    EarningsDate,
    EarningsReport,
    FailureClass,
    PriceHistory,
    ProviderFailure,
    StatementPeriod,
)

T = TypeVar("T")

#: The newest 100 bars are a "compact" answer: enough for this many calendar days, with a margin.
COMPACT_DAYS = 120


class AlphaVantage:
    """Implements `providers.market.MarketDataProvider`.

    `adjusted`: ask for adjusted prices with their events, which a free key may not.
    """

    has_full_calendar = True

    def __init__(
        self,
        transport: Transport,
        *,
        name: str = "alpha-vantage",
        adjusted: bool = True,
        today: Callable[[], date] = date.today,
    ) -> None:
        self.name = name
        self._transport = transport
        self._prices = Endpoint.DAILY_ADJUSTED if adjusted else Endpoint.DAILY
        self._today = today

    def company_overview(self, symbol: str) -> CompanyOverview:
        """Who the company is."""
        return self.ask(Endpoint.OVERVIEW, symbol, lambda body: read_overview(body, symbol))

    def income_statement(self, symbol: str) -> Sequence[StatementPeriod]:
        """Quarterly and annual income statements, newest first."""
        return self._statement(Endpoint.INCOME_STATEMENT, symbol)

    def balance_sheet(self, symbol: str) -> Sequence[StatementPeriod]:
        """Quarterly and annual balance sheets, newest first."""
        return self._statement(Endpoint.BALANCE_SHEET, symbol)

    def cash_flow(self, symbol: str) -> Sequence[StatementPeriod]:
        """Quarterly and annual cash flow statements, newest first."""
        return self._statement(Endpoint.CASH_FLOW, symbol)

    def earnings(self, symbol: str) -> Sequence[EarningsReport]:
        """Reported earnings per quarter, newest first."""
        found = self.ask(Endpoint.EARNINGS, symbol, lambda body: read_earnings(body, symbol))
        return self.not_empty(found, Endpoint.EARNINGS, symbol)

    def daily_prices(self, symbol: str, since: date | None) -> PriceHistory:
        """Bars from `since` on, with splits and dividends; none may be newer than known."""
        full = since is None or (self._today() - since).days > COMPACT_DAYS
        history = self.ask(self._prices, symbol, read_daily, full=full)
        self.not_empty(history.bars, self._prices, symbol)
        return starting(history, since)

    def earnings_calendar(self, symbol: str | None) -> Sequence[EarningsDate]:
        """Coming reports of one symbol, or of all."""
        found = self.ask(
            Endpoint.EARNINGS_CALENDAR, symbol, lambda body: read_calendar(body, symbol)
        )
        return self.not_empty(found, Endpoint.EARNINGS_CALENDAR, symbol)

    def ask(
        self,
        endpoint: Endpoint,
        symbol: str | None,
        read: Callable[[bytes], T],
        *,
        full: bool = True,
    ) -> T:
        """One request, its answer read by `read`. Raises ProviderFailure."""
        try:
            answer = self._transport.get(endpoint, symbol, full=full)
            check(answer)
            return read(answer.body)
        except (NoAnswer, Malformed, Refusal) as error:
            secrets = self._transport.secrets
            raise as_failure(self.name, _subject(endpoint, symbol), error, secrets) from None

    def not_empty(self, found: Sequence[T], endpoint: Endpoint, symbol: str | None) -> Sequence[T]:
        """`found`, unless it is nothing. Raises ProviderFailure EMPTY."""
        if not found:
            detail = f"{_subject(endpoint, symbol)}: an answer without rows"
            raise ProviderFailure(self.name, FailureClass.EMPTY, detail)
        return found

    def _statement(self, endpoint: Endpoint, symbol: str) -> Sequence[StatementPeriod]:
        found = self.ask(endpoint, symbol, lambda body: read_statement(body, symbol))
        return self.not_empty(found, endpoint, symbol)


def _subject(endpoint: Endpoint, symbol: str | None) -> str:
    return f"{endpoint.value} {symbol}" if symbol else endpoint.value
