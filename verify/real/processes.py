"""The hand that kills and freezes processes, mostly in the middle of a job.

step → rest → a worker with a job in hand, or any | relay | scheduler → SIGKILL, or SIGSTOP
"""

import threading
import time
from collections.abc import Callable

from verify.real.fleet import Fleet, Member
from verify.real.observer import Observer
from verify.real.options import Fault
from verify.real.plan import Step
from verify.real.record import Death, Injected, Record

#: This share of the victims has a job in hand; the others are met at any moment, also at start.
IN_HAND = 0.75

#: How long to wait for a worker with a job in hand; when all are idle, any will do.
LOOK_S = 2.0

_ROLE = {Fault.RELAY_KILL: "relay", Fault.SCHEDULER_KILL: "scheduler"}

_BUSY = """
SELECT DISTINCT w.pid FROM job_outbox o JOIN job_queue j ON j.id = o.job_id
JOIN worker w ON w.id = j.processed_by
WHERE o.due_at IS NULL AND j.status = 'processing'
  AND j.started_at > overnight_now() - interval '5 seconds'
"""


class ProcessHand:
    """Works through its steps. A frozen worker is thawed by a timer."""

    def __init__(
        self, fleet: Fleet, observer: Observer, record: Record, ended: threading.Event
    ) -> None:
        self._fleet, self._observer, self._record = fleet, observer, record
        self._ended = ended
        self._workers = len(fleet.members("worker"))
        self._thawed = threading.Condition()
        self._timers: list[threading.Timer] = []

    def work(self, steps: tuple[Step, ...], done: Callable[[Step], None]) -> None:
        """All steps; returns early when the lane is given up."""
        for step in steps:
            if self._ended.wait(step.rest_s):
                return
            self._do(step)
            done(step)

    def let_go(self) -> None:
        """Wait until nothing is frozen any more."""
        for timer in self._timers:
            timer.join()

    def stop(self) -> None:
        """Thaw now what is frozen: nobody waits for it any more."""
        for timer in self._timers:
            timer.cancel()
        self._workers = 0
        with self._thawed:
            self._thawed.notify_all()

    def _do(self, step: Step) -> None:
        if step.fault in _ROLE:
            [victim] = self._fleet.members(_ROLE[step.fault])
            at = self._fleet.kill(victim)
        elif step.fault is Fault.WORKER_KILL:
            victim = self._worker(step)
            at = self._fleet.kill(victim)
            self._record.add(Death(victim.pid, at))
        else:
            self._freeze(step)
            return
        self._record.add(Injected(step.fault, at, at))

    def _freeze(self, step: Step) -> None:
        victim = self._worker(step)
        at = self._fleet.freeze(victim)

        def thaw() -> None:
            self._fleet.thaw(victim)
            now = time.time()
            self._record.add(Death(victim.pid, at, now))
            self._record.add(Injected(step.fault, at, now))
            with self._thawed:
                self._thawed.notify_all()

        timer = threading.Timer(step.lasts_s, thaw)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _worker(self, step: Step) -> Member:
        """A worker to strike, once at most one is frozen: the others have to do the work."""
        with self._thawed:
            while len(awake := self._fleet.members("worker")) < self._workers - 1:
                self._thawed.wait()
        if step.draw < IN_HAND:
            give_up_at = time.monotonic() + LOOK_S
            while time.monotonic() < give_up_at and not self._ended.is_set():
                busy = {pid for (pid,) in self._observer.rows(_BUSY)}
                awake = self._fleet.members("worker")
                if found := [member for member in awake if member.pid in busy]:
                    return found[int(step.draw * 997) % len(found)]
        return awake[int(step.draw * 997) % len(awake)]
