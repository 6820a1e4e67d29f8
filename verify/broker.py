"""The broker of a schedule: messages in memory, delivered in any order, more than once, or never.

    Relay → SimulatedPublisher.publish → (lost | confirmed or not) → waiting → delivery → ack

A message that its worker did not acknowledge comes back, marked as delivered before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from domain.ids import new_id
from domain.job_types import JobType
from jobs.relay import Outgoing


@dataclass(frozen=True)
class Message:
    """A job's wake-up call on its way."""

    job_id: UUID
    job_type: JobType
    published: int
    redelivered: bool = False

    @property
    def delivered_again(self) -> bool:
        """What a worker makes of it: see jobs.actor.JobActor."""
        return self.redelivered or self.published != 1


class Fate(Protocol):
    """What becomes of a publish. Any of them may raise Crash."""

    def before_publish(self, item: Outgoing) -> bool:
        """Whether the message reaches the broker."""

    def after_publish(self, item: Outgoing) -> bool:
        """Whether the confirm reaches the relay."""


class SimulatedBroker:
    """All queues in one list: the scheduler takes from anywhere."""

    def __init__(self) -> None:
        self.waiting: list[Message] = []
        self.epoch: UUID | None = new_id()  # None: away

    def end_epoch(self, *, lose: Callable[[Message], bool]) -> int:
        """The connection ends; returns how many messages are lost with it."""
        before = len(self.waiting)
        self.waiting = [m for m in self.waiting if not lose(m)]
        self.epoch = new_id()
        return before - len(self.waiting)

    def put_back(self, messages: Sequence[Message]) -> None:
        """What a dead worker had taken and not acknowledged."""
        self.waiting += [replace(message, redelivered=True) for message in messages]


class SimulatedPublisher:
    """Implements `jobs.relay.Publisher`."""

    def __init__(self, broker: SimulatedBroker, fate: Fate) -> None:
        self._broker, self._fate = broker, fate

    def connect(self) -> UUID | None:
        """The broker's epoch."""
        return self._broker.epoch

    def publish(self, batch: Sequence[Outgoing]) -> set[UUID]:
        """Publish one by one, in an order that does not depend on the table's."""
        confirmed = set()
        for item in sorted(batch, key=lambda item: item.job_id):
            if self._fate.before_publish(item):
                message = Message(item.job_id, item.job_type, item.publish_count)
                self._broker.waiting.append(message)
                if self._fate.after_publish(item):
                    confirmed.add(item.job_id)
        return confirmed

    def close(self) -> None:
        """Nothing to end."""
