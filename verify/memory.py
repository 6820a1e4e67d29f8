"""What a worker process remembers: the globals of the production code, one set for each process.

    strand gets the baton → its process' memory becomes the modules' → … → the next process'

A crash loses it. Two simulated processes share this interpreter, and must not share that.
"""

from typing import Any
from uuid import UUID

from domain.ids import new_id
from jobs import batch, loops, runner
from jobs.relay import Publisher, Relay
from usecases.payouts import doubts


class Memory:
    """One process' own memory."""

    def __init__(self, publisher: Publisher, queues: list[str]) -> None:
        self.worker: UUID = new_id()
        self.tokens: set[UUID] = set()
        self.doubts: dict[Any, Any] = {}
        self.fitting: dict[Any, int] = {}
        self.relay = Relay(publisher)
        self.relay.queues = queues

    def recall(self) -> None:
        """Make it the memory of the production code."""
        for module in (runner, batch, loops):
            vars(module)["WORKER_ID"] = self.worker
        for module in (runner, loops):
            vars(module)["running_tokens"] = self.tokens
        vars(doubts)["_doubts"] = self.doubts
        vars(batch)["_fitting"] = self.fitting


def forget_real_time() -> None:
    """No code of the production rests, or cuts a batch short, by the clock on the wall."""
    runner._DATABASE_RETRY_S = 0.0
    batch.BATCH_TIME_S = float("inf")
