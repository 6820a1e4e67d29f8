"""Read Alpha Vantage's daily prices, splits and dividends, as JSON or CSV.

    body → rows → DailyBar, oldest first, and the CorporateActions among them

Closes are raw; `adjusted_close` is the vendor's. Raises Malformed.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from providers.fields import (
    Malformed,
    csv_rows,
    json_object,
    number,
    required_day,
    required_number,
)
from providers.market import CorporateAction, DailyBar, PriceHistory

_SERIES = "Time Series (Daily)"

#: Our name → the names that JSON ("5. volume", without its number) and CSV use.
_CSV_NAMES = {
    "adjusted close": "adjusted_close",
    "dividend amount": "dividend_amount",
    "split coefficient": "split_coefficient",
}


def read_daily(body: bytes) -> PriceHistory:
    """TIME_SERIES_DAILY or TIME_SERIES_DAILY_ADJUSTED, JSON or CSV."""
    is_json = body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    rows = _json_rows(body) if is_json else _csv_rows(body)
    bars: dict[date, DailyBar] = {}
    actions: list[CorporateAction] = []
    for session, where, row in rows:
        if session in bars:
            raise Malformed(where, f"{session} is there twice")
        bars[session] = _bar(session, where, row)
        actions += _actions(session, where, row)
    return PriceHistory(
        bars=[bars[session] for session in sorted(bars)],
        actions=sorted(actions, key=lambda action: (action.effective_date, action.kind)),
    )


def read_splits(body: bytes) -> list[CorporateAction]:
    """SPLITS as CSV: new shares per old one."""
    return _events(body, "split", "effective_date", "split_factor")


def read_dividends(body: bytes) -> list[CorporateAction]:
    """DIVIDENDS as CSV: cash per share, on the first day without the right to it."""
    return _events(body, "dividend", "ex_dividend_date", "amount")


def merged(history: PriceHistory, more: Iterable[CorporateAction]) -> PriceHistory:
    """The history with further events; what the bars say already wins."""
    actions = {(each.kind, each.effective_date): each for each in (*more, *history.actions)}
    ordered = sorted(actions.values(), key=lambda each: (each.effective_date, each.kind))
    return PriceHistory(history.bars, ordered)


def starting(history: PriceHistory, first: date | None) -> PriceHistory:
    """What is not older than `first`."""
    if first is None:
        return history
    return PriceHistory(
        [bar for bar in history.bars if bar.session_date >= first],
        [action for action in history.actions if action.effective_date >= first],
    )


def _json_rows(body: bytes) -> Iterable[tuple[date, str, Mapping[str, Any]]]:
    series = json_object(body).get(_SERIES)
    if not isinstance(series, dict):
        raise Malformed(_SERIES, "is missing" if series is None else "expected an object")
    for session, row in series.items():
        where = f"{_SERIES}.{session[:20]}"
        if not isinstance(row, dict):
            raise Malformed(where, "expected an object")
        yield (
            required_day(session, where),
            where,
            {name.partition(". ")[2]: raw for name, raw in row.items()},
        )


def _csv_rows(body: bytes) -> Iterable[tuple[date, str, Mapping[str, Any]]]:
    for index, row in enumerate(csv_rows(body, ["timestamp", "close"])):
        where = f"row {index}"
        fields = {name: row.get(_CSV_NAMES.get(name, name)) for name in (*row, *_CSV_NAMES)}
        yield required_day(row["timestamp"], f"{where}.timestamp"), where, fields


def _bar(session: date, where: str, row: Mapping[str, Any]) -> DailyBar:
    close = required_number(row.get("close"), f"{where}.close")
    if close <= 0:
        raise Malformed(f"{where}.close", f"expected more than 0, found {close}")
    adjusted = number(row.get("adjusted close"), f"{where}.adjusted close")
    if adjusted is not None and adjusted <= 0:
        raise Malformed(f"{where}.adjusted close", f"expected more than 0, found {adjusted}")
    volume = number(row.get("volume"), f"{where}.volume")
    if volume is not None and (volume < 0 or volume != volume.to_integral_value()):
        raise Malformed(f"{where}.volume", f"expected a whole number, found {volume}")
    return DailyBar(
        session_date=session,
        open=number(row.get("open"), f"{where}.open"),
        high=number(row.get("high"), f"{where}.high"),
        low=number(row.get("low"), f"{where}.low"),
        close=close,
        adjusted_close=adjusted,
        volume=None if volume is None else int(volume),
    )


def _actions(session: date, where: str, row: Mapping[str, Any]) -> Iterable[CorporateAction]:
    dividend = number(row.get("dividend amount"), f"{where}.dividend amount")
    if dividend:
        yield _action("dividend", session, dividend, f"{where}.dividend amount")
    split = number(row.get("split coefficient"), f"{where}.split coefficient")
    if split is not None and split != 1:
        yield _action("split", session, split, f"{where}.split coefficient")


def _events(body: bytes, kind: str, when: str, value: str) -> list[CorporateAction]:
    found = []
    for index, row in enumerate(csv_rows(body, [when, value])):
        amount = number(row[value], f"row {index}.{value}")
        if amount is None:
            continue  # declared, and not yet known how much
        session = required_day(row[when], f"row {index}.{when}")
        found.append(_action(kind, session, amount, f"row {index}.{value}"))
    return sorted(found, key=lambda action: action.effective_date)


def _action(kind: str, session: date, value: Decimal, field: str) -> CorporateAction:
    if value <= 0:
        raise Malformed(field, f"expected more than 0, found {value}")
    return CorporateAction(kind, session, value)
