"""Approval binds to the plan's hash; a large run needs a second person."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from domain.errors import InvalidInput, Rejected
from models.database import execute, fetch, transaction
from usecases.payouts.approval import approve_run
from usecases.payouts.preview import preview_maturity
from usecases.payouts.reconcile import reconcile
from usecases.payouts.stopping import stop_run
from usecases.payouts.views import show_run

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


def test_a_large_run_waits_for_a_second_person(night: Night) -> None:
    night.policy(four_eyes_above=Decimal("1199.999999"))
    night.bond(holders=3)
    plan_hash = preview_maturity("bond").plan_hash
    run_id = night.trigger()
    for _ in range(3):
        night.turn()
    assert night.state(run_id) == "approval"
    assert night.note(run_id) == (
        f"1200.000000 PLT need a second person: overnight payouts approve {run_id}"
        f" --hash {plan_hash}"
    )
    assert night.ledger("burn") == {}
    with pytest.raises(Rejected, match="look at the plan again"):
        approve_run(run_id, "0" * 64, "bob")
    with pytest.raises(Rejected, match="a second person must approve it"):
        approve_run(run_id, plan_hash, " TESTER ")
    with pytest.raises(InvalidInput, match="--by"):
        approve_run(run_id, plan_hash, " ")
    assert approve_run(run_id, plan_hash.upper(), "bob")
    assert not approve_run(run_id, plan_hash, "bob")
    night.until(run_id)
    view = show_run(run_id)
    assert view.approved_by == "bob"
    assert [(said.kind, said.person) for said in view.decisions] == [("approve", "bob")]
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_a_small_run_is_approved_by_its_trigger(night: Night) -> None:
    night.policy(four_eyes_above=Decimal(1200))
    night.bond(holders=3)
    run_id = night.trigger()
    night.until(run_id)
    assert show_run(run_id).approved_by == "tester"


def test_a_run_that_nobody_approves_is_cancelled_and_triggered_again(night: Night) -> None:
    night.policy(four_eyes_above=Decimal(0))
    night.bond(holders=3)
    run_id = night.trigger()
    with pytest.raises(Rejected, match="no plan to approve"):
        approve_run(run_id, "0" * 64, "bob")
    night.turn()
    assert stop_run(run_id, "ada", "wrong amounts").state == "cancelled"
    with pytest.raises(Rejected, match="nothing to approve"):
        approve_run(run_id, str(show_run(run_id).plan_hash), "bob")
    again = night.trigger()
    assert again != run_id
    night.turn()
    approve_run(again, str(show_run(again).plan_hash), "bob")
    night.until(again)
    night.check_paid_once(again)
    assert {leg["state"] for leg in night.legs(run_id)} == {"failed"}


def test_a_waiting_approval_does_not_hold_up_other_runs(night: Night) -> None:
    night.policy(four_eyes_above=Decimal(1000))
    night.bond(holders=3)
    night.bond(holders=1, bond_id="small")
    large, small = night.trigger(), night.trigger("small")
    night.until(small)
    assert night.state(large) == "approval"
    night.check_paid_once(small)


def test_a_plan_that_waits_for_approval_is_no_difference(night: Night) -> None:
    """Found by the simulation: a reconcile before the second person paused all payouts."""
    night.policy(four_eyes_above=Decimal(0))
    night.bond(holders=2)
    run_id = night.trigger()
    for _ in range(3):
        night.turn()
    assert night.state(run_id) == "approval"
    assert reconcile(run_id).findings == []
    assert fetch("SELECT * FROM pause") == []
    stop_run(run_id, "ada")
    assert night.state(run_id) == "cancelled"
    assert reconcile(run_id).ok


def test_pages_are_planned_with_the_legs_and_opened_with_the_money(night: Night) -> None:
    night.policy(four_eyes_above=Decimal(0))
    night.bond(holders=11)
    run_id = night.trigger()
    night.turn()
    planned = fetch("SELECT id, page_id FROM payout_leg WHERE page_id IS NOT NULL ORDER BY id")
    assert len(planned) == 11
    assert show_run(run_id).pages == []
    approve_run(run_id, str(show_run(run_id).plan_hash), "bob")
    night.until(run_id)
    assert fetch("SELECT id, page_id FROM payout_leg ORDER BY id") == planned
    assert len(show_run(run_id).pages) == len({page for _, page in planned})


def test_a_plan_of_a_version_without_pages_is_paid(night: Night) -> None:
    night.policy(four_eyes_above=Decimal(0))
    night.bond(holders=11)
    run_id = night.trigger()
    night.turn()
    with transaction():
        execute("UPDATE payout_leg SET page_id = NULL")
        execute("DELETE FROM payout_page")
    approve_run(run_id, str(show_run(run_id).plan_hash), "bob")
    night.until(run_id)
    night.check_paid_once(run_id)
