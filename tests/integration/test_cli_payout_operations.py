"""The operators' commands on payouts and the wallet: output, JSON, exit codes, the next step."""

import importlib
import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from typer.testing import Result

from actors.wiring import ACTOR_MODULES, build_ports
from cli.demo_bond import bond_id, bond_json
from domain.ids import new_id
from jobs.runner import run_due
from mocks.chain import MockChain, MockSigner
from models.database import connect_to, reconnect
from providers.chain import TxKind, UnsignedTransaction
from settings import load_settings
from usecases.payouts.settlement import settle_all
from usecases.payouts.sweep import sweep_all

pytestmark = pytest.mark.integration

BOND = bond_id(1)
FILE = bond_json(1, holders=20, seed=3, matured=date(2026, 1, 31))

Overnight = Callable[..., Result]


@pytest.fixture
def overnight(
    database_url: str, tmp_path: Path, invoke: Overnight, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Overnight]:
    """overnight("wallet", "show", code=3) in this process, on a database and a chain of its own."""
    server, _, _ = database_url.rpartition("/")
    chain = f"overnight_test_chain_{new_id().hex[-8:]}"
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("MOCK_CHAIN_URL", f"{server}/{chain}")
    for module in ACTOR_MODULES:
        importlib.import_module(module)

    path = tmp_path / "bond.json"
    path.write_text(FILE, encoding="utf-8")
    invoke("bonds", "import", str(path), "--seed-mock-chain")
    address = json.loads(invoke("wallet", "show", "--json").stdout)["address"]
    invoke("mockchain", "fund", address, "--units", str(10**14), "--coin", str(10**9))
    invoke("mockchain", "mine", "3")
    yield invoke
    connection = psycopg2.connect(f"{server}/postgres")
    connection.autocommit = True
    connection.cursor().execute(f'DROP DATABASE IF EXISTS "{chain}" WITH (FORCE)')
    connection.close()


def parsed(result: Result) -> Any:
    return json.loads(result.stdout)


def turn(url: str, times: int = 1) -> None:
    connect_to(url)
    for _ in range(times):
        run_due()
        settle_all()
        sweep_all()
    reconnect()


def watch_until(overnight: Overnight, url: str, run: str, state: str) -> None:
    for _ in range(400):
        turn(url)
        if parsed(overnight("payouts", "show", run, "--json"))["summary"]["state"] == state:
            return
    raise AssertionError(overnight("payouts", "show", run).stdout)


def test_approve_stop_resume_retry_held(
    overnight: Overnight, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOUR_EYES_ABOVE", "1.5")
    load_settings.cache_clear()
    trigger = ("maturity", "trigger", BOND, "--by", "ada", "--json")
    run = parsed(overnight(*trigger))["run_id"]
    watch_until(overnight, database_url, run, "approval")
    plan = parsed(overnight("maturity", "preview", BOND, "--json", code=3))["plan_hash"]
    approve = ("payouts", "approve", run[:8], "--hash")
    assert "second person" in overnight(*approve, plan, "--by", "Ada", code=1).stderr
    assert "look at the plan" in overnight(*approve, "0" * 64, "--by", "bob", code=1).stderr
    assert "is approved" in overnight(*approve, plan, "--by", "bob").stdout
    assert parsed(overnight(*approve, plan, "--by", "bob", "--json"))["is_new"] is False
    stop = ("payouts", "stop", run, "--by", "ada", "--reason", "a question", "--json")
    assert parsed(overnight(*stop))["state"] == "cancelled"
    assert "trigger it again" in overnight("payouts", "resume", run, code=1).stderr

    run = parsed(overnight(*trigger))["run_id"]
    watch_until(overnight, database_url, run, "approval")
    overnight("payouts", "approve", run, "--hash", plan, "--by", "bob")
    connect_to(database_url)
    run_due(limit=2)
    reconnect()
    assert parsed(overnight("payouts", "stop", run, "--json"))["state"] == "stopping"
    watch_until(overnight, database_url, run, "stopped")
    assert f"run {run} is stopped" in overnight("payouts", "stop", run, code=3).stdout
    assert "is stopped" in overnight("payouts", "watch", run, code=3).stdout
    assert "overnight payouts resume" in overnight("maturity", "trigger", BOND, code=1).stderr
    assert "is waiting" in overnight("payouts", "resume", run).stdout
    watch_until(overnight, database_url, run, "finished")
    held = parsed(overnight("payouts", "held", "--json"))
    assert {leg["reason"] for leg in held} == {"not whitelisted"}
    assert held[0]["address"] in overnight("payouts", "held", run).stdout
    assert parsed(overnight("payouts", "retry", run, "--json"))["taken_up"] == 0
    for leg in held:
        overnight("mockchain", "verify", leg["address"])
    assert f"{len(held)} holders" in overnight("payouts", "retry", run, "--held").stdout
    watch_until(overnight, database_url, run, "finished")
    assert "nobody is held" in overnight("payouts", "held").stderr
    assert "approve by bob" in overnight("payouts", "show", run).stdout
    overnight("payouts", "watch", run, code=0)


def test_halt_adopt_resolve_resume(overnight: Overnight, database_url: str) -> None:
    for command in (("adopt",), ("resume",), ("halt", "--reason", "x")):
        assert "not bound yet" in overnight("wallet", *command, code=1).stderr
    run = parsed(overnight("maturity", "trigger", BOND, "--json"))["run_id"]
    assert "nothing to adopt" in overnight("wallet", "adopt").stdout
    assert "an audit" in overnight("wallet", "halt", "--reason", "an audit", "--by", "ada").stdout
    assert "an audit (by ada)" in overnight("wallet", "show", code=3).stdout
    assert parsed(overnight("wallet", "resume", "--json")) == {"resumed": True}
    assert "was not halted" in overnight("wallet", "resume").stdout
    assert "not halted" in overnight("wallet", "resolve", "0", "--tx", "0x1", code=1).stderr

    settings = load_settings()
    ports = build_ports(settings)
    assert isinstance(ports.chain, MockChain)
    signer = MockSigner(settings.wallet_key.get_secret_value())
    foreign = signer.sign(
        UnsignedTransaction("mock-1", signer.address, 0, TxKind.TRANSFER, "PLT", (), 1_000)
    )
    ports.chain.broadcast(foreign)
    overnight("mockchain", "mine", "4")
    ports.chain.close()
    turn(database_url)
    assert foreign.tx_hash in overnight("wallet", "show", code=3).stdout
    left = parsed(overnight("wallet", "adopt", "--json", code=3))
    assert [item["tx_hash"] for item in left["unmatched"]] == [foreign.tx_hash]
    assert "NOT MATCHED: it is empty" in overnight("wallet", "adopt", code=3).stdout
    assert "stays halted" in overnight("wallet", "resume", code=1).stderr
    resolve = ("wallet", "resolve", "0", "--tx", foreign.tx_hash, "--by")
    assert "a second person" in overnight(*resolve, "ada", code=3).stderr
    assert "said so already" in overnight(*resolve, "ada", code=1).stderr
    assert "as ada and bob say" in overnight(*resolve, "bob").stdout
    assert "may sign again" in overnight("wallet", "resume", "--by", "bob").stdout
    shown = parsed(overnight("wallet", "show", "--json"))
    assert [d["kind"] for d in shown["decisions"]] == [
        "halt", "resume", "resolve", "resolve", "resume",
    ]  # fmt: skip
    watch_until(overnight, database_url, run, "finished")
    assert "agree" in overnight("payouts", "reconcile", run).stdout
    assert (
        "is no run's id" in overnight("maturity", "trigger", BOND, "--run-id", "zz", code=1).stderr
        or "was redeemed" in overnight("maturity", "trigger", BOND, code=1).stderr
    )
