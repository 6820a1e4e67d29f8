"""A worker process of the benchmarks: the production worker, with a body of one INSERT.

    python -m bench.worker DATABASE_URL AMQP_URL QUEUE_PREFIX raw|peewee|stamp THREADS

The job type is that of notifications, way C; the body never sees more than its own job.
"""

import sys
import time

from peewee import TextField

from domain.job_types import JobType
from jobs.actor import actor
from jobs.process import rabbitmq_broker, run_worker
from models.database import BaseModel, connect_to, execute
from models.prepared import Prepared

#: The peer's driver prepares its statements, too.
INSERT = Prepared("effect", ["text"], "INSERT INTO effect VALUES ($1) ON CONFLICT DO NOTHING")


class Effect(BaseModel):
    """What a job did, once."""

    key = TextField(primary_key=True)


def main() -> None:
    """Run until SIGTERM."""
    url, amqp_url, prefix, body, threads = sys.argv[1:]
    connect_to(url)

    def raw(kind: str, subject_id: str) -> None:
        INSERT.execute(subject_id)

    def peewee(kind: str, subject_id: str) -> None:
        Effect.insert(key=subject_id).on_conflict_ignore().execute()

    def stamp(kind: str, subject_id: str) -> None:
        execute("INSERT INTO effect VALUES (%s, %s)", (subject_id, time.time()))

    bodies = {"raw": raw, "peewee": peewee, "stamp": stamp}
    actor(JobType.NOTIFICATION_INDIVIDUAL)(bodies[body])
    broker = rabbitmq_broker(amqp_url, queue_prefix=prefix, threads=int(threads), loops=[])
    run_worker(broker, on_ready=lambda: print("ready", flush=True))


if __name__ == "__main__":
    main()
