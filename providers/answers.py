"""What came back from outside, unread, and how it becomes a ProviderFailure.

bytes and a status | nothing → reader → dataclasses, or as_failure: redacted, in one line
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from providers.fields import Malformed
from providers.market import FailureClass, ProviderFailure
from providers.redaction import clip, redact

_STATUSES: dict[int, FailureClass] = {
    HTTPStatus.BAD_REQUEST: FailureClass.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED: FailureClass.AUTH,
    HTTPStatus.PAYMENT_REQUIRED: FailureClass.NOT_ENTITLED,
    HTTPStatus.FORBIDDEN: FailureClass.NOT_ENTITLED,
    HTTPStatus.NOT_FOUND: FailureClass.NOT_FOUND,
    HTTPStatus.GONE: FailureClass.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: FailureClass.OUTAGE,
    HTTPStatus.TOO_MANY_REQUESTS: FailureClass.BURST,
}


@dataclass(frozen=True)
class RawAnswer:
    """What came back, unread. `retry_after`: of the header Retry-After."""

    body: bytes
    status: int = HTTPStatus.OK
    retry_after: timedelta | None = None


class NoAnswer(Exception):
    """Nothing came back: refused, cut, timed out. The text may hold secrets until redacted."""


class Refusal(Exception):
    """An answer that is a failure. The text may hold secrets until redacted."""

    def __init__(
        self, failure_class: FailureClass, detail: str, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(detail)
        self.failure_class = failure_class
        self.retry_after = retry_after


def by_status(status: int) -> FailureClass:
    """The class of an HTTP status that is not 200."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return FailureClass.OUTAGE
    return _STATUSES.get(status, FailureClass.MALFORMED)


def as_failure(
    provider: str, subject: str, error: NoAnswer | Malformed | Refusal, secrets: Iterable[str] = ()
) -> ProviderFailure:
    """Raise it `from None`: the error it came from may hold the key."""
    failure_class, retry_after = FailureClass.OUTAGE, None
    if isinstance(error, Malformed):
        failure_class = FailureClass.MALFORMED
    elif isinstance(error, Refusal):
        failure_class, retry_after = error.failure_class, error.retry_after
    detail = clip(redact(f"{subject}: {error}", secrets))
    return ProviderFailure(provider, failure_class, detail, retry_after=retry_after)
