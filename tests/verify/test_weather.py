"""The rare worlds of the flows do happen, and production code holds in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verify import crew
from verify.flows import weather
from verify.flows.maturity import Maturity
from verify.flows.rivals import Rivals
from verify.research import script
from verify.schedule import Schedule

if TYPE_CHECKING:
    from verify.lab import Lab

#: Each of them is met by one of the first of these.
SEEDS = range(1, 25)


@pytest.mark.parametrize(
    ("kind", "struck"),
    [
        (weather.STUCK, "the first offer is mined"),
        (weather.SHAKY, "seen and forgotten"),
        (weather.PAPERS, "no papers"),
        (weather.FULL, "blocks are full"),
    ],
)
def test_each_weather_strikes_and_breaks_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: str, struck: str
) -> None:
    monkeypatch.setattr(Maturity, "rarities", {kind: 1.0})
    assert struck in _faults_until(lab, "maturity", struck)


def test_a_first_payment_of_several_legs_reverts(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Maturity, "rarities", {weather.REVERT: 1.0})
    reverted = (
        "SELECT 1 FROM chain_operation o JOIN operation_leg l ON l.operation_id = o.id"
        " WHERE o.kind = 'transfer' AND o.state = 'void' GROUP BY o.id HAVING count(*) > 1"
    )
    for seed in SEEDS:
        assert Schedule(lab, "maturity", seed).run().violations == []
        if lab.execute(reverted):
            return
    pytest.fail("no payment of several legs reverted")


def test_money_comes_for_one_of_two_that_wait(lab: Lab) -> None:
    assert _faults_until(lab, "rivals", "money for either of two")


def test_whoever_waits_is_not_topped_up_for_that_alone() -> None:
    """Who reserves first, and from whose money, is what the flow of rivals is about."""
    waiting = {"id": "x", "state": "waiting", "hash": "h"}
    flow = Rivals()
    assert "top up" in {act.name for act in Maturity._calm_on(flow, waiting)}
    assert "top up" not in {act.name for act in flow._calm_on(waiting)}
    assert "top up" not in {act.name for act in flow._acts_on(waiting)}


def test_a_worker_dies_as_it_tells_of_a_failure(lab: Lab) -> None:
    """The job is rescued, fails again, and is told of once."""
    assert _faults_until(lab, "queue", "worker dies as it tells of a failure")


@pytest.mark.parametrize("absent", sorted({each for each in script.ABSENT if each}))
def test_a_night_without_the_first_tier_changes_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setattr("verify.flows.research.ABSENT", (absent,))
    assert Schedule(lab, "research", 3).run().violations == []
    asked = "SELECT 1 FROM job_run_item WHERE provider_reason LIKE 'mock-primary%'"
    assert lab.execute(asked)


def test_a_message_that_comes_back_for_ever_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "MOST_DELIVERIES", 0)
    told = (Schedule(lab, "queue", seed).run().violations for seed in SEEDS)
    assert any("not done after 0 deliveries" in each for each in next(filter(None, told)))


def _faults_until(lab: Lab, flow: str, struck: str) -> set[str]:
    """All faults of the first schedule that has this one; none of them breaks a rule."""
    for seed in SEEDS:
        outcome = Schedule(lab, flow, seed).run()
        assert outcome.violations == []
        if struck in outcome.trace.faults:
            return set(outcome.trace.faults)
    return set()
