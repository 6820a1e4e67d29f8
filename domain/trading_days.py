"""Trading days: when an exchange's sessions close, and which was the last that has closed.

    exchange, instant → last_closed_session → the date that prices should have

Times are the exchange's own, through zoneinfo, so summer time needs no care. A year that the
calendar does not know is an error with the next step, never a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from domain.errors import InvalidInput, InvariantBroken

#: How long after the close a session counts: providers need a while to have its prices.
GRACE = timedelta(minutes=15)

#: The longest that an exchange stays closed, and more (New York: 6 days in September 2001).
_LONGEST_BREAK_DAYS = 15


@dataclass(frozen=True)
class _Market:
    """The calendar of some exchanges. `holidays` names it in the package of that name."""

    holidays: str
    zone: str
    closes: time
    half_day_closes: time | None
    years: range  # those that were compared with what the exchange published
    closed_too: frozenset[date] = frozenset()  # what the package does not know
    special: Mapping[date, time] = field(default_factory=dict)  # sessions on other days: close


_NEW_YORK = _Market("NYSE", "America/New_York", time(16), time(13), range(2000, 2029))

#: India's exchanges close for elections and the like at short notice, open on a weekend for the
#: budget, and hold an hour's session at Diwali, a holiday (its close is given).
_MUMBAI = _Market(
    "XNSE",
    "Asia/Kolkata",
    time(15, 30),
    None,
    range(2023, 2027),
    closed_too=frozenset(
        {
            date(2023, 6, 29),  # Bakri Id, moved by a day
            date(2024, 1, 22),  # Ram temple in Ayodhya
            date(2024, 5, 20),  # general election in Mumbai
            date(2024, 11, 20),  # Maharashtra's election
            date(2026, 1, 15),  # municipal election
        }
    ),
    special={
        date(2023, 6, 28): time(15, 30),  # Bakri Id was to be this day
        date(2023, 11, 12): time(19, 15),
        date(2024, 1, 20): time(15, 30),  # a full Saturday
        date(2024, 3, 2): time(12, 30),  # a test of the disaster site
        date(2024, 5, 18): time(12, 30),
        date(2024, 11, 1): time(19, 0),
        date(2025, 2, 1): time(15, 30),  # budget
        date(2025, 10, 21): time(14, 45),
        date(2026, 2, 1): time(15, 30),  # budget
        date(2026, 11, 8): time(19, 15),
    },
)

#: Every exchange that a company may name.
_EXCHANGES = {
    "NYSE": _NEW_YORK,
    "NASDAQ": _NEW_YORK,
    "NYSE ARCA": _NEW_YORK,
    "NYSE MKT": _NEW_YORK,
    "AMEX": _NEW_YORK,
    "BATS": _NEW_YORK,
    "NSE": _MUMBAI,
    "BSE": _MUMBAI,
}
EXCHANGES = tuple(_EXCHANGES)


def close_of(exchange: str, day: date) -> datetime | None:
    """When the session of `day` closes (aware); None when there is none.

    Raises:
        InvalidInput: an exchange that has no calendar here.
        InvariantBroken: a year that its calendar does not know.
    """
    market = _market(exchange)
    if day.year not in market.years:
        raise InvariantBroken(
            f"the calendar of {exchange} knows {market.years[0]} to {market.years[-1]}, not {day}:"
            " compare the package `holidays` with the year that the exchange published, add what"
            " it lacks and extend `years` in domain/trading_days.py"
        )
    if day in market.special:
        closes = market.special[day]
    elif day.weekday() >= 5 or day in market.closed_too or day in _days_off(market.holidays, day):
        return None
    elif market.half_day_closes and day in _half_days(market.holidays, day):
        closes = market.half_day_closes
    else:
        closes = market.closes
    return datetime.combine(day, closes, ZoneInfo(market.zone))


def is_session(exchange: str, day: date) -> bool:
    """Whether the exchange trades on `day`. Raises like `close_of`."""
    return close_of(exchange, day) is not None


def sessions(exchange: str, first: date, last: date) -> list[date]:
    """The sessions from `first` to `last`, both included. Raises like `close_of`."""
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return [day for day in days if is_session(exchange, day)]


def last_closed_session(exchange: str, now: datetime, grace: timedelta = GRACE) -> date:
    """The newest session whose close + `grace` has passed at `now` (aware). Raises like `close_of`.

    Compared as instants. At 02:00 in India, New York is still open in winter, and closed in
    summer.
    """
    if now.tzinfo is None:
        raise ValueError("last_closed_session needs an aware instant")
    today = now.astimezone(ZoneInfo(_market(exchange).zone)).date()
    for days in range(_LONGEST_BREAK_DAYS + 1):
        day = today - timedelta(days=days)
        closes = close_of(exchange, day)
        if closes is not None and closes.timestamp() + grace.total_seconds() <= now.timestamp():
            return day
    raise InvariantBroken(f"{exchange}: no session in {_LONGEST_BREAK_DAYS} days before {now}")


def _market(exchange: str) -> _Market:
    try:
        return _EXCHANGES[exchange.strip().upper()]
    except KeyError:
        known = ", ".join(EXCHANGES)
        raise InvalidInput(
            f"exchange: no trading calendar for {exchange!r}; known are {known}. Give the company"
            " one of them, or add a calendar in domain/trading_days.py"
        ) from None


def _days_off(calendar: str, day: date) -> frozenset[date]:
    return _of_year(calendar, day.year, "public")


def _half_days(calendar: str, day: date) -> frozenset[date]:
    return _of_year(calendar, day.year, "half_day")


@cache
def _of_year(calendar: str, year: int, category: str) -> frozenset[date]:
    import holidays  # a large package: only who asks for a calendar pays for it

    found = holidays.financial_holidays(calendar, years=year, categories=(category,), expand=False)
    return frozenset(found)
