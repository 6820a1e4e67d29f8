"""The chain misbehaves: answers are lost, transactions vanish, revert or are reorganised."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from jobs.runner import run_due
from mocks.chain import FaultKind
from models.database import execute, fetch
from providers.chain import ChainUnavailable, TxKind, UnsignedTransaction
from usecases.payouts.reconcile import reconcile
from usecases.payouts.settlement import settle_all

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


@pytest.mark.parametrize("tx_kind", [TxKind.BURN, TxKind.TRANSFER])
@pytest.mark.parametrize(
    "kind",
    [FaultKind.ANSWER_LOST, FaultKind.REQUEST_LOST, FaultKind.DROPPED, FaultKind.REFUSED,
     FaultKind.KNOWN],
)  # fmt: skip
def test_a_broadcast_goes_wrong(night: Night, tx_kind: TxKind, kind: FaultKind) -> None:
    night.bond(holders=5)
    night.chain.fault(kind, tx_kind=tx_kind, times=2)
    run_id = night.trigger()
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


@pytest.mark.parametrize("tx_kind", [TxKind.BURN, TxKind.TRANSFER])
def test_a_batch_that_reverts_is_done_one_by_one(night: Night, tx_kind: TxKind) -> None:
    night.bond(holders=4)
    night.chain.fault(FaultKind.REVERT, tx_kind=tx_kind, times=1)
    run_id = night.trigger()
    night.until(run_id)
    night.check_paid_once(run_id)
    assert len(night.operations("void")) == 1
    assert sum(leg["alone"] for leg in night.legs(run_id)) == 2
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}
    assert reconcile(run_id).ok


@pytest.mark.parametrize("tx_kind", [TxKind.BURN, TxKind.TRANSFER])
def test_a_single_that_reverts_is_held(night: Night, tx_kind: TxKind) -> None:
    night.policy(legs_per_transaction=1)
    night.bond(holders=3)
    night.chain.fault(FaultKind.REVERT, tx_kind=tx_kind, times=1, reason="frozen account")
    run_id = night.trigger()
    night.until(run_id)
    held = [leg for leg in night.legs(run_id) if leg["state"] == "held"]
    assert [leg["reason"] for leg in held] == [f"{tx_kind} reverted: frozen account"]
    assert bool(held[0]["burn_hash"]) is (tx_kind is TxKind.TRANSFER)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_one_bad_leg_of_a_batch_is_held_alone(night: Night) -> None:
    """A holder sells after the check of balances: the batch reverts, and only they are held."""
    addresses = night.bond(holders=4)
    run_id = night.trigger()
    run_due(limit=3)  # the burn is sent, and not mined
    night.chain.move("bond-2026-bond", 9_000, addresses[1], night.real_signer.address, 1)
    night.until(run_id)
    states = {leg["address"]: (leg["state"], leg["reason"]) for leg in night.legs(run_id)}
    assert states[addresses[1]] == ("held", "balance changed")
    assert [state for state, _ in states.values()].count("paid") == 3
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


@pytest.mark.parametrize("forget", [True, False])
@pytest.mark.parametrize("phase", ["burning", "paying"])
def test_a_reorg_before_finality(night: Night, phase: str, forget: bool) -> None:
    night.bond(holders=5)
    run_id = night.trigger()
    night.until_legs(run_id, phase)
    while not night.operations("mined"):
        night.turn()
    night.chain.reorg(1, None if forget else ())
    settle_all()
    assert night.operations("mined") == []
    assert night.operations("signed")
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_a_reorg_deeper_than_finality_halts_the_wallet(night: Night) -> None:
    night.bond(holders=5)
    run_id = night.trigger()
    night.until_legs(run_id, "burned")
    night.chain.reorg(6)
    for _ in range(5):
        night.turn()
    assert "deeper than finality" in (night.halted() or "")
    assert any("deeper than finality" in message for message in night.alerts())
    signed = len(night.operations())
    for _ in range(5):
        night.turn()
    assert len(night.operations()) == signed
    assert night.ledger("transfer") == {}


def _foreign(night: Night, nonce: int) -> None:
    """Somebody else signs with our key."""
    empty = UnsignedTransaction(
        night.chain.chain_id(), night.real_signer.address, nonce, TxKind.TRANSFER, "PLT", (), 100
    )
    night.chain.broadcast(night.real_signer.sign(empty))
    night.chain.mine()


def test_a_nonce_ahead_of_ours_halts_before_signing(night: Night) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    run_due(limit=2)
    _foreign(night, 0)
    for _ in range(5):
        night.turn()
    assert "chain nonce is 1, ours is 0" in (night.halted() or "")
    assert night.operations() == []
    assert night.ledger("burn") == {}
    assert {leg["state"] for leg in night.legs(run_id)} == {"planned"}


def test_a_nonce_of_ours_used_by_somebody_else_halts(night: Night) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    run_due(limit=2)
    night.node.before["broadcast"] = lambda: _foreign(night, 0)
    for _ in range(8):
        night.turn()
    assert "nonce 0 was used on chain by a transaction that is not ours" in (night.halted() or "")
    assert night.ledger("transfer") == {}
    assert {leg["state"] for leg in night.legs(run_id)} >= {"burning"}


def test_a_node_that_is_down_for_a_while(night: Night) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    night.chain.fault(FaultKind.DOWN, times=7)
    for _ in range(10):
        with suppress(ChainUnavailable):  # the loop of a worker goes on
            night.turn()
    night.until(run_id)
    night.check_paid_once(run_id)


def test_a_stuck_transaction_does_not_hold_its_neighbours(night: Night) -> None:
    """Pages whose burn is final go on while another page's burn is not mined."""
    night.policy(page_legs=4, legs_per_transaction=2, straggler_after_s=10)
    night.bond(holders=4)
    run_id = night.trigger()
    run_due(limit=2)
    night.chain.fault(FaultKind.DROPPED, nonce=1, times=None)
    for _ in range(20):
        night.turn()
    states = sorted(leg["state"] for leg in night.legs(run_id))
    assert states == ["burning", "burning", "paying", "paying"]  # the later nonce waits on chain
    night.chain.clear_faults()
    night.until(run_id)
    night.check_paid_once(run_id)


def test_a_clock_that_steps_back_delays_no_payment(night: Night) -> None:
    """What was sent, or meant, an hour "in the future" is old: it is sent, or signed, again."""
    night.bond(holders=4)
    run_id = night.trigger()
    run_due(limit=3)
    sent, meant = night.operations("signed")
    for operation in (sent, meant):
        [(tx_hash,)] = fetch(
            "SELECT tx_hash FROM chain_transaction WHERE operation_id = %s", (operation["id"],)
        )
        night.chain.drop(tx_hash)
    execute("DELETE FROM chain_transaction WHERE operation_id = %s", (meant["id"],))
    execute("UPDATE chain_operation SET state = 'intent' WHERE id = %s", (meant["id"],))
    night.pass_time(-3600)
    night.until(run_id)
    night.check_paid_once(run_id)
