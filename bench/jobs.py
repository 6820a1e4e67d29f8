"""Small recorded jobs beside PGQueuer: enqueue in batches, then one message, row and INSERT a job.

    make bench → rounds, interleaved: peer | ours raw | ours peewee → medians → bench/results

Rates of one run can be compared with each other, and not with those of another machine or hour.
"""

import argparse
import contextlib
import json
import platform
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pika
import psycopg2
from psycopg2 import sql

from domain.job_types import JobType
from jobs.enqueue import enqueue_many
from models.database import connect_to, execute, fetch, reconnect, transaction
from models.migrate import migrate

BATCH = 5_000
ROOT = Path(__file__).resolve().parent.parent
PEER = [str(ROOT / ".venv-bench" / "bin" / "python"), str(ROOT / "bench" / "peer_pgqueuer.py")]
Rates = dict[str, float]


@contextlib.contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """A database of this round's own."""
    name = f"overnight_bench_{secrets.token_hex(4)}"
    for statement in ("CREATE DATABASE {}", "DROP DATABASE {} WITH (FORCE)"):
        with contextlib.closing(psycopg2.connect(server)) as connection:
            connection.autocommit = True
            connection.cursor().execute(sql.SQL(statement).format(sql.Identifier(name)))
        if statement.startswith("CREATE"):
            try:
                yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
            finally:
                reconnect()


def peer(server: str, count: int) -> Rates:
    """PGQueuer, two processes, batches of 100."""
    with fresh_database(server) as url:
        _peer("install", url)
        enqueued = float(_peer("enqueue", url, str(count)))
        return {"enqueue": enqueued, "run": count / float(_peer("drain", url, "2"))}


def ours(server: str, amqp_url: str, count: int, body: str, processes: int) -> Rates:
    """Our workers, four threads each, on RabbitMQ; everything is enqueued before they start."""
    prefix = f"bench{secrets.token_hex(3)}_"
    with fresh_database(server) as url:
        migrate(url)
        connect_to(url)
        execute("CREATE TABLE effect (key text PRIMARY KEY)")
        start = time.perf_counter()
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            with transaction():
                enqueue_many(
                    JobType.NOTIFICATION_INDIVIDUAL,
                    [("kind", str(number)) for number in numbers],
                    dedup_keys=[f"key{number}" for number in numbers],
                )
        enqueued = count / (time.perf_counter() - start)
        command = [sys.executable, "-m", "bench.worker", url, amqp_url, prefix, body, "4"]
        start = time.perf_counter()
        workers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(processes)]
        while fetch("SELECT EXISTS (SELECT FROM job_outbox)")[0][0]:
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        assert fetch("SELECT count(*) FROM effect") == [(count,)]
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()
    _delete_queues(amqp_url, prefix)
    return {"enqueue": enqueued, "run": count / seconds}


def _peer(*arguments: str) -> str:
    done = subprocess.run([*PEER, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def _delete_queues(amqp_url: str, prefix: str) -> None:
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(amqp_url))) as connection:
        for queue in {each.spec.queue for each in JobType} | {"inbox"}:
            for suffix in ("", ".DQ", ".XQ"):
                connection.channel().queue_delete(prefix + queue + suffix)


def main() -> None:
    """Run the rounds, print medians and ratios, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", default="postgresql://postgres@127.0.0.1:5432/postgres")
    parser.add_argument("--amqp", default="amqp://guest:guest@127.0.0.1:5672/")
    given = parser.parse_args()
    contestants = {
        "pgqueuer 2 processes": lambda: peer(given.postgres, given.jobs),
        "overnight 2x4 raw": lambda: ours(given.postgres, given.amqp, given.jobs, "raw", 2),
        "overnight 2x4 peewee": lambda: ours(given.postgres, given.amqp, given.jobs, "peewee", 2),
    }
    rounds: dict[str, list[Rates]] = {name: [] for name in contestants}
    for number in range(given.rounds):
        for name, run in contestants.items():
            rates = run()
            rounds[name].append(rates)
            print(f"round {number + 1}  {name:22} {_text(rates)}", flush=True)
    medians = {
        name: {key: statistics.median(r[key] for r in many) for key in ("enqueue", "run")}
        for name, many in rounds.items()
    }
    base = medians["pgqueuer 2 processes"]
    for name, rates in medians.items():
        ratios = "  ".join(f"{key} {rates[key] / base[key]:.2f} x" for key in rates)
        print(f"median   {name:22} {_text(rates)}   {ratios}")
    _keep(given, rounds, medians)


def _text(rates: Rates) -> str:
    return "  ".join(f"{key} {rate:8,.0f}/s" for key, rate in rates.items())


def _keep(given: argparse.Namespace, rounds: object, medians: object) -> None:
    now = datetime.now(UTC)
    path = ROOT / "bench" / "results" / f"jobs-{now:%Y%m%dT%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    facts = {
        "at": now.isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {platform.python_version()}",
        "jobs": given.jobs,
        "medians": medians,
        "rounds": rounds,
    }
    path.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"kept in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
