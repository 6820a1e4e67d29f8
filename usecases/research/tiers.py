"""Tiers of providers: the first is asked, the next where it cannot answer, and why is kept.

    question → first tier → next tier … → Answer(value, provider, reason) | TryAgain | Failed

A company-period never mixes providers: its statements and earnings come from one, in one refresh.
A tier that will answer within SOON is waited for; no other provider replaces it for a trifle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from domain.budgets import UNLIMITED
from providers.market import (
    CompanyOverview,
    DocumentProvider,
    DocumentRef,
    EarningsDate,
    EarningsReport,
    FailureClass,
    FxRate,
    MarketDataProvider,
    PriceHistory,
    StatementPeriod,
)
from providers.ports import MarketPorts
from usecases.research.tiers_call import Caller, Given, Refused

T = TypeVar("T")

#: A tier that may be asked again this soon is not replaced by the next.
SOON = timedelta(minutes=2)

#: What a company may lack at every provider: then its income statements alone are kept.
_LACKING = (FailureClass.EMPTY, FailureClass.NOT_FOUND, FailureClass.NOT_ENTITLED)


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a provider gave. `reason`: why it was not the first tier; None: it was."""

    value: T
    provider: str
    reason: str | None


@dataclass(frozen=True)
class TryAgain:
    """No tier answers now; one may from `at` on. `failure_class`: of that one, and why not now."""

    at: datetime
    wait: timedelta
    reason: str
    failure_class: FailureClass


@dataclass(frozen=True)
class Failed:
    """No tier has an answer, nor will have one soon. `failure_class`: the first tier's."""

    reason: str
    failure_class: FailureClass


Outcome = Answer[T] | TryAgain | Failed


@dataclass(frozen=True)
class Financials:
    """Statements and earnings of a company, all of one provider. `lacking`: which it has not."""

    income: Sequence[StatementPeriod]
    balance: Sequence[StatementPeriod] = ()
    cash_flow: Sequence[StatementPeriod] = ()
    earnings: Sequence[EarningsReport] = ()
    lacking: Sequence[str] = field(default=())


@dataclass(frozen=True)
class OfferedDocument:
    """A document and who has it."""

    provider: DocumentProvider
    ref: DocumentRef


class _Named(Protocol):
    @property
    def name(self) -> str: ...


P = TypeVar("P", bound=_Named)


class Tiers:
    """Asks the providers of `ports` in order. Safe from any thread; never in a transaction."""

    def __init__(self, ports: MarketPorts) -> None:
        self._ports = ports
        self._caller = Caller(lambda name: ports.budgets.get(name, UNLIMITED), ports.pause)

    def overview(self, symbol: str) -> Outcome[CompanyOverview]:
        """Who the company is."""
        return self._first(self._ports.market, lambda tier: tier.company_overview(symbol))

    def prices(self, symbol: str, since: date | None) -> Outcome[PriceHistory]:
        """Bars from `since` on; none is an answer, too: there is nothing newer."""
        return self._first(self._ports.market, lambda tier: tier.daily_prices(symbol, since))

    def calendar(self, symbol: str | None) -> Outcome[Sequence[EarningsDate]]:
        """Coming reports of a company, or of all, from a tier with a full calendar."""
        tiers = [t for t in self._ports.market if symbol is not None or t.has_full_calendar]
        return self._first(tiers, lambda tier: tier.earnings_calendar(symbol))

    def rates(self, since: date | None) -> Outcome[Sequence[FxRate]]:
        """Exchange rates from `since` on (None: of the newest day)."""
        return self._first(self._ports.fx, lambda tier: tier.rates(since))

    def financials_of(self, symbol: str) -> Outcome[Financials]:
        """Everything a company-period is made of, from one provider.

        What no provider has (a new company's balance sheet) is `lacking`; a tier with all of it
        is preferred to an earlier one that lacks something.
        """
        lacking: Answer[Financials] | None = None
        refusals: list[Refused] = []
        for tier in self._ports.market:
            found = self._financials(tier, symbol)
            if isinstance(found, Refused):
                refusals.append(found)
                if _is_soon(found):
                    break
                continue
            answer = Answer(found.value, tier.name, _why(refusals))
            if not found.value.lacking:
                return answer
            lacking = lacking or answer
            told = f"{tier.name}: lacks {', '.join(found.value.lacking)}"
            refusals.append(Refused(told, FailureClass.EMPTY))
        return lacking or _no_answer(refusals)

    def documents_of(self, symbol: str, cik: str | None) -> Outcome[Sequence[OfferedDocument]]:
        """What all providers offer, each document once, from the first that has it."""
        offered: dict[tuple[str, str], OfferedDocument] = {}
        refusals: list[Refused] = []
        names = []
        for tier in self._ports.documents:
            found = self._caller.call(tier.name, _bound(tier, symbol, cik))
            if isinstance(found, Refused):
                refusals.append(found)
                continue
            names.append(tier.name)
            for ref in found.value:
                offered.setdefault((ref.kind, ref.key), OfferedDocument(tier, ref))
        if not names:
            return _no_answer(refusals)
        return Answer(list(offered.values()), ", ".join(names), _why(refusals))

    def _first(self, tiers: Sequence[P], ask: Callable[[P], T]) -> Outcome[T]:
        refusals: list[Refused] = []
        for tier in tiers:
            found = self._caller.call(tier.name, lambda tier=tier: ask(tier))  # type: ignore[misc]
            if isinstance(found, Given):
                return Answer(found.value, tier.name, _why(refusals))
            refusals.append(found)
            if _is_soon(found):
                break
        return _no_answer(refusals)

    def _financials(self, tier: MarketDataProvider, symbol: str) -> Given[Financials] | Refused:
        income = self._caller.call(tier.name, lambda: tier.income_statement(symbol), room_for=4)
        if isinstance(income, Refused):
            return income
        lacking: list[str] = []
        balance = self._part(tier, "balance sheet", lambda: tier.balance_sheet(symbol), lacking)
        if isinstance(balance, Refused):
            return balance
        cash_flow = self._part(tier, "cash flow", lambda: tier.cash_flow(symbol), lacking)
        if isinstance(cash_flow, Refused):
            return cash_flow
        earnings = self._part(tier, "earnings", lambda: tier.earnings(symbol), lacking)
        if isinstance(earnings, Refused):
            return earnings
        return Given(
            Financials(income.value, balance.value, cash_flow.value, earnings.value, tuple(lacking))
        )

    def _part(
        self,
        tier: MarketDataProvider,
        name: str,
        ask: Callable[[], Sequence[T]],
        lacking: list[str],
    ) -> Given[Sequence[T]] | Refused:
        found = self._caller.call(tier.name, ask)
        if isinstance(found, Refused) and found.failure_class in _LACKING:
            lacking.append(name)
            return Given(())
        return found


def _bound(
    tier: DocumentProvider, symbol: str, cik: str | None
) -> Callable[[], Sequence[DocumentRef]]:
    return lambda: tier.documents(symbol, cik)


def _is_soon(refused: Refused) -> bool:
    """Worth waiting for, unless it is down: nobody knows for how long."""
    outage = refused.failure_class is FailureClass.OUTAGE
    return refused.wait is not None and refused.wait <= SOON and not outage


def _why(refusals: Sequence[Refused]) -> str | None:
    return "; ".join(refused.reason for refused in refusals) or None


def _no_answer(refusals: Sequence[Refused]) -> TryAgain | Failed:
    reason = _why(refusals) or "no provider is configured"
    again = [(r.at, r.wait or timedelta(0), r.failure_class) for r in refusals if r.at is not None]
    if again:
        at, wait, failure_class = min(again, key=lambda found: found[0])
        return TryAgain(at, wait, reason, failure_class)
    first = refusals[0].failure_class if refusals else FailureClass.NOT_ENTITLED
    return Failed(reason, first)
