"""The straight path: everybody verified, enough money, nothing goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.database import fetch
from usecases.payouts.preview import preview_maturity
from usecases.payouts.reconcile import reconcile
from usecases.payouts.views import find_run, list_runs, show_run, statement

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


def test_everybody_is_burned_and_paid_once(night: Night) -> None:
    addresses = night.bond(holders=11)
    preview = preview_maturity("bond")
    run_id = night.trigger()
    night.until(run_id)

    night.check_paid_once(run_id)
    view = show_run(run_id[:8])
    assert view.accounting.paid.legs == len(addresses) == view.accounting.planned.legs
    assert view.accounting.paid.units == preview.total_units
    assert view.plan_hash == preview.plan_hash
    assert preview.is_funded
    assert [leg.address for leg in preview.legs] == addresses
    assert night.chain.token_balance("PLT", night.real_signer.address, 10**9) == 0
    found = reconcile(run_id)
    assert found.ok, found.findings
    assert {page.job_status for page in view.pages} == {"completed"}
    assert [run.id for run in list_runs()] == [run_id] == [find_run(run_id.upper())]
    rows = statement(run_id)
    assert [row.address for row in rows] == addresses
    assert all(row.burn_hash and row.paid_hash and row.amount * 10**6 == row.units for row in rows)


def test_every_actor_twice(night: Night) -> None:
    """A lost completion runs each body again, after the fact: nothing happens twice."""
    night.bond(holders=5)
    run_id = night.trigger()
    night.until(run_id)
    for job_type in (
        "MaturityPayment", "MaturityLiquidityCheck", "MaturityTokenBurn", "MaturityPLTTransfer",
        "MaturityRecord", "NotificationFanoutProcessor",
    ):  # fmt: skip
        assert night.redeliver(job_type) == 0
        night.run_again(job_type)
        assert fetch("SELECT 1 FROM job_queue WHERE finished_at IS NULL") == []
    night.turn()
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_every_actor_twice_at_its_own_time(night: Night) -> None:
    """The body runs again right after it was completed, with everything still under way."""
    night.bond(holders=5)
    run_id = night.trigger()
    for _ in range(40):
        night.turn()
        for job_type in ("MaturityPayment", "MaturityLiquidityCheck", "MaturityTokenBurn",
                         "MaturityPLTTransfer", "MaturityRecord"):  # fmt: skip
            night.run_again(job_type)
    assert night.state(run_id) == "finished"
    night.check_paid_once(run_id)


def test_a_narrow_window_of_nonces(night: Night) -> None:
    """A page that finds no room waits for it: it is not given up to the sweep."""
    night.policy(max_unsettled_nonces=1)
    night.bond(holders=8)
    run_id = night.trigger()
    night.until(run_id)
    night.check_paid_once(run_id)
    assert len(show_run(run_id).pages) == 2
    assert fetch("SELECT 1 FROM job_attempt") == []  # waiting is no failure
