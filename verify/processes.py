"""Simulated processes: workers with a few threads each, and people at a terminal.

A process has the memory that production code keeps in globals, the deliveries that it has not
acknowledged, and strands at work for it. It dies as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from domain.errors import Outage
from domain.job_types import Way
from jobs.batch import deliver_batch
from jobs.loops import Loop
from jobs.runner import deliver
from models.database import CONNECTION_ERRORS, reconnect
from verify.broker import Message, SimulatedBroker
from verify.chaos import Chaos
from verify.memory import Memory
from verify.strands import Strand

#: Strands of one worker that are at work at once.
THREADS = 2


@dataclass
class Process:
    """A worker, or a person's command."""

    name: str
    memory: Memory
    strands: list[Strand] = field(default_factory=list)  # those at work for it
    unacked: list[Message] = field(default_factory=list)

    @property
    def has_room(self) -> bool:
        """Whether another of its threads is free."""
        return len(self.strands) < THREADS

    def is_doing(self, task: str) -> bool:
        """A loop never runs beside itself."""
        return any(strand.task == task for strand in self.strands)


def delivery(
    process: Process, messages: list[Message], strand: Strand, chaos: Chaos
) -> Callable[[], None]:
    """One delivery as a worker's thread handles it: run, then acknowledge."""
    process.unacked += messages
    job_type = messages[0].job_type

    def run() -> None:
        if job_type.spec.way is Way.BATCH and not messages[0].delivered_again:
            deliver_batch(job_type, [message.job_id for message in messages])
        else:
            deliver(messages[0].job_id, job_type, delivered_again=messages[0].delivered_again)
        chaos.ack(strand, "before")
        for message in messages:
            process.unacked.remove(message)
        chaos.ack(strand, "after")

    return run


def turn(loop: Loop) -> Callable[[], None]:
    """One turn of a loop, as its thread handles errors: see jobs.loops.LoopThreads."""

    def run() -> None:
        try:
            loop.run_once()
        except CONNECTION_ERRORS:
            reconnect()
        except Outage:
            pass

    return run


def batch_of(broker: SimulatedBroker, first: Message, most: int) -> list[Message]:
    """`first`, and what a worker of way C would take with it: its like, each published once."""
    broker.waiting.remove(first)
    taken = [first]
    if first.job_type.spec.way is Way.BATCH and not first.delivered_again:
        like = [
            other
            for other in broker.waiting
            if other.job_type is first.job_type and not other.delivered_again
        ]
        for other in like[: most - 1]:
            broker.waiting.remove(other)
            taken.append(other)
    return taken
