"""How much a real lane does, and the faults that follow from three counts.

kills, broker_kills, postgres_stops → the other faults in proportion → plan (verify.real.plan)
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Fault(StrEnum):
    """What is done to the processes, the servers, the network and the chain."""

    WORKER_KILL = "worker killed (SIGKILL)"
    WORKER_FREEZE = "worker frozen (SIGSTOP, later SIGCONT)"
    RELAY_KILL = "relay killed (SIGKILL)"
    SCHEDULER_KILL = "scheduler killed (SIGKILL)"
    BROKER_KILL = "RabbitMQ killed (-9)"
    POSTGRES_STOP = "PostgreSQL stopped (immediate)"
    CUT = "all connections cut"
    BLACK_HOLE = "network black hole"
    DELAY = "network delayed"
    EXHAUSTION = "connections exhausted"
    OVERLOAD = "10 x overload"
    REORG = "chain reorganised"


@dataclass(frozen=True)
class RealOptions:
    """What a lane is asked to do. The full lane is the default; CI's is `kills=10` and so on."""

    kills: int = 300
    broker_kills: int = 30
    postgres_stops: int = 30
    seed: int = 1
    workers: int = 4
    holders: int = 400  # of each wave's bond
    waves_at_once: int = 3
    waves: int | None = None  # at most so many; unset: as many as fit between the faults
    pace: float = 1.0  # faults with a duration last so many times as long; CI has little time
    folder: Path | None = None  # unset: a temporary one, kept only after a violation

    @property
    def counts(self) -> dict[Fault, int]:
        """How often each fault is injected."""
        return {
            Fault.WORKER_KILL: self.kills,
            Fault.WORKER_FREEZE: _some(self.kills, 10, 2),
            Fault.RELAY_KILL: _some(self.kills, 10, 1),
            Fault.SCHEDULER_KILL: _some(self.kills, 20, 1),
            Fault.BROKER_KILL: max(1, self.broker_kills),
            Fault.POSTGRES_STOP: self.postgres_stops,
            Fault.CUT: _some(self.broker_kills, 1, 1),
            Fault.BLACK_HOLE: _some(self.broker_kills, 3, 1),
            Fault.DELAY: _some(self.broker_kills, 3, 1),
            Fault.EXHAUSTION: _some(self.postgres_stops, 3, 1),
            Fault.OVERLOAD: _some(self.kills, 50, 1),
            Fault.REORG: _some(self.kills, 10, 1),
        }


def _some(count: int, one_in: int, at_least: int) -> int:
    return max(at_least, count // one_in)
