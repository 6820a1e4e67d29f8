"""Downloads: whole files under their hash, limits on size and time, and nothing left behind."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mocks.market import GOLDEN, FaultRule, Faults, MockDocuments
from mocks.market.faults import Fault
from providers.market import DocumentRef, FailureClass, ProviderFailure
from usecases.research.download import (
    DownloadLimits,
    NothingThere,
    TooLarge,
    TooSlow,
    download,
    sweep_partial,
)

LIMITS = DownloadLimits(max_bytes=10, max_s=5)


class Stream:
    """Chunks, closed at the end; an error is raised in its place."""

    def __init__(self, *chunks: bytes | BaseException) -> None:
        self._chunks = chunks
        self.closed = False
        self.given = 0

    @contextmanager
    def open(self) -> Iterator[Iterator[bytes]]:
        try:
            yield self._read()
        finally:
            self.closed = True

    def _read(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            self.given += 1
            yield chunk


def files_in(folder: Path) -> Sequence[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_document_is_stored_whole_under_its_hash(tmp_path: Path) -> None:
    stream = Stream(b"hello", b"", b" you")
    found = download(stream.open(), tmp_path / "documents", LIMITS)
    digest = hashlib.sha256(b"hello you").hexdigest()
    assert (found.sha256, found.size_bytes) == (digest, 9)
    assert found.file == f"{digest[:2]}/{digest}"
    assert files_in(tmp_path) == [tmp_path / "documents" / found.file]
    assert (tmp_path / "documents" / found.file).read_bytes() == b"hello you"
    assert stream.closed


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    first = download(Stream(b"same").open(), tmp_path, LIMITS)
    assert download(Stream(b"sa", b"me").open(), tmp_path, LIMITS) == first
    assert len(files_in(tmp_path)) == 1


def test_too_large_stops_at_the_limit_and_leaves_nothing(tmp_path: Path) -> None:
    assert download(Stream(b"x" * 10).open(), tmp_path, LIMITS).size_bytes == 10
    endless = Stream(*[b"xxxx"] * 1_000)
    with pytest.raises(TooLarge, match="more than 10 bytes"):
        download(endless.open(), tmp_path, LIMITS)
    assert endless.given == 3  # not a chunk more was asked for
    assert endless.closed
    assert len(files_in(tmp_path)) == 1


def test_too_slow_stops_and_leaves_nothing(tmp_path: Path) -> None:
    """A byte now and then never times out by itself."""
    ticks = iter(range(100))
    trickle = Stream(*[b"x"] * 9)
    with pytest.raises(TooSlow, match="longer than 5 s"):
        download(trickle.open(), tmp_path, LIMITS, clock=lambda: float(next(ticks)))
    assert trickle.given == 6
    assert trickle.closed
    assert files_in(tmp_path) == []


def test_an_empty_document_is_none(tmp_path: Path) -> None:
    with pytest.raises(NothingThere):
        download(Stream().open(), tmp_path, LIMITS)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [ProviderFailure("p", FailureClass.OUTAGE, "cut"), KeyboardInterrupt(), OSError("disk")],
    ids=["failure", "interrupt", "disk"],
)
def test_what_breaks_off_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        download(Stream(b"half", error).open(), tmp_path, LIMITS)
    assert files_in(tmp_path) == []


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    kept = download(Stream(b"whole").open(), tmp_path, LIMITS)
    old, young = tmp_path / ".partial-old", tmp_path / ".partial-young"
    long_ago = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    for path in (old, young, tmp_path / kept.file):
        path.write_bytes(b"whole")
    for path in (old, tmp_path / kept.file):
        os.utime(path, (long_ago, long_ago))
    assert sweep_partial(tmp_path) == 1
    assert sorted(files_in(tmp_path)) == sorted([young, tmp_path / kept.file])


def golden_filing(provider: MockDocuments) -> DocumentRef:
    return next(ref for ref in provider.documents("AAPL", None) if ref.kind == "filing")


def test_a_filing_of_the_golden_copy(tmp_path: Path) -> None:
    provider = MockDocuments()
    ref = golden_filing(provider)
    found = download(provider.open(ref), tmp_path, DownloadLimits())
    source = GOLDEN / ref.source.removeprefix("golden-copy:")
    assert (tmp_path / found.file).read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("fault", "failure_class"),
    [
        (Fault.TIMEOUT, FailureClass.OUTAGE),  # after the first chunk
        (Fault.STATUS_500, FailureClass.OUTAGE),
        (Fault.NOT_FOUND, FailureClass.NOT_FOUND),
        (Fault.QUOTA_KEY_ECHO, FailureClass.QUOTA_EXHAUSTED),
    ],
)
def test_a_mock_that_fails_leaves_nothing(
    tmp_path: Path, fault: Fault, failure_class: FailureClass
) -> None:
    provider = MockDocuments(faults=Faults([FaultRule(fault, endpoint="DOCUMENT")]))
    ref = golden_filing(provider)
    with pytest.raises(ProviderFailure) as caught:
        download(provider.open(ref), tmp_path, DownloadLimits())
    assert caught.value.failure_class is failure_class
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("source", ["golden-copy:../README.md", "golden-copy:/etc/hostname"])
def test_a_mock_opens_nothing_outside_of_its_folder(tmp_path: Path, source: str) -> None:
    ref = DocumentRef(kind="filing", key="k", title="t", source=source)
    with pytest.raises(ProviderFailure, match="outside of the golden copy"):
        download(MockDocuments().open(ref), tmp_path, DownloadLimits())
