"""What processes and queues hold, looked at once a second: memory and messages stay bounded."""

import contextlib
import threading

import pika
import psutil
import psycopg2

from domain.job_types import JobType
from verify.real.fleet import Fleet
from verify.real.observer import BROKER_AWAY, Observer
from verify.real.stage import Stage

INTERVAL_S = 1.0

_PUBLISHED = """
SELECT coalesce(max(n), 0) FROM (
    SELECT count(*) AS n FROM job_outbox WHERE published_at IS NOT NULL GROUP BY queue) AS queue
"""


class Sampler:
    """Keeps the highest values it has seen, in a thread of its own."""

    def __init__(self, stage: Stage, fleet: Fleet, observer: Observer) -> None:
        self._stage, self._fleet, self._observer = stage, fleet, observer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self.worker_bytes = 0
        self.published_jobs = 0  # of one queue, with the broker and not claimed
        self.broker_messages = 0  # of one queue, ready to be delivered

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            for member in self._fleet.members("worker"):
                with contextlib.suppress(psutil.Error):
                    used = int(psutil.Process(member.pid).memory_info().rss)
                    self.worker_bytes = max(self.worker_bytes, used)
            with contextlib.suppress(psycopg2.Error):
                [(published,)] = self._observer.rows(_PUBLISHED, wait=False)
                self.published_jobs = max(self.published_jobs, int(published))
            with contextlib.suppress(*BROKER_AWAY):
                self.broker_messages = max(self.broker_messages, self._deepest())

    def _deepest(self) -> int:
        parameters = pika.URLParameters(self._stage.rabbitmq.url)
        parameters.socket_timeout = parameters.stack_timeout = 2
        depth = 0
        with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
            for queue in {job_type.spec.queue for job_type in JobType}:
                declared = connection.channel().queue_declare(queue, passive=True)
                depth = max(depth, int(declared.method.message_count))
        return depth
