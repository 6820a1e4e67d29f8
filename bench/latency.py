"""How long an idle worker takes to start a job: from the return of the commit to the body.

python -m bench.latency → one idle worker, one job at a time → p50, p99 in ms → bench/results
"""

import random
import statistics
import time
from functools import partial

from bench.jobs import JOB, nothing_open
from bench.rounds import (
    Figures,
    our_database,
    our_queues,
    parser,
    play,
    processes,
    python,
    wait_until,
)
from jobs.enqueue import enqueue
from models.database import execute, fetch, transaction


def measure(server: str, amqp_url: str, count: int, threads: int) -> Figures:
    """Jobs at random moments, each when the one before is long done."""
    with our_database(server) as url, our_queues(amqp_url) as prefix:
        execute("CREATE TABLE effect (key text PRIMARY KEY, started float8)")
        with processes([python("bench.worker", url, amqp_url, prefix, "stamp", threads)]):
            committed: dict[str, float] = {}
            for number in range(count + 20):  # the first ones open connections and plan
                with transaction():
                    enqueue(JOB.message("kind", str(number)))
                committed[str(number)] = time.time()
                time.sleep(random.uniform(0.03, 0.09))  # noqa: S311 - no secret
            wait_until(nothing_open)
        started = dict(fetch("SELECT key, started FROM effect"))
    delays = [1_000 * (started[str(n)] - committed[str(n)]) for n in range(20, count + 20)]
    cuts = statistics.quantiles(delays, n=100)
    return {"p50_ms": cuts[49], "p90_ms": cuts[89], "p99_ms": cuts[98]}


def main() -> None:
    """Play the rounds."""
    asked = parser(__doc__)
    asked.add_argument("--jobs", type=int, default=500)
    given = asked.parse_args()
    turn = partial(measure, given.postgres, given.amqp, given.jobs, 4)
    play("latency", given, {"overnight 1x4": turn})


if __name__ == "__main__":
    main()
