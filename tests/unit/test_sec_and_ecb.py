"""Reading the SEC's lists of filings and the ECB's rates."""

import json
from datetime import date
from decimal import Decimal

import pytest

from providers.ecb import read_rates
from providers.fields import Malformed
from providers.sec import read_submissions

RECENT = {
    "accessionNumber": ["0000000000-24-000001", "0000000000-24-000002", "0000000000-24-000003"],
    "filingDate": ["2024-05-01", "2024-11-01", "2024-11-02"],
    "form": ["10-Q", "10-K/A", "4"],
    "primaryDocument": ["q1.htm", "sub dir/a.htm", "form4.xml"],
    "primaryDocDescription": ["FORM 10-Q", "", ""],
}


def submissions(**wrong: object) -> bytes:
    return json.dumps({"cik": "0000320193", "filings": {"recent": RECENT | wrong}}).encode()


def test_filings_of_the_wanted_forms_newest_first() -> None:
    amended, quarterly = read_submissions(submissions())
    assert (amended.key, amended.form, amended.title) == (
        "0000000000-24-000002",
        "10-K/A",
        "10-K/A",
    )
    assert amended.source == (
        "https://www.sec.gov/Archives/edgar/data/320193/000000000024000002/sub%20dir/a.htm"
    )
    assert (quarterly.title, quarterly.filed_on) == ("FORM 10-Q", date(2024, 5, 1))


def test_a_filing_without_a_document_is_left_out() -> None:
    assert len(read_submissions(submissions(primaryDocument=["", "a.htm", "b.xml"]))) == 1


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"form": ["10-Q"]}, "filings.recent: columns of different lengths"),
        ({"form": "10-Q"}, "filings.recent.form: expected a list"),
        ({"filingDate": ["soon", "", ""]}, r"filings.recent\[0\].filingDate: expected YYYY-MM-DD"),
        ({"primaryDocument": ["../../x", "", ""]}, r"filings.recent\[0\]: expected an accession"),
        ({"accessionNumber": ["a/b", "", ""]}, r"filings.recent\[0\]: expected an accession"),
    ],
)
def test_wrong_submissions_are_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(Malformed, match=named):
        read_submissions(submissions(**wrong))


@pytest.mark.parametrize("body", [b"{}", b'{"cik": "x"}', b'{"cik": "1", "filings": []}', b"<"])
def test_what_is_no_list_of_filings_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_submissions(body)


def rates(*cubes: str, head: str = "") -> bytes:
    envelope = '<g:Envelope xmlns:g="urn:g" xmlns="urn:e"><Cube>'
    return f"<?xml version='1.0'?>{head}{envelope}{''.join(cubes)}</Cube></g:Envelope>".encode()


def day(when: str, **quotes: str) -> str:
    lines = "".join(f"<Cube currency='{name}' rate='{rate}'/>" for name, rate in quotes.items())
    return f"<Cube time='{when}'>{lines}</Cube>"


def test_rates_newest_day_first() -> None:
    older, newer = day("2024-11-21", USD="1.05", INR="88.4"), day("2024-11-22", USD="1.0412")
    found = read_rates(rates(older, newer))
    assert [(rate.rate_date.day, rate.quote, rate.rate) for rate in found] == [
        (22, "USD", Decimal("1.0412")),
        (21, "INR", Decimal("88.4")),
        (21, "USD", Decimal("1.05")),
    ]
    assert {rate.base for rate in found} == {"EUR"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (rates(), "Cube: no rates"),
        (rates(day("2024-11-22", USD="0")), "Cube.2024-11-22.USD.rate: expected more than 0"),
        (rates(day("2024-11-22", USD="N/A")), "Cube.2024-11-22.USD.rate: expected a number"),
        (rates(day("2024-11-22", usd="1")), "Cube.currency"),
        (rates(day("22.11.2024", USD="1")), "Cube.time: expected YYYY-MM-DD"),
        (rates("<Cube currency='USD' rate='1'/>"), "Cube.currency: no day"),
        (rates()[:-5], "body: not XML"),
        (b"", "body: not XML"),
        (rates(head="<!DOCTYPE x [<!ENTITY a 'aaaa'>]>"), "body: a document type"),
    ],
)
def test_wrong_rates_are_named(body: bytes, named: str) -> None:
    with pytest.raises(Malformed, match=named):
        read_rates(body)
