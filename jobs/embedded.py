"""The embedded worker: threads of this very process run the jobs, without any broker outside."""

from types import TracebackType

import dramatiq
import structlog

from jobs.inprocess import InProcessBroker, start_over
from jobs.process import SHUTDOWN_TIMEOUT_MS

log = structlog.get_logger()


class EmbeddedWorker:
    """A context in which jobs run: worker threads, relay, heartbeat, rescue and the broker's loops.

    The caller holds the data folder's lock: at the start, everything that an earlier process had
    in hand is made due again.
    """

    def __init__(self, broker: InProcessBroker) -> None:
        self._broker = broker
        self._worker = dramatiq.Worker(broker, worker_timeout=100)

    def __enter__(self) -> "EmbeddedWorker":
        released = start_over()
        if released:
            log.info("took up what an earlier process had in hand", jobs=released)
        self._broker.emit_after("process_boot")
        self._worker.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._worker.stop(timeout=SHUTDOWN_TIMEOUT_MS)
        self._broker.close()
