"""Processes that race for a budget's last unit: exactly one wins, however they meet."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest

from domain.budgets import Budget
from models.database import reconnect
from usecases.research.budgets import reserve, usage

pytestmark = pytest.mark.integration

#: Says that it is ready, waits for a line, and tries once.
RACER = """
import sys
from domain.budgets import Budget
from models.database import connect_to, fetch
from usecases.research.budgets import reserve
connect_to(sys.argv[1])
fetch("SELECT 1")
print("ready", flush=True)
sys.stdin.readline()
print("won" if reserve("vendor", Budget(per_day=5)) is None else "lost", flush=True)
"""


def test_two_processes_race_for_the_last_unit(database: str, project: Path) -> None:
    """Both wait for the row, which somebody holds: they go on in the same instant."""
    for _ in range(4):
        assert reserve("vendor", Budget(per_day=5)) is None
    holder = psycopg2.connect(database)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, database],
            cwd=project,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM provider_budget WHERE provider = 'vendor' FOR UPDATE")
            for racer in racers:
                assert racer.stdout is not None
                assert racer.stdin is not None
                assert racer.stdout.readline() == "ready\n"
                racer.stdin.write("go\n")
                racer.stdin.flush()
            _wait_until_two_wait(database)
        holder.rollback()
        outcomes = [racer.communicate(timeout=30)[0].strip() for racer in racers]
    finally:
        holder.close()
        for racer in racers:
            racer.kill()
            racer.wait()
    assert sorted(outcomes) == ["lost", "won"]
    assert usage()[0].day_used == 5


def test_the_first_row_of_a_provider_is_raced_for_too(database: str) -> None:
    """Before its first request a provider has no row to lock."""
    barrier = threading.Barrier(8)

    def race(_: int) -> bool:
        barrier.wait(timeout=30)
        try:
            return reserve("vendor", Budget(per_day=3)) is None
        finally:
            reconnect()

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert sum(won) == 3
    assert usage()[0].day_used == 3


def _wait_until_two_wait(url: str) -> None:
    """Two sessions wait for a lock in this database: asked of the server until it says so."""
    watcher = psycopg2.connect(url)
    watcher.autocommit = True
    try:
        with watcher.cursor() as cursor:
            waiting = 0
            while waiting < 2:
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database()"
                )
                [waiting] = cursor.fetchone() or [0]
    finally:
        watcher.close()
