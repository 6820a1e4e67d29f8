"""One thing that goes wrong for good stops neither its neighbours nor itself for ever."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import actors.maturity
from domain.errors import InvalidInput, InvariantBroken
from jobs.runner import run_due
from mocks.chain import FaultKind, MockSigner, address_of
from models.database import execute, fetch
from providers.chain import TxKind, UnsignedTransaction
from providers.ports import Ports, use_ports
from usecases.payouts import failure
from usecases.payouts.adoption import adopt_wallet
from usecases.payouts.retry import recheck_held
from usecases.payouts.settlement import settle_all
from usecases.payouts.wallet_control import resume_wallet

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


def bug(*_: Any) -> None:
    raise ValueError("a bug")


def test_a_holder_of_many_token_ids_has_its_fee(night: Night) -> None:
    """The fee is per item: a cap per leg is refused for ever, and every later nonce with it."""
    crowd = {address_of(f"few-{n}"): [(1, 5)] for n in range(6)}
    many = {address_of("many"): [(token, 1) for token in range(1, 25)]}  # 24 items in one leg
    night.bond(positions=crowd | many)
    run_id = night.trigger()
    night.until(run_id)
    night.check_paid_once(run_id)
    assert len(night.ledger("transfer")) == 7


def test_no_burn_without_the_fee_of_its_transfer(night: Night) -> None:
    """A reverted batch spent fees that were reserved: nobody is burned until they are there."""
    night.policy(fee_cap_units=10, fee_limit_units=10)
    night.bond(holders=2, fund=False)
    night.chain.fund(night.real_signer.address, token_units=10**12, coin_units=60)  # 6 items
    night.chain.finalize()
    night.chain.fault(FaultKind.REVERT, tx_kind=TxKind.BURN, times=1)
    run_id = night.trigger()
    for _ in range(20):
        night.turn()
    assert night.ledger("burn") == {}
    assert "lacks 0.000000 PLT and 40 units of coin" in night.note(run_id)
    night.chain.fund(night.real_signer.address, coin_units=40)
    night.until(run_id)
    night.check_paid_once(run_id)


def test_a_debt_is_paid_though_another_held_leg_has_no_money(night: Night) -> None:
    """The debt is still reserved: a leg that was never burned does not keep it from being paid."""
    addresses = night.bond(holders=2)
    night.chain.unverify([addresses[1]])
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    night.chain.unverify([addresses[0]])
    night.until(run_id)
    legs = {leg["address"]: leg for leg in night.legs(run_id)}
    assert legs[addresses[0]]["burn_hash"]
    assert not legs[addresses[1]]["burn_hash"]
    night.chain.fund(night.real_signer.address, token_units=-int(legs[addresses[1]]["units"]))
    night.chain.verify(addresses)
    night.chain.finalize()
    recheck_held()
    night.until(run_id)
    assert [leg["state"] for leg in night.legs(run_id)] == ["paid", "held"]
    assert list(night.ledger("transfer")) == [addresses[0]]


def test_the_run_of_another_wallet_does_not_stop_the_recheck(night: Night) -> None:
    """After a change of key, runs of the old wallet are not for this process."""
    first = night.bond(holders=1)
    night.chain.unverify(first)
    night.until(night.trigger())
    signer = MockSigner("new-wallet")
    use_ports(Ports(night.node, night.registry, signer))
    second = night.bond(holders=1, bond_id="other", fund=False)
    night.chain.fund(signer.address, token_units=10**10, coin_units=10**9)
    night.chain.unverify(second)
    night.chain.finalize()
    night.until(night.trigger("other"))
    night.chain.verify(first + second)
    assert recheck_held() == 1


def test_a_nonce_adopted_from_a_block_that_is_taken_back(night: Night) -> None:
    """Bound behind a provisional transaction: halted with evidence, and `adopt` fills the nonce."""
    night.bond(holders=2)
    empty = UnsignedTransaction(
        night.chain.chain_id(), night.real_signer.address, 0, TxKind.TRANSFER, "PLT", (), 100
    )
    tx_hash = night.real_signer.sign(empty).tx_hash
    night.chain.broadcast(night.real_signer.sign(empty))
    night.chain.mine()
    run_id = night.trigger()
    night.chain.reorg(1, None)
    night.chain.drop(tx_hash)
    for _ in range(10):
        night.turn()
    assert "waits for nonce 0" in (night.halted() or "")
    assert adopt_wallet("ada").filled == [0]
    assert resume_wallet("ada")
    night.until(run_id)
    night.check_paid_once(run_id)


@pytest.mark.parametrize("state", ["planning", "waiting"])
def test_a_run_that_lost_its_job_before_paying(
    night: Night, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Its failure could not be recorded; a person looked and resumed: the sweep takes it up."""
    night.bond(holders=1)
    night.bond(holders=1, bond_id="other")
    run_id, other = night.trigger(), night.trigger("other")
    if state == "waiting":
        run_due(limit=2)
    execute("UPDATE job_queue SET max_retries = 0")
    with monkeypatch.context() as patch:
        patch.setattr(failure, "alert", bug)
        patch.setattr(actors.maturity, "plan_run", bug)
        night.node.before["token_balance"] = bug
        run_due()
    assert night.state(run_id) == state
    assert fetch("SELECT 1 FROM pause")
    execute("DELETE FROM pause")
    for _ in range(20):
        night.turn()
        night.pass_time(30)
    assert (night.state(run_id), night.state(other)) == ("finished", "finished")


def test_a_run_that_does_not_add_up_does_not_stop_the_others(night: Night) -> None:
    """Payouts are paused, with one alert; what the other run has under way comes to its end."""
    night.bond(holders=1)
    night.bond(holders=2, bond_id="other")
    run_id, other = night.trigger(), night.trigger("other")
    night.until_legs(run_id, "paying")
    execute("ALTER TABLE payout_leg DISABLE TRIGGER payout_leg_frozen")
    execute("UPDATE payout_leg SET units = units + 1 WHERE run_id = %s", (run_id,))
    for _ in range(20):
        with suppress(InvariantBroken):
            night.turn()
        night.chain.mine()
        settle_all()
    assert night.state(other) == "finished"
    assert [text for text in night.alerts() if "does not add up" in text] == night.alerts()
    assert len(night.alerts()) == 1


def test_one_leg_out_of_line_does_not_stop_the_settlement_of_the_others(night: Night) -> None:
    """What was signed before a halt is still settled; the halt is told once."""
    addresses = night.bond(holders=4)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    execute("UPDATE payout_leg SET state = 'held', reason = 'by hand' WHERE address = %s",
            (addresses[0],))  # fmt: skip
    for _ in range(20):
        with suppress(InvariantBroken):
            night.turn()
    assert "not where" in (night.halted() or "")
    assert [leg["state"] for leg in night.legs(run_id)].count("burned") == 2
    assert len([text for text in night.alerts() if "signing is halted" in text]) == 1


def test_a_signer_that_fails_does_not_stop_settlement(night: Night) -> None:
    """An orphaned intent is signed after everything was looked at and sent."""
    night.bond(holders=4)
    night.trigger()
    run_due(limit=3)
    [first, second] = night.operations("signed")
    [(tx_hash,)] = fetch(
        "DELETE FROM chain_transaction WHERE operation_id = %s RETURNING tx_hash", (second["id"],)
    )
    night.chain.drop(tx_hash)
    execute("UPDATE chain_operation SET state = 'intent' WHERE id = %s", (second["id"],))

    def away(_: Any) -> None:
        raise RuntimeError("the signer is away")

    night.see("signer", sign=away)
    night.pass_time(10)
    night.chain.mine()
    night.chain.finalize()
    for _ in range(5):
        with suppress(RuntimeError):
            settle_all()
    assert [op["id"] for op in night.operations("settled")] == [first["id"]]


def test_a_debt_whose_page_is_rejected_waits_longer_each_time(night: Night) -> None:
    """Not one page, job and alert in each turn of the sweep."""
    night.bond(holders=2)
    run_id = night.trigger()
    night.until_legs(run_id, "burned")

    def refuse(_: Any) -> None:
        raise InvalidInput("the registry does not know this form of address")

    night.see("registry", verified=refuse)
    for _ in range(30):
        night.turn(mine=False)
    [(pages,)] = fetch("SELECT count(*) FROM payout_page WHERE run_id = %s", (run_id,))
    assert 2 <= pages <= 5, f"{pages} pages and {len(night.alerts())} alerts in 30 s"
    night.see()
    night.until(run_id)
    night.check_paid_once(run_id)


def test_somebody_is_told_once_of_a_nonce_that_is_not_mined(night: Night) -> None:
    """All later nonces wait for it."""
    night.bond(holders=2)
    run_id = night.trigger()
    night.chain.fault(FaultKind.REQUEST_LOST, op="broadcast", times=None)
    for _ in range(20):
        night.turn()
        night.pass_time(60)
    assert len([text for text in night.alerts() if "not mined for 15 minutes" in text]) == 1
    night.chain.clear_faults()
    night.until(run_id)
