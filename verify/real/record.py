"""What was done in a lane and when, in UNIX time: the faults, the deaths, the broker's returns."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from verify.real.options import Fault


@dataclass(frozen=True)
class Injected:
    """One fault, from its beginning until everything it took away was there again."""

    fault: Fault
    begin: float
    end: float


@dataclass(frozen=True)
class Death:
    """A worker that was killed at `at`, or frozen from `at` to `until`."""

    pid: int
    at: float
    until: float | None = None


@dataclass
class Record:
    """Appended to by all hands."""

    injected: list[Injected] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)  # of the broker; its index is the kill
    errors: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def injecting(self, fault: Fault) -> Iterator[None]:
        """Note a fault with its duration, if it was injected to its end."""
        begin = time.time()
        yield
        self.add(Injected(fault, begin, time.time()))

    def add(self, what: Injected | Death) -> None:
        """Note a fault or a death."""
        with self._lock:
            if isinstance(what, Death):
                self.deaths.append(what)
            else:
                self.injected.append(what)

    def counts(self) -> Counter[Fault]:
        """How often each fault was injected."""
        with self._lock:
            return Counter(each.fault for each in self.injected)
