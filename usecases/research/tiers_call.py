"""One request to one provider: reserve, ask, and remember what its failure means for the next.

    reserve → ask → value | Refused: when it may work again, or never

A refused key blocks the provider and alerts a person; an exhausted day blocks it until its next
day; Retry-After is honoured by all processes. Waits no longer than a second's budget takes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import structlog

from domain.budgets import Budget
from domain.job_types import Service
from jobs.failure import alert
from models.database import fetch, transaction
from providers.market import FailureClass, ProviderFailure
from usecases.research.budgets import block, block_for_the_day, reserve

log = structlog.get_logger()

T = TypeVar("T")

#: The longest that a call waits for its turn, and how often: a second's budget opens in a second.
PATIENCE = timedelta(seconds=1.5)
TURNS = 20

#: An outage is over when it is over: ask again after this long.
OUTAGE_WAIT = timedelta(minutes=5)
#: A refused key is tried again this late: somebody has to change it.
AUTH_WAIT = timedelta(hours=1)
#: Too many at once, and the provider does not say for how long.
BURST_WAIT = timedelta(seconds=1)


@dataclass(frozen=True)
class Refused:
    """What a provider did not give. `at`: when it may; None: it never will."""

    reason: str
    failure_class: FailureClass
    at: datetime | None = None
    wait: timedelta | None = None


@dataclass(frozen=True)
class Given(Generic[T]):
    """What a provider gave."""

    value: T


class Caller:
    """Makes requests within the budgets. `pause` waits for a moment; a simulation's may not."""

    def __init__(self, budgets: Callable[[str], Budget], pause: Callable[[float], None]) -> None:
        self._budgets = budgets
        self._pause = pause

    def call(self, provider: str, ask: Callable[[], T], *, room_for: int = 1) -> Given[T] | Refused:
        """One request, when its turn comes soon; its failure is recorded, not raised."""
        budget = self._budgets(provider)
        refused = Refused(f"{provider}: no turn", FailureClass.BURST)
        for _ in range(TURNS):
            not_yet = reserve(provider, budget, room_for=room_for)
            if not_yet is None:
                try:
                    return Given(ask())
                except ProviderFailure as failure:
                    refused = self._record(provider, budget, failure)
                if refused.failure_class is not FailureClass.BURST:
                    return refused
            else:
                kind = FailureClass.QUOTA_EXHAUSTED
                refused = Refused(not_yet.reason, kind, not_yet.at, not_yet.wait)
            if refused.wait is None or refused.wait > PATIENCE:
                return refused
            self._pause(refused.wait.total_seconds())
        return refused

    def _record(self, provider: str, budget: Budget, failure: ProviderFailure) -> Refused:
        """Block the provider where its answer says so; when it may be asked again."""
        kind, reason = failure.failure_class, str(failure)
        log.warning("provider failed", provider=provider, failure=kind.value, detail=failure.detail)
        wait = failure.retry_after
        if kind is FailureClass.AUTH:
            wait = wait or AUTH_WAIT
            with transaction():
                if block(provider, wait, reason):
                    alert(Service.SYSTEM, f"provider {provider}", f"{reason}: change its key")
        elif kind is FailureClass.QUOTA_EXHAUSTED and wait is None:
            block_for_the_day(provider, budget, reason)
            return self._until_unblocked(provider, kind, reason)
        elif kind is FailureClass.BURST:
            wait = wait or BURST_WAIT
        if wait is not None:
            block(provider, wait, reason)
        elif kind is FailureClass.OUTAGE:
            wait = OUTAGE_WAIT
        else:
            return Refused(reason, kind)
        [(at,)] = fetch("SELECT overnight_now() + %s", (wait,))
        return Refused(reason, kind, at, wait)

    def _until_unblocked(self, provider: str, kind: FailureClass, reason: str) -> Refused:
        rows = fetch(
            "SELECT blocked_until, blocked_until - overnight_now() FROM provider_block"
            " WHERE provider = %s",
            (provider,),
        )
        [(at, wait)] = rows or fetch("SELECT overnight_now(), interval '0'")
        return Refused(reason, kind, at, wait)
