"""Somebody else uses the wallet: evidence, four eyes, and nobody is paid twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.errors import Rejected
from jobs.runner import run_due
from models.database import fetch
from providers.chain import TxKind, UnsignedTransaction
from usecases.payouts.adoption import Adoption, adopt_wallet
from usecases.payouts.reconcile import reconcile
from usecases.payouts.wallet_control import halt_wallet, resolve_nonce, resume_wallet

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Backups, Night


def foreign(night: Night, nonce: int, *, mine: bool = True) -> str:
    """Somebody else signs with our key."""
    empty = UnsignedTransaction(
        night.chain.chain_id(), night.real_signer.address, nonce, TxKind.TRANSFER, "PLT", (), 100
    )
    signed = night.real_signer.sign(empty)
    night.chain.broadcast(signed)
    if mine:
        night.chain.finalize()
    return signed.tx_hash


def test_a_foreign_transaction_needs_two_people(night: Night) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    run_due(limit=2)
    tx_hash = foreign(night, 0)
    night.signs_nothing()
    assert tx_hash in (night.halted() or "")
    done = adopt_wallet("ada")
    assert [(item.nonce, item.tx_hash) for item in done.unmatched] == [(0, tx_hash)]
    with pytest.raises(Rejected, match=tx_hash):
        resume_wallet("ada")
    assert not resolve_nonce(0, tx_hash, "ada").applied
    with pytest.raises(Rejected, match="a second person"):
        resolve_nonce(0, tx_hash, " Ada ")
    with pytest.raises(Rejected, match="stays halted"):
        resume_wallet("ada")
    with pytest.raises(Rejected, match="another transaction there"):
        resolve_nonce(0, "0xother", "bob")
    resolution = resolve_nonce(0, tx_hash, "bob")
    assert (resolution.people, resolution.applied) == (["ada", "bob"], True)
    assert resume_wallet("bob")
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok
    kinds = [kind for (kind,) in fetch("SELECT kind FROM payout_decision ORDER BY id")]
    assert kinds == ["resolve", "resolve", "resume"]


def test_a_foreign_transaction_takes_the_nonce_of_a_burn(night: Night) -> None:
    """Our operation is void only when theirs is found, final, and explained by two people."""
    night.bond(holders=3)
    run_id = night.trigger()
    run_due(limit=2)
    night.node.before["broadcast"] = lambda: foreign(night, 0)
    for _ in range(8):
        night.turn()
    tx_hash = night.chain.transactions_of(night.real_signer.address)[0].tx_hash
    assert tx_hash in (night.halted() or "")
    resolve_nonce(0, tx_hash, "ada")
    resolve_nonce(0, tx_hash, "bob")
    resume_wallet("ada")
    night.until(run_id)
    assert [op["state"] for op in night.operations()][:2] in (["void", "settled"],
                                                              ["settled", "void"])  # fmt: skip
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_a_pending_foreign_transaction_is_pushed_out_of_the_way(night: Night) -> None:
    night.policy(replace_after_s=8)
    night.bond(holders=2)
    run_id = night.trigger()
    run_due(limit=2)
    tx_hash = foreign(night, 0, mine=False)
    night.chain.configure(fee_per_item_units=101)  # theirs is stuck at 100
    night.turn()
    assert f"{tx_hash} pending" in (night.halted() or "")
    resolve_nonce(0, tx_hash, "ada")
    resolve_nonce(0, tx_hash, "bob")
    assert resume_wallet("ada")
    for _ in range(25):
        night.turn()
    night.chain.configure(fee_per_item_units=10)
    night.until(run_id)
    night.check_paid_once(run_id)


def test_a_nonce_that_the_node_cannot_show(night: Night) -> None:
    night.bond(holders=2)
    run_id = night.trigger()
    run_due(limit=2)
    tx_hash = foreign(night, 0)
    real = night.chain.transactions_of
    night.node.__dict__["transactions_of"] = lambda address, from_nonce=0: []
    night.signs_nothing()
    [lost] = adopt_wallet("ada").unmatched
    assert (lost.nonce, lost.tx_hash) == (0, None)
    with pytest.raises(Rejected, match="not used on chain"):
        resolve_nonce(7, tx_hash, "ada")
    resolve_nonce(0, tx_hash, "ada")
    assert resolve_nonce(0, tx_hash, "bob").applied
    assert resume_wallet("ada")
    night.node.__dict__["transactions_of"] = real
    night.until(run_id)
    night.check_paid_once(run_id)


def test_a_second_environment_on_the_same_wallet(night: Night, backups: Backups) -> None:
    """Two databases, one key: both halt, neither pays what the other did."""
    night.bond(holders=3)
    night.bond(holders=2, bond_id="other")
    staging = backups.take()
    run_id = night.trigger()
    run_due(limit=2)
    backups.restore(staging)
    night.policy(environment_id="staging")
    other = night.trigger("other")
    night.until_legs(other, "burning")
    backups.restore(night.database_url)
    night.policy()
    night.signs_nothing()
    done = adopt_wallet("ada")
    assert done.adopted == []
    assert all("no run of environment 'test'" in item.why for item in done.unmatched)
    for item in done.unmatched:
        assert item.tx_hash
        resolve_nonce(item.nonce, item.tx_hash, "ada")
        assert resolve_nonce(item.nonce, item.tx_hash, "bob").applied
    assert resume_wallet("ada")
    night.until(run_id)
    assert reconcile(run_id).ok
    backups.restore(staging)  # and the intruder meets the same wall
    night.policy(environment_id="staging")
    for _ in range(6):
        night.turn()
    assert "chain nonce is" in (night.halted() or "")
    assert {leg["state"] for leg in night.legs(other)} == {"burned"}


def test_another_environment_in_the_same_database(night: Night) -> None:
    night.bond(holders=1)
    night.bond(holders=1, bond_id="other")
    run_id = night.trigger()
    night.policy(environment_id="staging")
    with pytest.raises(Rejected, match="belongs to environment 'test'"):
        night.trigger("other")
    with pytest.raises(Rejected, match="decide there"):
        resume_wallet("ada")
    night.policy()
    assert resume_wallet("ada")
    night.until(run_id)
    night.check_paid_once(run_id)


def test_a_person_halts_and_resumes(night: Night) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    assert halt_wallet("ada", "an audit") == "an audit (by ada)"
    for _ in range(6):
        night.turn()
    assert {leg["state"] for leg in night.legs(run_id)} == {"burned"}  # settled all the same
    assert night.ledger("transfer") == {}
    assert resume_wallet("ada")
    assert not resume_wallet("ada")
    night.until(run_id)
    night.check_paid_once(run_id)
    assert halt_wallet("bob", "again").endswith("(by bob)")


def test_adopting_when_nothing_is_wrong(night: Night) -> None:
    night.bond(holders=2)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    assert adopt_wallet("ada") == Adoption([], [], [], [], None)
    with pytest.raises(Rejected, match="not halted"):
        resolve_nonce(0, "0x1", "ada")
    night.until(run_id)
    night.check_paid_once(run_id)
