"""The paid are told once each: by a page's fan-out, or one by one who were late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from domain.payouts import amount_text
from jobs.runner import run_due
from models.database import execute, fetch
from usecases.payouts.sweep import settle_and_release

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night

FANOUT, INDIVIDUAL = "NotificationFanoutProcessor", "NotificationIndividualProcessor"


def _jobs_of(job_type: str) -> int:
    return int(fetch("SELECT count(*) FROM job_queue WHERE job_type = %s", (job_type,))[0][0])


@pytest.mark.parametrize(
    ("decimals", "face"), [(0, "3"), (6, "100.25"), (36, "0." + "0" * 35 + "7")]
)
def test_the_message_names_the_exact_amount(night: Night, decimals: int, face: str) -> None:
    night.bond(holders=5, decimals=decimals, face=face)
    run_id = night.trigger()
    night.until(run_id)
    night.check_paid_once(run_id)
    paid = {leg["address"]: leg for leg in night.legs(run_id)}
    for address, title, message in fetch("SELECT user_id, title, message FROM notification"):
        leg = paid.pop(address)
        assert title == "Bond Maturity Payment Completed"
        assert message == (
            f"Your maturity payment of {amount_text(int(leg['units']), decimals)} PLT for Bond bond"
            f" has been processed (transaction {leg['paid_hash']})."
        )
    assert not paid
    assert (_jobs_of(FANOUT), _jobs_of(INDIVIDUAL)) == (2, 0)  # one for each of two pages


def test_a_late_leg_is_told_by_a_job_of_its_own(night: Night) -> None:
    """Its page was told before it was paid; neither the fan-out nor its job tells anybody twice."""
    night.bond(holders=4)
    run_id = night.trigger()
    night.until(run_id)
    late = night.legs(run_id)[0]
    execute("UPDATE payout_leg SET notified_at = NULL WHERE id = %s", (late["id"],))
    execute("DELETE FROM notification WHERE user_id = %s", (late["address"],))
    execute("UPDATE payout_run SET state = 'paying', finished_at = NULL WHERE id = %s", (run_id,))
    night.run_again(FANOUT)
    assert fetch("SELECT 1 FROM notification WHERE user_id = %s", (late["address"],)) == []
    night.until(run_id)
    run_due()
    assert _jobs_of(INDIVIDUAL) == 1
    night.run_again(INDIVIDUAL)
    night.run_again(FANOUT)
    night.check_paid_once(run_id)


def test_a_paused_notification_service_holds_up_no_payment(night: Night) -> None:
    night.bond(holders=5)
    execute("INSERT INTO pause (scope, reason) VALUES ('service:notifications', 'mail is down')")
    run_id = night.trigger()
    night.until(run_id)
    assert fetch("SELECT 1 FROM notification") == []
    execute("DELETE FROM pause")
    night.pass_time(2)
    run_due()
    night.check_paid_once(run_id)


def test_settlement_releases_what_it_has_made_ready(night: Night) -> None:
    """The transfer is due in the turn that made its burn final, not at the next sweep."""
    night.bond(holders=2)
    night.trigger()
    run_due()
    assert night.operations("signed")
    night.chain.mine()
    night.chain.finalize()
    assert settle_and_release()
    assert {leg["state"] for leg in night.legs(_only_run())} == {"burned"}
    assert fetch("SELECT job_type FROM job_outbox WHERE due_at <= overnight_now()") == [
        ("MaturityPLTTransfer",)
    ]


def _only_run() -> str:
    [(run_id,)] = fetch("SELECT id::text FROM payout_run")
    return str(run_id)
