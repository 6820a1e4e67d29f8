"""Providers of a schedule: the real readers over the world's answers, and what goes wrong instead.

    call → counted against its reservation → fault of the dice | the world's answer → real client

The threads of a page are simulated, too: its calls are made one after the other, in any order.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from mocks.market import MockDocuments
from mocks.market.documents import OPEN
from mocks.market.faults import Fault, FaultRule, Faults, faulty
from mocks.market.folder import MOCK_KEY
from mocks.market.fx import FX
from providers.alpha_vantage import AlphaVantage, Endpoint
from providers.alpha_vantage.failures import check
from providers.answers import NoAnswer, RawAnswer, Refusal, as_failure
from providers.ecb import read_rates
from providers.fields import Malformed
from providers.market import FxRate
from usecases.research.calls import Answer, Calls, Task
from verify.flow import Stage
from verify.research.world import PRIMARY, SECONDARY, World

DOCUMENTS, RATES = "mock-documents", "mock-fx"
PROVIDERS = (PRIMARY, SECONDARY, DOCUMENTS, RATES)

#: What does not answer in one night after the trouble.
ABSENT = (None, None, None, PRIMARY, f"{PRIMARY} {Endpoint.BALANCE_SHEET.value}")

#: What a call gets instead of its answer, and how often beside the others.
_FAULTS = {
    Fault.STATUS_500: 4.0,
    Fault.TIMEOUT: 4.0,
    Fault.MALFORMED: 3.0,
    Fault.EMPTY: 2.0,
    Fault.BURST: 2.0,
    Fault.STATUS_429: 2.0,
    Fault.NOT_FOUND: 1.0,
    Fault.QUOTA: 0.5,
    Fault.QUOTA_KEY_ECHO: 0.5,
    Fault.NOT_ENTITLED: 0.3,
    Fault.AUTH: 0.2,
}

#: Half a file is a file: nobody can tell, so no provider of ours gives one.
_NOT_OF_A_FILE = (Fault.MALFORMED, Fault.EMPTY)

_RESERVED = "SELECT count(*) FROM verify_reservation WHERE provider = %s"


class Script(Faults):
    """What becomes of each call. Every provider's transport asks it once a call."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage, self._dice = stage, stage.dice_for("providers")
        self.calls: Counter[str] = Counter()
        self.unreserved: list[str] = []
        self.is_quiet = False
        self.down: set[str] = set()  # providers, and "provider endpoint" of those down in part
        self.kills: str | None = None  # a symbol whose calls kill the worker
        self._rate = self._dice.choice((0.0, 0.06, 0.2))
        self._takes_s = self._dice.choice((0, 0, 0.3, 4))

    def meet(self, provider: str, endpoint: str, symbol: str | None) -> FaultRule | None:
        """Count the call, let time pass, and choose."""
        self.calls[provider] += 1
        [(reserved,)] = self._stage.query(_RESERVED, (provider,))
        if self.calls[provider] > reserved:
            self.unreserved.append(f"{provider}: call {self.calls[provider]}, {reserved} reserved")
        if self._takes_s:
            self._stage.wait(self._takes_s)
        is_down = not self.down.isdisjoint((provider, f"{provider} {endpoint}"))
        if self.is_quiet and not is_down:
            return None
        if symbol is not None and symbol == self.kills and not self.is_quiet:
            self._stage.trace.fault("company kills its worker", f"{endpoint} {symbol}")
            self._stage.kill(f"{endpoint} {symbol}")
        fault = None
        if is_down:
            fault = self._dice.choice((Fault.STATUS_500, Fault.TIMEOUT))
        elif self._dice.random() < self._rate:
            fault = self._dice.choices(list(_FAULTS), list(_FAULTS.values()))[0]
            if endpoint == OPEN and fault in _NOT_OF_A_FILE:
                fault = Fault.TIMEOUT
        if fault is None:
            return None
        self._stage.trace.fault(f"provider: {fault.value}", f"{provider} {endpoint} {symbol}")
        return FaultRule(fault, retry_after_s=self._dice.choice((1, 30, 600)))

    def turn(self) -> str:
        """A provider goes down, or comes back."""
        name = self._dice.choice(PROVIDERS)
        self.down ^= {name}
        if name in self.down:
            self._stage.trace.fault("provider goes down", name)
        return f"{name} is {'down' if name in self.down else 'back'}"

    def kill_or_not(self, symbols: Sequence[str]) -> str:
        """One company's answers kill whoever reads them, until they are others."""
        self.kills = None if self.kills else self._dice.choice(symbols)
        return f"{self.kills or 'nobody'} kills workers"


class Answers:
    """Implements `providers.alpha_vantage.Transport` over the world."""

    secrets: Sequence[str] = (MOCK_KEY,)

    def __init__(self, world: World, script: Script, name: str) -> None:
        self._world, self._script, self._name = world, script, name

    def get(self, endpoint: Endpoint, symbol: str | None, *, full: bool = True) -> RawAnswer:
        """The bytes of an answer. Raises NoAnswer when a fault says so."""
        rule = self._script.meet(self._name, endpoint.value, symbol)
        body = self._world.body(self._name, endpoint, symbol)
        return RawAnswer(body) if rule is None else faulty(rule, body, MOCK_KEY)


class WorldRates:
    """Implements `providers.market.FxProvider` over the world."""

    name = RATES

    def __init__(self, world: World, script: Script) -> None:
        self._world, self._script = world, script

    def rates(self, since: date | None) -> Sequence[FxRate]:
        """Daily rates from `since` on (None: the newest day only)."""
        rule = self._script.meet(self.name, FX, None)
        days = self._world.rate_days()
        cubes = "".join(self._cube(day) for day in days if day >= (since or days[-1]))
        body = f"<Cube>{cubes}</Cube>".encode()
        try:
            answer = RawAnswer(body) if rule is None else faulty(rule, body, MOCK_KEY)
            if rule is not None and rule.fault is Fault.EMPTY:
                answer = RawAnswer(b"<Cube></Cube>")
            check(answer)
            return read_rates(answer.body)
        except (NoAnswer, Malformed, Refusal) as error:
            raise as_failure(self.name, FX, error, [MOCK_KEY]) from None

    def _cube(self, day: date) -> str:
        rates = "".join(
            f'<Cube currency="{name}" rate="{self._world.rate(name, day)}"/>'
            for name in ("USD", "INR")
        )
        return f'<Cube time="{day}">{rates}</Cube>'


def market(world: World, script: Script, name: str, *, whole_calendar: bool) -> AlphaVantage:
    """A tier of market data."""
    provider = AlphaVantage(Answers(world, script, name), name=name, today=world.today)
    provider.has_full_calendar = whole_calendar
    return provider


def documents(script: Script, folder: Path) -> MockDocuments:
    """The filings."""
    return MockDocuments(folder, name=DOCUMENTS, faults=script)


class OneByOne(Calls[Any, Any]):
    """A page's calls without its threads: in hand together, made and answered in any order."""

    def __init__(self, call: Callable[[Task], Answer], threads: int, dice: random.Random) -> None:
        self._ask, self._most, self._dice = call, threads, dice
        self._waiting: list[Any] = []
        self._done: list[tuple[Any, Any]] = []
        self.open = 0

    def __enter__(self) -> "OneByOne":
        return self

    def __exit__(self, *_: object) -> None:
        """What nobody has begun is not called."""

    def submit(self, task: Any) -> None:
        """In hand from now on."""
        self.open += 1
        self._waiting.append(task)

    def take(self) -> tuple[Any, Any]:
        """Make some of the calls, and bring one of the answers; a crash loses the others."""
        more = self._dice.randint(1, self._most)
        while self._waiting and (not self._done or len(self._done) < more):
            task = self._waiting.pop(0)
            try:
                self._done.append((task, self._ask(task)))
            except Exception as error:  # noqa: BLE001 - as usecases.research.calls does
                self._done.append((task, error))
        self.open -= 1
        return self._done.pop(self._dice.randrange(len(self._done)))
