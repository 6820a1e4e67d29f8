"""The time limit holds in-process too: Dramatiq's is asleep until the process has booted."""

import time
from collections.abc import Callable

import pytest

import jobs.process
from domain.job_types import JobType
from jobs.embedded import EmbeddedWorker
from jobs.enqueue import enqueue
from jobs.process import inprocess_broker
from models.database import fetch, transaction

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]


def test_a_job_that_never_ends_is_cut_off_and_retried(
    handle: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.process, "JOB_TIME_LIMIT_MS", 200)

    def hang(slot_id: str) -> None:
        while True:
            time.sleep(0.01)  # the limit interrupts Python, not a system call

    handle(JobType.PAYOUT_RECONCILE, hang)
    with transaction():
        enqueue(JobType.PAYOUT_RECONCILE.message("s"))
    end = time.monotonic() + 15
    with EmbeddedWorker(inprocess_broker(threads=2, loops=[])):
        while not (rows := fetch("SELECT error FROM job_attempt")):
            assert time.monotonic() < end
            time.sleep(0.02)
    assert "TimeLimitExceeded" in rows[0][0]
    assert fetch("SELECT attempts FROM job_queue") == [(1,)]
