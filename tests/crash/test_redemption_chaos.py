"""Ten thousand holders are redeemed while everything that can be killed is killed.

Twenty SIGKILLs at random moments among two workers and a relay, one kill -9 of the broker, one
immediate stop of PostgreSQL. The chain is the outside world: its database is not ours to stop.
"""

import contextlib
import json
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from mocks.chain import MockChain
from servers.discover import private_postgres, private_rabbitmq
from servers.postgres import PrivatePostgres
from servers.rabbitmq import PrivateRabbitMQ

HOLDERS = int(os.environ.get("OVERNIGHT_CHAOS_HOLDERS", "10000"))
KILLS = 20
BOND = "CHAOS-2026"
MEMBERS = {"worker-1": "worker", "worker-2": "worker", "relay": "relay"}

#: Nothing here takes this long; a run that is not finished by then is stuck.
PATIENCE_S = 900


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PrivatePostgres]:
    with private_postgres(tmp_path / "postgres") as server:
        yield server
    server.delete()


@pytest.fixture
def rabbitmq(tmp_path: Path) -> Iterator[PrivateRabbitMQ]:
    with private_rabbitmq(tmp_path / "rabbitmq") as server:
        yield server
    server.delete()


@pytest.fixture
def chain_url(postgres_url: str) -> Iterator[str]:
    name = f"overnight_chaos_chain_{secrets.token_hex(6)}"
    url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    chain = MockChain.create(url)
    chain.close()
    yield url
    chain.destroy()


@pytest.mark.crash
def test_everybody_is_paid_once_whatever_is_killed(
    postgres: PrivatePostgres,
    rabbitmq: PrivateRabbitMQ,
    chain_url: str,
    fleets: list[Any],
    make_fleet: Any,
    make_bond: Any,
    tmp_path: Path,
    record_property: Any,
) -> None:
    fleet = make_fleet(
        {
            "DATABASE_URL": postgres.url("overnight"),
            "AMQP_URL": rabbitmq.url,
            "MOCK_CHAIN_URL": chain_url,
            "LOG_FORMAT": "json",
        }
    )
    bond = make_bond(BOND, HOLDERS, seed=2026)
    file = tmp_path / "bond.json"
    file.write_text(json.dumps(bond))
    fleet.run("migrate")
    fleet.run("bonds", "import", str(file), "--seed-mock-chain")
    with contextlib.closing(MockChain(chain_url)) as chain:
        wallet = fleet.read("wallet", "show")["address"]
        chain.fund(wallet, token_units=10**18, coin_units=10**12)
        chain.seed_faults(2026, 0.02)

    for name, command in MEMBERS.items():
        fleet.start(name, command)
    started = time.monotonic()
    fleet.run("maturity", "trigger", BOND)
    [run] = fleet.read("payouts", "list")
    kills = _havoc(fleet, postgres, rabbitmq, started)
    _wait_until_finished(postgres, run["id"])
    seconds = time.monotonic() - started

    with contextlib.closing(MockChain(chain_url)) as chain:
        chain.clear_faults()
    verified = {i["address"]: i for i in bond["investors"] if i["whitelisted"]}
    _assert_ledger(chain_url, verified)
    _assert_line(postgres, run["id"], len(verified))
    reconciliation = fleet.read("payouts", "reconcile", run["id"])
    assert reconciliation["ok"], reconciliation
    figures = f"{HOLDERS} holders in {seconds:.0f} s, {len(verified) / seconds:.0f} payouts/s"
    print(f"\n{figures}; kills: {dict(kills)}")
    record_property("figures", figures)


def _havoc(
    fleet: Any, postgres: PrivatePostgres, rabbitmq: PrivateRabbitMQ, started: float
) -> Counter[str]:
    """Kill at random moments, and start again what was killed, as a supervisor would."""
    source = random.Random(7)
    kills: Counter[str] = Counter()
    plan = [*["member"] * KILLS]
    plan.insert(6, "rabbitmq")
    plan.insert(13, "postgres")
    for victim in plan:
        time.sleep(source.uniform(0.2, 2.0))  # the random moment itself: there is nothing to await
        if victim == "rabbitmq":
            rabbitmq.kill9()
            rabbitmq.restart()
        elif victim == "postgres":
            postgres.immediate_stop()
            postgres.restart()
        else:
            victim = source.choice(list(MEMBERS))
            fleet.kill(victim)
            fleet.start(victim, MEMBERS[victim])
        kills[victim] += 1
    return kills


def _wait_until_finished(postgres: PrivatePostgres, run_id: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.closing(psycopg2.connect(postgres.url("overnight"))) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        while time.monotonic() < deadline:
            cursor.execute(
                "SELECT state, (SELECT count(*) FROM job_outbox) FROM payout_run WHERE id = %s",
                (run_id,),
            )
            if cursor.fetchone() == ("finished", 0):
                return
            time.sleep(0.25)
        cursor.execute("SELECT state, count(*) FROM payout_leg GROUP BY state")
        legs = cursor.fetchall()
        cursor.execute(
            "SELECT job_type, status, last_error FROM job_queue WHERE finished_at IS NULL"
        )
        pytest.fail(f"not finished: {legs}\n{cursor.fetchmany(20)}")


def _assert_ledger(chain_url: str, verified: dict[str, Any]) -> None:
    """The chain's own ledger, read with SQL of its own: one burn and one payment a holder."""
    with contextlib.closing(psycopg2.connect(chain_url)) as connection:
        cursor = connection.cursor()
        cursor.execute(
            """
            SELECT kind, address, count(DISTINCT (tx_hash, ref)), sum(abs(delta_units)) FROM ledger
            WHERE canonical AND kind IN ('burn', 'transfer') GROUP BY kind, address
            """
        )
        moves = {(kind, address): (times, int(units)) for kind, address, times, units in cursor}
    wanted = {
        address: sum(int(holding["balance"]) for holding in investor["holdings"])
        for address, investor in verified.items()
    }
    burns = {("burn", address): (1, tokens) for address, tokens in wanted.items()}
    payments = {("transfer", a): (1, tokens * 100_250_000) for a, tokens in wanted.items()}
    assert moves == burns | payments


def _assert_line(postgres: PrivatePostgres, run_id: str, verified: int) -> None:
    with contextlib.closing(psycopg2.connect(postgres.url("overnight"))) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT state, count(*) FROM payout_leg WHERE run_id = %s GROUP BY state", (run_id,)
        )
        assert dict(cursor.fetchall()) == {
            state: count
            for state, count in (("paid", verified), ("held", HOLDERS - verified))
            if count
        }
        cursor.execute("SELECT count(*), count(DISTINCT user_id) FROM notification")
        assert cursor.fetchone() == (verified, verified)
