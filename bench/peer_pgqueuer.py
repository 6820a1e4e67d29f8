"""The peer: PGQueuer doing the same work, in processes of its own.

    .venv-bench/bin/python -m bench.peer_pgqueuer install|enqueue|drain URL [JOBS|PROCESSES]

Prints jobs enqueued per second, or the seconds and CPU seconds of a drain. A job's body is one
INSERT … ON CONFLICT DO NOTHING. It runs in an environment of its own (requirements-bench.txt).
"""

import asyncio
import multiprocessing
import sys
import time
from datetime import timedelta
from multiprocessing.synchronize import Barrier

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.types import QueueExecutionMode

from bench.cpu import BACKENDS, cpu_seconds

BATCH = 100
ENQUEUE_BATCH = 5_000


async def install(url: str) -> None:
    """Create PGQueuer's tables and ours."""
    connection = await asyncpg.connect(url)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.execute("CREATE TABLE IF NOT EXISTS effect (key text PRIMARY KEY)")
    await connection.close()


async def enqueue(url: str, count: int) -> float:
    """Enqueue in batches, each job with a dedupe key."""
    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    names = [f"k{number}-{time.time_ns()}" for number in range(count)]
    start = time.perf_counter()
    for first in range(0, count, ENQUEUE_BATCH):
        part = names[first : first + ENQUEUE_BATCH]
        await queries.enqueue(
            ["job"] * len(part),
            [name.encode() for name in part],
            [0] * len(part),
            dedupe_key=list(part),
        )
    seconds = time.perf_counter() - start
    await connection.close()
    return count / seconds


async def _work(url: str, ready: Barrier) -> None:
    connection = await asyncpg.connect(url)
    pool = await asyncpg.create_pool(url, min_size=4, max_size=4)
    manager = QueueManager(Queries(AsyncpgDriver(connection)))

    @manager.entrypoint("job")
    async def job(job) -> None:  # type: ignore[no-untyped-def]
        async with pool.acquire() as own:
            await own.execute(
                "INSERT INTO effect VALUES ($1) ON CONFLICT DO NOTHING", job.payload.decode()
            )

    ready.wait()
    await manager.run(
        batch_size=BATCH, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(seconds=1)
    )
    await pool.close()
    await connection.close()


async def drain(url: str, processes: int) -> tuple[float, float]:
    """Run everything that is queued, and count from all processes ready to the last job's end.

    Returns the seconds, and the CPU seconds of the processes and their PostgreSQL backends.
    """
    ready = multiprocessing.Barrier(processes + 1)
    workers = [
        multiprocessing.Process(target=lambda: asyncio.run(_work(url, ready)))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    connection = await asyncpg.connect(url)
    ready.wait()
    pids = [worker.pid for worker in workers] + [r[0] for r in await connection.fetch(BACKENDS)]
    used, start = cpu_seconds(pids), time.perf_counter()
    while await connection.fetchval("SELECT EXISTS (SELECT FROM pgqueuer)"):
        await asyncio.sleep(0.02)
    seconds, used = time.perf_counter() - start, cpu_seconds(pids) - used
    await connection.close()
    for worker in workers:
        worker.join()
    return seconds, used


def main() -> None:
    """See the module's docstring."""
    command, url, *rest = sys.argv[1:]
    if command == "install":
        asyncio.run(install(url))
    elif command == "enqueue":
        print(asyncio.run(enqueue(url, int(rest[0]))))
    else:
        print(*asyncio.run(drain(url, int(rest[0]))))


if __name__ == "__main__":
    main()
