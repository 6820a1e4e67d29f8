"""What jobs ask of the tiers: an answer with its provider, or an error that says what to do.

outcome of the tiers → Answer | NotNow (wait, or leave out) | NoAnswer (this item has none)
"""

import re
from datetime import date, datetime
from typing import TypeVar

from domain.errors import InvalidInput, InvariantBroken
from domain.trading_days import last_closed_session
from providers.ports import market_ports
from usecases.research.tiers import Answer, Failed, Outcome, Tiers, TryAgain

T = TypeVar("T")

#: As the tiers say it: provider (twice, where an earlier failure still blocks it), class, detail.
_FAILURE = re.compile(r"(?:([^:;]+): )?([^:;]+): ([A-Z_]+): .*")


class NotNow(Exception):
    """No provider answers now; one may later."""

    def __init__(self, again: TryAgain) -> None:
        super().__init__(again.reason)
        self.again = again


class NoAnswer(Exception):
    """No provider has an answer."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.reason)
        self.failed = failed


def tiers() -> Tiers:
    """The providers of this process."""
    return Tiers(market_ports())


def answer_of(outcome: Outcome[T]) -> Answer[T]:
    """The answer. Raises NotNow or NoAnswer."""
    if isinstance(outcome, TryAgain):
        raise NotNow(outcome)
    if isinstance(outcome, Failed):
        raise NoAnswer(outcome)
    return outcome


def grouped(reason: str) -> str:
    """A reason as reports group it: who and what, without the symbols and times in it."""
    found = [_FAILURE.sub(r"\2: \3", part) for part in reason.split("; ")]
    return "; ".join(dict.fromkeys(found))


def closed_session(exchange: str, now: datetime) -> date | str:
    """The last session of an exchange that has closed; or why nobody knows it, as a text."""
    try:
        return last_closed_session(exchange, now)
    except (InvalidInput, InvariantBroken) as error:
        return str(error)
