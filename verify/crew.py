"""The crew: simulated processes and the strands at work for them, started, resumed and buried.

start → strand runs to its pause → resume … → end | crash (the whole process dies) | violation
"""

from collections.abc import Callable
from typing import Any

from domain.errors import InvariantBroken, OvernightError
from jobs.batch import BATCH_MAX
from jobs.loops import Loop
from models.database import CONNECTION_ERRORS, reconnect
from verify.broker import SimulatedBroker, SimulatedPublisher
from verify.chaos import Chaos
from verify.flow import Act
from verify.lab import Lab
from verify.memory import Memory
from verify.processes import Process, batch_of, delivery, turn
from verify.strands import Broken, Crash, State, Strand

#: Workers that run at once.
WORKERS = 2

#: No round of the calm has so many: a message comes back for ever.
MOST_DELIVERIES = 300


class GivenUp(Exception):
    """There is a violation: the rest of the schedule proves nothing."""


class Crew:
    """Two workers and a person, with the strands of the laboratory."""

    def __init__(self, lab: Lab, chaos: Chaos, broker: SimulatedBroker, queues: list[str]) -> None:
        self.lab, self.chaos, self.broker, self.trace = lab, chaos, broker, chaos.trace
        self.violations: list[str] = []
        self._blocked: list[Strand] = []
        self._publisher = SimulatedPublisher(broker, chaos)
        self._queues = queues
        self.workers = [self._process(f"w{n}") for n in range(1, WORKERS + 1)]
        self.person = self._process("ada")
        self.frozen: Process | None = None  # SIGSTOP: alive, silent, and it may go on
        self.workers[0].memory.recall()

    def _process(self, name: str) -> Process:
        return Process(name, Memory(self._publisher, self._queues))

    # What a process can be given to do.

    def deliver(self, process: Process, messages: list[Any]) -> None:
        """One delivery, of several messages where a worker would take them together."""
        strand = self._idle()
        again = " again" if messages[0].delivered_again else ""
        count = f" x{len(messages)}" if len(messages) > 1 else ""
        run = delivery(process, messages, strand, self.chaos)
        self._start(strand, process, messages[0].job_type.value, run, f"{count}{again}")

    def deliver_all(self, process: Process) -> None:
        """Everything that waits, in the calm: a process that dies over it gets it again."""
        for _ in range(MOST_DELIVERIES):
            if not self.broker.waiting:
                return
            self.deliver(process, batch_of(self.broker, self.broker.waiting[0], BATCH_MAX))
        again = self.broker.waiting[0].job_type.value
        self.violate(f"not done after {MOST_DELIVERIES} deliveries of one round: {again}")

    def loop(self, process: Process, loop: Loop) -> None:
        """One turn of a loop, if this process is not at it and has a thread for it."""
        if process.has_room and self.has_idle() and not process.is_doing(loop.name):
            self._start(self._idle(), process, loop.name, turn(loop))

    def relay(self, process: Process, queues: list[str] | None = None) -> None:
        """One turn of the process' own relay; `queues` where the others have nothing due."""
        process.memory.relay.queues = queues or self._queues
        self.loop(process, Loop("relay", process.memory.relay.run_once))

    def act(self, act: Act) -> None:
        """A person's act on a strand; the world's between two points."""
        if not act.by_person:
            self.trace.add(f"{act.name}: {act.run()}")
        elif self.person.has_room and self.has_idle():
            self._start(self._idle(), self.person, act.name, lambda: _say(act))

    def worker_with_room(self) -> Process | None:
        """A worker with a free thread, chosen by the dice."""
        free = [p for p in self.workers if p.has_room and p is not self.frozen]
        return self.chaos.dice.choice(free) if free and self.has_idle() else None

    # Strands.

    def has_idle(self) -> bool:
        """Whether a strand is free."""
        return any(strand.state is State.IDLE for strand in self.lab.strands)

    def _idle(self) -> Strand:
        return next(strand for strand in self.lab.strands if strand.state is State.IDLE)

    def _start(
        self, strand: Strand, process: Process, task: str, run: Callable[[], object], how: str = ""
    ) -> None:
        self.trace.add(f"{process.name} {strand.name} {task}{how}")
        process.strands.append(strand)
        process.memory.recall()
        self.chaos.begin(strand)
        strand.start(process, task, lambda: _end_with_process(run))
        self._after(strand)

    def resumable(self) -> list[Strand]:
        """The strands that wait for their baton."""
        return [
            strand
            for strand in self.lab.strands
            if strand.state in (State.PAUSED, State.READY) and strand.owner is not self.frozen
        ]

    def resume(self, strand: Strand) -> None:
        """Let a strand go on."""
        process = strand.owner
        assert isinstance(process, Process)
        self.trace.add(f"{process.name} {strand.name} goes on")
        process.memory.recall()
        strand.resume()
        self._after(strand)

    def finish_all(self) -> None:
        """Let everybody come to an end."""
        while paused := self.resumable():
            self.resume(paused[0])

    def end_idle_transactions(self) -> None:
        """As idle_in_transaction_session_timeout does with a frozen worker's."""
        for strand in self.lab.strands:
            line = strand.connection
            waits = strand.state in (State.PAUSED, State.READY)  # for its client, not for a lock
            if waits and line and line.in_transaction and not line.is_cut:
                self.trace.fault("frozen in a transaction", strand.task)
                line.cut(hard=self.chaos.hard)
        self._settle_blocked()

    def stop(self) -> None:
        """After a schedule that was given up: nobody keeps a lock from the next one."""
        for process in (*self.workers, self.person):
            if process.strands:
                self._bury(process)

    def violate(self, what: str) -> None:
        """Something does not hold."""
        self.violations.append(what)
        self.trace.add(f"VIOLATION {what}")
        raise GivenUp

    def _after(self, strand: Strand) -> None:
        """See what became of the strand that had the baton."""
        process = strand.owner
        assert isinstance(process, Process)
        if strand.state is State.IDLE:
            process.strands.remove(strand)
            if isinstance(strand.error, Crash):
                self._bury(process)
            elif isinstance(strand.error, Broken):
                raise strand.error
            elif strand.error is not None:
                self.violate(f"{strand.task} raised {_in_words(strand.error)}")
        elif strand.blocked:
            self._blocked.append(strand)
            self.trace.faults["waits for a lock"] += 1
            self.trace.add(f"{process.name} {strand.name} {strand.task} waits for a lock")
            self._refuse_deadlock(strand)
        self._settle_blocked()

    def _settle_blocked(self) -> None:
        """A lock may be free now: whoever waited for it has ended its statement, or waits on."""
        for strand in list(self._blocked):
            if strand.state is State.IDLE or not strand.still_blocked():
                self._blocked.remove(strand)
                self.trace.add(f"{strand.name} waits no more")

    def _refuse_deadlock(self, strand: Strand) -> None:
        """The lock order is promised: job, run, wallet, legs, operations."""
        by_pid = {s.connection.pid: s for s in self.lab.strands if s.connection is not None}
        seen, waiting = {strand.name}, [strand]
        while waiting:
            line = waiting.pop().connection
            assert line is not None
            for pid in self.lab.monitor.blockers_of(line.pid):
                other = by_pid.get(pid)
                if other is strand:
                    self.violate(f"deadlock around {strand.task}")
                elif other is not None and other.name not in seen:
                    seen.add(other.name)
                    waiting.append(other)

    def _bury(self, process: Process) -> None:
        """All of a dead process' strands end; what it had not acknowledged comes back."""
        for strand in process.strands:
            strand.dead = True
            if strand.connection is not None:
                strand.connection.cut(hard=self.chaos.hard or strand in self._blocked)
        for strand in list(process.strands):
            strand.finish_dying()
        self.broker.put_back(process.unacked)
        process.memory = Memory(self._publisher, self._queues)
        process.strands, process.unacked = [], []


def _say(act: Act) -> None:
    """A person's act; a refusal is an answer, and so is a lost connection."""
    try:
        act.run()
    except CONNECTION_ERRORS:
        reconnect()
    except InvariantBroken:
        raise
    except OvernightError:
        pass


def _end_with_process(run: Callable[[], object]) -> None:
    """Run a task; a crash leaves its thread without a connection."""
    try:
        run()
    except Crash:
        reconnect()
        raise


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:300]}"
