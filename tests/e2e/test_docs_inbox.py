"""docs/inbox.md: its example asks for a job, once, and its lists are what the program knows."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest

import jobs.actor
from domain.job_types import JobType
from jobs.actor import Handler
from jobs.inbox import accept, job_of
from jobs.process import rabbitmq_broker
from models.database import connect_to, fetch, reconnect

pytestmark = pytest.mark.e2e

WAIT_S = 20.0
JOB = JobType.PAYOUT_RECONCILE


@pytest.fixture
def page(project: Path) -> str:
    return (project / "docs" / "inbox.md").read_text()


def block(page: str, language: str) -> str:
    [found] = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
def ran(
    database_url: str,
    amqp_url: str,
    queue_prefix: str,
    queue_names: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[threading.Semaphore]:
    """A worker that runs PayoutReconcile, and what counts its runs."""
    connect_to(database_url)
    ran = threading.Semaphore(0)

    def run(slot_id: str) -> None:
        ran.release()

    monkeypatch.setattr(jobs.actor, "_handlers", {JOB: Handler(JOB, run)})
    broker = rabbitmq_broker(amqp_url, queue_prefix=queue_prefix, threads=2, loops=[])
    queue_names += broker.get_declared_queues()
    worker = dramatiq.Worker(broker, worker_timeout=50)
    worker.start()
    broker.declare_queue(queue_prefix + "inbox", ensure=True)
    yield ran
    worker.stop(timeout=10_000)
    broker.close()
    reconnect()


def test_the_example_asks_for_one_job_however_often_it_runs(
    page: str, ran: threading.Semaphore, amqp_url: str, queue_prefix: str, tmp_path: Path
) -> None:
    example = tmp_path / "example.py"
    example.write_text(block(page, "python"))
    environment = os.environ | {"AMQP_URL": amqp_url, "QUEUE_PREFIX": queue_prefix}
    for _ in range(2):
        subprocess.run([sys.executable, "-I", str(example)], env=environment, check=True, cwd="/")
    assert ran.acquire(timeout=WAIT_S)
    assert not ran.acquire(timeout=0.5)
    rows = fetch("SELECT id::text, job_type, payload, correlation FROM job_queue")
    job_id = str(job_of("treasury", "close-2026-11-30"))
    payload = {"slot_id": "treasury-2026-11-30"}
    assert rows == [(job_id, JOB.value, payload, "inbox:treasury")]
    assert fetch("SELECT count(*) FROM stray_message") == [(0,)]


def test_the_documented_message_is_accepted(page: str, database_url: str) -> None:
    connect_to(database_url)
    [envelope] = json.loads(block(page, "json"))["args"]
    assert accept(envelope)
    reconnect()


def test_every_job_type_of_the_inbox_is_documented_with_its_payload(page: str) -> None:
    open_types = {job_type for job_type in JobType if job_type.spec.from_inbox}
    rows = dict(re.findall(r"^\| `(\w+)` \| (`\w+`.*?) \| .*$", page, re.MULTILINE))
    listed = {name: text for name, text in rows.items() if name in {j.value for j in JobType}}
    assert set(listed) == {job_type.value for job_type in open_types}
    for job_type in open_types:
        assert all(f"`{name}`" in listed[job_type.value] for name in job_type.spec.params)
        assert not job_type.spec.money
