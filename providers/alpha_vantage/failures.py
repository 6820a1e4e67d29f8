"""Sort the ways Alpha Vantage says no: most come with HTTP 200 and a sentence.

    status, body → check → nothing (go on and read it) | Refusal with its class

The order matters: the text of a burst names the daily limit too, and most texts advertise
"premium". The texts change over the years, so they are matched by their core.
"""

import json
import re
from datetime import timedelta
from http import HTTPStatus

from providers.answers import RawAnswer, Refusal, by_status
from providers.market import FailureClass
from providers.redaction import clip

#: A body that is longer is data: it need not be read twice.
LONGEST_SENTENCE_BYTES = 16_384

_SECOND, _MINUTE = timedelta(seconds=1), timedelta(minutes=1)

#: (what its text holds, class, when it may work again), first match wins.
_SENTENCES: tuple[tuple[re.Pattern[str], FailureClass, timedelta | None], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), failure_class, retry_after)
    for pattern, failure_class, retry_after in (
        (r"api ?key\b.*\b(invalid|missing)|invalid api key", FailureClass.AUTH, None),
        (r"(calls|requests) per minute", FailureClass.BURST, _MINUTE),
        (r"\b1 request per second|more sparingly|burst pattern", FailureClass.BURST, _SECOND),
        (r"\bis a premium (endpoint|feature)", FailureClass.NOT_ENTITLED, None),
        (r"(requests|calls) per day|daily (rate )?limit", FailureClass.QUOTA_EXHAUSTED, None),
        (r"invalid api call", FailureClass.BAD_REQUEST, None),
    )
)


def check(answer: RawAnswer) -> None:
    """Raise Refusal if the answer is one, whatever shape was asked for."""
    sentence = _sentence(answer.body)
    found = _by_sentence(*sentence) if sentence else None
    if answer.status == HTTPStatus.OK and found is None:
        return
    if found is None or found.failure_class is FailureClass.MALFORMED:
        found = _by_status(answer.status) or found
    assert found is not None  # one of the two spoke
    raise Refusal(found.failure_class, str(found), answer.retry_after or found.retry_after)


def _by_status(status: int) -> Refusal | None:
    if status == HTTPStatus.OK:
        return None
    return Refusal(by_status(status), f"HTTP {status}")


def _sentence(body: bytes) -> tuple[str, str] | None:
    """The key and the text of an error body; None for everything else."""
    if len(body) > LONGEST_SENTENCE_BYTES or not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(
        b"{"
    ):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None  # its reader says where it breaks
    if found == {}:
        return "body", "{}"
    for key in ("Error Message", "Note", "Information"):
        if isinstance(told := found.get(key), str):
            return key, told
    return None


def _by_sentence(key: str, told: str) -> Refusal:
    if key == "body":
        return Refusal(FailureClass.NOT_FOUND, "{}: the provider knows nothing of it")
    for pattern, failure_class, retry_after in _SENTENCES:
        if pattern.search(told):
            return Refusal(failure_class, clip(told), retry_after)
    return Refusal(FailureClass.MALFORMED, f"{key}: a text nobody has met: {clip(told)}")
