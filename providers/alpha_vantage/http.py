"""Alpha Vantage over HTTPS: one request a question; the key is in the address, and nowhere else.

(endpoint, symbol) → https://www.alphavantage.co/query?function=…&apikey=… → RawAnswer
"""

from collections.abc import Sequence
from urllib.parse import urlencode

from providers.alpha_vantage.transport import Endpoint
from providers.answers import RawAnswer
from providers.http import HttpFetcher

QUERY = "https://www.alphavantage.co/query"
HOSTS = frozenset({"www.alphavantage.co"})

_PRICES = (Endpoint.DAILY, Endpoint.DAILY_ADJUSTED)
_AS_CSV = (Endpoint.SPLITS, Endpoint.DIVIDENDS, Endpoint.SHARES_OUTSTANDING)


class HttpTransport:
    """Implements `providers.alpha_vantage.Transport`. `query`: another address, for tests."""

    def __init__(self, fetcher: HttpFetcher, key: str, *, query: str = QUERY) -> None:
        self._fetcher = fetcher
        self._key = key
        self._query = query

    @property
    def secrets(self) -> Sequence[str]:
        """The key."""
        return (self._key,)

    def get(self, endpoint: Endpoint, symbol: str | None, *, full: bool = True) -> RawAnswer:
        """The raw answer, whatever its status. Raises NoAnswer, Malformed, Refusal."""
        asked = {"function": endpoint.value}
        if symbol is not None:
            asked["symbol"] = symbol
        if endpoint in _PRICES:
            asked["outputsize"] = "full" if full else "compact"
        if endpoint in _AS_CSV:
            asked["datatype"] = "csv"
        if endpoint is Endpoint.EARNINGS_CALENDAR:
            asked["horizon"] = "3month"
        asked["apikey"] = self._key
        return self._fetcher.read(f"{self._query}?{urlencode(asked)}")
