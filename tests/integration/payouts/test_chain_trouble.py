"""Stuck fees, reverted batches, reorgs around `paid`, outages of hours, two runs, the nights."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from domain.errors import Outage
from domain.slots import SCHEDULES
from jobs.runner import run_due
from mocks.chain import FaultKind
from models.database import execute, fetch
from providers.chain import TxKind
from usecases.payouts.reconcile import reconcile
from usecases.payouts.settlement import settle_all
from usecases.payouts.sweep import sweep_all
from usecases.schedule import open_due_slots

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


NIGHTLY = [schedule for schedule in SCHEDULES if schedule.name == "payout_reconcile"]


def offers(night: Night) -> dict[int, list[int]]:
    """Fee caps of every hash, by nonce."""
    rows = fetch(
        "SELECT o.nonce, array_agg(t.fee_cap_units::bigint ORDER BY t.fee_cap_units)"
        " FROM chain_operation o JOIN chain_transaction t ON t.operation_id = o.id GROUP BY 1"
    )
    return dict(sorted(rows))


def test_stuck_operations_are_replaced_lowest_nonce_first(night: Night) -> None:
    night.policy(replace_after_s=10)
    night.bond(holders=6)
    run_id = night.trigger()
    run_due()
    night.chain.configure(fee_per_item_units=120)  # the cap is 100 an item
    assert offers(night) == {0: [400], 1: [400], 2: [400]}
    for _ in range(13):
        night.turn()
    assert offers(night) == {0: [400, 500], 1: [400, 500], 2: [400, 500]}
    night.until(run_id)
    hashes = fetch("SELECT count(*), count(DISTINCT nonce) FROM chain_operation")
    assert hashes == [(6, 6)]  # replaced, never repeated
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_an_older_hash_that_is_mined_after_all_counts(night: Night) -> None:
    night.policy(replace_after_s=10)
    night.bond(holders=2)
    run_id = night.trigger()
    run_due()
    [first] = night.chain.pending()
    night.chain.fault(FaultKind.REQUEST_LOST, op="broadcast", times=None)
    for _ in range(16):
        night.turn(mine=False)
    assert offers(night) == {0: [400, 500]}
    night.chain.clear_faults()
    assert night.chain.pending() == [first]
    night.chain.finalize()
    settle_all()
    assert fetch("SELECT mined_hash FROM chain_operation") == [(first,)]
    night.until(run_id)
    night.check_paid_once(run_id)


def test_fees_never_exceed_what_was_reserved(night: Night) -> None:
    night.policy(replace_after_s=5, fee_limit_units=150)
    night.bond(holders=2)
    run_id = night.trigger()
    run_due()
    night.chain.configure(fee_per_item_units=1_000)
    for _ in range(60):
        night.turn()
    assert offers(night) == {0: [400, 500, 600]}
    told = [text for text in night.alerts() if "stuck at its fee limit of 600 units" in text]
    assert len(told) == 1
    assert night.operations("signed")
    night.chain.configure(fee_per_item_units=10)
    night.until(run_id)
    night.check_paid_once(run_id)


def test_a_halted_wallet_offers_no_higher_fee(night: Night) -> None:
    night.policy(replace_after_s=5)
    night.bond(holders=2)
    run_id = night.trigger()
    run_due()
    night.chain.configure(fee_per_item_units=120)
    execute("UPDATE wallet SET halted_at = overnight_now(), halt_reason = 'test'")
    for _ in range(20):
        night.turn()
    assert offers(night) == {0: [400]}
    execute("UPDATE wallet SET halted_at = NULL, halt_reason = NULL")
    night.until(run_id)
    night.check_paid_once(run_id)


@pytest.mark.parametrize("tx_kind", [TxKind.BURN, TxKind.TRANSFER])
def test_every_batch_reverts_and_everybody_is_done_alone(night: Night, tx_kind: TxKind) -> None:
    night.policy(legs_per_transaction=4, page_legs=8)
    addresses = night.bond(holders=8)
    night.chain.fault(FaultKind.REVERT, tx_kind=tx_kind, times=2)
    run_id = night.trigger()
    night.until(run_id)
    assert [leg["state"] for leg in night.legs(run_id)] == ["paid"] * len(addresses)
    assert all(leg["alone"] for leg in night.legs(run_id))
    kinds = [op["kind"] for op in night.operations() if op["state"] == "void"]
    assert kinds == [tx_kind.value] * 2
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_a_transfer_reverts_for_one_who_is_no_longer_verified(night: Night) -> None:
    """The token itself refuses: one bad leg reverts the batch, and alone it is held as a debt."""
    night.chain.configure(enforce_identity=True)
    addresses = night.bond(holders=4)
    run_id = night.trigger()
    night.until_legs(run_id, "burned")
    while not night.operations("signed"):
        run_due()
        sweep_all()
    night.chain.unverify([addresses[0]])
    night.until(run_id)
    states = {leg["address"]: leg["state"] for leg in night.legs(run_id)}
    assert states == {**dict.fromkeys(addresses, "paid"), addresses[0]: "held"}
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


@pytest.mark.parametrize("forget", [True, False])
def test_a_reorg_just_above_what_is_paid(night: Night, forget: bool) -> None:
    """Paid is final: blocks above it come and go, and nothing is sent a second time."""
    night.bond(holders=3)
    run_id = night.trigger()
    night.until_legs(run_id, "paid")
    transfers = night.ledger("transfer")
    night.chain.reorg(2, None if forget else ())
    night.until(run_id)
    assert night.halted() is None
    assert {a: transfers[a] for a in transfers} == night.ledger("transfer")
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_two_runs_at_once_on_one_wallet(night: Night) -> None:
    """Their pages interleave; every nonce is used once, and each holder is paid once."""
    night.policy(max_unsettled_nonces=3)
    night.bond(holders=7)
    night.bond(holders=6, bond_id="other")
    one, two = night.trigger(), night.trigger("other")
    night.chain.seed_faults(3, 0.05)
    both = set()
    for _ in range(150):
        with suppress(Outage):
            night.turn()
        both.add((night.state(one), night.state(two)))
        if both and night.state(one) == night.state(two) == "finished":
            break
    assert ("paying", "paying") in both
    night.chain.clear_faults()
    night.turn()
    night.check_paid_once(one, two)
    assert reconcile(one).ok
    assert reconcile(two).ok
    nonces = [op["nonce"] for op in night.operations()]
    assert nonces == list(range(len(nonces)))


def test_waiting_runs_resume_in_order_after_one_top_up(night: Night) -> None:
    for name in ("a", "b", "c"):
        night.bond(holders=2, bond_id=name, fund=False)
    runs = [night.trigger(name) for name in ("a", "b", "c")]
    for _ in range(5):
        night.turn()
    assert [night.state(run_id) for run_id in runs] == ["waiting"] * 3
    night.chain.fund(night.real_signer.address, token_units=1_400 * 10**6, coin_units=10**7)
    night.until(runs[1])
    assert [night.state(run_id) for run_id in runs] == ["finished", "finished", "waiting"]
    night.chain.fund(night.real_signer.address, token_units=700 * 10**6)
    night.until(runs[2])
    assert sum(units for _, units in night.ledger("transfer").values()) == 2_100 * 10**6
    order = [str(run) for (run,) in fetch("SELECT id FROM payout_run ORDER BY reserved_at")]
    assert order == runs


@pytest.mark.parametrize("fault", [FaultKind.DOWN, FaultKind.REGISTRY_DOWN])
@pytest.mark.parametrize("phase", ["waiting", "burned"])
def test_an_outage_of_hours_consumes_no_attempts(
    night: Night, fault: FaultKind, phase: str
) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    if phase == "waiting":
        run_due(limit=1)
    else:
        night.until_legs(run_id, phase)
    night.chain.fault(fault, times=None)
    for _ in range(40):
        with suppress(Outage):
            night.turn()
        night.pass_time(600)
    assert fetch("SELECT max(attempts) FROM job_queue") == [(0,)]
    assert fetch("SELECT 1 FROM job_queue WHERE status = 'failed'") == []
    assert fetch("SELECT count(*) > 5 FROM job_attempt WHERE outcome = 'refunded'") == [(True,)]
    assert night.halted() is None
    night.chain.clear_faults()
    night.until(run_id)
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}
    night.check_paid_once(run_id)


def _to_the_next_night(night: Night) -> None:
    [(now,)] = fetch("SELECT overnight_now()")
    assert isinstance(now, datetime)
    night.pass_time(86_400 - (now.astimezone(UTC).timestamp() % 86_400) + 20 * 3_600 + 31 * 60)


def test_the_nightly_reconcile_finds_a_difference(night: Night) -> None:
    """02:00 in Kolkata: the slot opens once, a difference pauses maturity and alerts."""
    night.bond(holders=3)
    night.bond(holders=2, bond_id="other")
    run_id = night.trigger()
    night.until(run_id)
    open_due_slots(NIGHTLY)
    _to_the_next_night(night)
    assert open_due_slots(NIGHTLY) == 1
    assert open_due_slots(NIGHTLY) == 0
    run_due()
    assert fetch("SELECT reconciled_at IS NOT NULL FROM payout_run") == [(True,)]
    other = night.trigger("other")
    night.until_legs(other, "burned")
    execute(
        "UPDATE payout_leg SET burn_hash = '0xother' WHERE run_id = %s AND address ="
        " (SELECT max(address) FROM payout_leg WHERE run_id = %s)", (other, other)
    )  # fmt: skip
    _to_the_next_night(night)
    assert open_due_slots(NIGHTLY) == 1
    run_due()
    [(scope, reason)] = fetch("SELECT scope, reason FROM pause")
    assert scope == "service:maturity"
    assert "burn recorded as 0xother" in reason
    assert any("is paused" in text for text in night.alerts())
    transfers = night.ledger("transfer")
    for _ in range(5):
        night.turn()
    assert night.ledger("transfer") == transfers  # nothing new is signed
