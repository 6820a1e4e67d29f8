"""A worker's memory: its resident size after 10,000 jobs and after 100,000.

python -m bench.memory → one worker, jobs in ten parts → MiB after each → bench/results
"""

from functools import partial

import psutil

from bench.jobs import enqueue_all, nothing_open
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
from models.database import execute

PART = 10_000


def measure(server: str, amqp_url: str, parts: int) -> Figures:
    """The same worker process, part after part."""
    sizes: list[float] = []
    with our_database(server) as url, our_queues(amqp_url) as prefix:
        execute("CREATE TABLE effect (key text PRIMARY KEY)")
        with processes([python("bench.worker", url, amqp_url, prefix, "raw", 4)]) as [worker]:
            for number in range(parts):
                enqueue_all(PART, number * PART)
                wait_until(nothing_open)
                sizes.append(psutil.Process(worker.pid).memory_info().rss / 2**20)
                print(f"after {(number + 1) * PART:,} jobs: {sizes[-1]:.1f} MiB", flush=True)
    return {"first_mib": sizes[0], "last_mib": sizes[-1], "grown_mib": sizes[-1] - sizes[0]}


def main() -> None:
    """Play the rounds."""
    asked = parser(__doc__, rounds=1)
    asked.add_argument("--parts", type=int, default=10)
    given = asked.parse_args()
    turn = partial(measure, given.postgres, given.amqp, given.parts)
    play("memory", given, {"overnight 1x4 raw": turn})


if __name__ == "__main__":
    main()
