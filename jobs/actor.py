"""Actors: functions bound to a JobType, and the Dramatiq actor that runs them as jobs.

    @actor(JobType.X) def x(...) → registry → declare_actors(broker) → JobActor → deliver

Dramatiq runs an actor even when a before-hook failed, and acks when an after-hook failed; so the
queue's work is done in the actor's own call, and not in middleware.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID

from dramatiq import Actor, Broker
from dramatiq.middleware import CurrentMessage

from domain.job_types import JobType, Service, Way
from jobs.failure import OnFailed

#: The payloads of a batch's jobs, all of one type.
RunMany = Callable[[list[dict[str, str]]], None]


@dataclass(frozen=True)
class Handler:
    """What runs a job type: a function of its payload, and what is told when it fails for good.

    `run_many` does the same for many payloads at once, set-based, for batches of way C.
    """

    job_type: JobType
    run: Callable[..., None]
    on_failed: OnFailed | None = None
    run_many: RunMany | None = None


_handlers: dict[JobType, Handler] = {}


def actor(
    job_type: JobType, *, on_failed: OnFailed | None = None, run_many: RunMany | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Bind a function to a job type. It stays an ordinary function."""

    def bind(run: Callable[..., None]) -> Callable[..., None]:
        if inspect.iscoroutinefunction(run):
            # All of them share one thread: their transactions on its one connection would mix.
            raise TypeError(f"{job_type.value}: an actor must not be async")
        known = _handlers.get(job_type)
        if known is not None and known.run.__qualname__ != run.__qualname__:
            raise ValueError(f"{job_type.value} has an actor already: {known.run.__qualname__}")
        _handlers[job_type] = Handler(job_type, run, on_failed, run_many)
        return run

    return bind


def handler_of(job_type: JobType) -> Handler:
    """The handler of a job type; raises LookupError if its module was not imported."""
    try:
        return _handlers[job_type]
    except KeyError:
        raise LookupError(f"no actor is loaded for {job_type.value}") from None


def is_loaded(job_type: JobType) -> bool:
    """Whether this process has an actor for the type."""
    return job_type in _handlers


class JobActor(Actor[..., None]):
    """A Dramatiq actor whose message is only a wake-up call for a job row."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        # They need the handlers of this module.
        from jobs.batch import deliver_waiting
        from jobs.runner import deliver, keep_stray

        message = CurrentMessage.get_current_message()
        if message is None:
            raise RuntimeError(f"{self.actor_name} runs as a job: use enqueue")
        again = getattr(message, "redelivered", False) or message.options.get("published", 1) != 1
        try:
            job_id = UUID(message.message_id)
        except (ValueError, TypeError, AttributeError):
            keep_stray(message.queue_name, "its id is no job's", str(message.asdict()))
            return
        job_type = JobType(self.actor_name)
        if job_type.spec.way is Way.BATCH and not again:
            deliver_waiting(self.broker, message, job_type)
        else:
            deliver(job_id, job_type, delivered_again=again)

    def send_with_options(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a message without a row is no job."""
        raise RuntimeError(f"{self.actor_name}: use enqueue inside a transaction, not send")


def declare_actors(broker: Broker, queue_prefix: str = "") -> None:
    """Declare a Dramatiq actor on `broker` for every handler that was imported.

    Raises ValueError where two services share a queue: what waits for one would block the other.
    """
    owners: dict[str, Service] = {}
    for job_type in JobType:
        owner = owners.setdefault(job_type.spec.queue, job_type.spec.service)
        if owner is not job_type.spec.service:
            queue, service = job_type.spec.queue, job_type.spec.service
            raise ValueError(f"services {owner} and {service} share the queue {queue!r}")
    for job_type, handler in _handlers.items():
        if job_type.value not in broker.actors:
            JobActor(
                handler.run,
                broker=broker,
                actor_name=job_type.value,
                queue_name=queue_prefix + job_type.spec.queue,
                priority=5 - job_type.spec.priority,  # Dramatiq runs lower numbers first
                options={},
            )
