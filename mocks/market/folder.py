"""A golden-copy folder as a transport: the bytes of its files, after a delay, or a fault.

    (endpoint, symbol) → file → bytes | fault | {} where there is none

The files are answers as the provider gave them; nothing is read here.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path

from mocks.market.faults import Faults, faulty
from providers.alpha_vantage import Endpoint
from providers.answers import RawAnswer

#: The project's own sample data.
GOLDEN = Path(__file__).parent / "golden"

#: The mock's key: nothing secret, but it must be redacted like one (a fault repeats it).
MOCK_KEY = "MOCKKEY0123456789"

_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9.^=-]{0,31}")

#: Endpoint → its file in the company's folder; the first that is there.
FILES = {
    Endpoint.OVERVIEW: ("overview.json",),
    Endpoint.INCOME_STATEMENT: ("income_statement.json",),
    Endpoint.BALANCE_SHEET: ("balance_sheet.json",),
    Endpoint.CASH_FLOW: ("cash_flow.json",),
    Endpoint.EARNINGS: ("earnings.json",),
    Endpoint.DAILY: ("time_series_daily.json", "time_series_daily.csv"),
    Endpoint.DAILY_ADJUSTED: (
        "time_series_daily_adjusted.json",
        "time_series_daily_adjusted.csv",
        "time_series_daily.json",
    ),
    Endpoint.SPLITS: ("splits.csv",),
    Endpoint.DIVIDENDS: ("dividends.csv",),
    Endpoint.SHARES_OUTSTANDING: ("shares_outstanding.csv",),
}
CALENDAR_FILE = "earnings_calendar.csv"

#: What the provider says of something that it does not know.
NOTHING = b"{}"
_NO_CALENDAR = b"symbol,name,reportDate,fiscalDateEnding,estimate,currency,timeOfTheDay\n"


def company_folder(folder: Path, symbol: str) -> Path | None:
    """The folder of a company; None when there is none, or when the symbol is no name for one."""
    found = folder / symbol if _SYMBOL.fullmatch(symbol) else None
    return found if found is not None and found.is_dir() else None


def sample_symbols(folder: Path = GOLDEN) -> list[str]:
    """The companies of a golden copy, sorted."""
    return sorted(found.parent.name for found in folder.glob("*/overview.json"))


class FolderTransport:
    """Implements `providers.alpha_vantage.Transport`; `name` is the provider's, for the faults."""

    secrets: Sequence[str] = (MOCK_KEY,)

    def __init__(
        self, folders: Sequence[Path], name: str, *, delay_ms: int, faults: Faults
    ) -> None:
        self._folders = folders  # a company, and the calendar, come from the first that has them
        self._name = name
        self._delay_s = delay_ms / 1_000
        self._faults = faults

    def get(self, endpoint: Endpoint, symbol: str | None, *, full: bool = True) -> RawAnswer:
        """The file's bytes. Raises NoAnswer when a fault says so."""
        if self._delay_s:
            time.sleep(self._delay_s)  # what MOCK_API_DELAY_MS asks for
        rule = self._faults.meet(self._name, endpoint.value, symbol)
        body = self.read(endpoint, symbol)
        return RawAnswer(body) if rule is None else faulty(rule, body, MOCK_KEY)

    def read(self, endpoint: Endpoint, symbol: str | None) -> bytes:
        """The file's bytes; what the provider says of something unknown when there is none."""
        if endpoint is Endpoint.EARNINGS_CALENDAR:
            calendars = (folder / CALENDAR_FILE for folder in self._folders)
            return next((each.read_bytes() for each in calendars if each.is_file()), _NO_CALENDAR)
        homes = (company_folder(folder, symbol or "") for folder in self._folders)
        home = next(filter(None, homes), None)
        files = [home / name for name in FILES[endpoint]] if home else []
        return next((each.read_bytes() for each in files if each.is_file()), NOTHING)
