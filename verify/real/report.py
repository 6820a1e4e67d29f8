"""What a lane found, for people and for programs.

record + judgement + measures → RealReport → text | JSON, exit code 1 on any violation
"""

from dataclasses import asdict, dataclass
from typing import Any

from verify.real.measures import percentile


@dataclass(frozen=True)
class Times:
    """A distribution, in seconds."""

    count: int
    p50_s: float
    p95_s: float
    max_s: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Times":
        """Of measured values; zeros without any."""
        half, most = (round(percentile(seconds, share), 2) for share in (0.5, 0.95))
        return cls(len(seconds), half, most, round(max(seconds, default=0.0), 2))


@dataclass(frozen=True)
class RealReport:
    """Everything that a lane counted and measured. `violations` is empty when all held."""

    seed: int
    seconds: float
    kills: int
    broker_kills: int
    postgres_stops: int
    faults: dict[str, int]
    chain_faults: dict[str, int]
    runs: int
    holders: int  # who must be paid
    lost: int
    double: int
    jobs: int
    burst_jobs: int
    overload_jobs: int  # of each burst
    inbox_messages: int
    repeated_commands: int
    refused_starts: int  # of processes that found no database and were started again
    rescued_jobs: int
    false_alarms: int
    suspicious_jobs: int  # died a third time, and waited on purpose
    jobs_in_line: int  # jobs that were due before went first
    claimable_undisturbed: Times  # nothing else away: the promise, on a clock that never stops
    running_undisturbed: Times
    claimable_net: Times  # the clock stood still while a server was away, or others were in turn
    running_net: Times
    claimable: Times  # as the clock on the wall says
    running: Times
    drained_calm_s: (
        float  # the last broker kill: everything, a burst of ten times the load included
    )
    drained_net: Times  # the others, without what stood behind a burst
    drained: Times  # the others, bursts and all other faults included
    worker_bytes_max: int
    published_jobs_max: int
    broker_messages_max: int
    violations: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return not self.violations

    def as_json(self) -> dict[str, Any]:
        """For programs; keys are stable."""
        return asdict(self) | {"ok": self.ok, "violations": list(self.violations)}

    def as_text(self) -> str:
        """For people."""
        width = max(len(name) for name in self.faults)
        lines = [f"{name:{width}}  {count:>6,}" for name, count in self.faults.items()]
        met = ", ".join(f"{count:,} {name}" for name, count in self.chain_faults.items())
        lines += [
            f"{'faults of the chain, drawn per call':{width}}  {met or 'none'}",
            "",
            f"{self.runs} runs, {self.holders:,} holders to pay: {self.lost} lost, "
            f"{self.double} paid twice",
            f"{self.jobs:,} jobs, {self.burst_jobs:,} of them in bursts, {self.inbox_messages} "
            f"asked for by inbox; {self.repeated_commands} commands had to be repeated, "
            f"{self.refused_starts} processes found no database and were started again",
            f"{self.rescued_jobs:,} jobs of dead workers ({self.suspicious_jobs} died a third time "
            f"and waited on purpose, {self.jobs_in_line} stood in line), "
            f"{self.false_alarms} taken from living ones",
            "",
            "seconds                                              count    p50    p95    max",
            _line("worker's death → claimable, undisturbed", self.claimable_undisturbed),
            _line("worker's death → running, undisturbed", self.running_undisturbed),
            _line("… claimable, but for outages", self.claimable_net),
            _line("… running, but for outages and jobs in turn", self.running_net),
            _line("… claimable, as the clock on the wall says", self.claimable),
            _line("… running, as the clock on the wall says", self.running),
            _line("broker's return → backlog begun, but for bursts", self.drained_net),
            _line("… bursts included, while faults go on", self.drained),
            f"in the calm, {self.overload_jobs:,} jobs had begun {self.drained_calm_s:.1f} s after "
            "the broker's return",
            "",
            f"at most {self.worker_bytes_max / 2**20:,.0f} MB in a worker, "
            f"{self.published_jobs_max:,} jobs of a queue published and unclaimed, "
            f"{self.broker_messages_max:,} messages in a queue",
            "",
        ]
        lines += [f"VIOLATED: {violation}" for violation in self.violations]
        lines.append(f"{'everything held' if self.ok else 'NOT everything held'} "
                     f"(seed {self.seed}, {self.seconds:,.0f} s)")  # fmt: skip
        return "\n".join(lines)


def _line(what: str, times: Times) -> str:
    return f"{what:52} {times.count:>5} {times.p50_s:>6.1f} {times.p95_s:>6.1f} {times.max_s:>6.1f}"
