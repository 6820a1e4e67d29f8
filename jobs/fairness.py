"""A worker's memory of waiting messages, from which no service takes all of its threads.

    consumers put → FairQueue.get: the best message whose service has a thread left → task_done

A service that hangs (a dead mail server, a slow node) leaves at least one thread to the others.
Prefetch bounds what one queue brings; this bounds what a service with several queues, or with the
deep prefetch of batched jobs, may run at once. Ticks and the inbox belong to no service.
"""

import heapq
import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from queue import Empty, PriorityQueue
from typing import Any

from domain.job_types import JobType, Way

_SERVICES = {job_type.value: job_type.spec.service.value for job_type in JobType}
_BATCHED = {each.spec.service.value for each in JobType if each.spec.way is Way.BATCH}

#: Whose messages need no slot: ticks and the inbox.
_NOBODY = ""

#: A batch that takes longer does not compute but wait, so another thread may run beside it. (The
#: waiting threads see to that by themselves, as `get` times out.)
_QUICK_S = 0.2

#: Beside a quick batch, another begins when so many wait: fewer go together after it.
_WORTH_ANOTHER = 50


class FairQueue(PriorityQueue[Any]):
    """Stands in for the work queue of a Dramatiq worker; a thread holds one slot at a time.

    A heap for each service: a full service costs the others nothing, however much of it waits.
    A service with batched jobs may get less while its batches are quick: one takes along what
    waits, so more threads only make them smaller, and get into each other's way.
    """

    def __init__(self, slots_per_service: int, quick_batches: int | None = None) -> None:
        super().__init__()
        self._slots = slots_per_service
        self._quick_batches = slots_per_service if quick_batches is None else quick_batches
        self._running: Counter[str] = Counter()
        self._held: dict[int, tuple[str, float]] = {}  # by thread: its service, since when

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add a message; a thread is woken only if it may run it."""
        self.put_all([item])

    def put_all(self, items: Sequence[Any]) -> None:
        """Add messages that arrived together; wakes no more threads than may run them."""
        with self.mutex:
            for item in items:
                self._put(item)
            self.unfinished_tasks += len(items)
            for service, count in Counter(map(_service_of, items)).items():
                free = self._free(service) if service else count
                if free > 0:
                    self.not_empty.notify(min(free, count))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The best waiting message whose service has a slot; the thread takes that slot.

        Raises Empty when there is none in time. Without blocking, it only drains: no slot.
        """
        if not block:
            return super().get(block=False)
        end = None if timeout is None else time.monotonic() + timeout
        with self.not_empty:
            while (heap := self._best()) is None:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise Empty
                self.not_empty.wait(left)
            item = heapq.heappop(heap)[2]
            service = _service_of(item)
            if service:
                self._running[service] += 1
                self._held[threading.get_ident()] = service, time.monotonic()
            return item

    def take_along(self, first: Any, most: int, is_like: Callable[[Any, Any], bool]) -> list[Any]:
        """Up to `most` messages that follow `first` and are like it, in their order.

        It ends at the first that is not, and where another service has a better one waiting.
        """
        taken: list[Any] = []
        with self.mutex:
            service = _SERVICES.get(first.actor_name, _NOBODY)
            heap = self._heaps[service]
            other = min(
                (each[0] for name, each in self._heaps.items() if each and name != service),
                default=None,
            )
            while heap and len(taken) < most and is_like(first, heap[0][2].message):
                if other is not None and other < heap[0]:
                    break
                taken.append(heapq.heappop(heap)[2].message)
        return taken

    def task_done(self, count: int = 1) -> None:
        """Messages are done; the first that a thread reports give its slot back."""
        with self.all_tasks_done:
            self.unfinished_tasks -= count
            if self.unfinished_tasks < 0:
                raise ValueError("task_done() called too many times")
            if not self.unfinished_tasks:
                self.all_tasks_done.notify_all()
            held = self._held.pop(threading.get_ident(), None)
            if held is not None:
                self._running[held[0]] -= 1
                self.not_empty.notify()

    def _has_slot(self, service: str) -> bool:
        return not service or self._free(service) > 0

    def _free(self, service: str) -> int:
        free = self._slots - self._running[service]
        if service in _BATCHED and self._quick_batches < self._slots:
            slow = time.monotonic() - _QUICK_S
            quick = sum(each == service and since > slow for each, since in self._held.values())
            worth_another = len(self._heaps[service]) >= _WORTH_ANOTHER
            free = min(free, (self._quick_batches if worth_another else 1) - quick)
        return free

    def _best(self) -> list[tuple[int, int, Any]] | None:
        """Under the lock: the heap of the best message that may run now."""
        ready = [heap for name, heap in self._heaps.items() if heap and self._has_slot(name)]
        return min(ready, key=lambda heap: heap[0], default=None)

    # What queue.Queue asks of its kinds:

    def _init(self, maxsize: int) -> None:
        # (priority, number, item): items compare in Python, ten of them for each that is taken.
        self._heaps: defaultdict[str, list[tuple[int, int, Any]]] = defaultdict(list)
        self._numbers = itertools.count()

    def _qsize(self) -> int:
        return sum(map(len, self._heaps.values()))

    def _put(self, item: Any) -> None:
        entry = (item.priority, next(self._numbers), item)
        heapq.heappush(self._heaps[_service_of(item)], entry)

    def _get(self) -> Any:
        return heapq.heappop(min(filter(None, self._heaps.values()), key=lambda heap: heap[0]))[2]


def _service_of(item: Any) -> str:
    return _SERVICES.get(item.message.actor_name, _NOBODY)
