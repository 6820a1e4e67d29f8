"""A reorg deeper than finality: what was final is not, and the same bytes are sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.errors import NotFound, Rejected
from mocks.chain import FaultKind
from models.database import execute, fetch, transaction
from providers.chain import TxKind
from usecases.payouts.acceptance import accept_unburned
from usecases.payouts.adoption import adopt_wallet
from usecases.payouts.reconcile import reconcile
from usecases.payouts.settlement import settle_all
from usecases.payouts.wallet_control import resume_wallet

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


@pytest.mark.parametrize("forget", [True, False])
@pytest.mark.parametrize("state", ["burned", "paid", "finished"])
def test_a_reorg_deeper_than_finality(night: Night, state: str, forget: bool) -> None:
    """What was final is not: the same bytes are sent again, and nobody is paid by new ones."""
    night.bond(holders=5)
    run_id = night.trigger()
    if state == "finished":
        night.until(run_id)
    else:
        night.until_legs(run_id, state)
    height = night.chain.status().height
    [(first,)] = fetch("SELECT min(mined_height) FROM chain_operation WHERE mined_height > 0")
    hashes = {row[0] for row in fetch("SELECT tx_hash FROM chain_transaction")}
    night.chain.reorg(height - first + 1, None if forget else ())
    for _ in range(4):
        night.turn()
    assert "deeper than finality" in (night.halted() or "")
    with pytest.raises(Rejected, match="stays halted"):
        resume_wallet("ada")
    done = adopt_wallet("ada")
    assert bool(done.reopened) is forget  # what came back by itself is as final as before
    assert not forget or night.state(run_id) == "paying"
    assert resume_wallet("ada")
    night.until(run_id)
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok
    if state == "finished":
        assert {row[0] for row in fetch("SELECT tx_hash FROM chain_transaction")} == hashes


def test_a_deep_reorg_that_keeps_everything(night: Night) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    night.until(run_id)
    [(first,)] = fetch("SELECT min(mined_height) FROM chain_operation")
    night.chain.reorg(night.chain.status().height - first + 1, reinclude=True)
    night.chain.finalize()
    settle_all()
    assert night.halted()
    assert adopt_wallet("ada").reopened == []
    assert resume_wallet("ada")
    assert night.state(run_id) == "finished"
    assert reconcile(run_id).ok


def test_what_came_true_after_all_is_claimed(night: Night) -> None:
    """As after a deep reorg that let a reverted transfer succeed, and its repetition revert."""
    night.bond(holders=2)
    run_id = night.trigger()
    night.until(run_id)
    with transaction():
        execute(
            "UPDATE operation_leg SET void = true WHERE phase = 'transfer'"
            " AND leg_id = (SELECT min(id::text)::uuid FROM payout_leg)"
        )
        execute(
            "UPDATE payout_leg SET state = 'held', reason = 'transfer reverted: ref already used',"
            " paid_height = NULL, paid_hash = NULL"
            " WHERE id = (SELECT min(id::text)::uuid FROM payout_leg)"
        )
    assert not reconcile(run_id).ok
    execute("DELETE FROM pause")
    assert adopt_wallet("ada").reopened
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_paid_again_and_never_burned_is_accepted_by_two_people(night: Night) -> None:
    """A deep reorg: the payment comes again, the burn reverts. A loss, and people must say so."""
    addresses = night.bond(holders=1)
    run_id = night.trigger()
    night.until(run_id)
    with pytest.raises(Rejected, match="nothing to accept"):
        accept_unburned(run_id, addresses[0], "ada")
    [(first,)] = fetch("SELECT min(mined_height) FROM chain_operation")
    night.chain.reorg(night.chain.status().height - first + 1)
    night.chain.fault(FaultKind.REVERT, tx_kind=TxKind.BURN, times=1)
    for _ in range(4):
        night.turn()
    adopt_wallet("ada")
    resume_wallet("ada")
    night.until(run_id)
    assert night.ledger("burn") == {}
    assert "paid, but never burned" in reconcile(run_id).findings[0]
    assert not accept_unburned(run_id, addresses[0], "ada").applied
    with pytest.raises(Rejected, match="a second person"):
        accept_unburned(run_id, addresses[0], "ADA")
    assert not reconcile(run_id).ok
    assert accept_unburned(run_id, addresses[0], "bob").applied
    assert reconcile(run_id).ok
    with pytest.raises(NotFound, match="has no holder"):
        accept_unburned(run_id, "0x0", "ada")
