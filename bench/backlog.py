"""Old jobs: whether a million completed rows make new jobs slower.

python -m bench.backlog → two databases, in turns: without | with old rows → jobs/s → results
"""

import contextlib
import itertools
import time
from functools import partial

from bench.jobs import enqueue_all, hold, nothing_open, release
from bench.rounds import (
    Figures,
    bare_database,
    our_queues,
    parser,
    play,
    processes,
    python,
    wait_until,
)
from models.database import connect_to, execute, reconnect
from models.migrate import migrate

_OLD = """
INSERT INTO job_queue (id, job_type, service, queue, payload, status, priority, max_retries,
                       run_at, dedup_key, created_at, started_at, finished_at)
SELECT gen_random_uuid(), 'NotificationIndividualProcessor', 'notifications', 'notifications',
       jsonb_build_object('kind', 'kind', 'subject_id', n::text), 'completed', 2, 3,
       at, 'old' || n, at, at, at
FROM (SELECT n, overnight_now() - n * interval '1 second' AS at
      FROM generate_series(1, %s) AS n) AS old
"""


def prepare(url: str, old: int) -> None:
    """Our tables, with so many completed jobs."""
    migrate(url)
    connect_to(url)
    execute("CREATE TABLE effect (key text PRIMARY KEY)")
    execute(_OLD, (old,))
    execute("VACUUM ANALYZE job_queue")
    reconnect()


def turn(url: str, amqp_url: str, count: int, numbers: "itertools.count[int]") -> Figures:
    """New jobs from enqueue to done, two workers of four threads."""
    reconnect()
    connect_to(url)
    with our_queues(amqp_url) as prefix:
        hold()
        enqueued = count / enqueue_all(count, next(numbers) * count)
        command = python("bench.worker", url, amqp_url, prefix, "raw", 4)
        with processes([command] * 2):
            start = time.perf_counter()
            release()
            wait_until(nothing_open)
            seconds = time.perf_counter() - start
    reconnect()
    return {"enqueue": enqueued, "run": count / seconds}


def main() -> None:
    """Play the rounds."""
    asked = parser(__doc__, rounds=5)
    asked.add_argument("--jobs", type=int, default=10_000)
    asked.add_argument("--old", type=int, default=1_000_000)
    given = asked.parse_args()
    with contextlib.ExitStack() as stack:
        contestants = {}
        for name, old in (("no old jobs", 0), (f"{given.old:,} old jobs", given.old)):
            url = stack.enter_context(bare_database(given.postgres))
            prepare(url, old)
            contestants[name] = partial(turn, url, given.amqp, given.jobs, itertools.count())
        play("backlog", given, contestants, base="no old jobs")


if __name__ == "__main__":
    main()
