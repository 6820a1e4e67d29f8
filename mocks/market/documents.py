"""Filings and transcripts from a golden copy, in chunks.

    SYMBOL/documents/submissions.json, SYMBOL/documents/transcript_*.json → DocumentRef → file

The list of filings has the SEC's shape; each file stands where the SEC has it, below its
accession number without dashes.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from mocks.market.faults import Fault, FaultRule, Faults, faulty
from mocks.market.folder import GOLDEN, MOCK_KEY, NOTHING, company_folder
from providers.alpha_vantage.company import read_transcript
from providers.alpha_vantage.failures import check
from providers.answers import NoAnswer, RawAnswer, Refusal, as_failure
from providers.fields import Malformed
from providers.market import DocumentRef, FailureClass, ProviderFailure
from providers.sec import read_submissions

LIST, OPEN = "DOCUMENTS", "DOCUMENT"
CHUNK_BYTES = 16_384
_SCHEME = "golden-copy:"


class MockDocuments:
    """Implements `providers.market.DocumentProvider`."""

    def __init__(
        self,
        folder: Path = GOLDEN,
        *,
        name: str = "mock-documents",
        delay_ms: int = 0,
        faults: Faults | None = None,
    ) -> None:
        self.name = name
        self._folder = folder
        self._delay_s = delay_ms / 1_000
        self._faults = faults or Faults(folder=folder)

    def documents(self, symbol: str, cik: str | None) -> Sequence[DocumentRef]:
        """What there is for a company, newest first."""
        rule = self._call(LIST, symbol)
        company = company_folder(self._folder, symbol)
        files = company / "documents" if company else self._folder / "no such company"
        listing = files / "submissions.json"
        body = listing.read_bytes() if listing.is_file() else NOTHING
        transcripts = sorted(files.glob("transcript_*.json"))
        try:
            answer = RawAnswer(body) if rule is None else faulty(rule, body, MOCK_KEY)
            if rule is not None or not transcripts:
                check(answer)
            filings = [] if answer.body == NOTHING else read_submissions(answer.body)
            refs = [_filing(symbol, ref) for ref in filings]
            refs += [_transcript(symbol, path) for path in transcripts]
            if not refs:
                raise Refusal(FailureClass.EMPTY, "no filings of the wanted forms")
        except (NoAnswer, Malformed, Refusal) as error:
            raise as_failure(self.name, f"{LIST} {symbol}", error, [MOCK_KEY]) from None
        return sorted(refs, key=lambda ref: (str(ref.filed_on or ""), ref.key), reverse=True)

    @contextmanager
    def open(self, document: DocumentRef) -> Iterator[Iterator[bytes]]:
        """The file in chunks. A fault strikes before the first, a timeout after it."""
        path = self._path(document)
        symbol = document.source.removeprefix(_SCHEME).partition("/")[0]
        rule = self._call(OPEN, symbol)
        if not path.is_file():
            detail = f"{OPEN} {document.key}: no such file"
            raise ProviderFailure(self.name, FailureClass.NOT_FOUND, detail)
        yield self._chunks(path, rule, document)

    def _chunks(self, path: Path, rule: FaultRule | None, ref: DocumentRef) -> Iterator[bytes]:
        with path.open("rb") as file:
            try:
                if rule is not None and rule.fault is not Fault.TIMEOUT:
                    answer = faulty(rule, path.read_bytes(), MOCK_KEY)
                    check(answer)
                    yield answer.body
                    return
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
                    if rule is not None:
                        faulty(rule, b"", MOCK_KEY)
            except (NoAnswer, Refusal) as error:
                raise as_failure(self.name, f"{OPEN} {ref.key}", error, [MOCK_KEY]) from None

    def _call(self, endpoint: str, symbol: str) -> FaultRule | None:
        if self._delay_s:
            time.sleep(self._delay_s)  # what MOCK_API_DELAY_MS asks for
        return self._faults.meet(self.name, endpoint, symbol)

    def _path(self, document: DocumentRef) -> Path:
        path = self._folder / document.source.removeprefix(_SCHEME)
        if not path.resolve().is_relative_to(self._folder.resolve()):
            detail = f"{OPEN} {document.key}: outside of the golden copy"
            raise ProviderFailure(self.name, FailureClass.BAD_REQUEST, detail)
        return path


def _filing(symbol: str, ref: DocumentRef) -> DocumentRef:
    accession, _, name = ref.source.split("/edgar/data/")[1].partition("/")[2].partition("/")
    return replace(ref, source=f"{_SCHEME}{symbol}/documents/{accession}/{unquote(name)}")


def _transcript(symbol: str, path: Path) -> DocumentRef:
    found = read_transcript(path.read_bytes(), symbol)
    return DocumentRef(
        kind="transcript",
        key=f"{found.symbol}-{found.quarter}",
        title=f"Earnings call {found.quarter}",
        source=f"{_SCHEME}{symbol}/documents/{path.name}",
    )
