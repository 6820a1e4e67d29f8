"""Loops: what a worker process does beside its jobs, each a `run_once` under a thread.

    beat | rescue | relay | (per composition root) settlement, sweep

A loop never ends by an error: it logs, drops a broken connection, and goes on.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dramatiq
import structlog

from domain.errors import Outage
from jobs.batch import attach
from jobs.clock import follow_clock
from jobs.fairness import FairQueue
from jobs.rescue import BEAT_INTERVAL_S, beat, rescue_once, sign_off
from jobs.runner import WORKER_ID, running_tokens, stopping
from models.database import CONNECTION_ERRORS, db, reconnect

log = structlog.get_logger()

#: How long a loop rests after an error.
_REST_S = 1.0

#: How long a turn may go on after `stop`: longer than a call to a node may take.
_END_WITHIN_S = 20.0


@dataclass(frozen=True)
class Loop:
    """`run_once` is called again at once while it returns something true, else after the pause.

    `pause` waits for work in the loop's own way (a relay listens); without it, `interval_s` passes.
    """

    name: str
    run_once: Callable[[], object]
    interval_s: float = 1.0
    pause: Callable[[], None] | None = None
    close: Callable[[], None] | None = None


class LoopThreads:
    """Runs loops in threads of their own, from `start` to `stop`."""

    def __init__(self, loops: Sequence[Loop], end_within_s: float = _END_WITHIN_S) -> None:
        self._loops, self._end_within_s = loops, end_within_s
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start a thread for every loop."""
        self._stop.clear()
        for loop in self._loops:
            thread = threading.Thread(target=self._run, args=(loop,), name=loop.name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let every loop finish its turn; one that hangs is left to the end of the process."""
        self._stop.set()
        give_up_at = time.monotonic() + self._end_within_s
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))
            if thread.is_alive():
                log.warning("loop does not end; it is left behind", loop=thread.name)
        self._threads.clear()

    def _run(self, loop: Loop) -> None:
        with structlog.contextvars.bound_contextvars(loop=loop.name):
            while not self._stop.is_set():
                try:
                    busy = loop.run_once()
                    if not busy and loop.pause is not None:
                        loop.pause()
                    elif not busy:
                        self._stop.wait(loop.interval_s)
                except CONNECTION_ERRORS as error:
                    log.warning("database connection lost", error=str(error).strip())
                    reconnect()
                    self._stop.wait(_REST_S)
                except Outage as error:
                    log.warning("not now", error=str(error))
                    self._stop.wait(_REST_S)
                except Exception:
                    log.exception("loop failed; it goes on")
                    self._stop.wait(_REST_S)
            try:
                if loop.close is not None:
                    loop.close()
            except CONNECTION_ERRORS as error:
                log.warning("database connection lost at the end", error=str(error).strip())
            reconnect()


def worker_loops() -> list[Loop]:
    """The loops of every worker process: heartbeat and rescue."""

    def leave() -> None:
        sign_off(WORKER_ID)

    def rescue() -> int:
        return follow_clock(WORKER_ID) + rescue_once(me=WORKER_ID, running=list(running_tokens))

    return [
        Loop("heartbeat", lambda: beat(WORKER_ID), BEAT_INTERVAL_S, close=leave),
        Loop("rescue", rescue, 1.0),
    ]


class WorkerLoops(dramatiq.Middleware):
    """Starts the loops with a Dramatiq worker, also under plain `dramatiq actors`.

    They end after its threads, so that a finishing job still has a heartbeat. The worker gets our
    number of threads: Dramatiq's default would be eight for each of as many processes as cores.
    """

    def __init__(self, loops: Sequence[Loop], threads: int) -> None:
        self._loops = LoopThreads(loops)
        self._threads = threads

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Set the threads before they are made, and be alive before a job is taken."""
        worker.worker_threads = self._threads
        most, half = max(1, self._threads - 1), max(1, self._threads // 2)
        worker.work_queue = FairQueue(most, quick_batches=half)
        attach(broker, worker)
        stopping.clear()
        try:
            beat(WORKER_ID)
        except Exception:  # raised on, it would leave a worker without loops
            log.exception("no heartbeat at the start; its loop tries again")
        reconnect()
        self._loops.start()

    def after_worker_thread_boot(self, broker: dramatiq.Broker, thread: object) -> None:
        """Connect the thread now, as its first job should not wait for that."""
        try:
            db.connection()
        except CONNECTION_ERRORS:
            reconnect()  # its first job tries again

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Nobody waits for a lost database any more."""
        stopping.set()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Stop the loops, heartbeat included."""
        self._loops.stop()

    def before_worker_thread_shutdown(self, broker: dramatiq.Broker, thread: object) -> None:
        """Close the thread's own connection."""
        reconnect()
