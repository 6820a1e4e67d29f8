"""A flow: what a schedule is about. One file each in verify/flows, registered by its name.

    setup → (acts of people and of the world, among everything else) → calm → check

A flow knows no faults and no order: the scheduler decides when its acts happen.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol

from domain.job_types import JobType
from jobs.actor import Handler
from mocks.chain import MockChain
from verify.broker import SimulatedBroker
from verify.clock import Clock
from verify.trace import Trace

#: A loop that has nothing to do is asked all the same, once in so many rounds of calm.
ALL_LOOPS_EVERY = 5

#: The key of the wallet that pays in every schedule.
WALLET_KEY = "verify-wallet"


@dataclass(frozen=True)
class Act:
    """Something that may happen at any time.

    A person's act runs like a process of its own, with points, and may crash in the middle; what
    it raises as Rejected or as an outage is its answer. The world's acts happen between two points.
    """

    name: str
    weight: float
    run: Callable[[], object]
    by_person: bool = True


@dataclass(frozen=True)
class Stage:
    """What a flow is given."""

    dice: random.Random
    dice_for: Callable[[str], random.Random]  # other dice: a new rarity leaves old seeds alone
    chain: MockChain
    clock: Clock
    trace: Trace
    query: Callable[..., list[tuple[Any, ...]]]  # SQL of the scheduler's own, without points
    broker: SimulatedBroker
    kill: Callable[[str], NoReturn]  # the process whose strand calls it
    watch: Callable[[str, Any], Any]  # a provider's port, whose every call is a point from now on
    pass_time: Callable[[float], object]  # between two points: seconds, and what they end
    wait: Callable[[float], None]  # of a strand: the others' time passes, too
    folder: Path  # empty, and of this schedule alone


class Flow(Protocol):
    """One service's work, as the proof sees it. A new object for every schedule."""

    #: Task names that a planted crash may strike: job types and loops.
    targets: tuple[str, ...]
    #: Those that only a schedule of long trouble gets to, and one of its own may strike then.
    late_targets: tuple[str, ...]
    #: The calls of providers that it may strike.
    calls: tuple[str, ...]
    #: The queues that its jobs use.
    queues: tuple[str, ...]
    #: The loops that have anything to do with it; None for all.
    loops: tuple[str, ...] | None
    #: What runs its job types instead of the actors, for flows that prove the queue itself.
    handlers: dict[JobType, Handler] | None
    #: When its schedules begin: one of these.
    nights: tuple[datetime, ...]
    #: Steps of trouble beside those of any schedule: what strikes late must be reached.
    more_steps: int
    #: How often strands hand their baton on: one of these, for a whole schedule.
    pauses: Sequence[float]

    def setup(self, stage: Stage) -> None:
        """Make the world as it is before anything goes wrong."""

    def eagerness(self) -> float:
        """How likely one of its acts is, where bringing the work on counts 24."""

    def acts(self) -> Sequence[Act]:
        """What may happen while things go wrong."""

    def calm(self) -> Sequence[Act]:
        """What people do once nothing goes wrong any more: asked again every round."""

    def is_done(self) -> bool:
        """Whether everything has come to its end."""

    def check(self) -> list[str]:
        """Every invariant that does not hold, in words; called when it is done, or given up."""

    def check_midway(self) -> list[str]:
        """Those that must hold at any moment between two points."""


_flows: dict[str, Callable[[], Flow]] = {}


def register(name: str) -> Callable[[Callable[[], Flow]], Callable[[], Flow]]:
    """Make a flow known under `name`."""

    def keep(make: Callable[[], Flow]) -> Callable[[], Flow]:
        _flows[name] = make
        return make

    return keep


def flows() -> dict[str, Callable[[], Flow]]:
    """Every flow, by name."""
    import verify.flows  # registers them

    assert verify.flows
    return dict(sorted(_flows.items()))
