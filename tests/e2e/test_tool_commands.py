"""The tools' own commands work on our packages: `dramatiq actors` and `periodiq schedules`."""

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from domain.job_types import JobType
from jobs.inbox import INBOX_QUEUE
from jobs.ticks import TICK_QUEUE
from mocks.chain import MockChain
from models.database import connect_to, fetch, reconnect
from servers.processes import wait_until

#: Boot of two Python processes and one tick, on a busy machine.
PATIENCE_S = 60


@pytest.fixture
def environment(
    database_url: str, postgres_url: str, amqp_url: str, queue_prefix: str, queue_names: list[str]
) -> Iterator[dict[str, str]]:
    name = f"overnight_tools_chain_{secrets.token_hex(6)}"
    chain_url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    chain = MockChain.create(chain_url)
    queues = {job_type.spec.queue for job_type in JobType} | {INBOX_QUEUE, TICK_QUEUE}
    queue_names.extend(queue_prefix + queue for queue in queues)
    connect_to(database_url)
    yield {
        **os.environ,
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "MOCK_CHAIN_URL": chain_url,
        "QUEUE_PREFIX": queue_prefix,
    }
    reconnect()
    chain.destroy()


@contextlib.contextmanager
def running(
    arguments: list[str], environment: dict[str, str], project: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A tool from this Python's own environment, ended at the end; its output goes to `log`."""
    tool = Path(sys.executable).parent / arguments[0]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(tool), *arguments[1:]],
            env=environment,
            cwd=project,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_S)


@pytest.mark.e2e
def test_periodiq_ticks_open_the_slot_and_a_dramatiq_worker_runs_its_job(
    environment: dict[str, str], project: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        for arguments in (["dramatiq", "actors", "-p", "1"], ["periodiq", "schedules"]):
            log = tmp_path / f"{arguments[0]}.log"
            stack.enter_context(running(arguments, environment, project, log))

        def reconciled() -> bool:
            return fetch(
                "SELECT job_type FROM job_queue WHERE status = 'completed'"
                " AND correlation LIKE 'slot:%%' ORDER BY 1"
            ) == [("JobsPrune",), ("PayoutReconcile",), ("ResearchNight",)]

        wait_until(reconciled, PATIENCE_S, "the nightly jobs to run")
    slots = fetch("SELECT schedule FROM schedule_slot ORDER BY 1")
    assert slots == [("jobs_prune",), ("nightly",), ("payout_reconcile",)]
    assert fetch("SELECT count(*) FROM worker") == [(0,)], "the worker did not sign off"


@pytest.mark.e2e
def test_a_worker_without_amqp_says_what_is_missing(
    environment: dict[str, str], project: Path, tmp_path: Path
) -> None:
    del environment["AMQP_URL"]
    log = tmp_path / "dramatiq.log"
    with running(["dramatiq", "actors", "-p", "1"], environment, project, log) as process:
        assert process.wait(timeout=PATIENCE_S) != 0
    assert "AMQP_URL" in log.read_text()
