"""The worker dies between any two phases, freezes and comes back, or runs beside another."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from jobs.runner import run_due
from models.database import reconnect
from usecases.payouts.reconcile import reconcile
from usecases.payouts.settlement import settle_all
from usecases.payouts.sweep import sweep_all
from usecases.payouts.trigger import TriggerResult, trigger_maturity

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night

POINTS = [
    ("registry", "crash_before", "verified"),  # nothing committed
    ("node", "crash_before", "head"),
    ("signer", "crash_before", "sign"),  # intents committed
    ("signer", "crash_after", "sign"),  # signed, bytes not committed
    ("node", "crash_before", "broadcast"),  # bytes committed, nothing sent
    ("node", "crash_after", "broadcast"),  # one sent, nobody knows
]


@pytest.mark.parametrize("phase", ["burn", "transfer"])
@pytest.mark.parametrize(("port", "moment", "call"), POINTS)
def test_a_crash_between_phases(
    night: Night, phase: str, port: str, moment: str, call: str
) -> None:
    night.bond(holders=5)
    run_id = night.trigger()
    if phase == "transfer":
        night.until_legs(run_id, "burned")
        while not any(night.jobs("MaturityPLTTransfer")) or night.operations("signed"):
            night.turn()
    else:
        run_due(limit=2)  # payment and liquidity
    sweep_all()
    setattr(getattr(night, port), moment, call)
    night.crash()
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


@pytest.mark.parametrize("call", ["token_balance", "chain_id", "next_nonce"])
def test_a_crash_while_asking_for_money(night: Night, call: str) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    run_due(limit=1)
    night.node.crash_after = call
    night.crash()
    night.until(run_id)
    night.check_paid_once(run_id)


@pytest.mark.parametrize("call", ["head", "receipts", "block_hash"])
def test_a_crash_while_settling(night: Night, call: str) -> None:
    night.bond(holders=3)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    night.chain.finalize()
    night.node.crash_after = call
    night.crash(settle_all)
    night.until(run_id)
    night.check_paid_once(run_id)


@pytest.mark.parametrize("call", ["sign", "broadcast"])
def test_a_frozen_worker_wakes_up_beside_its_rescuer(night: Night, call: str) -> None:
    """The rescue took the job and did the work; the old worker goes on where it stopped."""
    night.bond(holders=5)
    run_id = night.trigger()
    run_due(limit=2)

    def meanwhile() -> None:
        def other() -> None:
            night.rescue()
            run_due()
            reconnect()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    (night.signer if call == "sign" else night.node).before[call] = meanwhile
    night.until(run_id)
    assert night.operations("void") == []
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok


def test_an_intent_without_a_worker_is_signed_by_settlement(night: Night) -> None:
    night.bond(holders=2)
    run_id = night.trigger()
    run_due(limit=2)
    night.signer.crash_before = "sign"
    with pytest.raises(BaseException, match="before sign"):
        run_due()
    reconnect()
    assert [op["state"] for op in night.operations()] == ["intent"]
    assert not settle_all()  # its worker may be alive
    night.pass_time(6)
    assert settle_all()
    assert [op["state"] for op in night.operations()] == ["signed"]
    night.rescue()
    night.until(run_id)
    night.check_paid_once(run_id)


def test_two_triggers_at_once_make_one_run(night: Night) -> None:
    night.bond(holders=2)
    results: list[TriggerResult] = []
    barrier = threading.Barrier(4)

    def trigger() -> None:
        barrier.wait()
        results.append(trigger_maturity("bond", "tester"))
        reconnect()

    threads = [threading.Thread(target=trigger) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result.run_id for result in results}) == 1
    assert sorted(result.created for result in results) == [False, False, False, True]
    night.until(results[0].run_id)
    night.check_paid_once(results[0].run_id)


def test_workers_and_loops_at_once(night: Night) -> None:
    """Three workers with all their loops, on small pages, for real time."""
    night.bond(holders=24)
    run_id = night.trigger()
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                run_due()
                sweep_all()
                settle_all()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)
        finally:
            reconnect()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            night.chain.mine()
            if errors or night.state(run_id) == "finished":
                break
            stop.wait(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    night.until(run_id)
    night.check_paid_once(run_id)
    assert reconcile(run_id).ok
