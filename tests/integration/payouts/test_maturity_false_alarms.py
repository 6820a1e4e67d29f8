"""Nodes that lag or contradict each other, and loops that meet: no false alarm, no wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from domain.errors import Rejected
from jobs.runner import run_due
from mocks.chain import FaultKind
from models.database import CONNECTION_ERRORS, execute, fetch, reconnect
from providers.chain import Head
from usecases.payouts import settlement
from usecases.payouts.reconcile import reconcile, reconcile_open_runs
from usecases.payouts.retry import retry_run
from usecases.payouts.settlement import settle_all

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


def test_reconcile_beside_a_payout(night: Night) -> None:
    """What is settled after the head was read is still under way at that head."""
    night.bond(holders=2)
    run_id = night.trigger()
    run_due(limit=2)
    night.node.before["head"] = lambda: night.until(run_id)
    found = reconcile(run_id)
    assert found.ok, found.findings
    assert fetch("SELECT * FROM pause") == []


def test_reconcile_goes_on_to_a_run_that_was_paid_meanwhile(night: Night) -> None:
    """Compared in part only, it is looked at again."""
    night.bond(holders=2)
    run_id = night.trigger()
    night.until_legs(run_id, "paying")
    head = night.chain.head()
    night.until(run_id)
    execute("UPDATE wallet SET final_height = %s, final_hash = %s",
            (head.final_height, head.final_hash))  # fmt: skip
    night.see("chain", head=lambda: head)
    assert reconcile(run_id).ok
    night.see()
    assert [found for found, _ in reconcile_open_runs()] == [run_id]
    assert reconcile_open_runs() == []


def test_reconcile_on_another_chain_finds_nothing(night: Night) -> None:
    """A process of another chain on the same database sees none of the payments."""
    night.bond(holders=2)
    run_id = night.trigger()
    night.until(run_id)
    night.see("chain", chain_id=lambda: "other-1", effects=lambda *_: {})
    with pytest.raises(Rejected, match="another chain"):
        reconcile(run_id)
    assert reconcile_open_runs() == []
    assert fetch("SELECT * FROM pause") == []
    night.see()
    assert [found for found, _ in reconcile_open_runs()] == [run_id]


def test_a_node_that_is_still_syncing_holds_nobody(night: Night) -> None:
    """Balances of a block before the one that the money was reserved at say nothing."""
    night.bond(holders=2)
    run_id = night.trigger()
    run_due(limit=2)
    genesis = night.chain.block_hash(0)
    assert genesis is not None
    night.see(
        "chain",
        head=lambda: Head(0, genesis, 0, genesis),
        block_hash=lambda height: genesis if height == 0 else None,
    )
    run_due()
    assert {leg["state"] for leg in night.legs(run_id)} == {"planned"}
    night.see()
    night.until(run_id)
    night.check_paid_once(run_id)


def test_two_nodes_behind_one_address_do_not_halt_the_wallet(night: Night) -> None:
    """The nonce comes from a node that is a block ahead, head and receipts from the other."""
    night.bond(holders=2)
    run_id = night.trigger()
    run_due(limit=3)
    head = night.chain.head()
    night.chain.mine()
    views: list[dict[str, Any]] = [{}, {"transactions_of": lambda *_: []}]
    for shown in views:
        night.see("chain", head=lambda: head, receipts=lambda hashes: {}, **shown)
        for _ in range(3):
            settle_all()
    night.see()
    assert night.halted() is None
    night.until(run_id)


def test_two_rechecks_at_once(night: Night) -> None:
    """The slower one finds nothing left, and leaves the finished run as it is."""
    addresses = night.bond(holders=2)
    night.chain.unverify([addresses[0]])
    run_id = night.trigger()
    night.until(run_id)
    night.chain.verify(addresses)

    def other() -> None:
        retry_run(run_id, only_held=True)
        night.until(run_id)

    night.registry.before["verified"] = other
    assert retry_run(run_id, only_held=True) == 0
    assert night.state(run_id) == "finished"


def test_runs_are_served_in_the_order_of_their_triggers(night: Night) -> None:
    """Also while the earlier one is still being planned."""
    night.bond(holders=2, fund=False)
    night.bond(holders=2, bond_id="later", fund=False)
    night.chain.fund(night.real_signer.address, token_units=800 * 10**6, coin_units=10**9)
    night.chain.finalize()
    first, later = night.trigger(), night.trigger("later")
    execute("UPDATE job_outbox SET due_at = due_at + interval '3 s' WHERE job_id IN"
            " (SELECT id FROM job_queue WHERE correlation = %s)", (f"run:{first}",))  # fmt: skip
    execute("UPDATE job_queue SET run_at = run_at + interval '3 s' WHERE correlation = %s",
            (f"run:{first}",))  # fmt: skip
    run_due()
    assert (night.state(first), night.state(later)) == ("planning", "waiting")
    night.until(first)


def test_money_under_way_for_another_environment_is_noticed(night: Night) -> None:
    """Renamed in the settings: nothing is settled any more, and somebody is told, once."""
    night.bond(holders=2)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    night.policy(environment_id="renamed")
    for _ in range(10):
        night.turn()
    [told] = night.alerts()
    assert "belong to environment 'test', and this worker is 'renamed'" in told
    night.policy()
    night.until(run_id)
    night.check_paid_once(run_id)


@pytest.mark.parametrize("limit", ["300ms", "15s"])
def test_a_slow_node_does_not_stop_settlement(
    night: Night, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Each call is shorter than the limit of silence; several in a row are not."""
    monkeypatch.setattr(settlement, "_SILENCE_LIMIT", limit)
    night.bond(holders=2)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    night.chain.finalize()
    night.chain.fault(FaultKind.LATENCY, times=None, latency_ms=180)
    for _ in range(2):
        try:
            settle_all()
        except CONNECTION_ERRORS:
            reconnect()
    states = {leg["state"] for leg in night.legs(run_id)}
    night.chain.clear_faults()
    assert states == {"burned"}
