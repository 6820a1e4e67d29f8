"""`overnight jobs …`: the commands of a person on call, with their output and exit codes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from domain.errors import Rejected
from domain.job_types import JobType
from jobs.enqueue import enqueue
from jobs.runner import keep_stray, run_due
from models.database import connect_to, fetch, transaction
from settings import load_settings

pytestmark = pytest.mark.integration

Invoke = Callable[..., Result]
NOTIFY, MONEY = JobType.NOTIFICATION_INDIVIDUAL, JobType.MATURITY_PAYMENT


@pytest.fixture
def overnight(database: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """overnight("list", code=0) is `overnight jobs list`; the test goes on with its database."""
    monkeypatch.setenv("DATABASE_URL", database)

    def run(*arguments: str, code: int = 0) -> Result:
        result = invoke("jobs", *arguments, code=code)
        connect_to(database)
        return result

    return run


@pytest.fixture
def failed(handle: Callable[..., None], overnight: Invoke) -> Callable[..., str]:
    """failed(job_type): a job that failed for good; its id."""

    def make(job_type: JobType = NOTIFY, **options: Any) -> str:
        def refuse(**_: str) -> None:
            raise Rejected("mail server is full")

        handle(job_type, refuse)
        with transaction():
            job = enqueue(job_type.message(*job_type.spec.params), **options)
        run_due()
        return str(job.id)

    return make


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def test_dead_letters_are_found_looked_at_and_requeued(
    overnight: Invoke, failed: Callable[..., str]
) -> None:
    job = failed()
    found = data(
        overnight("list", "--status", "failed", "--error", "FULL", "--since", "1h", "--json")
    )
    assert [each["id"] for each in found] == [job]
    assert data(overnight("list", "--service", "maturity", "--json")) == []
    assert "requeued" in overnight("requeue", job[:8], "--by", "ada", "--reason", "room").stdout
    shown = overnight("show", job[:8]).stdout
    assert "requeued at" in shown
    assert "by ada, after 1 attempts and 0 deaths: room" in shown
    assert "Traceback" in shown
    overnight("requeue", job, code=1)


def test_of_several_some_may_be_refused(overnight: Invoke, failed: Callable[..., str]) -> None:
    job, money = failed(), failed(MONEY, correlation="run:abc")
    dry = overnight("discard", "--error", "full", "--dry-run", code=3)
    assert "1 would be discarded" in dry.stdout
    assert "overnight payouts retry abc" in dry.stderr
    result = data(overnight("discard", "--all", "--json", code=3))
    assert result["done"] == 1
    assert [each["job_id"] for each in result["refused"]] == [money]
    assert data(overnight("show", job, "--json"))["job"]["status"] == "cancelled"
    assert data(overnight("show", money, "--json"))["job"]["status"] == "failed"


def test_cancel_by_filter(overnight: Invoke) -> None:
    with transaction():
        for number in range(3):
            enqueue(NOTIFY.message("k", str(number)))
    assert overnight("cancel", "--type", NOTIFY.value).stdout == "3 cancelled\n"
    assert fetch("SELECT count(*) FROM job_outbox") == [(0,)]


@pytest.mark.parametrize(
    "wrong",
    [
        ("requeue",),
        ("requeue", "abcd", "--all"),
        ("requeue", "abcd", "--dry-run"),
        ("cancel", "--service", "nobody"),
        ("list", "--since", "yesterday"),
        ("pause", "nobody", "--reason", "x"),
        ("pause", "notifications"),
        ("prune", "--older-than", "0d"),
        ("prune", "--older-than", "soon"),
        ("stray", "--forget", "1", "--forget-older-than", "1d"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_code_2(wrong: tuple[str, ...], overnight: Invoke) -> None:
    overnight(*wrong, code=2)


def test_an_unknown_job_is_code_1(overnight: Invoke) -> None:
    overnight("requeue", "abcdef", code=1)


def test_pause_shows_in_stats_until_resume(overnight: Invoke) -> None:
    overnight("pause", "notifications", "--reason", "SMTP is down", "--by", "ada")
    overnight("pause", NOTIFY.value, "--reason", "too", "--json")
    stats = data(overnight("stats", "--json"))
    assert stats["paused"] == [f"job_type:{NOTIFY.value}", "service:notifications"]
    assert stats["pauses"][0]["reason"] == "SMTP is down"
    assert "service:notifications: SMTP is down (by ada," in overnight("stats").stdout
    assert "goes on" in overnight("resume", "notifications").stdout
    assert "was not paused" in overnight("resume", "notifications").stdout


def test_prune_says_what_it_would_do(overnight: Invoke) -> None:
    assert "0 jobs would be pruned" in overnight("prune", "--dry-run").stdout
    assert data(overnight("prune", "--older-than", "2w", "--json"))["deleted"] == 0


def test_stray_messages_are_listed_and_forgotten(overnight: Invoke) -> None:
    keep_stray("inbox", "version: expected 1", "{}")
    [found] = data(overnight("stray", "--json"))
    assert (found["queue"], found["reason"], found["body"]) == (
        "inbox",
        "version: expected 1",
        "{}",
    )
    assert "version: expected 1" in overnight("stray").stdout
    assert data(overnight("stray", "--forget", str(found["id"]), "--json")) == {"deleted": 1}
    assert "no stray" in overnight("stray").stderr
    assert overnight("stray", "--forget-older-than", "1d").stdout == "0 deleted\n"


def test_overrides_of_the_environment_hold_for_a_requeue(
    overnight: Invoke, failed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = failed()
    monkeypatch.setenv("JOB_OVERRIDES", json.dumps({NOTIFY.value: {"max_retries": 17}}))
    load_settings.cache_clear()
    overnight("requeue", job)
    assert data(overnight("show", job, "--json"))["max_retries"] == 17
