"""The lane's judge sees: every planted wrong is named, and nothing of a clean night is."""

import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

import actors.maturity
import actors.notifications  # noqa: F401 - binds the actors
from jobs.runner import run_due
from mocks.chain import MockChain, MockSigner
from mocks.registry import MockRegistry
from models.database import connect_to, fetch, reconnect
from providers.ports import PayoutPolicy, Ports, use_policy, use_ports
from usecases.bonds import import_bond
from usecases.payouts.reconcile import reconcile
from usecases.payouts.settlement import settle_all
from usecases.payouts.sweep import sweep_all
from usecases.payouts.trigger import trigger_maturity
from verify.real.bonds import Wave, make_wave
from verify.real.invariants import Judgement, judge
from verify.real.options import Fault, RealOptions
from verify.real.plan import make_plan

pytestmark = pytest.mark.crash

TURNS = 60
FOUR_EYES_UNITS = 10**15


@dataclass
class Night:
    """One bond, paid in this thread by the production actors."""

    database_url: str
    chain_url: str
    wave: Wave

    def judge(self) -> Judgement:
        return judge(self.database_url, self.chain_url, [self.wave], FOUR_EYES_UNITS)

    def plant(self, where: str, statement: str) -> None:
        """Do a wrong, on chain or in the database, past all code and every constraint's trigger."""
        url = self.chain_url if where == "chain" else self.database_url
        with contextlib.closing(psycopg2.connect(url)) as connection:
            cursor = connection.cursor()
            cursor.execute("SET session_replication_role = replica")
            cursor.execute(statement)
            assert cursor.rowcount == 1, statement
            connection.commit()


@pytest.fixture
def night(postgres_url: str, database_url: str) -> Iterator[Night]:
    name = f"overnight_judged_chain_{secrets.token_hex(6)}"
    chain_url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    chain = MockChain.create(chain_url, auto_mine=False)
    signer, wave = MockSigner("judged"), make_wave(0, holders=6, seed=1)
    connect_to(database_url)
    use_ports(Ports(chain, MockRegistry(chain_url), signer))
    use_policy(PayoutPolicy(environment_id="test", page_legs=4, legs_per_transaction=2))
    bond = import_bond(json.dumps(wave.file)).file
    held = [(who.address, *holding) for who in bond.investors for holding in who.holdings]
    chain.mint(bond.terms.contract, held)
    chain.verify(list(wave.tokens))
    chain.fund(signer.address, token_units=10**15, coin_units=10**9)
    chain.finalize()
    run_id = trigger_maturity(wave.bond_id, "ada").run_id
    done = (
        "SELECT 1 FROM payout_run WHERE state = 'finished' AND NOT EXISTS (SELECT FROM job_outbox)"
    )
    for _ in range(TURNS):
        run_due()
        sweep_all()
        chain.mine()
        settle_all()
        if fetch(done):
            break
    assert reconcile(run_id).ok
    reconnect()
    yield Night(database_url, chain_url, wave)
    reconnect()
    chain.destroy()


def test_a_clean_night_has_nothing_to_name(night: Night) -> None:
    assert night.judge() == Judgement(len(night.wave.tokens), 0, 0, ())


#: where, what is done, and (lost, double, a part of what the judge must say)
PLANTED = {
    "a second payment": (
        "chain",
        "INSERT INTO ledger SELECT block_id, position + 1000, height, kind, asset, address,"
        " delta_units, balance_units, 'another', 'another', canonical FROM ledger"
        " WHERE kind = 'transfer' LIMIT 1",
        (0, 1, "paid or burned twice"),
    ),
    "the same ref mined twice": (
        "chain",
        "INSERT INTO ledger SELECT block_id, position + 1000, height, kind, asset, address,"
        " delta_units, balance_units, ref, 'another', canonical FROM ledger"
        " WHERE kind = 'transfer' LIMIT 1",
        (0, 1, "paid or burned twice"),
    ),
    "a unit too much": (
        "chain",
        "UPDATE ledger SET delta_units = delta_units + 1 WHERE ctid ="
        " (SELECT ctid FROM ledger WHERE kind = 'transfer' LIMIT 1)",
        (0, 1, "appeared or vanished"),
    ),
    "a lost payment": (
        "chain",
        "UPDATE ledger SET canonical = false WHERE ctid ="
        " (SELECT ctid FROM ledger WHERE kind = 'transfer' LIMIT 1)",
        (1, 0, "not paid in full"),
    ),
    "a lost burn": (
        "chain",
        "UPDATE ledger SET canonical = false WHERE ctid ="
        " (SELECT ctid FROM ledger WHERE kind = 'burn' LIMIT 1)",
        (0, 0, "without a burn"),
    ),
    "a nonce that is missing": (
        "chain",
        "UPDATE tx SET status = 'dropped', block_id = NULL, succeeded = NULL WHERE nonce = 1",
        (0, 0, "a nonce is missing"),
    ),
    "a foreign signature": (
        "database",
        "DELETE FROM chain_transaction WHERE ctid = (SELECT ctid FROM chain_transaction LIMIT 1)",
        (0, 0, "not signed here"),
    ),
    "a job forgotten": (
        "database",
        "UPDATE job_queue SET status = 'pending', finished_at = NULL WHERE ctid ="
        " (SELECT ctid FROM job_queue LIMIT 1)",
        (0, 0, "a job has not ended"),
    ),
    "a leg in the air": (
        "database",
        "UPDATE payout_leg SET state = 'paying', paid_height = NULL, paid_hash = NULL WHERE ctid ="
        " (SELECT ctid FROM payout_leg LIMIT 1)",
        (0, 0, "neither paid nor held"),
    ),
    "a leg that vanished": (
        "database",
        "DELETE FROM payout_leg WHERE ctid = (SELECT ctid FROM payout_leg LIMIT 1)",
        (0, 0, "does not add up"),
    ),
    "a notification twice": (
        "database",
        "INSERT INTO notification SELECT gen_random_uuid(), user_id, kind, title, message, 'again'"
        " FROM notification LIMIT 1",
        (0, 0, "not told exactly once"),
    ),
    "a notification lost": (
        "database",
        "DELETE FROM notification WHERE ctid = (SELECT ctid FROM notification LIMIT 1)",
        (0, 0, "not told exactly once"),
    ),
    "a payment before its burn": (
        "database",
        "UPDATE chain_operation SET settled_at = now() + interval '1 hour' WHERE ctid ="
        " (SELECT ctid FROM chain_operation WHERE kind = 'burn' LIMIT 1)",
        (0, 0, "before its burn was final"),
    ),
    "an approval after the fact": (
        "database",
        "UPDATE payout_run SET approved_at = now() + interval '1 hour'",
        (0, 0, "nobody approved in time"),
    ),
    "a gap in our nonces": (
        "database",
        "UPDATE wallet SET next_nonce = next_nonce + 1",
        (0, 0, "nonces have a gap"),
    ),
    "a halted wallet": (
        "database",
        "UPDATE wallet SET halted_at = now(), halt_reason = 'planted'",
        (0, 0, "a wallet is halted"),
    ),
}


@pytest.mark.parametrize("wrong", PLANTED)
def test_a_planted_wrong_is_named(night: Night, wrong: str) -> None:
    where, statement, (lost, double, words) = PLANTED[wrong]
    night.plant(where, statement)
    found = night.judge()
    assert (found.lost, found.double) == (lost, double), found.violations
    assert any(words in violation for violation in found.violations), found.violations


def test_a_holder_of_no_bond_is_paid_twice_over(night: Night) -> None:
    del night.wave.tokens[next(iter(night.wave.tokens))]
    assert night.judge().double == 1


@pytest.mark.parametrize("kills", [0, 10, 300])
def test_a_plan_has_every_fault_as_often_as_asked_and_replays(kills: int) -> None:
    options = RealOptions(kills=kills, seed=7)
    plan = make_plan(options)
    steps = [step.fault for step in (*plan.processes, *plan.servers, plan.last)]
    steps.append(Fault.OVERLOAD)  # during the last one
    assert {fault: steps.count(fault) for fault in Fault} == options.counts
    assert plan == make_plan(options)
    assert plan != make_plan(RealOptions(kills=kills, seed=8))
