"""What Overnight relies on, of any chain: the mock today, a real node behind the same fixture."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mocks.chain import MockSigner
from mocks.chain.signing import hash_of
from providers.chain import (
    BroadcastRefused,
    Chain,
    SignedTransaction,
    Signer,
    TxItem,
    TxKind,
    UnsignedTransaction,
)

if TYPE_CHECKING:
    from tests.contract.conftest import Desk

BOND, TOKEN, SERIES = "0xBond", "PLT", 20_000


@pytest.fixture
def node(desk: "Desk") -> Chain:
    """The client under test; a real one joins with params here and a `desk` of its own."""
    return desk.chain


def test_the_mock_fits_the_protocols(desk: "Desk") -> None:
    node: Chain = desk.chain
    signer: Signer = desk.signer
    assert node.chain_id() == "mock-1"
    assert signer.address.startswith("0x")


def test_signing_is_deterministic_and_the_hash_is_known_before_sending(
    node: Chain, desk: "Desk"
) -> None:
    items = (desk.item(), desk.item(1))
    first, second = desk.sign(0, *items), desk.sign(0, *items)
    assert first == second
    node.broadcast(first)
    desk.chain.mine()
    assert node.receipts([first.tx_hash]).keys() == {first.tx_hash}


def test_a_signer_refuses_another_sender(desk: "Desk") -> None:
    unsigned = UnsignedTransaction(
        "mock-1", MockSigner("other").address, 0, TxKind.TRANSFER, TOKEN, (), 10
    )
    with pytest.raises(ValueError, match="can't sign"):
        desk.signer.sign(unsigned)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"units":10', b'"units":99'), (b'"nonce":0', b'"nonce":1'), (b'"signature":"0x', b'" ')],
)
def test_altered_bytes_are_refused(node: Chain, desk: "Desk", old: bytes, new: bytes) -> None:
    signed = desk.sign(0)
    assert old in signed.raw
    altered = signed.raw.replace(old, new)
    with pytest.raises(BroadcastRefused):
        node.broadcast(SignedTransaction(signed.tx_hash, altered))
    with pytest.raises(BroadcastRefused):
        node.broadcast(SignedTransaction(hash_of(altered), altered))
    assert desk.chain.pending() == []


def test_nothing_happens_until_it_is_mined(node: Chain, desk: "Desk") -> None:
    signed = desk.send(0)
    assert node.receipts([signed.tx_hash]) == {}
    assert node.next_nonce(desk.signer.address) == 0
    desk.chain.mine()
    receipt = node.receipts([signed.tx_hash])[signed.tx_hash]
    assert receipt.succeeded
    assert receipt.height == node.head().height
    assert receipt.block_hash == node.block_hash(receipt.height)
    assert node.next_nonce(desk.signer.address) == 1
    assert desk.paid() == 10


def test_nonces_are_strict_and_a_gap_waits(node: Chain, desk: "Desk") -> None:
    second = desk.send(1)
    desk.chain.mine(2)
    assert node.receipts([second.tx_hash]) == {}
    first = desk.send(0)
    desk.chain.mine()
    assert len(node.receipts([first.tx_hash, second.tx_hash])) == 2


def test_a_transaction_takes_effect_once(node: Chain, desk: "Desk") -> None:
    signed = desk.send(0)
    with pytest.raises(BroadcastRefused):
        node.broadcast(signed)
    desk.chain.mine()
    with pytest.raises(BroadcastRefused):
        node.broadcast(signed)
    desk.chain.mine()
    assert desk.paid() == 10


def test_a_used_nonce_is_refused(node: Chain, desk: "Desk") -> None:
    desk.send(0)
    desk.chain.mine()
    with pytest.raises(BroadcastRefused):
        desk.send(0)


def test_a_replacement_needs_ten_percent_more(node: Chain, desk: "Desk") -> None:
    item = desk.item()
    first = desk.sign(0, item, fee_cap_units=1_000)
    node.broadcast(first)
    with pytest.raises(BroadcastRefused):
        node.broadcast(desk.sign(0, item, fee_cap_units=1_099))
    second = desk.sign(0, item, fee_cap_units=1_100)
    node.broadcast(second)
    with pytest.raises(BroadcastRefused):
        node.broadcast(first)
    desk.chain.mine()
    assert node.receipts([first.tx_hash, second.tx_hash]).keys() == {second.tx_hash}
    assert desk.paid() == 10


def test_an_empty_transaction_cancels_a_nonce(node: Chain, desk: "Desk") -> None:
    desk.send(0)
    unsigned = UnsignedTransaction(
        node.chain_id(), desk.signer.address, 0, TxKind.TRANSFER, TOKEN, (), 1_250
    )
    node.broadcast(desk.signer.sign(unsigned))
    desk.chain.mine()
    assert node.next_nonce(desk.signer.address) == 1
    assert desk.paid() == 0


def test_items_succeed_or_fail_together(node: Chain, desk: "Desk") -> None:
    signed = desk.send(0, desk.item(0, 600), desk.item(1, 600))
    desk.chain.mine()
    receipt = node.receipts([signed.tx_hash])[signed.tx_hash]
    assert (receipt.succeeded, receipt.failed_item) == (False, 1)
    assert receipt.revert_reason == "insufficient balance"
    assert desk.paid(0) == desk.paid(1) == 0
    assert node.next_nonce(desk.signer.address) == 1
    height = node.head().height
    assert node.coin_balance(desk.signer.address, height) == 100_000 - 20
    assert node.token_balance(TOKEN, desk.signer.address, height) == 1_000


def test_a_reverted_transaction_leaves_its_refs_free(node: Chain, desk: "Desk") -> None:
    item = desk.item(0, 600)
    desk.send(0, item, desk.item(1, 600))
    again = desk.send(1, item)
    desk.chain.mine()
    assert node.receipts([again.tx_hash])[again.tx_hash].succeeded


def test_a_ref_pays_once(node: Chain, desk: "Desk") -> None:
    item = desk.item()
    first, second = desk.send(0, item), desk.send(1, item)
    desk.chain.mine()
    third = desk.send(2, item)
    twice = desk.item(1)
    fourth = desk.send(3, twice, replace(twice, address=desk.holders[2]))
    desk.chain.mine()
    receipts = node.receipts([s.tx_hash for s in (first, second, third, fourth)])
    assert [receipts[s.tx_hash].succeeded for s in (first, second, third, fourth)] == [
        True, False, False, False,
    ]  # fmt: skip
    assert receipts[third.tx_hash].revert_reason == "ref already used"
    assert receipts[fourth.tx_hash].failed_item == 1
    assert desk.paid() == 10


def test_burn_items_of_a_leg_share_its_ref(node: Chain, desk: "Desk") -> None:
    desk.chain.mint(BOND, [(desk.holders[0], SERIES + 1, 5)])
    leg = desk.burn_item(0, 100)
    signed = desk.send(
        0, leg, replace(leg, units=5, token_id=SERIES + 1), desk.burn_item(1, 40), kind=TxKind.BURN
    )
    desk.chain.mine()
    assert node.receipts([signed.tx_hash])[signed.tx_hash].succeeded
    height = node.head().height
    positions = [
        (desk.holders[0], SERIES),
        (desk.holders[0], SERIES + 1),
        (desk.holders[1], SERIES),
    ]
    assert list(node.bond_balances(BOND, positions, height).values()) == [0, 0, 60]
    effect = node.effects([leg.ref], TxKind.BURN, height)[leg.ref]
    assert (effect.units, effect.address, effect.height) == (105, desk.holders[0], height)
    payment = desk.send(1, TxItem(leg.ref, desk.holders[0], 7))  # the same ref, another kind
    again = desk.send(2, desk.burn_item(1, 1, ref=leg.ref), kind=TxKind.BURN)
    desk.chain.mine()
    assert node.receipts([payment.tx_hash])[payment.tx_hash].succeeded
    assert node.receipts([again.tx_hash])[again.tx_hash].revert_reason == "ref already used"


def test_more_than_held_can_not_be_burned(node: Chain, desk: "Desk") -> None:
    signed = desk.send(0, desk.burn_item(0, 60), desk.burn_item(0, 60), kind=TxKind.BURN)
    desk.chain.mine()
    receipt = node.receipts([signed.tx_hash])[signed.tx_hash]
    assert (receipt.succeeded, receipt.failed_item) == (False, 1)
    positions = [(desk.holders[0], SERIES), ("0xnobody", 1)]
    held = node.bond_balances(BOND, positions, node.head().height)
    assert held == {positions[0]: 100, positions[1]: 0}


def test_finality_follows_the_head_at_its_depth(node: Chain, desk: "Desk") -> None:
    signed = desk.send(0)
    height = desk.chain.mine()
    for _ in range(3):
        assert node.head().final_height < height
        desk.chain.mine()
    head = node.head()
    assert (head.height, head.final_height) == (height + 3, height)
    assert node.block_hash(height) == head.final_hash
    assert node.block_hash(head.height + 1) is None
    assert node.receipts([signed.tx_hash])[signed.tx_hash].height == height


def test_balances_and_effects_at_a_height_are_exact(node: Chain, desk: "Desk") -> None:
    refs, heights = [], [node.head().height]
    for nonce in range(3):
        item = desk.item(0, nonce + 1)
        refs.append(item.ref)
        desk.send(nonce, item)
        heights.append(desk.chain.mine())
    holder, wallet = desk.holders[0], desk.signer.address
    assert [node.token_balance(TOKEN, holder, h) for h in heights] == [0, 1, 3, 6]
    assert [node.token_balance(TOKEN, wallet, h) for h in heights] == [1_000, 999, 997, 994]
    assert [node.coin_balance(wallet, h) for h in heights] == [
        100_000, 99_990, 99_980, 99_970,
    ]  # fmt: skip
    counts = [len(node.effects(refs, TxKind.TRANSFER, h)) for h in heights]
    assert counts == [0, 1, 2, 3]
    assert node.effects(refs, TxKind.BURN, heights[-1]) == {}


@pytest.mark.parametrize(
    "item",
    [
        TxItem("a" * 64, "0x" + "ab" * 20, 1),  # no checksum
        TxItem("a" * 64, "nobody", 1),
        TxItem("a" * 64, MockSigner("h0").address, -1),
        TxItem("a" * 64, MockSigner("h0").address, 1, 7),  # a transfer has no token id
    ],
)
def test_bad_items_are_refused(node: Chain, desk: "Desk", item: TxItem) -> None:
    with pytest.raises(BroadcastRefused):
        desk.send(0, item)


def test_fees_bounds_and_identity_are_checked_at_the_door(node: Chain, desk: "Desk") -> None:
    with pytest.raises(BroadcastRefused):
        node.broadcast(desk.sign(0, fee_cap_units=9))
    with pytest.raises(BroadcastRefused):
        desk.send(256)
    foreign = replace(UnsignedTransaction.from_json(_body(desk.sign(0))), chain_id="mock-2")
    with pytest.raises(BroadcastRefused, match="chain id"):
        node.broadcast(desk.signer.sign(foreign))
    poor = MockSigner("poor")
    mine = UnsignedTransaction(node.chain_id(), poor.address, 0, TxKind.TRANSFER, TOKEN, (), 50)
    with pytest.raises(BroadcastRefused):
        node.broadcast(poor.sign(mine))
    assert desk.chain.pending() == []


def _body(signed: SignedTransaction) -> str:
    text = signed.raw.decode()
    return text[text.index('"transaction":') + 14 : -1]
