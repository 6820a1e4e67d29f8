"""Fetch an address over HTTPS: only from allowed hosts, in chunks, each step with a time limit.

    address → https and host allowed? → GET → redirects, each checked the same → chunks

The caller counts bytes and total time, and may stop at any chunk. Bodies are not compressed: a
small answer can't grow in memory.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import httpx

from domain.errors import InvalidInput
from providers.answers import NoAnswer, RawAnswer, Refusal, by_status
from providers.fields import Malformed
from providers.market import FailureClass
from providers.redaction import redact

MAX_REDIRECTS = 3

#: An answer that is read whole has so many bytes at most.
MAX_ANSWER_BYTES = 64_000_000

#: For a connection, and between two bytes of an answer.
STEP_TIMEOUT_S = 10.0

_HTTP_ERRORS = (httpx.HTTPError, httpx.InvalidURL)


class _WithoutKeys(logging.Filter):
    """httpx logs whole addresses, and a provider's key is in one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass, redacted."""
        record.msg, record.args = redact(record.getMessage()), ()
        return True


logging.getLogger("httpx").addFilter(_WithoutKeys())


class HttpFetcher:
    """Gets addresses of allowed hosts. Safe from any thread.

    Args:
        user_agent: who we are and how to reach us; the SEC refuses who does not say.
        hosts: host names without ports, or "host:port" where the address names one.
        schemes: others than https are for tests against a local server.
    """

    def __init__(
        self,
        user_agent: str,
        hosts: frozenset[str],
        *,
        schemes: frozenset[str] = frozenset({"https"}),
        step_timeout_s: float = STEP_TIMEOUT_S,
    ) -> None:
        if "@" not in user_agent or len(user_agent.split()) < 2:
            raise InvalidInput(
                "CONTACT: a name and an e-mail address, such as 'Example Ltd ops@example.com'"
            )
        self._hosts = hosts
        self._schemes = schemes
        self._client = httpx.Client(
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
            timeout=step_timeout_s,
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def get(self, url: str) -> Iterator[Iterator[bytes]]:
        """The body in chunks. Raises Refusal and NoAnswer, also while the chunks are read."""
        try:
            with self._responses(url) as response:
                if response.status_code != HTTPStatus.OK:
                    waits = retry_after(response.headers, datetime.now(UTC))
                    kind = by_status(response.status_code)
                    raise Refusal(kind, f"HTTP {response.status_code}", waits)
                yield _chunks(response)
        except _HTTP_ERRORS as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from None

    def read(self, url: str) -> RawAnswer:
        """The whole answer, whatever its status. Raises NoAnswer, Malformed, Refusal."""
        try:
            with self._responses(url) as response:
                body = bytearray()
                for chunk in _chunks(response):
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise Malformed("body", f"more than {MAX_ANSWER_BYTES} bytes")
                waits = retry_after(response.headers, datetime.now(UTC))
                return RawAnswer(bytes(body), response.status_code, waits)
        except _HTTP_ERRORS as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from None

    @contextmanager
    def _responses(self, url: str) -> Iterator[httpx.Response]:
        for _ in range(MAX_REDIRECTS + 1):
            self._check(url)
            with self._client.stream("GET", url) as response:
                if not response.is_redirect:
                    yield response
                    return
                url = urljoin(url, response.headers.get("location", ""))
        raise Refusal(FailureClass.BAD_REQUEST, f"more than {MAX_REDIRECTS} redirects")

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        except ValueError:
            raise Refusal(FailureClass.BAD_REQUEST, "no address") from None
        if parts.scheme not in self._schemes or parts.username or host not in self._hosts:
            schemes, hosts = (" or ".join(sorted(each)) for each in (self._schemes, self._hosts))
            told = f"{parts.scheme}://{host} is not allowed: only {schemes}, and {hosts}"
            raise Refusal(FailureClass.BAD_REQUEST, told)


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """The header Retry-After, as seconds or as a date; None without one that makes sense."""
    told = headers.get("retry-after", "").strip()
    if told.isascii() and told.isdigit() and len(told) < 8:
        return timedelta(seconds=max(1, int(told)))
    try:
        until = parsedate_to_datetime(told)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(until - now, timedelta(seconds=1))


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Malformed("Content-Encoding", "compressed, though we asked for it as it is")
    try:
        yield from response.iter_raw()  # as it arrives: waiting for a full chunk could be for ever
    except _HTTP_ERRORS as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from None
