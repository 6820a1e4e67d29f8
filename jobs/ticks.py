"""Ticks: messages without a job row, sent by periodiq each minute.

A tick may be lost, late or doubled: what it calls looks at what is due, so the next one makes good.
"""

from collections.abc import Callable
from typing import Any

import structlog
from dramatiq import Actor, Broker
from periodiq import cron

from models.database import CONNECTION_ERRORS, reconnect

log = structlog.get_logger()

#: The logical queue of all ticks.
TICK_QUEUE = "ticks"


class TickActor(Actor[[], None]):
    """Calls its function; whatever goes wrong is logged, and the next minute tries again."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> None:
        try:
            self.fn()
        except CONNECTION_ERRORS as error:
            reconnect()
            log.warning("tick failed", tick=self.actor_name, error=str(error).strip())


def declare_tick(
    broker: Broker, name: str, run: Callable[[], object], queue_prefix: str = ""
) -> None:
    """Declare a tick on `broker`: `periodiq` sends it every minute, a worker runs it."""

    def tick() -> None:
        run()

    TickActor(
        tick,
        broker=broker,
        actor_name=name,
        queue_name=queue_prefix + TICK_QUEUE,
        priority=0,
        options={"periodic": cron("* * * * *")},
    )
