"""Reading Alpha Vantage's answers: what is missing is None, what is wrong is named."""

import contextlib
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.alpha_vantage.calendar import read_calendar
from providers.alpha_vantage.company import (
    read_earnings,
    read_overview,
    read_shares_outstanding,
    read_statement,
    read_transcript,
)
from providers.alpha_vantage.prices import read_daily, read_dividends, read_splits
from providers.fields import Malformed, number

OVERVIEW = {"Symbol": "IBM", "Name": "I", "Exchange": "NYSE", "Currency": "USD"}
PERIOD = {"fiscalDateEnding": "2024-09-30", "reportedCurrency": "USD", "totalRevenue": "1"}
BAR = {"1. open": "1", "2. high": "2", "3. low": "1", "4. close": "2", "5. volume": "3"}


def body(content: object) -> bytes:
    return json.dumps(content).encode()


def statement(*quarters: object, **more: object) -> bytes:
    return body({"symbol": "IBM", "quarterlyReports": quarters, "annualReports": [], **more})


def daily(**sessions: object) -> bytes:
    days = {day.replace("_", "-")[1:]: row for day, row in sessions.items()}
    return body({"Time Series (Daily)": days})


def malformed(read: Callable[[], Any]) -> str:
    with pytest.raises(Malformed) as caught:
        read()
    return str(caught.value)


@pytest.mark.parametrize("nothing", [None, "None", "none", "null", "", " ", "-", "."])
def test_words_for_nothing_are_none(nothing: object) -> None:
    assert number(nothing, "field") is None


@pytest.mark.parametrize(
    "wrong",
    [
        "NaN",
        "Infinity",
        "-inf",
        "1_000",
        "1,000",
        "12abc",
        "0x10",
        "1e999",
        "9" * 99,
        "١٢",
        True,
        [],
    ],
)
def test_what_is_no_number_is_named(wrong: object) -> None:
    assert malformed(lambda: number(wrong, "some.field")).startswith("some.field: expected")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_a_number_is_what_the_provider_wrote(value: Decimal) -> None:
    assert number(str(value), "field") == value
    assert number(f"{value:f}", "field") == value


def test_an_overview_without_the_rest() -> None:
    found = read_overview(body(OVERVIEW | {"CIK": "0000051143", "LatestQuarter": "None"}), "ibm")
    assert (found.cik, found.shares_outstanding, found.latest_quarter) == ("51143", None, None)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"Symbol": "AAPL"}, "Symbol: asked for IBM, the answer is about 'AAPL'"),
        ({"Name": "None"}, "Name: is missing"),
        ({"Currency": "usd"}, "Currency: expected three letters"),
        ({"CIK": "12x"}, "CIK: expected at most 10 digits"),
        ({"SharesOutstanding": "many"}, "SharesOutstanding: expected a number, found 'many'"),
        ({"SharesOutstanding": "-1"}, "SharesOutstanding: expected at least 0"),
        ({"LatestQuarter": "2024-13-01"}, "LatestQuarter: expected YYYY-MM-DD"),
        ({"LatestQuarter": "20240930"}, "LatestQuarter: expected YYYY-MM-DD"),
        ({"Exchange": 7}, "Exchange: expected text, found 7"),
    ],
)
def test_a_wrong_overview_is_named(wrong: dict[str, object], named: str) -> None:
    assert malformed(lambda: read_overview(body(OVERVIEW | wrong), "IBM")).startswith(named)


def test_every_line_of_a_statement_is_kept() -> None:
    lines = {"totalRevenue": "94930000000", "ebitda": "None", "aNewLine": "-1.5"}
    years = [PERIOD | {"fiscalDateEnding": "2023-12-31"}]
    found = read_statement(statement(PERIOD | lines, annualReports=years), "IBM")
    assert [(p.period_type, p.period_end_date) for p in found] == [
        ("quarter", date(2024, 9, 30)),
        ("annual", date(2023, 12, 31)),
    ]
    assert found[0].lines == {
        "totalRevenue": Decimal("94930000000"),
        "ebitda": None,
        "aNewLine": Decimal("-1.5"),
    }


def test_the_newest_period_comes_first_in_any_order() -> None:
    older = PERIOD | {"fiscalDateEnding": "2024-06-30"}
    found = read_statement(statement(older, PERIOD), "IBM")
    assert [p.period_end_date.month for p in found] == [9, 6]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (statement(PERIOD, PERIOD), "quarterlyReports[1].fiscalDateEnding: 2024-09-30 is there"),
        (statement(PERIOD | {"totalRevenue": "n/a"}), "quarterlyReports[0].totalRevenue: expected"),
        (statement(PERIOD | {"totalRevenue": []}), "quarterlyReports[0].totalRevenue: expected"),
        (
            statement({"reportedCurrency": "USD"}),
            "quarterlyReports[0].fiscalDateEnding: is",
        ),
        (statement(PERIOD | {"reportedCurrency": "None"}), "quarterlyReports[0].reportedCurrency"),
        (statement("text"), "quarterlyReports[0]: expected an object"),
        (body({"symbol": "IBM", "quarterlyReports": {}}), "quarterlyReports: expected a list"),
        (body({"symbol": "IBM"}), "quarterlyReports: is missing, and so is annualReports"),
        (statement(symbol="AAPL"), "symbol: asked for IBM"),
        (b"[]", "body: expected an object"),
        (b'{"symbol": "IBM", "quarterlyReports": [{"a": NaN}]}', "body: not JSON"),
        (b'{"symbol": "IB', "body: not JSON"),
        (b"", "body: not JSON"),
        (b"\xff\xfe", "body: not UTF-8 at byte 0"),
        (b"[" * 100_000, "body: not JSON"),
    ],
)
def test_a_wrong_statement_is_named(content: bytes, named: str) -> None:
    assert malformed(lambda: read_statement(content, "IBM")).startswith(named)


def test_earnings_without_a_date_or_a_figure() -> None:
    quarter = {"fiscalDateEnding": "2024-09-30", "reportedDate": "None", "reportedEPS": "None"}
    [found] = read_earnings(body({"symbol": "IBM", "quarterlyEarnings": [quarter]}), "IBM")
    assert (found.reported_date, found.reported_eps) == (None, None)


def test_prices_in_json_with_events() -> None:
    events = {"7. dividend amount": "1.6900", "8. split coefficient": "2.0"}
    adjusted = {"4. close": "2", "5. adjusted close": "1", "6. volume": "9"} | events
    found = read_daily(daily(d2024_05_08=adjusted, d2024_05_07=BAR))
    assert [(b.session_date.day, b.close, b.adjusted_close, b.volume) for b in found.bars] == [
        (7, Decimal(2), None, 3),
        (8, Decimal(2), Decimal(1), 9),
    ]
    assert found.bars[1].open is None
    assert [(a.kind, a.value) for a in found.actions] == [
        ("dividend", Decimal("1.6900")),
        ("split", Decimal(2)),
    ]


def test_prices_in_csv_by_their_header() -> None:
    content = b"close,timestamp,volume,adjusted_close,dividend_amount,split_coefficient\r\n"
    content += b"219.3,2024-05-15,6154450,219.1,0.0000,1.0\r\n218,2024-05-14,null,,0.5,1.0\r\n\r\n"
    found = read_daily(b"\xef\xbb\xbf" + content)
    assert [(b.close, b.adjusted_close, b.volume) for b in found.bars] == [
        (Decimal(218), None, None),
        (Decimal("219.3"), Decimal("219.1"), 6154450),
    ]
    assert [(a.kind, a.effective_date.day) for a in found.actions] == [("dividend", 14)]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (daily(d2024_05_08={}), "Time Series (Daily).2024-05-08.close: is missing"),
        (
            daily(d2024_05_08=BAR | {"4. close": "0"}),
            "Time Series (Daily).2024-05-08.close: exp",
        ),
        (daily(d2024_05_08=BAR | {"5. volume": "1.5"}), "Time Series (Daily).2024-05-08.volume"),
        (daily(d2024_05_08=[]), "Time Series (Daily).2024-05-08: expected an object"),
        (daily(d2024_05_32=BAR), "Time Series (Daily).2024-05-32: expected YYYY-MM-DD"),
        (
            daily(d2024_05_08=BAR | {"8. split coefficient": "-2"}),
            "Time Series (Daily).2024-05-08",
        ),
        (body({"Meta Data": {}}), "Time Series (Daily): is missing"),
        (b"timestamp,open\n2024-05-08,1\n", "close: no such column; there are 'timestamp, open'"),
        (b"timestamp,close\n2024-05-08,1,2\n", "line 2: expected 2 fields"),
        (b"timestamp,close\n2024-05-08\n", "line 2: expected 2 fields"),
        (b"timestamp,close\n2024-05-08,1\n2024-05-08,1\n", "row 1: 2024-05-08 is there twice"),
        (b'timestamp,close\n"2024-05-08,1\n', "body: not CSV"),
        (b"<html>", "timestamp: no such column"),
    ],
)
def test_wrong_prices_are_named(content: bytes, named: str) -> None:
    assert malformed(lambda: read_daily(content)).startswith(named)


def test_events_and_shares_in_csv() -> None:
    assert [
        (a.effective_date.year, a.value)
        for a in read_splits(b"effective_date,split_factor\n2021-11-04,1.0460\n1999-05-27,2.0000\n")
    ] == [(1999, Decimal(2)), (2021, Decimal("1.046"))]
    [paid] = read_dividends(b"amount,ex_dividend_date\n1.69,2026-05-08\nNone,2026-08-08\n")
    assert (paid.kind, paid.value) == ("dividend", Decimal("1.69"))
    shares = b"date,shares_outstanding_diluted,shares_outstanding_basic\n"
    shares += b"2025-12-31,9,8\n2026-03-31,7,6\n2026-06-30,7,null\n"
    assert read_shares_outstanding(shares)[0] == (date(2026, 3, 31), Decimal(6))


def test_a_calendar_by_its_header_in_any_order() -> None:
    content = b'reportDate,name,symbol,fiscalDateEnding\n2026-05-18,"A, B",IBM,2026-03-31\n'
    content += b"2026-05-17,,AAPL,\n"
    found = read_calendar(content, None)
    assert [(each.symbol, each.period_end_date) for each in found] == [
        ("AAPL", None),
        ("IBM", date(2026, 3, 31)),
    ]
    assert [each.symbol for each in read_calendar(content, "ibm")] == ["IBM"]
    wrong = b"symbol,reportDate\nIBM,soon\n"
    assert malformed(lambda: read_calendar(wrong, None)).startswith("row 0.reportDate: expected")


def test_a_transcript() -> None:
    said = {"speaker": "A", "title": "None", "content": "Hello"}
    call = {"symbol": "IBM", "quarter": "2024Q1", "transcript": [said]}
    found = read_transcript(body(call), "IBM")
    assert (found.quarter, found.remarks[0].title) == ("2024Q1", None)
    wrong = call | {"transcript": [{"speaker": "A"}]}
    assert malformed(lambda: read_transcript(body(wrong), "IBM")).startswith(
        "transcript[0].content"
    )


@given(st.binary(max_size=300))
def test_garbage_is_malformed_and_nothing_else(garbage: bytes) -> None:
    for read in (
        lambda: read_overview(garbage, "IBM"),
        lambda: read_statement(garbage, "IBM"),
        lambda: read_earnings(garbage, "IBM"),
        lambda: read_daily(garbage),
        lambda: read_splits(garbage),
        lambda: read_calendar(garbage, None),
        lambda: read_transcript(garbage, "IBM"),
    ):
        with contextlib.suppress(Malformed):
            read()
