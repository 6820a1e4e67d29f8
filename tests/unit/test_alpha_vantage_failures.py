"""Error bodies with HTTP 200: each in its class, and no key in anything that leaves."""

import csv
import logging
import traceback
from datetime import timedelta
from pathlib import Path

import pytest

from providers.alpha_vantage import AlphaVantage, Endpoint
from providers.answers import NoAnswer, RawAnswer
from providers.market import FailureClass, ProviderFailure
from providers.redaction import redact

KEY = "SECRETKEY12345"
BODIES = Path(__file__).parent / "alpha_vantage_errors"
EXPECTED = list(csv.DictReader((BODIES / "expected_class.csv").read_text().splitlines()))

#: (method, argument): every question of the protocol.
QUESTIONS = [
    ("company_overview", ("IBM",)),
    ("income_statement", ("IBM",)),
    ("balance_sheet", ("IBM",)),
    ("cash_flow", ("IBM",)),
    ("earnings", ("IBM",)),
    ("daily_prices", ("IBM", None)),
    ("earnings_calendar", (None,)),
]


class Says:
    """A transport with one answer."""

    secrets = (KEY,)

    def __init__(self, answer: RawAnswer | NoAnswer) -> None:
        self._answer = answer

    def get(self, endpoint: Endpoint, symbol: str | None, *, full: bool = True) -> RawAnswer:
        if isinstance(self._answer, NoAnswer):
            raise self._answer
        return self._answer


def failure(
    answer: RawAnswer | NoAnswer, method: str = "company_overview", *args: object
) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        getattr(AlphaVantage(Says(answer)), method)(*(args or ("IBM",)))
    return caught.value


#: A calendar comes as CSV, and an error of any question as JSON.
CASES = [
    pytest.param(row, method, args, id=f"{row['file']}-{method}")
    for row in EXPECTED
    for method, args in QUESTIONS
    if row["file"].endswith(".json") or method == "earnings_calendar"
]


@pytest.mark.parametrize(("row", "method", "args"), CASES)
def test_each_body_has_its_class_whatever_was_asked(
    row: dict[str, str], method: str, args: tuple[object, ...]
) -> None:
    found = failure(RawAnswer((BODIES / row["file"]).read_bytes()), method, *args)
    assert found.failure_class is FailureClass(row["class"])
    seconds = row["retry_after_s"]
    assert found.retry_after == (timedelta(seconds=int(seconds)) if seconds else None)


def test_every_fixture_is_expected() -> None:
    there = {path.name for path in BODIES.iterdir()} - {"expected_class.csv"}
    assert there == {row["file"] for row in EXPECTED}


@pytest.mark.parametrize(
    ("status", "failure_class"),
    [
        (400, FailureClass.BAD_REQUEST),
        (401, FailureClass.AUTH),
        (403, FailureClass.NOT_ENTITLED),
        (404, FailureClass.NOT_FOUND),
        (408, FailureClass.OUTAGE),
        (418, FailureClass.MALFORMED),
        (429, FailureClass.BURST),
        (500, FailureClass.OUTAGE),
        (503, FailureClass.OUTAGE),
        (599, FailureClass.OUTAGE),
    ],
)
def test_a_status_has_its_class(status: int, failure_class: FailureClass) -> None:
    assert failure(RawAnswer(b"<html>", status)).failure_class is failure_class


def test_a_sentence_says_more_than_its_status() -> None:
    body = (BODIES / "daily_quota.json").read_bytes()
    found = failure(RawAnswer(body, 429, timedelta(seconds=9)))
    assert found.failure_class is FailureClass.QUOTA_EXHAUSTED
    assert found.retry_after == timedelta(seconds=9)


def test_no_answer_is_an_outage() -> None:
    assert failure(NoAnswer("timed out")).failure_class is FailureClass.OUTAGE


LEAKS: list[RawAnswer | NoAnswer] = [
    RawAnswer((BODIES / "daily_quota_key_echo.json").read_bytes()),
    RawAnswer(f'{{"Information": "{KEY} is what you sent"}}'.encode()),
    RawAnswer(f'{{"Error Message": "Invalid API call with apikey={KEY.lower()}"}}'.encode()),
    RawAnswer(f'{{"Symbol": "{KEY}"}}'.encode()),
    RawAnswer(f'{{"Symbol": "IBM", "Name": "n", "Exchange": "x", "Currency": "{KEY}"}}'.encode()),
    RawAnswer(f'{{"{KEY}": '.encode()),
    RawAnswer(f"<html>{KEY}</html>".encode(), 500),
    NoAnswer(f"ConnectError: https://www.alphavantage.co/query?symbol=IBM&apikey={KEY}"),
]


@pytest.mark.parametrize("answer", LEAKS, ids=range(len(LEAKS)))
def test_no_key_leaves(answer: RawAnswer | NoAnswer, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the text, not in the traceback, not in a log: those become rows and reports."""
    try:
        AlphaVantage(Says(answer)).company_overview("IBM")
    except ProviderFailure as found:
        logging.getLogger("test").exception("a call failed")
        shown = "".join(traceback.format_exception(found)) + repr(found) + found.detail
    everything = (shown + caplog.text).lower()
    assert KEY.lower() not in everything
    assert KEY[:12].lower() not in everything


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("We have detected your API key as ABC123 and", "We have detected your API key as *** and"),
        ("/query?function=X&apikey=abc&symbol=Y", "/query?function=X&apikey=***&symbol=Y"),
        ("postgresql://me:secret@host/db", "postgresql://***@host/db"),
        (
            "the parameter apikey is invalid or missing",
            "the parameter apikey is invalid or missing",
        ),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_stands_where_a_key_would_is_hidden(text: str, redacted: str) -> None:
    assert redact(text) == redacted
