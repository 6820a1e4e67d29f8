"""Seeded nights with people in them: stops, halts, fee spikes, deep reorgs, restored backups.

Everything may happen beside everything else, crashes and lost answers included. At dawn the
operator types what docs/operations.md says, and everybody was paid exactly once.
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from domain import ids
from domain.errors import Outage, Rejected
from models.database import execute, fetch, reconnect
from usecases.payouts.acceptance import accept_unburned
from usecases.payouts.adoption import adopt_wallet
from usecases.payouts.reconcile import reconcile
from usecases.payouts.retry import retry_run
from usecases.payouts.stopping import resume_run, stop_run
from usecases.payouts.wallet_control import halt_wallet, resume_wallet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.payouts.conftest import Backups, Night

#: More seeds for a longer look: PAYOUT_SEEDS=200 pytest tests/integration/payouts -k operators
SEEDS = range(6, 6 + int(os.environ.get("PAYOUT_SEEDS", "3")))


@pytest.fixture(autouse=True)
def _seeded_ids() -> Iterator[None]:
    yield
    ids.seed(None)


@pytest.mark.parametrize("seed", SEEDS)
def test_operators_at_work(night: Night, backups: Backups, seed: int) -> None:
    dice = random.Random(1_000 + seed)
    ids.seed(seed)
    night.policy(
        page_legs=dice.choice([2, 4, 20]),
        legs_per_transaction=dice.choice([1, 2, 4]),
        max_unsettled_nonces=dice.choice([2, 5, 64]),
        replace_after_s=dice.choice([4, 12]),
        straggler_after_s=dice.choice([3, 60]),
    )
    night.bond(holders=6)
    night.bond(holders=5, bond_id="other")
    runs = [night.trigger(), night.trigger("other")]
    night.chain.seed_faults(seed, 0.03)
    night.chain.fault("revert", probability=0.1, times=dice.randrange(3))
    for port in (night.node, night.signer, night.registry):
        port.chaos = lambda: dice.random() < 0.01
    backup = backups.take()
    for _ in range(45):
        try:
            with suppress(Outage):
                night.turn(mine=dice.random() < 0.8)
        except night.crash_type:
            night.crashes += 1
            night.rescue()
        roll = dice.random()
        if roll < 0.05:
            backup = backups.take()
        elif roll < 0.10:
            night.rescue()
            backups.restore(backup)
            backup = backups.take()
            night.rescue()
        elif roll < 0.15:
            night.chain.configure(fee_per_item_units=dice.choice([10, 10, 40, 70]))
        elif roll < 0.20:
            night.chain.reorg(dice.choice([1, 2, 2, 5]), dice.choice([None, (), ()]))
        elif roll < 0.45:
            with suppress(Rejected, Outage, night.crash_type):
                _operate(dice, runs)
            night.rescue()
        reconnect()
    _dawn(night, runs)
    states = {leg["state"] for run in runs for leg in night.legs(run)}
    assert states == {"paid"}, [night.legs(run) for run in runs]
    ledger = night.ledger("transfer")
    assert len(ledger) == 11
    assert {refs for refs, _ in ledger.values()} == {1}
    assert {refs for refs, _ in night.ledger("burn").values()} == {1}
    for run in runs:
        _accept_what_a_deep_reorg_cost(night, run)
        found = reconcile(run)
        assert found.ok, found.findings
    notes = [n for (n,) in fetch("SELECT note FROM payout_decision WHERE kind = 'adopt'")]
    print(f"seed {seed}: {night.crashes} crashes, {len(backups.names)} backups; {notes}")


def _accept_what_a_deep_reorg_cost(night: Night, run: str) -> None:
    for leg in night.legs(run):
        if not leg["burn_hash"]:
            assert "never burned" in reconcile(run).findings[0]
            assert not accept_unburned(run, leg["address"], "ada").applied
            assert accept_unburned(run, leg["address"], "bob").applied


def _operate(dice: random.Random, runs: list[str]) -> None:
    """One thing that a person may do, at a bad moment."""
    run = dice.choice(runs)
    match dice.randrange(7):
        case 0:
            if fetch("SELECT 1 FROM chain_operation WHERE run_id = %s", (run,)):
                stop_run(run, "ada")
        case 1:
            resume_run(run, "ada")
        case 2:
            halt_wallet("ada", "a look")
        case 3 | 4:
            adopt_wallet("ada")
        case _:
            resume_wallet("ada")


def _dawn(night: Night, runs: list[str]) -> None:
    """The faults are over; the operator goes through the pages of operations.md."""
    for port in (night.node, night.signer, night.registry):
        port.chaos = lambda: False
    night.chain.clear_faults()
    night.chain.configure(fee_per_item_units=10)
    night.rescue()
    execute("DELETE FROM pause")
    said = ""
    for _ in range(150):
        night.turn()
        if night.halted():
            done = adopt_wallet("ada")
            said = f"{done} {night.halted()}"
            with suppress(Rejected):
                resume_wallet("ada")
        for run in runs:
            if night.state(run) in ("stopping", "stopped"):
                resume_run(run, "ada")
            elif night.state(run) == "finished" and not night.halted():
                retry_run(run)
        if all(leg["state"] == "paid" for run in runs for leg in night.legs(run)) and {
            night.state(run) for run in runs
        } == {"finished"}:
            return
    raise AssertionError(
        f"{[night.state(run) for run in runs]} {said} {night.operations()}"
        f" {[night.legs(run) for run in runs]} {night.alerts()[-3:]}"
    )
