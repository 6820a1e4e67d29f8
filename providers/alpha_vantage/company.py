"""Read what Alpha Vantage says of a company: overview, statements, earnings, transcript.

    body → fields → CompanyOverview | StatementPeriod | EarningsReport | Transcript

Every line of a statement is kept under the provider's name. Raises Malformed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from providers.fields import (
    Malformed,
    csv_rows,
    day,
    json_object,
    number,
    objects,
    required_day,
    required_text,
    text,
)
from providers.market import CompanyOverview, EarningsReport, StatementPeriod

#: Which list of a statement or an earnings answer holds which type of period.
_REPORTS = {"quarterlyReports": "quarter", "annualReports": "annual"}
_NOT_LINES = ("fiscalDateEnding", "reportedCurrency")


@dataclass(frozen=True)
class Remark:
    """What somebody said in an earnings call."""

    speaker: str
    title: str | None
    content: str


@dataclass(frozen=True)
class Transcript:
    """An earnings call. `quarter` is the provider's, such as 2024Q1."""

    symbol: str
    quarter: str
    remarks: Sequence[Remark]


def read_overview(body: bytes, symbol: str) -> CompanyOverview:
    """OVERVIEW. The CIK's leading zeros go: other sources pad it differently."""
    found = json_object(body)
    _same_symbol(found, "Symbol", symbol)
    cik = text(found.get("CIK"), "CIK")
    if cik is not None and not (cik.isascii() and cik.isdigit() and len(cik) <= 10):
        raise Malformed("CIK", f"expected at most 10 digits, found {cik[:20]!r}")
    shares = number(found.get("SharesOutstanding"), "SharesOutstanding")
    if shares is not None and shares < 0:
        raise Malformed("SharesOutstanding", f"expected at least 0, found {shares}")
    return CompanyOverview(
        symbol=required_text(found.get("Symbol"), "Symbol"),
        name=required_text(found.get("Name"), "Name"),
        exchange=required_text(found.get("Exchange"), "Exchange"),
        currency=_currency(found.get("Currency"), "Currency"),
        cik=(cik.lstrip("0") or None) if cik else None,
        shares_outstanding=shares or None,
        latest_quarter=day(found.get("LatestQuarter"), "LatestQuarter"),
    )


def read_statement(body: bytes, symbol: str) -> list[StatementPeriod]:
    """INCOME_STATEMENT, BALANCE_SHEET or CASH_FLOW: quarters and years, newest first."""
    found = json_object(body)
    _same_symbol(found, "symbol", symbol)
    if not _REPORTS.keys() & found.keys():
        raise Malformed("quarterlyReports", "is missing, and so is annualReports")
    periods: list[StatementPeriod] = []
    for key, period_type in _REPORTS.items():
        ends: set[date] = set()
        for index, row in enumerate(objects(found, key) if key in found else ()):
            period = _period(row, period_type, f"{key}[{index}]")
            if period.period_end_date in ends:
                where = f"{key}[{index}].fiscalDateEnding"
                raise Malformed(where, f"{period.period_end_date} is there twice")
            ends.add(period.period_end_date)
            periods.append(period)
    periods.sort(key=lambda period: period.period_end_date, reverse=True)
    return periods


def read_earnings(body: bytes, symbol: str) -> list[EarningsReport]:
    """EARNINGS: the quarters, newest first."""
    found = json_object(body)
    _same_symbol(found, "symbol", symbol)
    reports = {}
    for index, row in enumerate(objects(found, "quarterlyEarnings")):
        where = f"quarterlyEarnings[{index}]."
        ends = required_day(row.get("fiscalDateEnding"), where + "fiscalDateEnding")
        if ends in reports:
            raise Malformed(where + "fiscalDateEnding", f"{ends} is there twice")
        reports[ends] = EarningsReport(
            period_end_date=ends,
            reported_date=day(row.get("reportedDate"), where + "reportedDate"),
            reported_eps=number(row.get("reportedEPS"), where + "reportedEPS"),
        )
    return [reports[ends] for ends in sorted(reports, reverse=True)]


def read_shares_outstanding(body: bytes) -> list[tuple[date, Decimal]]:
    """SHARES_OUTSTANDING as CSV: (date, basic shares) where given, newest first."""
    basic = "shares_outstanding_basic"
    found = [
        (required_day(row["date"], f"row {index}.date"), number(row[basic], f"row {index}.{basic}"))
        for index, row in enumerate(csv_rows(body, ["date", basic]))
    ]
    return sorted(((when, shares) for when, shares in found if shares), reverse=True)


def read_transcript(body: bytes, symbol: str) -> Transcript:
    """EARNINGS_CALL_TRANSCRIPT. `remarks` is empty where the provider has no text."""
    found = json_object(body)
    _same_symbol(found, "symbol", symbol)
    remarks = []
    for index, row in enumerate(objects(found, "transcript")):
        where = f"transcript[{index}]."
        remarks.append(
            Remark(
                speaker=required_text(row.get("speaker"), where + "speaker"),
                title=text(row.get("title"), where + "title"),
                content=required_text(row.get("content"), where + "content"),
            )
        )
    return Transcript(
        symbol=required_text(found.get("symbol"), "symbol"),
        quarter=required_text(found.get("quarter"), "quarter"),
        remarks=remarks,
    )


def _period(row: Mapping[str, Any], period_type: str, where: str) -> StatementPeriod:
    return StatementPeriod(
        period_type=period_type,
        period_end_date=required_day(row.get("fiscalDateEnding"), f"{where}.fiscalDateEnding"),
        currency=_currency(row.get("reportedCurrency"), f"{where}.reportedCurrency"),
        lines={
            name: number(raw, f"{where}.{name}")
            for name, raw in row.items()
            if name not in _NOT_LINES
        },
    )


def _currency(raw: object, field: str) -> str:
    found = required_text(raw, field)
    if not (len(found) == 3 and found.isascii() and found.isalpha() and found.isupper()):
        raise Malformed(field, f"expected three letters such as USD, found {found[:20]!r}")
    return found


def _same_symbol(found: Mapping[str, Any], key: str, symbol: str) -> None:
    """Another company's figures under our company would be worse than none."""
    named = required_text(found.get(key), key)
    if named.upper() != symbol.upper():
        raise Malformed(key, f"asked for {symbol}, the answer is about {named[:20]!r}")
