"""The SEC's filings as a DocumentProvider: the list of a company's, and each in chunks.

    CIK → data.sec.gov/submissions → DocumentRef → www.sec.gov/Archives → chunks

The SEC wants to know who asks (CONTACT) and at most 10 requests per second: give it a budget.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus

from providers.answers import NoAnswer, Refusal, as_failure, by_status
from providers.fields import Malformed
from providers.http import HttpFetcher
from providers.market import DocumentRef, FailureClass
from providers.sec import SUBMISSIONS, read_submissions

#: Hosts that the SEC serves documents and its lists from.
SEC_HOSTS = frozenset({"www.sec.gov", "data.sec.gov"})


class SecDocuments:
    """Implements `providers.market.DocumentProvider`: filings from the SEC's archives."""

    def __init__(
        self, fetcher: HttpFetcher, *, name: str = "sec", submissions: str = SUBMISSIONS
    ) -> None:
        self.name = name
        self._fetcher = fetcher
        self._submissions = submissions

    def documents(self, symbol: str, cik: str | None) -> Sequence[DocumentRef]:
        """The company's annual, quarterly and current reports, newest first."""
        subject = f"submissions of {symbol}"
        try:
            if cik is None:
                raise Refusal(FailureClass.NOT_FOUND, "the company has no CIK")
            answer = self._fetcher.read(self._submissions.format(cik=cik))
            if answer.status != HTTPStatus.OK:
                kind = by_status(answer.status)
                raise Refusal(kind, f"HTTP {answer.status}", answer.retry_after)
            refs = read_submissions(answer.body)
            if not refs:
                raise Refusal(FailureClass.EMPTY, "no filings of the wanted forms")
        except (NoAnswer, Malformed, Refusal) as error:
            raise as_failure(self.name, subject, error) from None
        return refs

    @contextmanager
    def open(self, document: DocumentRef) -> Iterator[Iterator[bytes]]:
        """The filing in chunks."""
        try:
            with self._fetcher.get(document.source) as chunks:
                yield self._watched(chunks, document)
        except (NoAnswer, Malformed, Refusal) as error:
            raise as_failure(self.name, document.key, error) from None

    def _watched(self, chunks: Iterator[bytes], document: DocumentRef) -> Iterator[bytes]:
        try:
            yield from chunks
        except (NoAnswer, Malformed) as error:
            raise as_failure(self.name, document.key, error) from None
