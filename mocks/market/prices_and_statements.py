"""Market data from a golden copy: the real client over a folder.

    MockMarketData → AlphaVantage → FolderTransport → files

A folder may hold events and share counts in files of their own; they are added to what the
price and overview files say.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TypeVar

from mocks.market.faults import Faults
from mocks.market.folder import GOLDEN, NOTHING, FolderTransport
from providers.alpha_vantage import AlphaVantage, Endpoint
from providers.alpha_vantage.company import read_shares_outstanding
from providers.alpha_vantage.prices import merged, read_dividends, read_splits, starting
from providers.answers import as_failure
from providers.fields import Malformed
from providers.market import CompanyOverview, PriceHistory

T = TypeVar("T")


class MockMarketData(AlphaVantage):
    """Implements `providers.market.MarketDataProvider`; a company comes from the first folder."""

    def __init__(
        self,
        *folders: Path,
        name: str = "mock-primary",
        delay_ms: int = 0,
        faults: Faults | None = None,
    ) -> None:
        homes = folders or (GOLDEN,)
        faults = faults or Faults(folder=homes[-1])
        self._files = FolderTransport(homes, name, delay_ms=delay_ms, faults=faults)
        super().__init__(self._files, name=name)

    def company_overview(self, symbol: str) -> CompanyOverview:
        """Who the company is; the shares also from shares_outstanding.csv."""
        found = super().company_overview(symbol)
        if found.shares_outstanding is None:
            counts = self._own(Endpoint.SHARES_OUTSTANDING, symbol, read_shares_outstanding)
            found = replace(found, shares_outstanding=counts[0][1] if counts else None)
        return found

    def daily_prices(self, symbol: str, since: date | None) -> PriceHistory:
        """Bars from `since` on; events also from splits.csv and dividends.csv."""
        history = super().daily_prices(symbol, None)
        events = [
            *self._own(Endpoint.SPLITS, symbol, read_splits),
            *self._own(Endpoint.DIVIDENDS, symbol, read_dividends),
        ]
        return starting(merged(history, events), since)

    def _own(self, endpoint: Endpoint, symbol: str, read: Callable[[bytes], list[T]]) -> list[T]:
        """What a file of its own says; no request, so no budget and no fault."""
        body = self._files.read(endpoint, symbol)
        try:
            return [] if body == NOTHING else read(body)
        except Malformed as error:
            raise as_failure(self.name, f"{endpoint.value} {symbol}", error) from None
