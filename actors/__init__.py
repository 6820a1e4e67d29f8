"""What each job does: one module per service, each actor one short phase.

`dramatiq actors` imports this package and asks Dramatiq for its broker: with DATABASE_URL and
AMQP_URL set, that broker is composed here. Without them, importing an actor composes nothing.
"""

import dramatiq

from settings import load_settings


def _compose_for_dramatiq() -> None:
    settings = load_settings()
    if settings.database_url is None or settings.amqp_url is None:
        return
    from actors.wiring import build_broker, wire

    wire(settings)
    dramatiq.set_broker(build_broker(settings))


_compose_for_dramatiq()
