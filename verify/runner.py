"""Many seeds in several processes, each with a database of its own, and one report of them all.

    regressions, then seeds first, first + 1, … → processes → outcomes → Report

A flow is chosen by its name, or by the seed. The same seed of a flow is the same schedule anywhere.
"""

import multiprocessing
import os
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from queue import Empty
from tempfile import mkdtemp
from typing import Any

from servers.postgres import PrivatePostgres

#: What a process says when it has no more seeds.
_END = None

#: Nothing was heard for so long: perhaps a process was killed, and will never say that it ended.
_LOOK_AFTER_S = 2.0

#: Violations that are told in full; the rest is counted.
MAX_TOLD = 50


@dataclass(frozen=True, order=True)
class Case:
    """One schedule: a seed of a flow."""

    flow: str
    seed: int


@dataclass(frozen=True)
class Violation:
    """What did not hold, and the hash of the trace that a replay repeats."""

    flow: str
    seed: int
    what: list[str]
    trace_hash: str

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        return f"overnight verify --flow {self.flow} --first-seed {self.seed} --seeds 1"


@dataclass
class Report:
    """What many schedules came to."""

    schedules: int = 0
    crashes: int = 0
    steps: int = 0
    seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)
    flows: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)  # errors of the simulation itself
    drifted: list[Case] = field(default_factory=list)  # regressions that are other schedules now

    @property
    def held(self) -> bool:
        """Whether nothing was found, and something was looked at."""
        return not self.violations and not self.broken and self.schedules > 0

    def add(self, case: Case, result: "Result") -> None:
        """One more schedule."""
        self.schedules += 1
        self.flows[case.flow] += 1
        self.steps += result.steps
        self.faults.update(result.faults)
        self.crashes += sum(n for kind, n in result.faults.items() if kind.startswith("crash "))
        if result.violations:
            found = Violation(case.flow, case.seed, result.violations, result.trace_hash)
            self.violations.append(found)


@dataclass(frozen=True)
class Result:
    """What comes back from a process."""

    violations: list[str]
    faults: dict[str, int]
    steps: int
    trace_hash: str
    lines: list[str]


@contextmanager
def server(database_url: str | None) -> Iterator[str]:
    """A PostgreSQL for the proof: the given one, or a private one that is gone afterwards."""
    if database_url is not None:
        yield database_url
        return
    private = PrivatePostgres(mkdtemp(prefix="overnight-verify-"), durable=False)
    try:
        yield private.start().url()
    finally:
        private.delete()
        shutil.rmtree(private.folder, ignore_errors=True)


def cases(flow: str | None, first_seed: int, seeds: int) -> list[Case]:
    """Seeds of one flow, or of all of them by turns."""
    from verify.flow import flows

    names = [flow] if flow else list(flows())
    return [Case(names[seed % len(names)], seed) for seed in range(first_seed, first_seed + seeds)]


def replay(url: str, case: Case) -> Result:
    """One schedule in this very process, with its trace."""
    from verify.lab import Lab

    with Lab.open(url) as lab:
        return _run(lab, case)


def run(
    url: str,
    todo: Sequence[Case],
    *,
    jobs: int | None = None,
    seconds: float | None = None,
    traces: Mapping[Case, str] | None = None,
    on_result: Callable[[Case, Result], None] = lambda case, result: None,
) -> Report:
    """Run cases, in as many processes as there are cores; no new one begins after `seconds`.

    `traces` are the hashes that replays of some cases should have.
    """
    count = max(1, min(jobs or os.cpu_count() or 1, len(todo)))
    began = time.monotonic()
    stop_at = None if seconds is None else time.time() + seconds
    context = multiprocessing.get_context("spawn")
    results: Queue[Any] = context.Queue()
    shares = [list(todo[n::count]) for n in range(count)]
    workers = [
        context.Process(target=_work, args=(url, share, stop_at, results)) for share in shares
    ]
    for worker in workers:
        worker.start()
    report, running = Report(), count
    try:
        while running:
            try:
                message = results.get(timeout=_LOOK_AFTER_S)
            except Empty:
                signals = [-(each.exitcode or 0) for each in workers]
                killed = [number for number in signals if number > 0]
                if running > len(killed):
                    continue
                report.broken.append(f"a process of the proof was killed by signal {killed[0]}")
                break
            if message is _END:
                running -= 1
            elif isinstance(message, str):
                report.broken.append(message)
            else:
                case, result = message
                report.add(case, result)
                if traces and traces.get(case, result.trace_hash) != result.trace_hash:
                    report.drifted.append(case)
                on_result(case, result)
    finally:
        for worker in workers:
            worker.join()
    report.violations.sort(key=lambda found: (found.flow, found.seed))
    report.seconds = time.monotonic() - began
    return report


def _work(url: str, share: list[Case], stop_at: float | None, results: "Queue[Any]") -> None:
    """One process: its cases, one after the other."""
    from verify.lab import Lab

    at, parent = "", multiprocessing.parent_process()
    try:
        with Lab.open(url) as lab:
            for case in share:
                if stop_at is not None and time.time() > stop_at:
                    break
                if parent is not None and not parent.is_alive():
                    break  # killed: nobody hears us, and the database must not be left behind
                at = f"{case.flow} {case.seed}: "
                result = _run(lab, case)
                results.put((case, result))
    except KeyboardInterrupt:
        pass
    except BaseException as error:
        results.put(f"{at}{type(error).__name__}: {error}\n{traceback.format_exc()}")
        raise
    finally:
        results.put(_END)


def _run(lab: Any, case: Case) -> Result:
    from verify.schedule import Schedule

    outcome = Schedule(lab, case.flow, case.seed).run()
    trace = outcome.trace
    lines = trace.lines
    return Result(outcome.violations, dict(trace.faults), outcome.steps, trace.hash, lines)
