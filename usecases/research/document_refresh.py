"""Refresh documents: filings and transcripts that we do not have, each once.

    list of a company → keys that are new → downloads (limits, allowed hosts) → rows

A document is known by its key, and its bytes by their hash: the same file under another key is
stored once. A crash leaves at most a file that the next run finds again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.budgets import UNLIMITED
from domain.errors import Rejected
from domain.ids import new_id
from domain.research import ResearchJob
from models.database import execute, fetch
from providers.market import DocumentRef, FailureClass
from providers.ports import market_ports
from usecases.research.download import Downloaded, download
from usecases.research.policy import research_policy
from usecases.research.sources import NoAnswer, NotNow, answer_of, grouped, tiers
from usecases.research.tiers import Answer, OfferedDocument, TryAgain
from usecases.research.tiers_call import Caller, Refused
from usecases.research.work import (
    CompanyWork,
    ItemResult,
    checked,
    left_out,
    open_companies,
    source,
    unchanged,
    updated,
)

#: New documents of a company in one night: a company that is new has years of them.
PER_NIGHT = 10

#: Not every company files with whom we ask.
_NONE = (FailureClass.EMPTY, FailureClass.NOT_FOUND)

_KNOWN = """
SELECT c.id::text, c.symbol, c.cik,
       coalesce(array_agg(d.kind || ':' || d.document_key) FILTER (WHERE d.id IS NOT NULL), '{}')
FROM company c LEFT JOIN document d ON d.company_id = c.id
WHERE c.id = ANY(%s::integer[]) AND c.active AND c.tracked GROUP BY c.id
"""

_WRITE = """
INSERT INTO document (id, company_id, kind, document_key, form, filed_on, title, source, provider,
                      sha256, size_bytes, file)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (company_id, kind, document_key) DO NOTHING
"""


@dataclass(frozen=True)
class _Task:
    key: str
    symbol: str
    cik: str | None
    known: frozenset[str]


@dataclass(frozen=True)
class _File:
    """A document that came, or why it did not."""

    provider: str
    ref: DocumentRef
    file: Downloaded | None
    problem: str | None = None


@dataclass(frozen=True)
class _Fetched:
    """What came of a company's list."""

    files: Sequence[_File]
    later: int  # more than a night takes


class DocumentRefresh(CompanyWork):
    """One call for the list, and one for each new document."""

    job = ResearchJob.DOCUMENT_REFRESH

    def open_items(self, run_id: str) -> None:
        """Every company that we follow."""
        open_companies(run_id, self.job)

    def calls(self, items: int) -> tuple[int, int | None]:
        """A list each, and nobody knows how many new documents."""
        return items, items * (1 + PER_NIGHT)

    def load(self, keys: Sequence[str], prepared: Any) -> Mapping[str, _Task]:
        """What we have of them."""
        return {
            key: _Task(key, symbol, cik, frozenset(known))
            for key, symbol, cik, known in fetch(_KNOWN, (list(keys),))
        }

    def ask(self, task: _Task) -> Answer[_Fetched]:
        """The list, and the newest of what is new in it."""
        try:
            found = answer_of(tiers().documents_of(task.symbol, task.cik))
        except NoAnswer as none:
            if none.failed.failure_class in _NONE:
                return Answer(_Fetched((), 0), market_ports().documents[0].name, None)
            raise
        new = [each for each in found.value if _key(each.ref) not in task.known]
        files: list[_File] = []
        for offered in new[:PER_NIGHT]:
            fetched = _fetch(offered)
            if isinstance(fetched, TryAgain):
                if not files:
                    raise NotNow(fetched)  # nothing is lost: the company waits
                files.append(_File(offered.provider.name, offered.ref, None, fetched.reason))
                break
            files.append(fetched)
        later = max(0, len(new) - PER_NIGHT)
        return Answer(_Fetched(files, later), found.provider, found.reason)

    def record(self, task: _Task, answer: Answer[_Fetched]) -> ItemResult:
        """A row for each file."""
        company_id = int(task.key)
        checked(company_id, self.job)
        written = sum(_write(company_id, each) for each in answer.value.files)
        failed = [each for each in answer.value.files if each.problem is not None]
        if failed:
            problem = failed[0].problem or ""
            detail = f"{written} new, {len(failed)} failed: {failed[0].ref.key}: {problem}"
            return left_out(grouped(problem), detail, **source(answer))
        told = f"{written} new"
        if answer.value.later:
            told += f", {answer.value.later} more on other nights"
        if not written:
            return unchanged("no new document", **source(answer))
        return updated(told, **source(answer))


def _key(ref: DocumentRef) -> str:
    return f"{ref.kind}:{ref.key}"


def _fetch(offered: OfferedDocument) -> _File | TryAgain:
    """Download one, within its provider's budget."""
    policy, ports, provider = research_policy(), market_ports(), offered.provider
    caller = Caller(lambda name: ports.budgets.get(name, UNLIMITED), ports.pause)

    def ask() -> Downloaded:
        return download(provider.open(offered.ref), policy.documents_folder, policy.limits)

    try:
        got = caller.call(provider.name, ask)
    except Rejected as problem:
        told = f"{type(problem).__name__}: {problem}"
        return _File(provider.name, offered.ref, None, told)
    if not isinstance(got, Refused):
        return _File(provider.name, offered.ref, got.value)
    if got.at is not None and got.wait is not None:
        return TryAgain(got.at, got.wait, got.reason, got.failure_class)
    return _File(provider.name, offered.ref, None, got.reason)


def _write(company_id: int, each: _File) -> int:
    ref, file = each.ref, each.file
    if file is None:
        return 0
    return execute(
        _WRITE,
        (
            str(new_id()), company_id, ref.kind, ref.key, ref.form, ref.filed_on, ref.title,
            ref.source, each.provider, file.sha256, file.size_bytes, file.file,
        ),
    )  # fmt: skip
