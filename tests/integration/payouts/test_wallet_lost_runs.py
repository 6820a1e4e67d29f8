"""The backup is older than the run, or than the wallet: the run comes back by its id."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from domain.errors import Rejected
from jobs.runner import run_due
from models.database import fetch
from usecases.payouts.adoption import adopt_wallet
from usecases.payouts.approval import approve_run
from usecases.payouts.reconcile import reconcile
from usecases.payouts.stopping import stop_run
from usecases.payouts.trigger import trigger_maturity
from usecases.payouts.views import show_run
from usecases.payouts.wallet_control import resume_wallet

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Backups, Night


def test_the_run_itself_is_younger_than_the_backup(night: Night, backups: Backups) -> None:
    night.bond(holders=5)
    night.bond(holders=2, bond_id="first")
    first = night.trigger("first")
    night.until(first)
    backup = backups.take()
    run_id = night.trigger()
    night.until_legs(run_id, "burned")
    night.chain.finalize()
    backups.restore(backup)
    wrong = night.trigger()  # somebody triggers the bond again
    night.signs_nothing()
    done = adopt_wallet("ada")
    assert done.adopted == []
    assert f"overnight maturity trigger bond --run-id {run_id}" in done.unmatched[0].why
    with pytest.raises(Rejected, match=f"run {wrong} of bond bond is in the way"):
        trigger_maturity("bond", "ada", run_id)
    assert stop_run(wrong, "ada").state == "cancelled"
    assert trigger_maturity("bond", "ada", run_id).run_id == run_id
    run_due()
    night.adopt()
    resume_wallet("ada")
    night.until(run_id)
    night.check_paid_once(first, run_id)
    assert reconcile(run_id).ok


def test_a_backup_from_before_the_first_payout(night: Night, backups: Backups) -> None:
    """The wallet itself is lost: binding it anew finds that this environment used it before."""
    night.bond(holders=3)
    backup = backups.take()
    run_id = night.trigger()
    night.until_legs(run_id, "paying")
    backups.restore(backup)
    wrong = night.trigger()
    assert "restored from an older backup" in (night.halted() or "")
    night.signs_nothing()
    assert stop_run(wrong, "ada").state == "cancelled"
    trigger_maturity("bond", "ada", run_id)
    run_due()
    night.adopt()
    resume_wallet("ada")
    night.until(run_id)
    night.turn()  # the notifications
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_a_lost_run_that_needs_a_second_person(night: Night, backups: Backups) -> None:
    night.policy(four_eyes_above=Decimal(1))
    night.bond(holders=3)
    backup = backups.take()
    run_id = night.trigger()
    run_due()
    plan_hash = str(show_run(run_id).plan_hash)
    approve_run(run_id, plan_hash, "bob")
    night.until_legs(run_id, "burned")
    night.chain.finalize()
    backups.restore(backup)
    trigger_maturity("bond", "ada", run_id)
    run_due()
    night.adopt()
    resume_wallet("ada")
    signed = fetch("SELECT count(*) FROM chain_transaction")
    for _ in range(4):
        night.turn()
    assert night.state(run_id) == "approval"
    assert fetch("SELECT count(*) FROM chain_transaction") == signed
    assert approve_run(run_id, plan_hash, "bob")
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok
