"""Seeded nights in which everything goes wrong at once; at dawn everybody was paid exactly once."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from domain import ids
from domain.errors import Outage
from models.database import fetch, reconnect
from usecases.payouts.accounting import accounting
from usecases.payouts.reconcile import reconcile
from usecases.payouts.retry import recheck_held, retry_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.payouts.conftest import Night

#: More seeds for a longer look: PAYOUT_SEEDS=200 pytest tests/integration/payouts -k dawn
SEEDS = range(int(os.environ.get("PAYOUT_SEEDS", "2")))


@pytest.fixture(autouse=True)
def _seeded_ids() -> Iterator[None]:
    yield
    ids.seed(None)


@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_is_paid_once_at_dawn(night: Night, seed: int) -> None:
    dice = random.Random(seed)
    ids.seed(seed)
    night.policy(
        page_legs=dice.choice([1, 3, 5, 20]),
        legs_per_transaction=dice.choice([1, 2, 4]),
        max_unsettled_nonces=dice.choice([1, 3, 64]),
        straggler_after_s=dice.choice([3, 60]),
    )
    addresses = night.bond(holders=9)
    run_id = night.trigger()
    night.chain.seed_faults(seed, 0.05)
    night.chain.fault("revert", probability=0.1, times=dice.randrange(4))
    for port in (night.node, night.signer, night.registry):
        port.chaos = lambda: dice.random() < 0.02
    for _ in range(40):
        _bad_turn(night, dice, addresses)
        reconnect()
        accounting(run_id)
    for port in (night.node, night.signer, night.registry):
        port.chaos = lambda: False
    night.chain.clear_faults()
    night.chain.verify(addresses)
    night.rescue()
    for _ in range(3):
        night.until(run_id, turns=200)
        if not retry_run(run_id):
            break
    night.until(run_id)
    assert recheck_held() == 0
    assert {leg["state"] for leg in night.legs(run_id)} == {"paid"}, night.legs(run_id)
    assert set(night.ledger("transfer")) == set(addresses)
    night.check_paid_once(run_id)
    found = reconcile(run_id)
    assert found.ok, found.findings
    assert night.halted() is None
    print(f"seed {seed}: {night.crashes} crashes, {len(night.operations('void'))} reverted")
    assert fetch("SELECT * FROM pause") == []


def _bad_turn(night: Night, dice: random.Random, addresses: list[str]) -> None:
    if dice.random() < 0.15:
        night.chain.reorg(dice.choice([1, 2]), dice.choice([None, (), ()]))
    if dice.random() < 0.2:
        night.chain.unverify([dice.choice(addresses)])
    if dice.random() < 0.2:
        night.chain.verify(addresses)
    if dice.random() < 0.2:
        night.chain.mine(dice.randrange(1, 4))
    try:
        with suppress(Outage):
            night.turn(mine=dice.random() < 0.8)
            if dice.random() < 0.2:
                recheck_held()
    except night.crash_type:
        night.crashes += 1
        night.rescue()
