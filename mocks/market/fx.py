"""Exchange rates from a golden copy: the ECB's XML, read as the real client reads it.

fx/eurofxref-hist.xml, or fx/eurofxref-daily.xml → FxRate
"""

import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from mocks.market.faults import Faults, faulty
from mocks.market.folder import GOLDEN, MOCK_KEY, NOTHING
from providers.alpha_vantage.failures import check
from providers.answers import NoAnswer, RawAnswer, Refusal, as_failure
from providers.ecb import read_rates
from providers.fields import Malformed
from providers.market import FxRate

FX = "FX"
_FILES = ("eurofxref-hist.xml", "eurofxref-daily.xml")


class MockFx:
    """Implements `providers.market.FxProvider`."""

    def __init__(
        self,
        folder: Path = GOLDEN,
        *,
        name: str = "mock-fx",
        delay_ms: int = 0,
        faults: Faults | None = None,
    ) -> None:
        self.name = name
        self._folder = folder / "fx"
        self._delay_s = delay_ms / 1_000
        self._faults = faults or Faults(folder=folder)

    def rates(self, since: date | None) -> Sequence[FxRate]:
        """Daily rates from `since` on (None: the newest day only), newest first."""
        if self._delay_s:
            time.sleep(self._delay_s)  # what MOCK_API_DELAY_MS asks for
        rule = self._faults.meet(self.name, FX, None)
        there = [self._folder / name for name in _FILES if (self._folder / name).is_file()]
        body = there[0].read_bytes() if there else NOTHING
        try:
            answer = RawAnswer(body) if rule is None else faulty(rule, body, MOCK_KEY)
            check(answer)
            found = read_rates(answer.body)
        except (NoAnswer, Malformed, Refusal) as error:
            raise as_failure(self.name, FX, error, [MOCK_KEY]) from None
        first = found[0].rate_date if since is None else since
        return [rate for rate in found if rate.rate_date >= first]
