"""What will be done to whom, and when, drawn from a seed before anything starts.

    options → one list of steps for each hand: processes | servers, network and chain

The two hands work at the same time, so that a worker dies while the broker is away. The plan
replays; what the processes are doing at each moment does not.
"""

import random
from dataclasses import dataclass

from verify.real.options import Fault, RealOptions

#: The hand that kills and freezes processes; everything else belongs to the other one.
PROCESSES = (
    Fault.WORKER_KILL,
    Fault.WORKER_FREEZE,
    Fault.RELAY_KILL,
    Fault.SCHEDULER_KILL,
)

#: Done together when all else is over and everything has come to its end: whether a backlog is
#: drained in time can only be measured where nobody goes on breaking things.
LAST = (Fault.BROKER_KILL, Fault.OVERLOAD)

#: Rests before a step, in seconds. In the full lane the second hand is done some minutes before the
#: first: workers then die with nothing else away, and recovery is measured undisturbed.
PROCESS_REST_S = (1.0, 4.0)
SERVER_REST_S = (0.5, 3.0)

#: How long a fault with a duration lasts. A black hole's upper end is above every timeout that ends
#: a connection (heartbeats 8 s, idle transactions 4 s), its lower end below all of them.
LASTS_S = {
    Fault.WORKER_FREEZE: (6.0, 16.0),
    Fault.BROKER_KILL: (0.0, 4.0),
    Fault.POSTGRES_STOP: (0.0, 1.5),
    Fault.BLACK_HOLE: (3.0, 14.0),
    Fault.DELAY: (3.0, 6.0),
    Fault.EXHAUSTION: (3.0, 9.0),
}


@dataclass(frozen=True)
class Step:
    """One fault: rest first, then do it for `lasts_s`; `draw` in [0, 1) chooses what is open."""

    fault: Fault
    rest_s: float
    lasts_s: float
    draw: float


@dataclass(frozen=True)
class Plan:
    """All steps of a lane."""

    processes: tuple[Step, ...]
    servers: tuple[Step, ...]
    last: Step  # a broker killed in the calm, and an overload while it is away


def make_plan(options: RealOptions) -> Plan:
    """The plan of `options.seed`: every count exactly, in a shuffled order."""
    dice = random.Random(f"real lane {options.seed}")  # noqa: S311 - replayable on purpose
    mine: list[Fault] = []
    others: list[Fault] = []
    for fault, count in options.counts.items():
        kept = count - (fault in LAST)
        (mine if fault in PROCESSES else others).extend([fault] * kept)
    return Plan(
        _steps(dice, mine, PROCESS_REST_S, options.pace),
        _steps(dice, others, SERVER_REST_S, options.pace),
        _steps(dice, [Fault.BROKER_KILL], SERVER_REST_S, options.pace)[0],
    )


def _steps(
    dice: random.Random, faults: list[Fault], rest_s: tuple[float, float], pace: float
) -> tuple[Step, ...]:
    dice.shuffle(faults)
    return tuple(
        Step(
            fault,
            dice.uniform(*rest_s),
            pace * dice.uniform(*LASTS_S.get(fault, (0.0, 0.0))),
            dice.random(),
        )
        for fault in faults
    )
