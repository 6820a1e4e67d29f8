"""The database was restored from a backup older than the chain: halted, adopted by ref, resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from domain.errors import Rejected
from jobs.runner import run_due
from mocks.chain import FaultKind
from models.database import fetch
from usecases.payouts.adoption import adopt_wallet
from usecases.payouts.reconcile import reconcile
from usecases.payouts.settlement import settle_all
from usecases.payouts.sweep import sweep_all
from usecases.payouts.wallet_control import resume_wallet

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Backups, Night


MOMENTS: dict[str, Callable[[Night, str], Any]] = {
    "planning": lambda night, run: None,
    "waiting": lambda night, run: run_due(limit=1),
    "reserved": lambda night, run: run_due(limit=2),
    "burning": lambda night, run: night.until_legs(run, "burning"),
    "burned": lambda night, run: night.until_legs(run, "burned"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_backup_is_restored_after_everybody_was_paid(
    night: Night, backups: Backups, moment: str
) -> None:
    night.bond(holders=5)
    run_id = night.trigger()
    MOMENTS[moment](night, run_id)
    backup = backups.take()
    night.until(run_id)
    transfers = night.ledger("transfer")
    backups.restore(backup)
    night.signs_nothing()
    assert "nonce" in (night.halted() or "")
    assert " 0x" in (night.halted() or "")
    with pytest.raises(Rejected, match="stays halted"):
        resume_wallet("ada")
    night.adopt()
    assert resume_wallet("ada")
    night.until(run_id)
    assert night.ledger("transfer") == transfers
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}
    night.turn()  # the last notifications
    night.check_paid_once(run_id)
    found = reconcile(run_id)
    assert found.ok, found.findings


@pytest.mark.parametrize("lost", ["burning", "burned", "paying"])
def test_a_backup_is_restored_in_the_middle(night: Night, backups: Backups, lost: str) -> None:
    """Some transactions are only in the mempool: nothing is signed beside them."""
    night.bond(holders=5)
    run_id = night.trigger()
    run_due(limit=2)
    backup = backups.take()
    night.until_legs(run_id, lost)
    pending = night.chain.pending()
    backups.restore(backup)
    for _ in range(4):
        night.turn(mine=False)
    assert night.chain.pending() == pending
    assert night.operations() == []
    assert night.halted()
    night.adopt()
    resume_wallet("ada")
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_pending_transactions_alone_halt_the_wallet(night: Night, backups: Backups) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    run_due(limit=2)
    backup = backups.take()
    run_due()  # burns are in the mempool, and nothing is mined
    pending = night.chain.pending()
    assert pending
    backups.restore(backup)
    run_due()
    settle_all()
    assert f"{pending[0]} pending" in (night.halted() or "")
    assert night.operations() == []
    [done] = night.adopt()
    assert [(item.tx_hash, item.height) for item in done.adopted] == [(h, None) for h in pending]
    assert resume_wallet("ada")
    night.until(run_id)
    night.check_paid_once(run_id)


def test_a_lost_pending_transaction_leaves_a_nonce_to_fill(night: Night, backups: Backups) -> None:
    """The first of two burns has left every mempool; the second still waits for its nonce."""
    night.bond(holders=4)
    run_id = night.trigger()
    run_due(limit=2)
    backup = backups.take()
    run_due()
    first, second = night.chain.pending()
    night.chain.drop(first)
    backups.restore(backup)
    night.signs_nothing()
    done = adopt_wallet("ada")
    assert ([item.tx_hash for item in done.adopted], done.filled) == ([second], [0])
    assert resume_wallet("ada")
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_a_lost_transaction_comes_back_before_its_nonce_is_filled(
    night: Night, backups: Backups
) -> None:
    night.bond(holders=4)
    run_id = night.trigger()
    run_due(limit=2)
    backup = backups.take()
    run_due()
    lost = night.chain.transactions_of(night.real_signer.address)[0]
    night.chain.drop(lost.tx_hash)
    backups.restore(backup)
    night.turn()
    adopt_wallet("ada")
    resume_wallet("ada")
    signed = night.real_signer.sign(lost.transaction)
    night.chain.broadcast(signed)  # another node still had it
    for _ in range(6):
        night.turn()
    assert signed.tx_hash in (night.halted() or "")
    night.adopt()
    resume_wallet("ada")
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_a_forgotten_fee_replacement_is_the_same_operation(night: Night, backups: Backups) -> None:
    night.policy(replace_after_s=8)
    night.bond(holders=3)
    run_id = night.trigger()
    run_due()
    backup = backups.take()
    night.chain.configure(fee_per_item_units=120)  # the cap is 100 an item
    while not night.operations("mined"):
        night.turn()
    night.chain.finalize()
    backups.restore(backup)
    for _ in range(3):
        night.turn()
    assert "not ours" in (night.halted() or "")
    night.adopt()
    resume_wallet("ada")
    night.until(run_id)
    assert fetch("SELECT 1 FROM chain_operation WHERE displaced") == []
    night.check_paid_once(run_id)


def test_a_reverted_batch_is_adopted_as_such(night: Night, backups: Backups) -> None:
    night.bond(holders=4)
    run_id = night.trigger()
    run_due(limit=2)
    backup = backups.take()
    night.chain.fault(FaultKind.REVERT, times=1)
    night.until_legs(run_id, "paying")
    sweep_all()
    backups.restore(backup)
    night.turn()
    night.adopt()
    resume_wallet("ada")
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok
