"""Small recorded jobs beside PGQueuer: one message, one row and one INSERT a job, way C.

    make bench → rounds: PGQueuer | ours raw | ours Peewee → jobs/s, ratios → bench/results

`enqueue` counts batches of 5,000 deduplicated jobs. `run` counts from the moment in which every
worker process is connected and the work is released, to the end of the last open job: starting the
processes counts for nobody. `cpu_us` is what a job took of the processes and of their PostgreSQL
backends (ours also needs RabbitMQ, which serves everybody on the machine and can't be counted so).
"""

import subprocess
import time
from functools import partial

from bench.cpu import BACKENDS, cpu_seconds
from bench.rounds import (
    PEER_PYTHON,
    ROOT,
    Figures,
    bare_database,
    our_database,
    our_queues,
    parser,
    play,
    processes,
    python,
    wait_until,
)
from domain.job_types import JobType
from jobs.enqueue import enqueue_many
from models.database import execute, fetch, transaction

BATCH = 5_000
JOB = JobType.NOTIFICATION_INDIVIDUAL
PEER = "pgqueuer 2 processes"


def peer(server: str, count: int, workers: int = 2) -> Figures:
    """PGQueuer, batches of 100."""
    with bare_database(server) as url:
        _peer("install", url)
        enqueued = float(_peer("enqueue", url, str(count)))
        seconds, used = map(float, _peer("drain", url, str(workers)).split())
    return {"enqueue": enqueued, "run": count / seconds, "cpu_us": 1e6 * used / count}


def ours(server: str, amqp_url: str, count: int, body: str, workers: int, threads: int) -> Figures:
    """Our production workers on RabbitMQ, each with its relay."""
    with our_database(server) as url, our_queues(amqp_url) as prefix:
        execute("CREATE TABLE effect (key text PRIMARY KEY)")
        enqueued = count / enqueue_all(count)
        hold()
        command = python("bench.worker", url, amqp_url, prefix, body, threads)
        with processes([command] * workers) as running:
            pids = [each.pid for each in running] + [row[0] for row in fetch(BACKENDS)]
            used, start = cpu_seconds(pids), time.perf_counter()
            release()
            wait_until(nothing_open)
            seconds = time.perf_counter() - start
            # Worker threads connect when they get their first job: count their backends too.
            pids += [pid for (pid,) in fetch(BACKENDS) if pid not in pids]
            used = cpu_seconds(pids) - used
        assert fetch("SELECT count(*) FROM effect") == [(count,)]
        done = "SELECT count(*) FROM job_queue WHERE status = 'completed' AND attempts = 0"
        assert fetch(done) == [(count,)]
    return {"enqueue": enqueued, "run": count / seconds, "cpu_us": 1e6 * used / count}


def enqueue_all(count: int, first: int = 0) -> float:
    """Enqueue in batches; returns the seconds."""
    start = time.perf_counter()
    for low in range(first, first + count, BATCH):
        numbers = range(low, min(low + BATCH, first + count))
        with transaction():
            enqueue_many(
                JOB,
                [("kind", str(number)) for number in numbers],
                dedup_keys=[f"key{number}" for number in numbers],
            )
    return time.perf_counter() - start


def hold() -> None:
    """Nothing is published until `release`."""
    execute("INSERT INTO pause VALUES (%s, 'until all are ready')", (f"job_type:{JOB.value}",))


def release() -> None:
    """Let the work begin, and wake the relays."""
    with transaction():
        execute("DELETE FROM pause")
        fetch("SELECT pg_notify('job_outbox', '')::text")


def nothing_open() -> bool:
    """Whether every job is done."""
    return not fetch("SELECT EXISTS (SELECT FROM job_outbox)")[0][0]


def _peer(*arguments: str) -> str:
    command = [str(PEER_PYTHON), "-m", "bench.peer_pgqueuer", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return done.stdout


def main() -> None:
    """Play the rounds; `--only` is for a quick look at some of the contestants."""
    asked = parser(__doc__)
    asked.add_argument("--jobs", type=int, default=30_000)
    asked.add_argument(
        "--peer-jobs", type=int, help="PGQueuer's: it is quickest with 10,000, and slower with more"
    )
    asked.add_argument("--only", default="", help="a part of the contestants' names")
    given = asked.parse_args()
    mine = partial(ours, given.postgres, given.amqp, given.jobs)
    contestants = {PEER: partial(peer, given.postgres, given.peer_jobs or given.jobs)}
    for body in ("raw", "peewee"):
        for workers, threads in ((2, 4), (1, 4)):
            turn = partial(mine, body, workers, threads)
            contestants[f"overnight {workers}x{threads} {body}"] = turn
    chosen = {name: turn for name, turn in contestants.items() if given.only in name}
    play("jobs", given, chosen, base=PEER if PEER in chosen else None)


if __name__ == "__main__":
    main()
