"""Each fault strikes as scripted, wherever the call comes from, and the seed replays them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mocks.chain import FaultKind, MockChain
from mocks.registry import MockRegistry
from providers.chain import BroadcastRefused, ChainUnavailable, TxKind
from providers.identity import RegistryUnavailable

if TYPE_CHECKING:
    from tests.contract.conftest import Desk


def test_a_lost_answer_was_accepted(desk: "Desk") -> None:
    desk.chain.fault("answer_lost")
    signed = desk.sign(0)
    with pytest.raises(ChainUnavailable):
        desk.chain.broadcast(signed)
    assert desk.chain.pending() == [signed.tx_hash]
    with pytest.raises(BroadcastRefused):
        desk.chain.broadcast(signed)


def test_a_lost_answer_hides_a_refusal(desk: "Desk") -> None:
    desk.send(0)
    desk.chain.mine()
    desk.chain.fault("answer_lost")
    with pytest.raises(ChainUnavailable):
        desk.send(0)


def test_a_lost_request_was_not_accepted(desk: "Desk") -> None:
    desk.chain.fault("request_lost", times=2)
    signed = desk.sign(0)
    for _ in range(2):
        with pytest.raises(ChainUnavailable):
            desk.chain.broadcast(signed)
    assert desk.chain.pending() == []
    desk.chain.broadcast(signed)


def test_a_dropped_transaction_can_be_sent_again(desk: "Desk") -> None:
    desk.chain.fault("dropped")
    signed = desk.send(0)
    assert desk.chain.pending() == []
    desk.chain.mine()
    assert desk.chain.receipts([signed.tx_hash]) == {}
    desk.chain.broadcast(signed)
    desk.chain.mine()
    assert desk.paid() == 10


def test_known_means_it_was_accepted_and_refused_that_it_was_not(desk: "Desk") -> None:
    desk.chain.fault("known")
    with pytest.raises(BroadcastRefused, match="already known"):
        desk.send(0)
    assert len(desk.chain.pending()) == 1
    desk.chain.fault("refused", reason="txpool is full")
    with pytest.raises(BroadcastRefused, match="txpool is full"):
        desk.send(1)
    assert len(desk.chain.pending()) == 1


def test_a_forced_revert_matches_nonce_and_kind(desk: "Desk") -> None:
    desk.chain.fault("revert", nonce=1, reason="paused")
    desk.chain.fault("revert", tx_kind=TxKind.BURN)
    hashes = [desk.send(nonce).tx_hash for nonce in range(3)]
    hashes.append(desk.send(3, desk.burn_item(), kind=TxKind.BURN).tx_hash)
    desk.chain.mine()
    receipts = desk.chain.receipts(hashes)
    assert [receipts[h].revert_reason for h in hashes] == [
        None, "paused", None, "execution reverted",
    ]  # fmt: skip
    assert desk.paid() == 20
    assert desk.chain.faults() == []


def test_a_node_that_is_down_answers_nothing_but_the_chain_goes_on(desk: "Desk") -> None:
    head = desk.chain.head()
    desk.chain.fault("down", times=None)
    calls: list[Callable[[], object]] = [
        desk.chain.chain_id,
        desk.chain.head,
        lambda: desk.chain.block_hash(0),
        lambda: desk.chain.next_nonce(desk.signer.address),
        lambda: desk.chain.token_balance("PLT", desk.signer.address, 1),
        lambda: desk.chain.coin_balance(desk.signer.address, 1),
        lambda: desk.chain.bond_balances("0xBond", [], 1),
        lambda: desk.chain.receipts([]),
        lambda: desk.chain.effects([], TxKind.BURN, 1),
        lambda: desk.chain.transactions_of(desk.signer.address),
    ]
    for call in calls:
        with pytest.raises(ChainUnavailable):
            call()
    desk.chain.mine(2)
    assert desk.chain.clear_faults("down") == 1
    assert desk.chain.head().height == head.height + 2


def test_a_down_node_does_not_even_refuse(desk: "Desk") -> None:
    signed = desk.sign(0)
    desk.chain.fault("down")
    with pytest.raises(ChainUnavailable):
        desk.chain.broadcast(type(signed)(signed.tx_hash, b"nonsense"))


def test_a_fault_ends_by_itself(desk: "Desk") -> None:
    desk.chain.fault("down", times=None, for_seconds=0)
    assert desk.chain.head()
    assert desk.chain.faults() == []


def test_the_registry_answers_and_fails_apart_from_the_node(
    desk: "Desk", registry: MockRegistry
) -> None:
    desk.chain.verify(desk.holders[:2])
    desk.chain.unverify(desk.holders[:1])
    assert registry.verified(desk.holders) == {desk.holders[1]}
    desk.chain.fault("down", times=None)
    assert registry.verified(desk.holders) == {desk.holders[1]}
    desk.chain.clear_faults()
    desk.chain.fault("registry_down")
    assert desk.chain.head()
    with pytest.raises(RegistryUnavailable):
        registry.verified(desk.holders)
    assert registry.verified([]) == set()


def test_the_token_can_ask_the_registry_itself(desk: "Desk") -> None:
    desk.chain.configure(enforce_identity=True)
    desk.chain.verify(desk.holders[:1])
    first = desk.send(0, desk.item(0))
    second = desk.send(1, desk.item(0), desk.item(1))
    desk.chain.mine()
    receipts = desk.chain.receipts([first.tx_hash, second.tx_hash])
    assert receipts[first.tx_hash].succeeded
    assert receipts[second.tx_hash].revert_reason == "not verified"
    assert receipts[second.tx_hash].failed_item == 1


def test_a_fee_above_the_cap_leaves_it_stuck_until_replaced(desk: "Desk") -> None:
    item = desk.item()
    stuck = desk.sign(0, item, fee_cap_units=10)
    desk.chain.broadcast(stuck)
    follower = desk.send(1)
    desk.chain.configure(fee_per_item_units=12)
    desk.chain.mine(2)
    assert desk.chain.receipts([stuck.tx_hash, follower.tx_hash]) == {}
    desk.chain.broadcast(desk.sign(0, item, fee_cap_units=13))
    desk.chain.mine()
    assert desk.chain.next_nonce(desk.signer.address) == 2


def test_other_processes_meet_the_same_faults(desk: "Desk") -> None:
    desk.chain.fault("down")
    other = MockChain(desk.url)
    try:
        with pytest.raises(ChainUnavailable):
            other.head()
        assert desk.chain.head()
    finally:
        other.close()


def test_a_seed_replays_its_faults(desk: "Desk") -> None:
    def night() -> list[str]:
        desk.chain.clear_faults()
        desk.chain.seed_faults(7, 0.3)
        desk.chain.clear_faults(FaultKind.LATENCY)
        seen = []
        for _ in range(40):
            try:
                desk.chain.broadcast(signed)
            except (ChainUnavailable, BroadcastRefused) as error:
                seen.append(str(error))
            else:
                seen.append("ok")
        desk.chain.drop(signed.tx_hash)
        return seen

    signed = desk.sign(0)
    first = night()
    assert first == night()
    assert len(set(first)) > 2
