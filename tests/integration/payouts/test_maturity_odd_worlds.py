"""Worlds at the edge of what is possible, in which everything still comes out to the last unit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from typing import TYPE_CHECKING

import psycopg2
import pytest

from jobs import runner
from mocks.chain import FaultKind, address_of
from models.database import CONNECTION_ERRORS, fetch, reconnect
from usecases.payouts import settlement
from usecases.payouts.accounting import accounting
from usecases.payouts.preview import preview_maturity
from usecases.payouts.reconcile import reconcile
from usecases.payouts.retry import recheck_held
from usecases.payouts.settlement import settle_all
from usecases.payouts.sweep import sweep_all

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night

BIG = 2**70 + 7


@pytest.mark.parametrize(
    ("decimals", "face", "balance"),
    [
        (0, "1", BIG),
        (36, "1", BIG),
        (36, "0.000000000000000000000000000000000001", 1),
        (18, "0.5", 2 * BIG),
    ],
)
def test_amounts_beyond_any_float(night: Night, decimals: int, face: str, balance: int) -> None:
    address = address_of("whale")
    night.bond(positions={address: [(20_000, balance)]}, face=face, decimals=decimals, fund=False)
    units = int(Fraction(face) * balance * 10**decimals)
    night.chain.fund(night.real_signer.address, token_units=units, coin_units=10**6)
    night.chain.finalize()
    assert preview_maturity("bond").total_units == units
    run_id = night.trigger()
    night.until(run_id)
    night.check_paid_once(run_id)
    assert night.ledger("transfer")[address] == (1, units)
    assert reconcile(run_id).ok


def test_a_chain_that_is_final_at_once(night: Night) -> None:
    night.chain.reset(auto_mine=False, finality_depth=0, fee_per_item_units=10)
    night.bond(holders=5)
    night.chain.fault(FaultKind.REVERT, times=1)
    run_id = night.trigger()
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_reorgs_of_exactly_the_finality_depth(night: Night) -> None:
    night.bond(holders=5)
    run_id = night.trigger()
    for _ in range(12):
        night.turn()
        night.chain.reorg(2, None)
        settle_all()
        accounting(run_id)
    assert night.halted() is None
    night.until(run_id, turns=100)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_the_clock_goes_back(night: Night) -> None:
    night.bond(holders=6)
    run_id = night.trigger()
    night.pass_time(7200)
    for _ in range(4):
        night.turn()
    night.chain.fault(FaultKind.DROPPED, times=2)
    night.pass_time(-3600)
    for _ in range(5):
        night.turn()
        accounting(run_id)
    night.pass_time(3600)
    night.until(run_id, turns=100)
    night.check_paid_once(run_id)


@pytest.mark.parametrize("call", ["broadcast", "receipts", "bond_balances", "next_nonce"])
def test_every_connection_is_cut_during_a_call_to_the_node(
    night: Night, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_DATABASE_RETRY_S", 0.0)
    night.bond(holders=5)
    run_id = night.trigger()

    def cut() -> None:
        with closing(psycopg2.connect(night.database_url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    for _ in range(15):
        night.node.before[call] = cut
        try:
            night.turn()
        except CONNECTION_ERRORS:
            reconnect()
            night.chain.mine()
            night.pass_time(1)
        accounting(run_id)
    night.node.before.clear()
    night.turn()
    if night.state(run_id) != "finished":
        night.until(run_id, turns=100)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_a_run_is_finished_while_a_leg_is_taken_up(night: Night) -> None:
    """The recheck and the finishing sweep, from two threads, again and again."""
    addresses = night.bond(holders=3)
    night.chain.unverify([addresses[0]])
    run_id = night.trigger()
    for _ in range(40):
        if sorted(leg["state"] for leg in night.legs(run_id)) == ["held", "paid", "paid"]:
            break
        night.turn()
    night.chain.verify(addresses)
    barrier, errors = threading.Barrier(2), []

    def go(act: Callable[[], object]) -> None:
        barrier.wait()
        try:
            for _ in range(10):
                act()
        except Exception as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)
        reconnect()

    threads = [threading.Thread(target=go, args=(act,)) for act in (recheck_held, sweep_all)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    night.until(run_id)
    night.check_paid_once(run_id)
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}


def test_a_settler_without_its_lock_writes_an_old_verdict(night: Night) -> None:
    """Another one settles between its look at the chain and its commit."""
    night.bond(holders=5)
    run_id = night.trigger()

    def settle_ahead() -> None:
        night.chain.mine(3)
        for [wallet_id] in fetch("SELECT id FROM wallet"):
            settlement._settle(wallet_id)
        reconnect()

    def other() -> None:
        thread = threading.Thread(target=settle_ahead)
        thread.start()
        thread.join()

    for _ in range(60):
        night.node.before["receipts"] = other
        night.turn()
        accounting(run_id)
        if night.state(run_id) == "finished":
            break
    night.node.before.clear()
    night.turn()
    assert night.halted() is None
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok
