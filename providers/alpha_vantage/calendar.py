"""Read Alpha Vantage's EARNINGS_CALENDAR: CSV by its header, every symbol in one answer.

    body → rows → EarningsDate, soonest first

A header without rows is an answer without rows: the caller turns it into EMPTY.
"""

from providers.fields import csv_rows, day, required_day, required_text
from providers.market import EarningsDate


def read_calendar(body: bytes, symbol: str | None) -> list[EarningsDate]:
    """The lines of `symbol`, or all of them. Raises Malformed."""
    dates = []
    for index, row in enumerate(csv_rows(body, ["symbol", "reportDate"])):
        named = required_text(row["symbol"], f"row {index}.symbol")
        if symbol is not None and named.upper() != symbol.upper():
            continue
        dates.append(
            EarningsDate(
                symbol=named,
                report_date=required_day(row["reportDate"], f"row {index}.reportDate"),
                period_end_date=day(row.get("fiscalDateEnding"), f"row {index}.fiscalDateEnding"),
            )
        )
    return sorted(dates, key=lambda each: (each.report_date, each.symbol))
