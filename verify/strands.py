"""Strands: threads of which exactly one runs at a time, handed on by a baton at named points.

    start → (point → hand back → resume)* → end | crash

Strictly alternating threads have each their own connection, as Peewee wants it, and nothing runs
beside anything else: what happens next depends on the seed alone. A strand that waits inside
PostgreSQL for a row that another one has locked hands its baton back, too.
"""

import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

#: A statement that takes longer than this may be waiting for a lock: the lock manager is asked.
_LOOK_AFTER_S = 0.004

#: A statement that the lock manager does not know to wait, and still does not end, is a hang.
_HANG_AFTER_S = 60.0


class Crash(BaseException):
    """The simulated process is gone: its sockets are closed, and nothing tidies up."""


class Broken(BaseException):
    """The simulation itself can't go on: no event of the schedule, and nobody's to handle."""


class Hang(Broken):
    """A statement neither ended nor waited for a lock."""


class State(StrEnum):
    """Where a strand is."""

    IDLE = "idle"  # without a task
    RUNNING = "running"  # has the baton
    PAUSED = "paused"  # at a point, between two statements
    BLOCKED = "blocked"  # inside PostgreSQL, waiting for a lock
    READY = "ready"  # was blocked, and its statement has ended


class LockManager(Protocol):
    """Who waits for whom, inside PostgreSQL."""

    def blockers_of(self, backend_pid: int) -> list[int]:
        """The backends that keep this one waiting; empty while it does not wait."""


class Line(Protocol):
    """The connection that a strand uses."""

    pid: int  # of the server's process
    in_transaction: bool
    is_cut: bool

    def cut(self, *, hard: bool) -> None:
        """End it without a word, and free what it had locked."""


class Strand:
    """One thread of a simulated process. Only the scheduler calls its public methods."""

    def __init__(self, name: str, locks: LockManager) -> None:
        self.name, self.state = name, State.IDLE
        self.task = ""
        self.owner: object = None  # the simulated process that the task belongs to
        self.dead = False  # its process is gone: every further step ends at once
        self.error: BaseException | None = None  # what the last task ended with
        self.connection: Line | None = None  # the last that it used
        self._locks = locks
        self._run: Callable[[], object] | None = None
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._mutex = threading.Lock()
        self._statement = 0
        self._in_statement = False
        self._closing = False
        self._on_close: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def start(self, owner: object, task: str, run: Callable[[], object]) -> None:
        """Give it a task, and let it run to its first pause, its end or a lock."""
        assert self.state is State.IDLE, f"{self.name} is busy with {self.task}"
        self.owner, self.task, self._run = owner, task, run
        self.dead, self.error = False, None
        self._hand_over()

    def resume(self) -> None:
        """Let it go on from its pause."""
        assert self.state in (State.PAUSED, State.READY), f"{self.name} is {self.state}"
        self._hand_over()

    @property
    def blocked(self) -> bool:
        """Whether its last turn ended inside PostgreSQL: it may have its lock by now."""
        return self.state in (State.BLOCKED, State.READY)

    def finish_dying(self) -> None:
        """Unwind a dead strand; its connection was closed, so it changes nothing any more."""
        assert self.dead
        if self.state is State.IDLE:
            return
        if self.blocked:
            self._wait_for(lambda: self.state is State.READY)
        self._hand_over()

    def still_blocked(self) -> bool:
        """Whether it still waits for a lock; once it does not, its statement has ended."""
        assert self.state in (State.BLOCKED, State.READY), f"{self.name} is {self.state}"
        still = True

        def settled() -> bool:
            nonlocal still
            if self.state is State.READY:
                still = False
                return True
            assert self.connection is not None
            return bool(self._locks.blockers_of(self.connection.pid))

        self._wait_for(settled)
        return still

    def close(self, on_close: Callable[[], None]) -> None:
        """End the thread; `on_close` runs in it first. One that hangs is left to the process."""
        if self.state is not State.IDLE:
            return
        self._closing, self._on_close = True, on_close
        self._go.release()
        self._thread.join()

    # What the strand's own thread calls.

    def pause(self) -> None:
        """Give the baton back and wait for it. Raises Crash if the process died meanwhile."""
        self.state = State.PAUSED
        self._back.release()
        self._go.acquire()
        self.state = State.RUNNING
        self.check_alive()

    def check_alive(self) -> None:
        """Raises Crash in a dead strand, however often somebody catches it."""
        if self.dead:
            raise Crash(f"{self.name} is dead")

    def begin_statement(self) -> None:
        """From here on it may wait for a lock."""
        with self._mutex:
            self._statement += 1
            self._in_statement = True

    def end_statement(self) -> None:
        """The statement has ended; whoever was blocked meanwhile waits for the baton."""
        with self._mutex:
            self._in_statement = False
            if self.state is not State.BLOCKED:
                return
            self.state = State.READY
        self._go.acquire()
        self.state = State.RUNNING
        self.check_alive()

    def _live(self) -> None:
        here.strand = self
        while True:
            self._go.acquire()
            if self._closing:
                self._on_close()
                return
            self.state = State.RUNNING
            assert self._run is not None
            try:
                self._run()
            except BaseException as error:  # noqa: BLE001 - the scheduler decides what it means
                self.error = error
            self._run = None
            self.state = State.IDLE
            self._back.release()

    def _hand_over(self) -> None:
        """Give the baton, and wait until it is back or the strand waits for a lock."""
        self._go.release()
        seen, looks = -1, 0
        while not self._back.acquire(timeout=_LOOK_AFTER_S):
            with self._mutex:
                same = self._in_statement and self._statement == seen
                seen = self._statement if self._in_statement else -1
            if not same or self.connection is None:
                looks = 0
                continue
            looks += 1
            if self._locks.blockers_of(self.connection.pid):
                with self._mutex:
                    if self._in_statement and self._statement == seen:
                        self.state = State.BLOCKED
                        return
            elif looks * _LOOK_AFTER_S > _HANG_AFTER_S:
                raise Hang(f"{self.name}: a statement of {self.task} does not end")

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        for _ in range(int(_HANG_AFTER_S / 0.0005)):
            if condition():
                return
            threading.Event().wait(0.0005)
        raise Hang(f"{self.name}: blocked in {self.task}, and not by any lock")


class _Here(threading.local):
    strand: Strand | None = None


#: The strand whose thread this is; None in the scheduler's own.
here = _Here()
