"""Rounds: contestants take turns, their medians are compared, and everything is kept.

    contestants (name → figures) → interleaved rounds → medians, ratios → bench/results/*.json

Figures of one file were measured in turns on one machine, so their ratios hold; figures of two
files do not compare.
"""

import argparse
import contextlib
import json
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika
import psutil
import psycopg2
from psycopg2 import sql

from domain.job_types import JobType
from models.database import connect_to, reconnect
from models.migrate import migrate

ROOT = Path(__file__).resolve().parent.parent
PEER_PYTHON = ROOT / ".venv-bench" / "bin" / "python"

#: What one turn measured: rates, times or sizes, by name.
Figures = dict[str, float]

#: A turn: does the work from scratch and returns its figures.
Turn = Callable[[], Figures]

_OURS = ("dramatiq", "pika", "peewee", "psycopg2-binary")
_PEERS = ("pgqueuer", "asyncpg", "polars", "pandas")


def parser(description: str | None, *, rounds: int = 3) -> argparse.ArgumentParser:
    """What every benchmark asks for; each adds its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # databases and queues go with it
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--postgres", default="postgresql://postgres@127.0.0.1:5432/postgres")
    made.add_argument("--amqp", default="amqp://guest:guest@127.0.0.1:5672/")
    made.add_argument(
        "--quiet",
        type=float,
        default=100,
        metavar="PERCENT",
        help="begin a turn only while others use less of the processors",
    )
    return made


def play(
    name: str,
    given: argparse.Namespace,
    contestants: Mapping[str, Turn],
    *,
    base: str | None = None,
) -> dict[str, Figures]:
    """Play the rounds, print medians and their ratios to `base`, keep all; returns the medians."""
    rounds: dict[str, list[Figures]] = {each: [] for each in contestants}
    busy: list[float] = []
    width = max(map(len, contestants))
    for number in range(given.rounds):
        for each, turn in contestants.items():
            busy.append(_wait_for_quiet(given.quiet))
            figures = turn()
            rounds[each].append(figures)
            print(f"round {number + 1}  {each:{width}}  {_text(figures)}", flush=True)
    medians = {
        each: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        for each, turns in rounds.items()
    }
    ratios: dict[str, Figures] = {}
    for each, figures in medians.items():
        shared = [key for key in figures if base and medians[base].get(key)]
        ratios[each] = {key: round(figures[key] / medians[base or each][key], 3) for key in shared}
        compared = "  ".join(f"{key} {ratio:.2f} x" for key, ratio in ratios[each].items())
        print(f"median   {each:{width}}  {_text(figures)}   {compared}")
    now = datetime.now(UTC)
    path = ROOT / "bench" / "results" / f"{name}-{now:%Y%m%dT%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    facts = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(given.postgres, given.amqp),
        "options": {k: v for k, v in vars(given).items() if k not in ("postgres", "amqp")},
        "percent_busy_before_each_turn": busy,
        "base": base,
        "ratios": ratios,
        "medians": medians,
        "rounds": rounds,
    }
    path.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"kept in {path.relative_to(ROOT)}")
    return medians


@contextlib.contextmanager
def bare_database(server: str) -> Iterator[str]:
    """The URL of an empty database of this turn's own."""
    name = f"overnight_bench_{secrets.token_hex(4)}"
    _administer(server, "CREATE DATABASE {}", name)
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        reconnect()
        _administer(server, "DROP DATABASE {} WITH (FORCE)", name)


@contextlib.contextmanager
def our_database(server: str) -> Iterator[str]:
    """A database with our tables, to which this process is connected."""
    with bare_database(server) as url:
        migrate(url)
        connect_to(url)
        yield url


@contextlib.contextmanager
def our_queues(amqp_url: str) -> Iterator[str]:
    """A prefix for queues of this turn's own, which are deleted at its end."""
    prefix = f"bench{secrets.token_hex(3)}_"
    try:
        yield prefix
    finally:
        parameters = pika.URLParameters(amqp_url)
        with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
            channel = connection.channel()
            for queue in {each.spec.queue for each in JobType} | {"inbox", "ticks"}:
                for suffix in ("", ".DQ", ".XQ"):
                    channel.queue_delete(prefix + queue + suffix)


@contextlib.contextmanager
def processes(commands: list[list[str]]) -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that have each printed a line (they are ready); ended by SIGTERM."""
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for command in commands
    ]
    try:
        for process in running:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"ended before it was ready: {process.args!r}")
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def python(module: str, *arguments: object) -> list[str]:
    """The command of a module of ours, in a process of its own."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def wait_until(condition: Callable[[], object], *, poll_s: float = 0.02) -> None:
    """Look again and again until it holds."""
    while not condition():
        time.sleep(poll_s)


def machine() -> dict[str, Any]:
    """Where it ran."""
    cores, memory = os.cpu_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"architecture": platform.machine(), "cores": cores, "memory_gib": memory // 2**30}


def versions(server: str, amqp_url: str) -> dict[str, str]:
    """What ran: ours, the peer's, and the servers'."""
    found = {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _OURS},
    }
    if PEER_PYTHON.exists():
        code = f"from importlib.metadata import version as v; print(*map(v, {_PEERS!r}))"
        answer = subprocess.run(
            [str(PEER_PYTHON), "-c", code], check=True, capture_output=True, text=True
        )
        found |= dict(zip(_PEERS, answer.stdout.split(), strict=True))
    with contextlib.closing(psycopg2.connect(server)) as connection:
        found["postgresql"] = str(connection.info.parameter_status("server_version"))
    parameters = pika.URLParameters(amqp_url)
    with contextlib.closing(pika.BlockingConnection(parameters)) as broker:
        hidden: Any = broker  # pika keeps what the server said to itself
        found["rabbitmq"] = hidden._impl.server_properties["version"]
    return found


def _wait_for_quiet(percent: float) -> float:
    """Wait until the machine has been quiet for two seconds; returns how busy it was then."""
    while (busy := psutil.cpu_percent(2)) > percent:
        pass
    return busy


def _administer(server: str, statement: str, name: str) -> None:
    with contextlib.closing(psycopg2.connect(server)) as connection:
        connection.autocommit = True
        connection.cursor().execute(sql.SQL(statement).format(sql.Identifier(name)))


def _text(figures: Figures) -> str:
    return "  ".join(f"{key} {_number(value):>9}" for key, value in figures.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
