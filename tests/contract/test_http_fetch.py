"""Fetching over HTTP: allowed hosts only, redirects included; what breaks off; who asks."""

import logging
import socket
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.errors import InvalidInput
from providers.alpha_vantage import AlphaVantage
from providers.alpha_vantage.http import HttpTransport
from providers.http import HttpFetcher, retry_after
from providers.http_documents import SecDocuments
from providers.market import DocumentRef, FailureClass, ProviderFailure
from usecases.research.download import DownloadLimits, TooLarge, download

CONTACT = "Overnight tests tests@example.com"
KEY = "SECRETKEY12345"
HTTP = frozenset({"http"})


def documents(host: str, **more: Any) -> SecDocuments:
    fetcher = HttpFetcher(CONTACT, frozenset({host}), schemes=HTTP, **more)
    return SecDocuments(fetcher)


def filing(url: str) -> DocumentRef:
    return DocumentRef(kind="filing", key="0000000000-24-000001", title="10-K", source=url)


def failure(pages: Any, url: str, folder: Path) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        download(documents(pages.host).open(filing(url)), folder, DownloadLimits())
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    return caught.value


def test_a_filing_is_streamed_and_says_who_asks(pages: Any, tmp_path: Path) -> None:
    pages.routes["/a.htm"] = 200, {}, b"<html>" * 50_000
    url = pages.url("/a.htm")
    found = download(documents(pages.host).open(filing(url)), tmp_path, DownloadLimits())
    assert found.size_bytes == 300_000
    [(path, headers)] = pages.asked
    assert (path, headers["User-Agent"]) == ("/a.htm", CONTACT)


def test_a_large_one_stops_in_the_middle(pages: Any, tmp_path: Path) -> None:
    pages.routes["/a.htm"] = 200, {}, b"x" * 1_000_000
    stream = documents(pages.host).open(filing(pages.url("/a.htm")))
    with pytest.raises(TooLarge):
        download(stream, tmp_path, DownloadLimits(max_bytes=100_000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/a.htm",
        "http://{host}.evil.example/a.htm",
        "http://evil.example@{host}/a.htm",
        "http://{host}@evil.example/a.htm",
        "https://{host}/a.htm",  # the scheme this test does not allow
        "ftp://{host}/a.htm",
        "file:///etc/hostname",
        "http://127.0.0.1:1/a.htm",
        "http://127.0.0.1:port/a.htm",
        "//{host}/a.htm",
        "",
    ],
)
def test_only_allowed_hosts_are_asked(pages: Any, tmp_path: Path, url: str) -> None:
    found = failure(pages, url.format(host=pages.host), tmp_path)
    assert found.failure_class is FailureClass.BAD_REQUEST
    assert pages.asked == []


@pytest.mark.parametrize("target", ["http://evil.example/x", "file:///etc/hostname", "ftp://x/y"])
def test_a_redirect_may_not_leave_the_allowed_hosts(
    pages: Any, tmp_path: Path, target: str
) -> None:
    pages.routes["/a.htm"] = 302, {"Location": target}, b""
    found = failure(pages, pages.url("/a.htm"), tmp_path)
    assert found.failure_class is FailureClass.BAD_REQUEST
    assert "not allowed" in found.detail
    assert len(pages.asked) == 1


def test_a_redirect_within_the_host_is_followed_and_not_for_ever(
    pages: Any, tmp_path: Path
) -> None:
    pages.routes["/a.htm"] = 301, {"Location": "/b.htm"}, b""
    pages.routes["/b.htm"] = 200, {}, b"here"
    stream = documents(pages.host).open(filing(pages.url("/a.htm")))
    assert download(stream, tmp_path / "whole", DownloadLimits()).size_bytes == 4
    pages.routes["/b.htm"] = 301, {"Location": "/a.htm"}, b""
    assert "redirects" in failure(pages, pages.url("/a.htm"), tmp_path / "none").detail


@pytest.mark.parametrize(
    ("page", "failure_class"),
    [
        ((404, {}, b""), FailureClass.NOT_FOUND),
        ((500, {}, b""), FailureClass.OUTAGE),
        ((200, {"Content-Length": "99"}, b"cut"), FailureClass.OUTAGE),
        ((200, {"Content-Encoding": "gzip"}, b"x"), FailureClass.MALFORMED),
    ],
    ids=["missing", "broken", "cut", "compressed"],
)
def test_what_goes_wrong_has_its_class(
    pages: Any, tmp_path: Path, page: Any, failure_class: FailureClass
) -> None:
    pages.routes["/a.htm"] = page
    assert failure(pages, pages.url("/a.htm"), tmp_path).failure_class is failure_class


def test_retry_after_comes_with_the_failure(pages: Any, tmp_path: Path) -> None:
    pages.routes["/a.htm"] = 429, {"Retry-After": "120"}, b""
    found = failure(pages, pages.url("/a.htm"), tmp_path)
    assert (found.failure_class, found.retry_after) == (FailureClass.BURST, timedelta(minutes=2))


def test_nobody_there_and_nobody_who_answers_are_outages(tmp_path: Path) -> None:
    """A port without a server; and one that takes the connection, and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        stream = documents(host, step_timeout_s=0.05).open(filing(f"http://{host}/a.htm"))
        with pytest.raises(ProviderFailure, match="OUTAGE"):
            download(stream, tmp_path, DownloadLimits())
    stream = documents(host).open(filing(f"http://{host}/a.htm"))
    with pytest.raises(ProviderFailure, match="OUTAGE"):
        download(stream, tmp_path, DownloadLimits())


def test_a_trickle_is_seen_byte_by_byte(tmp_path: Path) -> None:
    """Else the caller's limit of time would wait for a buffer that never fills."""
    seen = threading.Event()

    def serve(server: socket.socket) -> None:
        client, _ = server.accept()
        with client:
            client.recv(65_536)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx")
            seen.wait(30)  # the reader has the first byte, though a million are to come

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        try:
            with documents(host).open(filing(f"http://{host}/a.htm")) as chunks:
                assert next(chunks) == b"x"
        finally:
            seen.set()
            thread.join()


def test_the_key_is_in_the_address_and_in_no_log_or_error(
    pages: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """httpx logs each address: the key is taken out before."""
    caplog.set_level(logging.DEBUG)
    pages.routes["/query"] = (
        200,
        {},
        b'{"Information": "your API key as SECRETKEY12345: 25 requests per day"}',
    )
    fetcher = HttpFetcher(CONTACT, frozenset({pages.host}), schemes=HTTP)
    client = AlphaVantage(HttpTransport(fetcher, KEY, query=pages.url("/query")))
    with pytest.raises(ProviderFailure) as caught:
        client.company_overview("IBM")
    assert f"apikey={KEY}" in pages.asked[0][0]
    assert "HTTP Request: GET" in caplog.text  # it did log
    for text in (caplog.text, str(caught.value), repr(caught.value), caught.value.detail):
        assert KEY not in text


@pytest.mark.parametrize("contact", ["", "Overnight", "ops@example.com"])
def test_who_asks_must_be_said(contact: str) -> None:
    with pytest.raises(InvalidInput, match="CONTACT"):
        HttpFetcher(contact, frozenset())


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("120", 120),
        ("0", 1),
        ("Fri, 22 Nov 2024 12:01:00 GMT", 60),
        ("Fri, 22 Nov 2024 11:00:00 GMT", 1),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_as_seconds_or_as_a_date(told: str, seconds: int | None) -> None:
    now = datetime(2024, 11, 22, 12, tzinfo=UTC)
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after({"retry-after": told}, now) == expected
