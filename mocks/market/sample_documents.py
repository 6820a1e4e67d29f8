"""The sample data's filings and earnings calls: short texts of our own, in the real shapes."""

from pathlib import Path

from mocks.market.shapes import write_json

#: symbol → CIK, quarter of the call, (form, filed on, what for)
_FILED = {
    "AAPL": (
        "320193",
        "2024Q4",
        [("10-K", "2024-11-01", "the year to 2024-09-28"), ("8-K", "2024-10-31", "its results")],
    ),
    "MSFT": (
        "789019",
        "2025Q1",
        [("10-Q", "2024-10-30", "the quarter to 2024-09-30"), ("4", "2024-11-14", "a director")],
    ),
    "JANX": ("9000004", "2025Q3", [("10-Q", "2024-11-21", "the quarter to 2024-11-02")]),
}


def write_documents(folder: Path) -> None:
    """SYMBOL/documents of those that have any."""
    for symbol, (cik, quarter, filings) in _FILED.items():
        home = folder / symbol / "documents"
        home.mkdir(exist_ok=True)
        recent: dict[str, list[str]] = {
            "accessionNumber": [],
            "filingDate": [],
            "form": [],
            "primaryDocument": [],
            "primaryDocDescription": [],
        }
        for number, (form, filed_on, subject) in enumerate(filings, start=1):
            accession = f"0000000000-24-{int(cik) % 1000 * 10 + number:06d}"
            name = f"{symbol.lower()}-{form.lower()}.htm"
            row = (accession, filed_on, form, name, f"FORM {form}")
            for column, value in zip(recent.values(), row, strict=True):
                column.append(value)
            place = home / accession.replace("-", "")
            place.mkdir(exist_ok=True)
            (place / name).write_text(_filing(symbol, form, subject), encoding="utf-8")
        listing = {"cik": cik.zfill(10), "tickers": [symbol], "filings": {"recent": recent}}
        write_json(home / "submissions.json", listing)
        write_json(home / f"transcript_{quarter}.json", _call(symbol, quarter))


def _filing(symbol: str, form: str, subject: str) -> str:
    return (
        f"<!DOCTYPE html>\n<html><head><title>{symbol} {form}</title></head><body>\n"
        f"<h1>Form {form} of {symbol}: {subject}</h1>\n"
        "<p>Sample data of Overnight, written for tests. No real filing.</p>\n</body></html>\n"
    )


def _call(symbol: str, quarter: str) -> dict[str, object]:
    said = (
        ("Operator", "Operator", "Welcome to this invented call. It is sample data."),
        ("Sample Officer", "CFO", "Nothing was said here that anybody really said."),
    )
    remarks = [
        {"speaker": who, "title": title, "content": content, "sentiment": "0.0"}
        for who, title, content in said
    ]
    return {"symbol": symbol, "quarter": quarter, "transcript": remarks}
