"""How a question reaches Alpha Vantage, or what stands in for it: bytes and a status come back."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from providers.answers import RawAnswer


class Endpoint(StrEnum):
    """The functions that are asked for, as Alpha Vantage calls them."""

    OVERVIEW = "OVERVIEW"
    INCOME_STATEMENT = "INCOME_STATEMENT"
    BALANCE_SHEET = "BALANCE_SHEET"
    CASH_FLOW = "CASH_FLOW"
    EARNINGS = "EARNINGS"
    DAILY = "TIME_SERIES_DAILY"
    DAILY_ADJUSTED = "TIME_SERIES_DAILY_ADJUSTED"
    SPLITS = "SPLITS"
    DIVIDENDS = "DIVIDENDS"
    SHARES_OUTSTANDING = "SHARES_OUTSTANDING"
    EARNINGS_CALENDAR = "EARNINGS_CALENDAR"
    TRANSCRIPT = "EARNINGS_CALL_TRANSCRIPT"


class Transport(Protocol):
    """Asks one question: one request. Safe from any thread."""

    @property
    def secrets(self) -> Sequence[str]:
        """What must never be shown: the key."""

    def get(self, endpoint: Endpoint, symbol: str | None, *, full: bool = True) -> RawAnswer:
        """The raw answer. `full`: all history, not only the newest bars. Raises NoAnswer."""
