"""A worker's memory of waiting messages, from which no service takes all of its threads.

    consumers put → FairQueue.get: the best message whose service has a thread left → task_done

A service that hangs (a dead mail server, a slow node) leaves at least one thread to the others.
Prefetch bounds what one queue brings; this bounds what a service with several queues, or with the
deep prefetch of batched jobs, may run at once. Ticks and the inbox belong to no service.
"""

import heapq
import threading
import time
from collections import Counter
from queue import Empty, PriorityQueue
from typing import Any

from domain.job_types import JobType

_SERVICES = {job_type.value: job_type.spec.service.value for job_type in JobType}


class FairQueue(PriorityQueue[Any]):
    """Stands in for the work queue of a Dramatiq worker; a thread holds one slot at a time."""

    def __init__(self, slots_per_service: int) -> None:
        super().__init__()
        self._slots = slots_per_service
        self._running: Counter[str] = Counter()
        self._held: dict[int, str] = {}  # by thread

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The best waiting message whose service has a slot; the thread takes that slot.

        Raises Empty when there is none in time. Without blocking, it only drains: no slot.
        """
        if not block:
            return super().get(block=False)
        end = None if timeout is None else time.monotonic() + timeout
        with self.not_empty:
            while (item := self._take()) is None:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise Empty
                self.not_empty.wait(left)
            return item

    def task_done(self) -> None:
        """A message is done; the first one that a thread reports gives its slot back."""
        super().task_done()
        with self.not_empty:
            service = self._held.pop(threading.get_ident(), None)
            if service is not None:
                self._running[service] -= 1
                self.not_empty.notify()

    def _take(self) -> Any | None:
        """Under the lock: remove the first message that may run now."""
        passed_over, found = [], None
        while self.queue and found is None:
            item = heapq.heappop(self.queue)
            service = _SERVICES.get(item.message.actor_name)
            if service is not None and self._running[service] >= self._slots:
                passed_over.append(item)
                continue
            found = item
            if service is not None:
                self._running[service] += 1
                self._held[threading.get_ident()] = service
        for item in passed_over:
            heapq.heappush(self.queue, item)
        return found
