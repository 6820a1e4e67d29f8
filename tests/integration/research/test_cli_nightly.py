"""`overnight nightly`, `companies`, `metrics`, `schedule`: what they do, print and return."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from cli.schedule import supervise
from domain.research import ResearchJob
from models.database import connect_to, execute, fetch

pytestmark = pytest.mark.integration

Invoke = Callable[..., Result]


@pytest.fixture
def environment(database: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database)


@pytest.fixture
def overnight(environment: None, database: str, invoke: Invoke) -> Invoke:
    def run(*arguments: str, code: int = 0) -> Result:
        result = invoke(*arguments, code=code)
        connect_to(database)
        return result

    return run


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_newcomer_sees_a_whole_night_of_sample_data(overnight: Invoke) -> None:
    first = overnight("nightly", "--all")
    assert "SAMPLE DATA" in first.stdout
    assert "AAPL" in first.stderr
    assert "MSFT" in first.stderr
    for job in ResearchJob:
        assert f"{job.value:<19} completed" in first.stdout
    report = data(overnight("nightly", "report", "--json"))
    assert (report["outcome"], report["sample_data"]) == ("completed", True)
    assert [run["job"] for run in report["runs"]] == [job.value for job in ResearchJob]
    assert report["runs"][1]["providers"][0]["provider"] == "mock-primary"
    assert report["staleness"]["metrics_behind"] == 0
    assert fetch("SELECT 1 FROM worker") == []  # signed off
    assert fetch("SELECT 1 FROM schedule_slot") == []  # by hand takes no slot
    shown = data(overnight("metrics", "show", "AAPL", "--json"))
    assert len(shown) == 13
    csv = overnight("metrics", "export", "--csv", "--symbol", "AAPL").stdout.splitlines()
    assert csv[0] == "company,period_end_date,metric_name,value,null_reason"
    assert all(line.startswith("AAPL,") for line in csv[1:])
    assert sum(1 for line in csv if ",gross_margin," in line) >= 8


def test_a_dry_run_writes_nothing(overnight: Invoke) -> None:
    overnight("companies", "add", "--sample")
    tables = ("job_run", "job_run_item", "job_queue", "daily_price", "research_check")
    found = data(overnight("nightly", "--all", "--dry-run", "--json"))
    assert [run["job"] for run in found["runs"]] == [job.value for job in ResearchJob]
    prices = found["runs"][1]
    assert prices["would_work"] == prices["calls_min"] > 5
    for table in tables:
        assert fetch(f"SELECT count(*) FROM {table}") == [(0,)]
    assert "nothing was written" in overnight("nightly", "--job", "fx_refresh", "--dry-run").stdout


def test_exit_codes(overnight: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    overnight("companies", "add", "AAPL", "MSFT")
    overnight("nightly", "--job", "price_refresh")
    not_found = {"fault": "not_found", "endpoint": "TIME_SERIES_DAILY_ADJUSTED", "symbol": "AAPL"}
    monkeypatch.setenv("MOCK_FAULTS", json.dumps([not_found]))
    execute("TRUNCATE daily_price")
    overnight("nightly", "--job", "price_refresh", code=3)
    execute("TRUNCATE daily_price")
    monkeypatch.setenv("MOCK_FAULTS", json.dumps([{**not_found, "symbol": "*"}]))
    failed = data(overnight("nightly", "--job", "price_refresh", "--json", code=1))
    assert failed["outcome"] == "failed"
    assert failed["runs"][0]["reasons"][0]["reason"] == (
        "mock-primary: NOT_FOUND; mock-secondary: NOT_FOUND"
    )


def test_a_night_beside_a_night_is_refused(overnight: Invoke) -> None:
    overnight("companies", "add", "AAPL")
    execute(
        "INSERT INTO job_run (id, job, nightly_id, position, trigger)"
        " VALUES (gen_random_uuid(), 'fx_refresh', gen_random_uuid(), 0, 'manual')"
    )
    execute(
        "INSERT INTO job_queue (id, job_type, service, queue, priority, max_retries, correlation)"
        " SELECT id, 'FxRefresh', 'market', 'market', 1, 1, 'nightly:' || nightly_id FROM job_run"
    )
    execute("INSERT INTO job_outbox (job_id, queue, job_type, service, priority)"
            " SELECT id, 'market', 'FxRefresh', 'market', 1 FROM job_queue")  # fmt: skip
    refused = overnight("nightly", "--all", code=1)
    assert "refused: run " in refused.stderr
    assert "--resume" in refused.stderr
    assert fetch("SELECT DISTINCT outcome FROM job_run WHERE outcome IS NOT NULL") == [("refused",)]


@pytest.mark.parametrize(
    "wrong",
    [
        ("nightly",),
        ("nightly", "--all", "--job", "fx_refresh"),
        ("nightly", "--job", "no_such_job"),
        ("nightly", "--resume", "--dry-run"),
        ("nightly", "--all", "report"),
        ("nightly", "report", "yesterday"),
        ("companies", "add"),
        ("companies", "add", "AAPL", "--sample"),
        ("companies", "add", "no symbol"),
        ("companies", "add", "AAPL", "--exchange", "MOON"),
        ("companies", "add", "AAPL", "--currency", "dollars"),
        ("metrics", "export"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_code_2(wrong: tuple[str, ...], overnight: Invoke) -> None:
    overnight(*wrong, code=2)


def test_what_is_not_there_is_code_1(overnight: Invoke) -> None:
    assert "no night has run yet" in overnight("nightly", "report", code=1).stderr
    assert "no night began on" in overnight("nightly", "report", "2020-01-01", code=1).stderr
    assert "no company NOPE" in overnight("companies", "show", "NOPE", code=1).stderr
    assert "no provider knows NOPE" in overnight("companies", "add", "NOPE", code=1).stderr
    assert "nothing to resume" in overnight("nightly", "--resume").stderr


def test_companies_are_added_shown_and_dropped(overnight: Invoke) -> None:
    overnight("companies", "add", "AAPL")
    given = ("--name", "HDFC Bank", "--exchange", "nse", "--currency", "inr")
    assert data(overnight("companies", "add", "HDFCBANK", *given, "--json")) == {
        "added": ["HDFCBANK"], "known": [],
    }  # fmt: skip
    rows = {row["symbol"]: row for row in data(overnight("companies", "list", "--json"))}
    assert rows["HDFCBANK"]["exchange"] == "NSE"
    assert rows["AAPL"]["name"] == "Apple Inc"
    assert data(overnight("companies", "untrack", "HDFCBANK", "--json"))["tracked"] is False
    assert data(overnight("companies", "deactivate", "AAPL", "--json"))["active"] is False
    overnight("nightly", "--job", "earnings_poll")
    assert data(overnight("nightly", "report", "--json"))["runs"][0]["updated"] == 0
    assert "was known" in overnight("companies", "add", "aapl").stdout
    shown = data(overnight("companies", "show", "aapl", "--json"))
    assert shown["company"]["active"] is True


def test_the_schedules_say_when_and_why(overnight: Invoke) -> None:
    from usecases.schedule import open_due_slots

    open_due_slots()
    states = {state["name"]: state for state in data(overnight("schedule", "list", "--json"))}
    assert states["nightly"]["zone"] == "Asia/Kolkata"
    assert states["nightly"]["last"]["outcome"] == "opened"
    assert states["nightly"]["next_at"].endswith("T02:00:00+05:30")
    assert "IST" in overnight("schedule", "list").stdout


def test_run_now_runs_the_night_and_takes_no_slot(
    overnight: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "metrics_recalc" in overnight("schedule", "--run-now").stdout
    assert fetch("SELECT 1 FROM schedule_slot") == []
    assert fetch("SELECT DISTINCT trigger FROM job_run") == [("manual",)]
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("AMQP_URL", "amqp://nowhere")
    overnight("schedule", "--run-now", code=2)


def test_a_scheduler_that_ends_is_started_again(tmp_path: Path) -> None:
    """periodiq ends when the broker is away at a tick."""
    starts = tmp_path / "starts"
    code = f"import sys; open({str(starts)!r}, 'a').write('x'); sys.exit(1)"
    stop = threading.Event()
    thread = threading.Thread(target=supervise, args=((sys.executable, "-c", code), stop))
    thread.start()
    while not starts.exists() or len(starts.read_text()) < 2:
        assert thread.is_alive()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_killed_and_resumed_by_processes(
    overnight: Invoke, environment: None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night of real processes, killed with SIGKILL five times, ends like an undisturbed one."""
    queries = (
        "SELECT company_id, session_date, close, provider FROM daily_price ORDER BY 1, 2",
        "SELECT company_id, period_end_date, period_type, vintage, is_current, digest"
        " FROM statement ORDER BY 1, 2, 3, 4",
        "SELECT company_id, document_key, sha256 FROM document ORDER BY 1, 2",
        "SELECT company_id, period_end_date, metric_name, value, null_reason FROM derived_metric"
        " ORDER BY 1, 2, 3",
        "SELECT symbol, next_earnings_date, market_cap, shares_outstanding FROM company ORDER BY 1",
    )
    overnight("companies", "add", "--sample")
    monkeypatch.setenv("MOCK_API_DELAY_MS", "30")
    monkeypatch.setenv("MARKET_CONCURRENCY", "2")
    command = [sys.executable, "-m", "cli.main", "nightly"]
    for kill in range(5):
        arguments = ["--all"] if kill == 0 else ["--resume"]
        items = fetch("SELECT count(*) FROM job_run_item WHERE at IS NOT NULL")[0][0]
        process = subprocess.Popen(
            [*command, *arguments], cwd=project, env=os.environ,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        sql = "SELECT count(*) > %s FROM job_run_item WHERE at IS NOT NULL"
        while not fetch(sql, (items + 3,))[0][0]:  # something was done since
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert fetch("SELECT count(*) FROM job_run WHERE finished_at IS NULL")[0][0] > 0
    monkeypatch.setenv("MOCK_API_DELAY_MS", "0")
    resumed = overnight("nightly", "--resume", "--json")
    assert data(resumed)["outcome"] == "completed"
    found = [fetch(query) for query in queries]
    assert fetch("SELECT sum(deaths) FROM job_queue") == [(5,)]
    execute("TRUNCATE company RESTART IDENTITY CASCADE")
    execute("TRUNCATE job_run CASCADE")
    overnight("companies", "add", "--sample")
    overnight("nightly", "--all")
    assert found == [fetch(query) for query in queries]
