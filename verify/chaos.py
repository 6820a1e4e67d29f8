"""Chaos: what goes wrong at which point, drawn from the seed, and counted where it strikes.

    point (port, ordinal, before | after) → nothing | pause | crash | cut | the port's own faults

Every point is named by its actor, its port and its ordinal: MaturityTokenBurn commit#2 after.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from jobs.relay import Outgoing
from providers.chain import BroadcastRefused, ChainUnavailable, SignedTransaction
from providers.identity import RegistryUnavailable
from verify.connections import SimulatedConnection, lost
from verify.strands import Crash, Strand, here
from verify.trace import Trace


@dataclass(frozen=True)
class Rates:
    """How likely things are, at each visit of a point."""

    crash: float
    cut: float
    pause: float
    call: float  # of a provider's call: its request or its answer is lost
    publish: float

    @classmethod
    def draw(cls, dice: random.Random, pauses: Sequence[float]) -> "Rates":
        """Some schedules are calm in one way and wild in another."""
        return cls(
            crash=dice.choice((0, 0.001, 0.003, 0.008)),
            cut=dice.choice((0, 0, 0.002, 0.006)),
            pause=dice.choice(pauses),
            call=dice.choice((0, 0.004, 0.02)),
            publish=dice.choice((0, 0.05, 0.2)),
        )


#: How often a strand hands its baton on at a point, in one schedule or another.
PAUSES = (0.01, 0.04, 0.1)

#: Where a schedule may plant one crash of its own, beside those that are drawn at each point.
_TARGET_PORTS = ("commit", "commit", "commit", "ack", "publish")
_TARGET_ORDINALS = (1, 1, 2, 2, 3, 3, 4, 5, 6, 8)

#: Where it may plant another one, beside the calls: what one commit says, the next one must mean.
_BETWEEN = ("commit#1 after", "commit#2 before", "commit#2 after", "commit#3 before")

#: How often long trouble has one for its end.
LATE = 0.3

#: How often a planted crash is none, and the process stands still for a while.
FREEZES = 0.4


#: In so many schedules a crash goes through the socket, and the server has to notice by itself;
#: in the others the session is cleared in place, which is the same to everybody else, and quicker.
HARD = 0.1


@dataclass
class Chaos:
    """Implements `verify.connections.Points`, `verify.broker.Fate`, and the ports' faults."""

    dice: random.Random
    trace: Trace
    drop: Callable[[str], bool]  # forget a transaction in the mempool
    targets: tuple[str, ...] = ()  # tasks that a planted crash may strike
    calls: tuple[str, ...] = ("broadcast", "sign", "receipts")  # … and of which ports
    pauses: Sequence[float] = PAUSES
    second: random.Random | None = None  # dice of a second planted crash
    active: bool = True
    rates: Rates = field(init=False)
    hard: bool = field(init=False)  # connections end at their sockets
    _ordinals: dict[str, Counter[str]] = field(default_factory=dict)
    #: (task, point) → whether it is no crash: the process stands still at that point.
    _planted: dict[tuple[str, str], bool] = field(default_factory=dict)
    to_freeze: object = None

    def __post_init__(self) -> None:
        self.rates = Rates.draw(self.dice, self.pauses)
        self.hard = self.dice.random() < HARD
        if self.targets and self.dice.random() < 0.6:
            port = self.dice.choice((*_TARGET_PORTS, *self.calls))
            number = self.dice.choice(_TARGET_ORDINALS if port == "commit" else (1, 2))
            side = self.dice.choice(("before", "after"))
            freezes = self.dice.random() < FREEZES
            self._planted[self.dice.choice(self.targets), f"{port}#{number} {side}"] = freezes
        if self.targets and self.second is not None and self.second.random() < 0.5:
            points = (*_BETWEEN, *(f"{call}#1 after" for call in self.calls))
            strike = self.second.choice(self.targets), self.second.choice(points)
            self._planted[strike] = self.second.random() < FREEZES

    def strike_late(self, targets: Sequence[str], dice: random.Random) -> None:
        """Perhaps plant one more, in what only long trouble gets to."""
        if targets and dice.random() < LATE:
            self._planted[dice.choice(targets), dice.choice(_BETWEEN)] = dice.random() < FREEZES

    def begin(self, strand: Strand) -> None:
        """A task begins: its ordinals do, too."""
        self._ordinals[strand.name] = Counter()

    # Points of the database.

    def statement(self, strand: Strand, connection: SimulatedConnection) -> None:
        """Between two statements another strand may run."""
        if self.active and self.dice.random() < self.rates.pause / 4:
            strand.pause()

    def before_commit(self, strand: Strand, connection: SimulatedConnection) -> None:
        """The transaction is complete, and the server does not know it yet."""
        name = self._visit(strand, "commit")
        if not name:
            return
        self._maybe_crash(strand, f"{name} before")
        if self.dice.random() < self.rates.cut:
            self.trace.fault("connection cut before commit", f"{strand.task} {name}")
            connection.cut(hard=self.hard)
        self._maybe_pause(strand)

    def after_commit(self, strand: Strand, connection: SimulatedConnection) -> None:
        """The server has it, and the client waits for its answer."""
        if not self.active:
            return
        name = f"commit#{self._ordinals[strand.name]['commit']}"
        self._maybe_crash(strand, f"{name} after")
        if self.dice.random() < self.rates.cut:
            self.trace.fault("commit's answer lost", f"{strand.task} {name}")
            connection.cut(hard=self.hard)
            raise lost("the answer to a commit")
        self._maybe_pause(strand)

    # Points of the broker.

    def before_publish(self, item: Outgoing) -> bool:
        """Whether the message reaches the broker."""
        strand = me()
        name = self._visit(strand, "publish")
        if not name:
            return True
        self._maybe_crash(strand, f"{name} before")
        if self.dice.random() < self.rates.publish:
            self.trace.fault("publish lost before confirm", item.job_type.value)
            return False
        return True

    def after_publish(self, item: Outgoing) -> bool:
        """Whether the confirm comes back."""
        strand = me()
        if not self.active:
            return True
        name = f"publish#{self._ordinals[strand.name]['publish']}"
        self._maybe_crash(strand, f"{name} after")
        if self.dice.random() < self.rates.publish:
            self.trace.fault("confirm lost after publish", item.job_type.value)
            return False
        self._maybe_pause(strand)
        return True

    def ack(self, strand: Strand, side: str) -> None:
        """Before or after a delivery is acknowledged."""
        name = self._visit(strand, "ack") if side == "before" else "ack#1"
        if self.active:
            self._maybe_crash(strand, f"{name} {side}")

    # Points of the providers.

    def before_call(self, strand: Strand, port: str, method: str, args: tuple[Any, ...]) -> None:
        """The request may be lost, or refused."""
        name = self._visit(strand, method)
        if not name:
            return
        self._maybe_crash(strand, f"{name} before")
        self._maybe_pause(strand)
        if port not in ("chain", "registry") or self.dice.random() >= self.rates.call:
            return  # the others' faults are not drawn here
        if port == "registry":
            self.trace.fault("registry down", f"{strand.task} {name}")
            raise RegistryUnavailable("verified: no answer from the registry")
        if method == "broadcast" and self.dice.random() < 0.3:
            self.trace.fault("broadcast refused", f"{strand.task} {name}")
            raise BroadcastRefused("txpool is full")
        self.trace.fault("chain request lost", f"{strand.task} {name}")
        raise ChainUnavailable(f"{method}: no answer from the node")

    def after_call(self, strand: Strand, port: str, method: str, args: tuple[Any, ...]) -> None:
        """It happened; the answer may be lost, or a lie."""
        if not self.active:
            return
        name = f"{method}#{self._ordinals[strand.name][method]}"
        self._maybe_crash(strand, f"{name} after")
        self._maybe_pause(strand)
        if port != "chain" or self.dice.random() >= self.rates.call:
            return
        if method == "broadcast" and self.dice.random() < 0.6:
            signed: SignedTransaction = args[0]
            kind = "accepted and dropped" if self.drop(signed.tx_hash) else "called already known"
            self.trace.fault(kind, f"{strand.task} {name}")
            if kind == "called already known":
                raise BroadcastRefused("already known")
            return
        self.trace.fault("chain answer lost", f"{strand.task} {name}")
        raise ChainUnavailable(f"{method}: the answer was lost")

    def _visit(self, strand: Strand, port: str) -> str:
        """The point's name; empty while nothing may happen."""
        if not self.active:
            return ""
        ordinals = self._ordinals[strand.name]
        ordinals[port] += 1
        return f"{port}#{ordinals[port]}"

    def _maybe_crash(self, strand: Strand, point: str) -> None:
        freezes = self._planted.pop((strand.task, point), None)
        if freezes:
            self.to_freeze = strand.owner
            strand.pause()
            return
        if freezes is None and self.dice.random() >= self.rates.crash:
            return
        port, side = point.split("#")[0], point.rsplit(" ", 1)[1]
        kind = port if port in ("commit", "publish", "ack") else f"call of {port}"
        self.trace.fault(f"crash {side} {kind}", f"{strand.task} {point}")
        self.kill(strand, point)

    def kill(self, strand: Strand, why: str) -> NoReturn:
        """The process of this strand ends here."""
        strand.dead = True
        if strand.connection is not None:
            strand.connection.cut(hard=self.hard)
        raise Crash(why)

    def _maybe_pause(self, strand: Strand) -> None:
        if self.dice.random() < self.rates.pause:
            strand.pause()


class WatchedPort:
    """A provider's port whose every call is a point, before and after."""

    def __init__(self, name: str, port: Any, chaos: Chaos) -> None:
        self._name, self._port, self._chaos = name, port, chaos

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._port, method)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            strand = _me_or_none()
            if strand is None:
                return found(*args, **kwargs)
            strand.check_alive()
            self._chaos.before_call(strand, self._name, method, args)
            result = found(*args, **kwargs)
            self._chaos.after_call(strand, self._name, method, args)
            return result

        setattr(self, method, call)
        return call


def _me_or_none() -> Strand | None:
    return here.strand


def me() -> Strand:
    """The strand whose thread this is."""
    strand = _me_or_none()
    assert strand is not None
    return strand
