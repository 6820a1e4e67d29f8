"""A night by the command beside workers on RabbitMQ, and by the slot of a scheduler."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.job_types import JobType
from jobs.inbox import INBOX_QUEUE
from jobs.ticks import TICK_QUEUE
from models.database import connect_to, fetch, reconnect

pytestmark = pytest.mark.e2e

OVERNIGHT = [sys.executable, "-m", "cli.main"]
WAIT_S = 90.0


@pytest.fixture
def env(
    database_url: str, amqp_url: str, queue_prefix: str, queue_names: list[str], tmp_path: Path
) -> Iterator[dict[str, str]]:
    queues = {each.spec.queue for each in JobType} | {INBOX_QUEUE, TICK_QUEUE}
    queue_names += [queue_prefix + queue for queue in queues]
    connect_to(database_url)
    yield {
        **{k: v for k, v in os.environ.items() if not k.startswith("MOCK_") and k != "ENVIRONMENT"},
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "QUEUE_PREFIX": queue_prefix,
        "OVERNIGHT_HOME": str(tmp_path),
    }
    reconnect()


@contextlib.contextmanager
def running(env: dict[str, str], project: Path, *command: str) -> Iterator[Any]:
    """A process of ours, ended by SIGTERM."""
    process = subprocess.Popen(
        [*OVERNIGHT, *command], cwd=project, env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(70)


def until(sql: str) -> None:
    """Wait until the query has a row."""
    give_up_at = time.monotonic() + WAIT_S
    while not fetch(sql):
        assert time.monotonic() < give_up_at, sql
        time.sleep(0.05)  # another process does it: there is no event to await


def test_a_night_beside_workers_asks_nobody_twice(env: dict[str, str], project: Path) -> None:
    with running(env, project, "worker"):
        until("SELECT 1 FROM worker")
        done = subprocess.run(
            [*OVERNIGHT, "nightly", "--all", "--json"], cwd=project, env=env,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["outcome"] == "completed"
    assert fetch("SELECT DISTINCT status, attempts, deaths FROM job_queue") == [("completed", 0, 0)]
    [(companies, documents)] = fetch(
        "SELECT (SELECT count(*) FROM company), (SELECT count(*) FROM document)"
    )
    used = dict(fetch("SELECT provider, day_used FROM provider_budget"))
    assert used["mock-documents"] == companies + documents
    assert used["mock-fx"] == 1
    # an overview for each addition; calendar; prices; four statements and the overview each
    assert used["mock-primary"] == companies + 1 + companies + 5 * companies


def test_a_slot_runs_its_night_by_the_loop_of_the_scheduler(
    env: dict[str, str], project: Path
) -> None:
    """`overnight schedule` without RabbitMQ opens the slot, and a worker with it runs the night."""
    alone = {k: v for k, v in env.items() if k != "AMQP_URL"}
    with running(alone, project, "schedule"), running(env, project, "worker"):
        until(
            "SELECT 1 FROM job_run WHERE trigger = 'slot' HAVING count(*) = 6"
            " AND bool_and(outcome = 'completed')"
        )
    assert fetch("SELECT outcome FROM schedule_slot WHERE schedule = 'nightly'") == [("opened",)]
    assert fetch("SELECT count(DISTINCT slot_id) FROM job_run") == [(1,)]
