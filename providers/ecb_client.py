"""The European Central Bank's reference rates as an FxProvider.

eurofxref-daily.xml | eurofxref-hist-90d.xml → FxRate
"""

from collections.abc import Sequence
from datetime import date
from http import HTTPStatus

from providers.answers import NoAnswer, Refusal, as_failure, by_status
from providers.ecb import DAILY, RECENT, read_rates
from providers.fields import Malformed
from providers.http import HttpFetcher
from providers.market import FxRate

HOSTS = frozenset({"www.ecb.europa.eu"})


class EcbRates:
    """Implements `providers.market.FxProvider`. One request: a day's rates, or 90 days'."""

    def __init__(
        self, fetcher: HttpFetcher, *, name: str = "ecb", daily: str = DAILY, recent: str = RECENT
    ) -> None:
        self.name = name
        self._fetcher = fetcher
        self._daily = daily
        self._recent = recent

    def rates(self, since: date | None) -> Sequence[FxRate]:
        """Daily rates from `since` on, 90 days back at most (None: the newest day only)."""
        try:
            answer = self._fetcher.read(self._daily if since is None else self._recent)
            if answer.status != HTTPStatus.OK:
                kind = by_status(answer.status)
                raise Refusal(kind, f"HTTP {answer.status}", answer.retry_after)
            found = read_rates(answer.body)
        except (NoAnswer, Malformed, Refusal) as error:
            raise as_failure(self.name, "rates", error) from None
        return [rate for rate in found if since is None or rate.rate_date >= since]
