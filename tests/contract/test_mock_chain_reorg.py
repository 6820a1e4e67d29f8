"""Reorgs undo exactly their blocks; what was undone waits, is lost, or is mined again."""

from typing import TYPE_CHECKING

import pytest

from providers.chain import TxKind

if TYPE_CHECKING:
    from tests.contract.conftest import Desk

TOKEN = "PLT"


def test_a_reorg_undoes_payments_and_puts_them_back_in_the_mempool(desk: "Desk") -> None:
    kept = desk.send(0)
    desk.chain.mine()
    undone = desk.send(1, desk.item(1))
    height = desk.chain.mine()
    old = desk.chain.head()
    assert desk.chain.reorg(1) == height + 1
    assert desk.chain.receipts([kept.tx_hash, undone.tx_hash]).keys() == {kept.tx_hash}
    assert desk.chain.pending() == [undone.tx_hash]
    assert desk.chain.block_hash(height) != old.block_hash
    assert (desk.paid(0), desk.paid(1)) == (10, 0)
    assert desk.chain.next_nonce(desk.signer.address) == 1
    desk.chain.mine()
    assert desk.paid(1) == 10


def test_a_dropped_one_is_gone_until_sent_again_and_its_followers_wait(desk: "Desk") -> None:
    lost, follower = desk.send(0), desk.send(1)
    desk.chain.mine()
    desk.chain.reorg(1, drop=[lost.tx_hash])
    desk.chain.mine(2)
    assert desk.chain.receipts([lost.tx_hash, follower.tx_hash]) == {}
    desk.chain.broadcast(lost)
    desk.chain.mine()
    assert len(desk.chain.receipts([lost.tx_hash, follower.tx_hash])) == 2
    assert desk.paid() == 20


def test_all_can_be_dropped(desk: "Desk") -> None:
    signed = desk.send(0)
    desk.chain.mine(2)
    desk.chain.reorg(2, drop=None)
    assert desk.chain.pending() == []
    desk.chain.mine()
    assert desk.chain.receipts([signed.tx_hash]) == {}


def test_reincluded_ones_have_another_block_and_the_same_hash(desk: "Desk") -> None:
    item = desk.item()
    signed = desk.send(0, item)
    desk.chain.mine()
    before = desk.chain.receipts([signed.tx_hash])[signed.tx_hash]
    desk.chain.reorg(1, reinclude=True)
    after = desk.chain.receipts([signed.tx_hash])[signed.tx_hash]
    assert after.block_hash != before.block_hash
    assert desk.paid() == 10
    assert [e.ref for e in desk.chain.all_effects(TxKind.TRANSFER)] == [item.ref]


def test_another_transaction_can_take_the_nonce_after_a_reorg(desk: "Desk") -> None:
    lost = desk.send(0)
    desk.chain.mine()
    desk.chain.reorg(1, drop=[lost.tx_hash])
    other = desk.send(0, desk.item(2, 3))
    desk.chain.mine()
    assert desk.chain.receipts([lost.tx_hash, other.tx_hash]).keys() == {other.tx_hash}
    assert (desk.paid(0), desk.paid(2)) == (0, 3)


def test_a_ref_is_free_again_when_its_block_is_undone(desk: "Desk") -> None:
    item = desk.item()
    desk.send(0, item)
    desk.chain.mine()
    desk.chain.reorg(1, drop=None)
    again = desk.send(0, item)
    desk.chain.mine()
    assert desk.chain.receipts([again.tx_hash])[again.tx_hash].succeeded


def test_deeper_than_finality_changes_what_was_final(desk: "Desk") -> None:
    signed = desk.send(0)
    height = desk.chain.mine()
    desk.chain.finalize()
    final = desk.chain.head()
    assert final.final_height == height
    desk.chain.reorg(4, drop=None)
    assert desk.chain.block_hash(height) != final.final_hash
    assert desk.chain.receipts([signed.tx_hash]) == {}
    assert desk.chain.token_balance(TOKEN, desk.holders[0], height) == 0


def test_grants_survive_and_the_books_balance(desk: "Desk") -> None:
    desk.send(0)
    desk.chain.mine()
    desk.chain.fund(desk.signer.address, token_units=500, coin_units=7)
    desk.chain.move("0xBond", 20_000, desk.holders[0], desk.holders[1], 30)
    totals = desk.chain.ledger_totals()
    desk.chain.reorg(3)
    assert desk.chain.ledger_totals()["token:PLT"] == 1_500
    assert desk.chain.ledger_totals()["coin"] == totals["coin"] + 10  # the fee came back
    desk.chain.mine()
    assert desk.chain.ledger_totals() == totals
    assert desk.chain.holdings("0xBond")[desk.holders[1], 20_000] == 130
    wallet, height = desk.signer.address, desk.chain.head().height
    assert desk.chain.token_balance(TOKEN, wallet, height) == 1_490


def test_the_whole_chain_can_go_but_not_genesis(desk: "Desk") -> None:
    height = desk.chain.head().height
    with pytest.raises(ValueError, match="depth"):
        desk.chain.reorg(height + 1)
    desk.chain.reorg(height)
    assert desk.chain.ledger_totals()["token:PLT"] == 1_000
