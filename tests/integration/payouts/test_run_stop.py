"""A run is stopped at any moment, and goes on: nothing new is signed, nobody is paid twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.errors import NotFound, Rejected
from jobs.runner import run_due
from models.database import execute, fetch
from usecases.payouts.preview import preview_maturity
from usecases.payouts.reconcile import reconcile
from usecases.payouts.retry import recheck_held, retry_run
from usecases.payouts.stopping import resume_run, stop_run
from usecases.payouts.trigger import trigger_maturity
from usecases.payouts.views import list_held, show_run

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


def signed(night: Night) -> int:
    return int(fetch("SELECT count(*) FROM chain_transaction")[0][0])


@pytest.mark.parametrize("jobs", [0, 1])
def test_before_anything_is_on_chain_it_is_cancelled(night: Night, jobs: int) -> None:
    night.bond(holders=3, fund=False)
    run_id = night.trigger()
    run_due(limit=jobs) if jobs else None
    stopped = stop_run(run_id, "ada", "the wrong bond")
    assert (stopped.state, stopped.debts) == ("cancelled", 0)
    assert night.note(run_id) == "stopped by ada: the wrong bond"
    for _ in range(3):
        night.turn()
    assert night.state(run_id) == "cancelled"
    assert night.jobs("MaturityLiquidityCheck") == []
    with pytest.raises(Rejected, match="trigger it again"):
        resume_run(run_id, "ada")
    with pytest.raises(Rejected, match="nothing to stop"):
        stop_run(run_id, "ada")
    assert trigger_maturity("bond", "ada").created


def test_a_cancelled_run_frees_the_money_of_its_held_legs(night: Night) -> None:
    """Found by the simulation: the next run of the bond waited for ever for that money."""
    addresses = night.bond(holders=2)
    night.chain.unverify(addresses)
    first = night.trigger()
    run_due()  # no sweep yet: it would finish the run
    assert {leg["state"] for leg in night.legs(first)} == {"held"}
    assert stop_run(first, "ada").state == "cancelled"
    assert {leg["state"] for leg in night.legs(first)} == {"failed"}
    assert list_held() == []
    night.chain.verify(addresses)
    second = night.trigger()
    night.until(second)
    night.check_paid_once(second)


def test_stopped_while_its_liquidity_check_runs(night: Night) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    run_due(limit=1)
    night.node.before["token_balance"] = lambda: stop_run(run_id, "ada")
    run_due()
    assert night.state(run_id) == "cancelled"
    assert night.operations() == []


@pytest.mark.parametrize("state", ["burning", "burned", "paying"])
def test_midway(night: Night, state: str) -> None:
    """What has a nonce is settled; burned legs stay debts with their money; then all goes on."""
    night.policy(max_unsettled_nonces=2)
    night.bond(holders=9)
    run_id = night.trigger()
    night.until_legs(run_id, state)
    assert stop_run(run_id, "ada").state in ("stopping", "stopped")
    before = signed(night)
    for _ in range(15):
        night.turn()
    assert signed(night) == before
    assert night.state(run_id) == "stopped"
    assert night.operations("signed") == night.operations("mined") == []
    assert {leg["state"] for leg in night.legs(run_id)} <= {"planned", "burned", "paid"}
    debts = [leg for leg in night.legs(run_id) if leg["burn_hash"] and leg["state"] != "paid"]
    assert stop_run(run_id, "bob").debts == len(debts)
    # Debts keep their money, the others free it.
    free = preview_maturity("bond").available_units
    begun = sum(int(leg["units"]) for leg in night.legs(run_id) if leg["state"] == "planned")
    assert free == begun
    assert reconcile(run_id).ok
    with pytest.raises(Rejected, match=f"is stopped: `overnight payouts resume {run_id}`"):
        trigger_maturity("bond", "ada")
    with pytest.raises(Rejected, match="resume"):
        retry_run(run_id)
    assert resume_run(run_id, "ada") == "waiting"
    night.until(run_id)
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok
    assert [d.kind for d in show_run(run_id).decisions] == ["stop", "resume"]


def test_resumed_before_it_stood_still(night: Night) -> None:
    night.bond(holders=6)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    stop_run(run_id, "ada")
    assert resume_run(run_id, "ada") == "paying"
    night.until(run_id)
    night.check_paid_once(run_id)
    with pytest.raises(Rejected, match="not stopped"):
        resume_run(run_id, "ada")


def test_a_resumed_run_waits_for_the_money_that_it_freed(night: Night) -> None:
    night.policy(max_unsettled_nonces=1)
    night.bond(holders=6)
    run_id = night.trigger()
    night.until_legs(run_id, "burned")
    stop_run(run_id, "ada")
    night.until(run_id, "stopped")
    units = sum(int(leg["units"]) for leg in night.legs(run_id) if leg["state"] == "planned")
    night.chain.fund(night.real_signer.address, token_units=-units)
    night.chain.finalize()
    resume_run(run_id, "ada")
    for _ in range(5):
        night.turn()
    assert night.note(run_id).startswith("Required: ")
    assert night.note(run_id).endswith("Available: 0.000000 PLT") is False  # the debts' money
    assert night.ledger("transfer") == {}
    night.chain.fund(night.real_signer.address, token_units=units)
    night.until(run_id)
    night.check_paid_once(run_id)


def test_a_lost_liquidity_check_is_asked_for_again(night: Night) -> None:
    night.bond(holders=2)
    run_id = night.trigger()
    run_due(limit=1)
    execute("DELETE FROM job_outbox WHERE job_type = 'MaturityLiquidityCheck'")
    execute(
        "UPDATE job_queue SET status = 'cancelled', finished_at = overnight_now(),"
        " singleton_key = NULL WHERE job_type = 'MaturityLiquidityCheck'"
    )
    night.until(run_id)
    night.check_paid_once(run_id)


def test_held_legs_come_back_before_the_end_of_their_run(night: Night) -> None:
    addresses = night.bond(holders=4)
    night.chain.unverify([addresses[0]])
    run_id = night.trigger()
    night.until_legs(run_id, "held")
    [held] = list_held(run_id[:8])
    assert (held.address, held.reason, held.is_debt) == (addresses[0], "not whitelisted", False)
    night.chain.verify([addresses[0]])
    assert night.state(run_id) == "paying"
    assert recheck_held() == 1
    night.until(run_id)
    assert list_held() == []
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}
    night.check_paid_once(run_id)
    with pytest.raises(NotFound):
        list_held("ffff")


def test_a_changed_balance_is_retried_when_it_is_back(night: Night) -> None:
    """Held for its balance, taken up by a person, held again, and paid when the tokens are back."""
    addresses = night.bond(holders=3)
    night.chain.move("bond-2026-bond", 9_000, addresses[0], addresses[1], 1)
    night.chain.finalize()
    run_id = night.trigger()
    night.until(run_id)
    assert [x.reason for x in list_held()] == ["balance changed"]
    assert recheck_held() == 0  # the loop takes up only who was not whitelisted
    assert retry_run(run_id, by="ada") == 1
    night.until(run_id)
    assert [x.reason for x in list_held()] == ["balance changed"]
    night.chain.move("bond-2026-bond", 9_000, addresses[1], addresses[0], 1)
    night.chain.finalize()
    assert retry_run(run_id, by="ada") == 1
    night.until(run_id)
    night.check_paid_once(run_id)
    assert [d.person for d in show_run(run_id).decisions] == ["ada", "ada"]
