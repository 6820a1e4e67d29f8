"""Trading days by hand: closes, half days, holidays, summer time, and unknown years."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from domain.errors import InvalidInput, InvariantBroken
from domain.trading_days import close_of, is_session, last_closed_session, sessions

INDIA = ZoneInfo("Asia/Kolkata")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("exchange", "day", "closes"),
    [
        ("NYSE", "2024-11-22", "2024-11-22 21:00"),  # 16:00 EST
        ("NASDAQ", "2024-07-02", "2024-07-02 20:00"),  # 16:00 EDT
        ("NYSE", "2024-07-03", "2024-07-03 17:00"),  # half day: 13:00 EDT
        ("NYSE", "2024-11-29", "2024-11-29 18:00"),  # the Friday after Thanksgiving: 13:00 EST
        ("NYSE", "2024-12-24", "2024-12-24 18:00"),
        ("NYSE", "2025-01-09", None),  # mourning for President Carter
        ("NYSE", "2012-10-29", None),  # a storm
        ("NYSE", "2021-12-31", "2021-12-31 21:00"),  # New Year on a Saturday is not made up for
        ("NYSE", "2022-06-20", None),  # Juneteenth, observed
        ("NYSE", "2024-11-23", None),  # Saturday
        ("NYSE", "2026-11-26", None),  # Thanksgiving
        ("NSE", "2024-11-22", "2024-11-22 10:00"),  # 15:30 IST
        ("BSE", "2024-11-20", None),  # Maharashtra votes
        ("NSE", "2024-01-22", None),
        ("NSE", "2024-11-01", "2024-11-01 13:30"),  # Diwali: an hour in the evening
        ("NSE", "2025-02-01", "2025-02-01 10:00"),  # a Saturday with the budget
        ("NSE", "2023-06-28", "2023-06-28 10:00"),  # Bakri Id was moved to the 29th
        ("NSE", "2023-06-29", None),
        ("NSE", "2026-11-24", None),
    ],
)
def test_when_a_session_closes(exchange: str, day: str, closes: str | None) -> None:
    found = close_of(exchange, date.fromisoformat(day))
    assert found == (utc(closes) if closes else None)


@pytest.mark.parametrize(
    ("now", "last"),
    [
        # 02:00 in India, winter: 15:30 in New York, the session is still open.
        ("2024-11-22 02:00", "2024-11-20"),
        # 02:00 in India, summer: 16:30 in New York, it has closed.
        ("2024-07-19 02:00", "2024-07-18"),
        # The nights on which New York changes its clock: Fridays' sessions, seen on Saturday.
        ("2024-03-09 02:00", "2024-03-07"),  # still winter
        ("2024-03-12 02:00", "2024-03-11"),  # summer since Sunday
        ("2024-11-02 02:00", "2024-11-01"),  # still summer
        ("2024-11-05 02:00", "2024-11-01"),  # winter since Sunday: Monday is open, Friday counts
        # Weekend, and a Monday holiday behind it.
        ("2024-09-03 02:00", "2024-08-30"),  # Labor Day
        ("2024-11-25 02:00", "2024-11-22"),
        # A half day closes at 13:00: at 02:00 in India it has long closed, in winter too.
        ("2024-11-30 02:00", "2024-11-29"),
        # Christmas: the 24th was a half day.
        ("2024-12-26 02:00", "2024-12-24"),
        ("2025-01-02 02:00", "2024-12-31"),
    ],
)
def test_the_last_closed_session_of_new_york_at_two_in_india(now: str, last: str) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=INDIA)
    assert last_closed_session("NYSE", at) == date.fromisoformat(last)


def test_a_session_counts_when_its_close_and_the_grace_have_passed() -> None:
    closes, grace = utc("2024-11-22 21:00"), timedelta(minutes=15)
    before = closes + grace - timedelta(seconds=1)
    assert last_closed_session("NYSE", before, grace) == date(2024, 11, 21)
    assert last_closed_session("NYSE", closes + grace, grace) == date(2024, 11, 22)
    assert last_closed_session("NYSE", closes, timedelta(0)) == date(2024, 11, 22)


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2024-11-22 02:00", "2024-11-21"),
        ("2024-11-21 02:00", "2024-11-19"),  # the 20th was election day
        ("2024-11-02 02:00", "2024-11-01"),  # the evening hour of Diwali
        ("2024-11-01 18:59", "2024-10-31"),
        ("2024-11-01 19:15", "2024-11-01"),
        ("2025-02-02 02:00", "2025-02-01"),  # the Saturday of the budget
    ],
)
def test_the_last_closed_session_of_mumbai(now: str, last: str) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=INDIA)
    assert last_closed_session("NSE", at) == date.fromisoformat(last)


def test_the_longest_break_of_new_york_is_crossed() -> None:
    assert last_closed_session("NYSE", utc("2001-09-17 12:00")) == date(2001, 9, 10)


def test_how_many_sessions_a_year_has() -> None:
    """As the exchanges say; India's with its special sessions."""
    assert len(sessions("NYSE", date(2024, 1, 1), date(2024, 12, 31))) == 252
    assert len(sessions("NYSE", date(2025, 1, 1), date(2025, 12, 31))) == 250
    assert len(sessions("NYSE", date(2001, 1, 1), date(2001, 12, 31))) == 248
    assert len(sessions("NSE", date(2024, 1, 1), date(2024, 12, 31))) == 249


def test_the_holidays_that_new_york_published_for_2028() -> None:
    weekdays = {date(2028, 1, 1) + timedelta(n) for n in range(366)}
    closed = {d for d in weekdays if d.weekday() < 5 and not is_session("NYSE", d)}
    assert sorted(closed) == [
        date(2028, 1, 17),
        date(2028, 2, 21),
        date(2028, 4, 14),
        date(2028, 5, 29),
        date(2028, 6, 19),
        date(2028, 7, 4),
        date(2028, 9, 4),
        date(2028, 11, 23),
        date(2028, 12, 25),
    ]


@pytest.mark.parametrize(("exchange", "year"), [("NYSE", 2029), ("NYSE", 1999), ("BSE", 2027)])
def test_a_year_beyond_the_calendar_fails_with_the_next_step(exchange: str, year: int) -> None:
    now = datetime(year, 6, 15, 12, tzinfo=UTC)
    with pytest.raises(InvariantBroken, match=rf"{exchange} knows .*trading_days\.py"):
        last_closed_session(exchange, now)


def test_an_unknown_exchange_names_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"'LSE'; known are NYSE, NASDAQ.*BSE"):
        is_session("LSE", date(2024, 11, 22))


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        last_closed_session("NYSE", datetime(2024, 11, 22))  # noqa: DTZ001 - what is refused
