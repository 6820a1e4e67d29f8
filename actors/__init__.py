"""What each job does: one module per service, each actor one short phase.

`dramatiq actors` imports this package and asks Dramatiq for its broker: with DATABASE_URL and
AMQP_URL set, that broker is composed here. Without them, importing an actor composes nothing, and
a worker that is started on it ends and says what is missing.
"""

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import MiddlewareError

from settings import load_settings


class _Unconfigured(dramatiq.Middleware):
    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        raise MiddlewareError(
            "`dramatiq actors` needs DATABASE_URL and AMQP_URL; `overnight worker` runs without"
        )


def _compose_for_dramatiq() -> dramatiq.Broker:
    settings = load_settings()
    if settings.database_url is None or settings.amqp_url is None:
        return StubBroker(middleware=[_Unconfigured()])
    from actors.wiring import build_broker, wire

    wire(settings)
    return build_broker(settings)


dramatiq.set_broker(_compose_for_dramatiq())
