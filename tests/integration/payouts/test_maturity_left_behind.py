"""Whatever is left behind, failed, held, paused or forgotten, has a way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.errors import Rejected
from jobs.runner import run_due
from models.database import execute, fetch
from usecases.payouts.reconcile import reconcile, reconcile_open_runs
from usecases.payouts.retry import recheck_held, retry_run
from usecases.payouts.settlement import settle_all
from usecases.payouts.views import show_run

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


def _always_fails() -> None:
    raise ValueError("a bug")


def _fail_for_good(night: Night, job_type: str) -> None:
    """Let the jobs of a type run into a bug until they have failed."""
    execute("UPDATE job_queue SET max_retries = 0 WHERE job_type = %s", (job_type,))
    night.registry.before["verified"] = _always_fails
    run_due()


def test_a_page_that_fails_before_the_burn_frees_its_money(night: Night) -> None:
    night.bond(holders=6)
    run_id = night.trigger()
    run_due(limit=2)
    _fail_for_good(night, "MaturityTokenBurn")
    night.until(run_id)
    states = sorted(leg["state"] for leg in night.legs(run_id))
    assert states in (["failed"] * 4 + ["paid"] * 2, ["failed"] * 2 + ["paid"] * 4)
    assert any("failed before burning: ValueError: a bug" in text for text in night.alerts())
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok

    assert retry_run(run_id) == states.count("failed")
    night.until(run_id)
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_a_page_that_fails_after_the_burn_is_a_debt_and_is_paid(night: Night) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    night.until_legs(run_id, "burned")
    _fail_for_good(night, "MaturityPLTTransfer")
    while not night.alerts():  # the transfer is released, and fails
        night.turn()
    assert "3 legs are burned and unpaid: ValueError: a bug" in night.alerts()
    night.until(run_id)
    night.check_paid_once(run_id)
    assert [page.phase for page in show_run(run_id).pages] == ["burn", "transfer"]


def test_a_lost_record_job_still_tells_everybody(night: Night) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    night.until_legs(run_id, "paying")
    execute("DELETE FROM job_outbox WHERE job_type = 'MaturityRecord'")
    execute(
        "UPDATE job_queue SET status = 'failed', finished_at = overnight_now(),"
        " run_at = overnight_now() WHERE job_type = 'MaturityRecord'"
    )
    night.until(run_id)
    night.turn()
    night.check_paid_once(run_id)


def test_held_legs_of_a_finished_run_reserve_anew(night: Night) -> None:
    addresses = night.bond(holders=3)
    night.chain.unverify([addresses[1]])
    run_id = night.trigger()
    night.until(run_id)
    assert recheck_held() == 0
    units = next(leg["units"] for leg in night.legs(run_id) if leg["state"] == "held")
    night.chain.fund(night.real_signer.address, token_units=-1)
    night.chain.verify([addresses[1]])
    night.chain.finalize()
    with pytest.raises(Rejected, match=r"it lacks 0\.000001 PLT and 0 units of coin"):
        retry_run(run_id)
    assert recheck_held() == 0
    assert night.state(run_id) == "finished"
    night.chain.fund(night.real_signer.address, token_units=1)
    night.chain.finalize()
    assert recheck_held() == 1
    assert night.state(run_id) == "paying"
    night.until(run_id)
    night.check_paid_once(run_id)
    assert night.ledger("transfer")[addresses[1]] == (1, int(units))


def test_a_debt_is_paid_when_its_holder_is_verified_again(night: Night) -> None:
    addresses = night.bond(holders=2)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    night.chain.unverify([addresses[0]])
    night.until(run_id)
    night.chain.verify([addresses[0]])
    assert recheck_held() == 1
    night.until(run_id)
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}
    night.check_paid_once(run_id)
    assert night.ledger("burn")[addresses[0]][0] == 1


def test_a_pause_stops_signing_and_not_settlement(night: Night) -> None:
    night.bond(holders=2)
    night.bond(holders=2, bond_id="other")
    run_id, other = night.trigger(), night.trigger("other")
    night.until_legs(run_id, "burning")
    execute("INSERT INTO pause (scope, reason) VALUES ('service:maturity', 'test')")
    execute("UPDATE chain_operation SET state = 'intent' WHERE state = 'signed'"
            " AND nonce = (SELECT max(nonce) FROM chain_operation)")  # fmt: skip
    operations = len(night.operations())
    for _ in range(10):
        night.chain.mine()
        settle_all()
        night.pass_time(2)
    assert len(night.operations()) == operations
    assert {op["state"] for op in night.operations()} <= {"settled", "intent"}
    execute("DELETE FROM pause")
    night.until(run_id)
    night.until(other)
    night.check_paid_once(run_id, other)


def test_a_bond_that_was_imported_anew_after_its_trigger(night: Night) -> None:
    night.bond(holders=2)
    run_id = night.trigger()
    execute("UPDATE bond SET file_digest = 'new'")
    night.turn()
    assert night.state(run_id) == "failed"
    assert "was imported anew after the trigger" in night.note(run_id)
    assert fetch("SELECT 1 FROM payout_leg") == []
    again = night.trigger()
    assert again != run_id
    night.until(again)
    night.check_paid_once(again)


def test_reconcile_visits_every_run_that_needs_it(night: Night) -> None:
    night.bond(holders=2)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    assert [(found, result.ok) for found, result in reconcile_open_runs()] == [(run_id, True)]
    night.until(run_id)
    assert [found for found, _ in reconcile_open_runs()] == [run_id]
    assert reconcile_open_runs() == []
    assert show_run(run_id).reconciled_height
