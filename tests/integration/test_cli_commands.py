"""The commands against a real database: output, JSON, exit codes, clear errors."""

import csv
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from typer.testing import Result

from actors.wiring import ACTOR_MODULES
from cli.demo_bond import bond_id, bond_json
from domain.job_types import JobType
from jobs.enqueue import enqueue
from jobs.runner import run_due
from models.database import connect_to, execute, reconnect, transaction
from usecases.payouts.settlement import settle_all
from usecases.payouts.sweep import sweep_all

pytestmark = pytest.mark.integration

BOND = bond_id(1)
FILE = bond_json(1, holders=60, seed=3, matured=date(2026, 1, 31))
FACTS = json.loads(FILE)
HELD = sum(not investor["whitelisted"] for investor in FACTS["investors"])

Invoke = Callable[..., Result]


@pytest.fixture
def environment(
    database_url: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The variables of a process of its own; its mock chain is dropped afterwards."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    yield database_url
    server, _, name = database_url.rpartition("/")
    connection = psycopg2.connect(f"{server}/postgres")
    connection.autocommit = True
    connection.cursor().execute(f'DROP DATABASE IF EXISTS "{name}_chain" WITH (FORCE)')
    connection.close()


@pytest.fixture
def overnight(environment: str, invoke: Invoke) -> Invoke:
    """overnight("bonds", "list", code=0) in this process."""
    return invoke


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bond.json"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture
def paid(overnight: Invoke, file: Path, environment: str) -> str:
    """A run that is finished, and its id."""
    overnight("bonds", "import", str(file), "--seed-mock-chain")
    wallet = json.loads(overnight("wallet", "show", "--json").stdout)
    fund = ("mockchain", "fund", wallet["address"])
    overnight(*fund, "--units", str(10**14), "--coin", str(10**9))
    overnight("mockchain", "mine", "3")
    run_id = json.loads(overnight("maturity", "trigger", BOND, "--json").stdout)["run_id"]
    work(environment, lambda: overnight("payouts", "watch", run_id, "--timeout", "0", code=3))
    return str(run_id)


def bind_actors() -> None:
    for module in ACTOR_MODULES:
        importlib.import_module(module)


def work(url: str, look: Callable[[], Result]) -> None:
    """Turn every loop by hand until the run is over."""
    bind_actors()
    for _ in range(400):
        connect_to(url)
        run_due()
        settle_all()
        sweep_all()
        if "is finished" in look().stdout:
            return
    raise AssertionError("the run did not finish")


def parsed(result: Result) -> Any:
    return json.loads(result.stdout)


def test_import_list_and_show(overnight: Invoke, file: Path) -> None:
    first = parsed(overnight("bonds", "import", str(file), "--json"))
    assert (first["bond"], first["outcome"], first["holders"]) == (BOND, "imported", 60)
    assert "unchanged" in overnight("bonds", "import", str(file)).stdout
    [bond] = parsed(overnight("bonds", "list", "--json"))
    assert (bond["id"], bond["holders"], bond["maturity_date"]) == (BOND, 60, "2026-01-31")
    assert bond["total"].endswith(".000000")
    assert BOND in overnight("bonds", "list").stdout
    shown = parsed(overnight("bonds", "show", BOND, "--holders", "--json"))
    assert len(shown["holders"]) == 60
    assert shown["face_value_per_token"] == "100"
    assert FACTS["investors"][0]["address"] in overnight("bonds", "show", BOND, "--holders").stdout
    assert "no bond" in overnight("bonds", "show", "nope", code=1).stderr


def test_import_from_csv(overnight: Invoke, tmp_path: Path) -> None:
    terms, holders = tmp_path / "terms.json", tmp_path / "holders.csv"
    terms.write_text(json.dumps({"bond": FACTS["bond"]}))
    rows = [
        [i["address"], h["token_id"], h["balance"], str(i["whitelisted"]).lower(), i["name"],
         i["email"]]
        for i in FACTS["investors"] for h in i["holdings"]
    ]  # fmt: skip
    text = io.StringIO()
    csv.writer(text).writerows([["address", "token_id", "balance", "whitelisted", "name", "email"]])
    csv.writer(text).writerows(rows)
    holders.write_text(text.getvalue())
    done = parsed(overnight("bonds", "import", str(terms), "--holders", str(holders), "--json"))
    (tmp_path / "bond.json").write_text(FILE)
    again = parsed(overnight("bonds", "import", str(tmp_path / "bond.json"), "--json"))
    assert (done["outcome"], again["outcome"]) == ("imported", "unchanged")


def test_a_bad_file_is_refused_with_lines(overnight: Invoke, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(FILE.replace('"balance": "', '"balance": "-'))
    told = overnight("bonds", "import", str(bad), "--show-errors", "2", code=2).stderr
    assert "line 1, investors[0].holdings[0].balance: -" in told
    assert "more" in told
    assert len(told.splitlines()) == 4
    everything = overnight("bonds", "import", str(bad), "--show-errors", "0", code=2).stderr
    assert "more" not in everything
    report = parsed(overnight("bonds", "import", str(bad), "--json", code=2))
    assert report["count"] == len(report["problems"]) > 60
    assert report["problems"][0]["line"] == 1
    bad.write_bytes(b'{"bond":\n\xff}')
    assert "line 2: not UTF-8" in overnight("bonds", "import", str(bad), code=2).stderr
    holders = tmp_path / "h.csv"
    holders.write_bytes(b"address,token_id,balance,whitelisted\n\xff\n")
    told = overnight("bonds", "import", str(bad), "--holders", str(holders), code=2).stderr
    assert "not UTF-8" in told
    assert parsed(overnight("bonds", "list", "--json")) == []
    assert "exist" in overnight("bonds", "import", str(tmp_path / "none"), code=2).stderr


def test_seeding_the_mock_chain_twice_mints_once(overnight: Invoke, file: Path) -> None:
    first = parsed(overnight("bonds", "import", str(file), "--seed-mock-chain", "--json"))
    second = parsed(overnight("bonds", "import", str(file), "--seed-mock-chain", "--json"))
    assert first["seeded_tokens"] == first["tokens"]
    assert (second["outcome"], second["seeded_tokens"]) == ("unchanged", 0)
    assert first["verified"] == 60 - HELD


def test_preview_and_trigger_errors(overnight: Invoke, file: Path, tmp_path: Path) -> None:
    assert "no bond" in overnight("maturity", "trigger", BOND, code=1).stderr
    overnight("bonds", "import", str(file), "--seed-mock-chain")
    preview = overnight("maturity", "preview", BOND, "--holders", code=3).stdout
    assert "Required" in preview
    assert "Available      0.000000 PLT" in preview
    found = parsed(overnight("maturity", "preview", BOND, "--json", code=3))
    assert (len(found["legs"]), found["is_funded"]) == (60, False)
    early = tmp_path / "early.json"
    later = date.today() + timedelta(days=900)  # noqa: DTZ011 - far from any midnight
    early.write_text(bond_json(2, holders=1, seed=1, matured=later))
    overnight("bonds", "import", str(early))
    assert "matures on" in overnight("maturity", "trigger", bond_id(2), code=1).stderr
    assert parsed(overnight("payouts", "list", "--json")) == []


def test_a_run_without_money_waits_and_says_so(
    overnight: Invoke, file: Path, environment: str
) -> None:
    overnight("bonds", "import", str(file), "--seed-mock-chain")
    first = overnight("maturity", "trigger", BOND)
    assert "no worker is alive" in first.stderr
    assert "is under way" in overnight("maturity", "trigger", BOND).stdout
    bind_actors()
    connect_to(environment)
    run_due()
    [run] = parsed(overnight("payouts", "list", "--json"))
    assert run["state"] == "waiting"
    assert run["note"].startswith("Required: ")
    watched = overnight("payouts", "watch", run["id"][:8], "--timeout", "0", code=3)
    assert "Available: 0.000000 PLT" in watched.stderr


def test_everything_about_a_paid_run(overnight: Invoke, paid: str) -> None:
    prefix = paid[:8]
    watched = overnight("payouts", "watch", prefix, code=3).stdout
    assert f"paid {60 - HELD} + held {HELD} + failed 0 + in flight 0 = planned 60" in watched
    view = parsed(overnight("payouts", "show", prefix, "--json"))
    assert view["summary"]["state"] == "finished"
    assert view["accounting"]["paid"]["legs"] == 60 - HELD
    assert "planned 60 holders" in overnight("payouts", "show", prefix).stdout
    rows = parsed(overnight("payouts", "statement", prefix, "--json"))
    assert len(rows) == 60
    assert all((row["state"] == "paid") == bool(row["paid_hash"]) for row in rows)
    assert all((row["state"] == "held") == bool(row["reason"]) for row in rows)
    table = list(
        csv.DictReader(io.StringIO(overnight("payouts", "statement", prefix, "--csv").stdout))
    )
    assert [row["amount"] for row in table] == [row["amount"] for row in rows]
    assert rows[0]["burn_hash"] in overnight("payouts", "statement", prefix).stdout
    assert "agree" in overnight("payouts", "reconcile", prefix).stdout
    assert parsed(overnight("payouts", "reconcile", prefix, "--json"))["ok"] is True
    assert "was redeemed" in overnight("maturity", "trigger", BOND, code=1).stderr
    assert "no payout run" in overnight("payouts", "show", "ffffffff", code=1).stderr
    overnight("payouts", "statement", prefix, "--csv", "--json", code=2)


def test_a_changed_file_is_refused_after_the_plan(overnight: Invoke, paid: str, file: Path) -> None:
    file.write_text(FILE.replace("Demonstration", "Changed"))
    assert paid in overnight("bonds", "import", str(file), code=1).stderr
    file.write_text(FILE)
    told = overnight("bonds", "import", str(file), "--seed-mock-chain")
    assert "unchanged" in told.stdout
    assert "left as it is" in told.stderr


def test_a_payment_that_reconcile_cannot_explain(
    overnight: Invoke, paid: str, environment: str
) -> None:
    connect_to(environment)
    with transaction():
        execute("UPDATE payout_leg SET paid_hash = '0xbad' WHERE paid_hash IS NOT NULL")
    reconnect()
    told = overnight("payouts", "reconcile", paid, code=1)
    assert "DIFFER" in told.stdout
    stats = parsed(overnight("jobs", "stats", "--json"))
    assert stats["paused"] == ["service:maturity"]


def test_a_halted_wallet_is_code_3(overnight: Invoke, paid: str, environment: str) -> None:
    status = parsed(overnight("wallet", "show", "--json"))
    assert status["bound"]
    assert status["chain_nonce"] == status["our_nonce"]
    connect_to(environment)
    execute("UPDATE wallet SET halted_at = overnight_now(), halt_reason = 'evidence'")
    reconnect()
    assert "evidence" in overnight("wallet", "show", code=3).stdout


def test_jobs(overnight: Invoke, environment: str) -> None:
    connect_to(environment)
    with transaction():
        job = enqueue(JobType.MATURITY_PAYMENT.message("no-such-run"))
    execute(
        "INSERT INTO job_attempt (job_id, attempt, outcome, error, traceback)"
        " VALUES (%s, 1, 'failed', 'it broke', E'Traceback\\n  line')",
        (str(job.id),),
    )
    reconnect()
    stats = parsed(overnight("jobs", "stats", "--json"))
    assert (stats["waiting"], stats["workers_alive"]) == (1, 0)
    assert stats["counts"][0]["status"] == "pending"
    assert "MaturityPayment" in overnight("jobs", "stats").stdout
    [line] = parsed(overnight("jobs", "list", "--status", "pending", "--json"))
    assert line["id"] == str(job.id)
    assert parsed(overnight("jobs", "list", "--status", "failed", "--json")) == []
    assert str(job.id) in overnight("jobs", "list", "--type", "MaturityPayment").stdout
    detail = parsed(overnight("jobs", "show", str(job.id)[:8], "--json"))
    assert detail["payload"] == {"run_id": "no-such-run"}
    assert detail["attempts"][0]["error"] == "it broke"
    assert "Traceback" in overnight("jobs", "show", str(job.id)).stdout
    assert "known are pending" in overnight("jobs", "list", "--status", "odd", code=2).stderr
    assert "unknown job type" in overnight("jobs", "list", "--type", "odd", code=2).stderr
    assert "no job" in overnight("jobs", "show", "00000000", code=1).stderr
    overnight("jobs", "show", "zz", code=2)


def test_errors_are_one_line_and_the_right_code_in_a_real_process(
    environment: str, tmp_path: Path
) -> None:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("overnight")), *arguments],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )

    assert run("bonds", "list").returncode == 0
    assert run("bonds", "show", "nope").returncode == 1
    assert run("payouts", "no-such-command").returncode == 2
    for variables, code, told in (
        ({"DATABASE_URL": environment + "_missing"}, 1, "overnight migrate"),
        ({"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/x"}, 1, "the database"),
        ({"DATABASE_URL": "nonsense"}, 2, "DATABASE_URL must look like"),
        ({"ENVIRONMENT": "production"}, 2, "AMQP_URL"),
        ({"WORKER_THREADS": "many"}, 2, "WORKER_THREADS"),
    ):
        ended = run("bonds", "list", **variables)
        assert (ended.returncode, told in ended.stderr) == (code, True), ended.stderr
        assert "Traceback" not in ended.stderr
    fresh = {"DATABASE_URL": environment + "_chain"}  # dropped with the test
    assert "applied 0001" in run("migrate", **fresh).stdout
    assert "up to date" in run("migrate", **fresh).stdout
