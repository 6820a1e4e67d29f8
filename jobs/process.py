"""Brokers and processes: a worker with its loops, and a relay alone.

worker = Dramatiq worker threads + heartbeat + rescue + relay + the loops it is given
relay  = one relay, for machines that only publish
"""

import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType

import dramatiq
import structlog
from dramatiq.middleware import CurrentMessage
from dramatiq.middleware.time_limit import TimeLimit
from periodiq import PeriodiqMiddleware

from domain.job_types import JobType, Way
from jobs import batch
from jobs.actor import declare_actors
from jobs.inbox import declare_inbox
from jobs.inprocess import InProcessBroker, InProcessPublisher
from jobs.loops import Loop, LoopThreads, WorkerLoops, worker_loops
from jobs.publisher import RabbitmqPublisher
from jobs.rabbitmq import HardenedRabbitmqBroker
from jobs.relay import WINDOW, Publisher, Relay

log = structlog.get_logger()

#: RabbitMQ delivers a message again after 30 minutes, beside the first: end a job long before.
JOB_TIME_LIMIT_MS = 240_000

#: How long a worker may finish its jobs after SIGTERM; what is cut off is rescued.
SHUTDOWN_TIMEOUT_MS = 60_000

#: How long an idle Dramatiq thread waits before it looks whether it should end.
_WORKER_TIMEOUT_MS = 100


def rabbitmq_broker(
    url: str, *, queue_prefix: str, threads: int, loops: Sequence[Loop], window: int = WINDOW
) -> HardenedRabbitmqBroker:
    """A broker that consumes jobs from RabbitMQ; its worker also runs a relay and `loops`."""
    relay = relay_loop(RabbitmqPublisher(url, queue_prefix), window)
    broker = HardenedRabbitmqBroker(
        url,
        prefetch=_prefetch(queue_prefix, threads),
        middleware=_middleware(threads, [relay, *loops]),
    )
    _declare(broker, queue_prefix)
    return broker


def inprocess_broker(
    *, threads: int, loops: Sequence[Loop], window: int = WINDOW
) -> InProcessBroker:
    """A broker in memory, for the embedded default; its worker also runs a relay and `loops`."""
    publisher = InProcessPublisher()
    broker = InProcessBroker(
        prefetch=_prefetch("", threads),
        middleware=_middleware(threads, [relay_loop(publisher, window), *loops]),
    )
    publisher.broker = broker
    _declare(broker, "")
    return broker


def relay_loop(publisher: Publisher, window: int = WINDOW) -> Loop:
    """A relay as a loop."""
    relay = Relay(publisher, window=window)
    return Loop("relay", relay.look, pause=relay.wait, close=relay.close)


def run_worker(broker: dramatiq.Broker, *, on_ready: Callable[[], None] | None = None) -> None:
    """Work until SIGTERM or SIGINT, then finish the jobs in hand."""
    with _Signals() as stop:
        broker.emit_after("process_boot")
        worker = dramatiq.Worker(broker, worker_timeout=_WORKER_TIMEOUT_MS)
        worker.start()
        log.info("worker ready", threads=worker.worker_threads)
        if on_ready is not None:
            on_ready()
        stop.wait()
        log.info("worker stopping: finishing the jobs in hand")
        worker.stop(timeout=SHUTDOWN_TIMEOUT_MS)
        broker.close()


def run_relay(url: str, *, queue_prefix: str, window: int = WINDOW) -> None:
    """Publish to RabbitMQ until SIGTERM or SIGINT."""
    with _Signals() as stop:
        threads = LoopThreads([relay_loop(RabbitmqPublisher(url, queue_prefix), window)])
        threads.start()
        log.info("relay ready")
        stop.wait()
        threads.stop()


class _Signals:
    """SIGTERM and SIGINT set an event while inside; a second one ends the process as usual."""

    def __enter__(self) -> threading.Event:
        self._event = threading.Event()
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self._event

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._event.set()
        signal.signal(number, self._before[signal.Signals(number)])


def _prefetch(queue_prefix: str, threads: int) -> Callable[[str], int]:
    """What a worker may hold of a queue: less than its threads, so that no queue takes them all.

    Queues of batched jobs are held many at a time, or there would be nothing to batch; their jobs
    are short, and those of the other queues go first by priority.
    """
    batched = {queue_prefix + each.spec.queue for each in JobType if each.spec.way is Way.BATCH}

    def prefetch(queue: str) -> int:
        return batch.PREFETCH if queue in batched else max(1, threads - 1)

    return prefetch


def _middleware(threads: int, loops: Sequence[Loop]) -> list[dramatiq.Middleware]:
    """No Retries, Pipelines or Callbacks: what they would do is done in the job's transaction."""
    return [
        CurrentMessage(),
        TimeLimit(time_limit=JOB_TIME_LIMIT_MS),
        PeriodiqMiddleware(skip_delay=30),
        WorkerLoops([*worker_loops(), *loops], threads),
    ]


def _declare(broker: dramatiq.Broker, queue_prefix: str) -> None:
    declare_actors(broker, queue_prefix)
    declare_inbox(broker, queue_prefix)
