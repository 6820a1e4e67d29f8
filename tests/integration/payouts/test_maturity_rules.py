"""Who may be paid and when: whitelist, money, dates, and what a run refuses."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from peewee import IntegrityError

from domain.errors import InvalidInput, NotFound, Rejected
from jobs.runner import run_due
from mocks.chain import address_of
from models.database import execute, fetch
from usecases.payouts.preview import preview_maturity
from usecases.payouts.reconcile import reconcile
from usecases.payouts.trigger import trigger_maturity
from usecases.payouts.views import find_run, show_run

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


def test_not_whitelisted_before_the_burn(night: Night) -> None:
    addresses = night.bond(holders=5)
    night.chain.unverify([addresses[2]])
    assert [leg.address for leg in preview_maturity("bond").legs if leg.held] == [addresses[2]]
    run_id = night.trigger()
    night.until(run_id)
    [held] = [leg for leg in night.legs(run_id) if leg["state"] != "paid"]
    assert (held["address"], held["state"], held["reason"]) == (
        addresses[2], "held", "not whitelisted",
    )  # fmt: skip
    assert addresses[2] not in night.ledger("burn")
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_not_whitelisted_between_burn_and_transfer(night: Night) -> None:
    addresses = night.bond(holders=5)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    night.chain.unverify([addresses[2]])
    night.until(run_id)
    [held] = [leg for leg in night.legs(run_id) if leg["state"] != "paid"]
    assert (held["address"], held["state"]) == (addresses[2], "held")
    assert held["burn_hash"]
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok
    # Its money stays promised: what the wallet still has is not available to others.
    assert preview_maturity("bond").available_units == 0


def test_a_balance_that_changed_since_the_record_date(night: Night) -> None:
    addresses = night.bond(holders=3)
    night.chain.move("bond-2026-bond", 9_000, addresses[0], addresses[1], 1)
    night.chain.finalize()
    run_id = night.trigger()
    night.until(run_id)
    reasons = {leg["address"]: leg["reason"] for leg in night.legs(run_id)}
    assert reasons == {addresses[0]: "balance changed", addresses[1]: None, addresses[2]: None}
    night.check_paid_once(run_id)


def test_too_little_money_waits_for_a_top_up(night: Night) -> None:
    night.bond(holders=3, fund=False)
    run_id = night.trigger()
    for _ in range(3):
        night.turn()
    assert night.state(run_id) == "waiting"
    assert night.note(run_id).startswith("Required: 1200.000000 PLT, Available: 0.000000 PLT; fees")
    night.chain.fund(night.real_signer.address, token_units=1_199_999_999, coin_units=10**6)
    for _ in range(20):
        night.turn()
    assert night.note(run_id) == "Required: 1200.000000 PLT, Available: 1199.999999 PLT"
    assert night.ledger("burn") == {}
    night.chain.fund(night.real_signer.address, token_units=1)
    night.until(run_id)
    night.check_paid_once(run_id)


def test_two_runs_share_a_wallet_in_trigger_order(night: Night) -> None:
    """Money for one: the earlier run gets it, though the later one would fit."""
    night.bond(holders=3, bond_id="large", fund=False)
    night.bond(holders=1, bond_id="small", fund=False)
    large, small = night.trigger("large"), night.trigger("small")
    night.chain.fund(night.real_signer.address, token_units=500 * 10**6, coin_units=10**6)
    for _ in range(5):
        night.turn()
    assert [night.state(large), night.state(small)] == ["waiting", "waiting"]
    assert f"run {large} was triggered earlier" in night.note(small)
    night.chain.fund(night.real_signer.address, token_units=700 * 10**6)
    night.until(large)
    for _ in range(20):
        night.turn()
    assert night.state(small) == "waiting"
    assert night.note(small) == "Required: 300.000000 PLT, Available: 0.000000 PLT"
    night.chain.fund(night.real_signer.address, token_units=300 * 10**6)
    night.until(small)
    assert sum(units for _, units in night.ledger("transfer").values()) == 1_500 * 10**6


def test_what_a_trigger_refuses(night: Night) -> None:
    night.bond(holders=1, bond_id="young", matures=date(2999, 1, 1))
    night.bond(positions={}, bond_id="empty")
    with pytest.raises(NotFound, match="no bond 'ghost'"):
        night.trigger("ghost")
    with pytest.raises(Rejected, match="matures on 2999-01-01; today is"):
        night.trigger("young")
    with pytest.raises(Rejected, match="no holders"):
        night.trigger("empty")
    assert fetch("SELECT 1 FROM payout_run") == []
    assert fetch("SELECT 1 FROM job_queue") == []


def test_triggering_again(night: Night) -> None:
    night.bond(holders=2)
    first = trigger_maturity("bond", "alice")
    again = trigger_maturity("bond", "bob")
    assert (again.run_id, first.created, again.created) == (first.run_id, True, False)
    night.until(first.run_id)
    with pytest.raises(Rejected, match=f"was redeemed on .* by run {first.run_id}"):
        trigger_maturity("bond", "alice")
    with pytest.raises(NotFound):
        find_run("ffff")
    assert show_run(first.run_id).approved_by == "alice"


def test_an_amount_that_is_no_whole_number_of_units(night: Night) -> None:
    address = address_of("odd")
    night.bond(positions={address: [(1, 1)]}, face="0.0000001", fund=False)
    with pytest.raises(InvalidInput, match=address):
        preview_maturity("bond")
    run_id = night.trigger()
    night.turn()
    assert night.state(run_id) == "failed"
    assert address in night.note(run_id)
    execute("UPDATE bond SET face_value_per_token = 1")
    assert trigger_maturity("bond", "tester").created  # a failed run never paid anybody


def test_a_wallet_belongs_to_one_environment(night: Night) -> None:
    night.bond(holders=1)
    night.bond(holders=1, bond_id="other")
    night.trigger()
    night.policy(environment_id="staging")
    with pytest.raises(Rejected, match="belongs to environment 'test', but 'staging' used it"):
        night.trigger("other")
    assert "staging" in (night.halted() or "")


def test_a_tampered_leg_is_never_signed(night: Night) -> None:
    """The page fails, the service pauses, and the other pages are paid after a person looked."""
    addresses = night.bond(holders=6)
    run_id = night.trigger()
    run_due(limit=2)
    with pytest.raises(IntegrityError, match="part of an approved plan"):
        execute("UPDATE payout_leg SET units = units + 1")
    execute("ALTER TABLE payout_leg DISABLE TRIGGER payout_leg_frozen")
    sql = "UPDATE payout_leg SET units = units + 1 WHERE address = %s"
    execute(sql, (addresses[0],))
    run_due()
    [(scope,)] = fetch("SELECT scope FROM pause")
    assert scope == "service:maturity"
    assert addresses[0] not in night.ledger("burn")
    assert not reconcile(run_id).ok
    execute("UPDATE payout_leg SET units = units - 1 WHERE address = %s", (addresses[0],))
    execute("DELETE FROM pause")
    night.until(run_id)
    states = [leg["state"] for leg in night.legs(run_id)]
    assert states == ["failed"] * 4 + ["paid"] * 2
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_reconcile_sees_a_payment_that_is_not_on_chain(night: Night) -> None:
    night.bond(holders=2)
    run_id = night.trigger()
    night.until(run_id)
    execute("UPDATE payout_leg SET paid_hash = '0xother' WHERE address = (SELECT max(address)"
            " FROM payout_leg)")  # fmt: skip
    found = reconcile(run_id)
    assert not found.ok
    assert "payment recorded as 0xother" in found.findings[0]
    assert fetch("SELECT scope FROM pause") == [("service:maturity",)]
