"""Budgets: what is reserved stays reserved, windows open where and when they should."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from domain.budgets import Budget
from domain.errors import InvalidInput
from models.database import fetch, reconnect, transaction
from usecases.research.budgets import (
    block,
    block_for_the_day,
    reserve,
    unblock,
    usage,
)

pytestmark = pytest.mark.integration

Clock = Callable[[datetime], None]
NOON = datetime(2024, 11, 22, 12, 0, tzinfo=UTC)
NEW_YORK = "America/New_York"


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


def granted(budget: Budget, tries: int) -> int:
    """How many of so many reservations in a row are granted."""
    return sum(reserve("vendor", budget) is None for _ in range(tries))


def test_a_second_grants_what_it_has_and_says_when_the_next_opens(clock: Clock) -> None:
    budget = Budget(per_second=2)
    clock(NOON + seconds(0.3))
    assert granted(budget, 2) == 2
    refused = reserve("vendor", budget)
    assert refused is not None
    assert refused.at == NOON + seconds(1.3)
    assert refused.wait == seconds(1)
    assert refused.reason == "vendor: the second's budget is used up"
    clock(NOON + seconds(1.29))
    assert granted(budget, 1) == 0
    clock(NOON + seconds(1.3))
    assert granted(budget, 3) == 2


def test_one_request_per_second_is_never_two_within_a_second(clock: Clock) -> None:
    """A clock's second would allow 0.9 s and 1.0 s; the window begins with its first request."""
    budget = Budget(per_second=1)
    granted_at = []
    for tenth in range(0, 50, 3):
        clock(NOON + seconds(tenth / 10))
        if reserve("vendor", budget) is None:
            granted_at.append(tenth)
    assert granted_at == [0, 12, 24, 36, 48]


def test_a_minute_grants_what_it_has(clock: Clock) -> None:
    budget = Budget(per_second=1, per_minute=3)
    for n in range(3):
        clock(NOON + seconds(2 * n))
        assert reserve("vendor", budget) is None
    clock(NOON + seconds(10))
    refused = reserve("vendor", budget)
    assert refused is not None
    assert refused.at == NOON + seconds(60)
    assert "minute" in refused.reason
    clock(refused.at)
    assert reserve("vendor", budget) is None


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2024-11-22 12:00", "2024-11-23 00:00"),
        ("2024-03-10 00:30", "2024-03-11 00:00"),  # the day with 23 hours
        ("2024-11-03 00:30", "2024-11-04 00:00"),  # the day with 25 hours
    ],
)
def test_the_day_is_the_providers(clock: Clock, at: str, opens: str) -> None:
    zone = ZoneInfo(NEW_YORK)
    budget = Budget(per_day=1, zone=NEW_YORK)
    now = datetime.fromisoformat(at).replace(tzinfo=zone)
    next_day = datetime.fromisoformat(opens).replace(tzinfo=zone)
    clock(now)
    assert granted(budget, 1) == 1
    refused = reserve("vendor", budget)
    assert refused is not None
    assert refused.at == next_day
    clock(next_day.astimezone(UTC) - seconds(1))
    assert granted(budget, 1) == 0
    clock(next_day)
    assert granted(budget, 2) == 1


def test_all_windows_are_taken_from_or_none_is(clock: Clock) -> None:
    """A refusal by the second's budget leaves the day's as it was."""
    budget = Budget(per_second=1, per_day=2)
    clock(NOON)
    assert granted(budget, 5) == 1
    [found] = usage()
    assert found.day_used == 1
    clock(NOON + seconds(1))
    assert granted(budget, 1) == 1
    clock(NOON + seconds(2))
    assert granted(budget, 1) == 0


def test_a_task_begins_only_with_room_for_all_of_it(clock: Clock) -> None:
    budget = Budget(per_day=6)
    clock(NOON)
    assert reserve("vendor", budget, room_for=4) is None
    assert granted(budget, 2) == 2
    refused = reserve("vendor", budget, room_for=4)
    assert refused is not None
    assert granted(budget, 9) == 3
    # A budget smaller than the task lets it begin: it will go on another day.
    assert reserve("small", Budget(per_day=2), room_for=4) is None


def test_a_clock_that_steps_back_opens_no_window(clock: Clock) -> None:
    budget = Budget(per_second=1, per_minute=1, per_day=1)
    clock(NOON)
    assert granted(budget, 1) == 1
    clock(NOON - timedelta(days=2))
    assert granted(budget, 1) == 0


def test_providers_have_budgets_of_their_own(clock: Clock) -> None:
    clock(NOON)
    budget = Budget(per_day=1)
    assert reserve("one", budget) is None
    assert reserve("two", budget) is None
    assert reserve("one", budget) is not None


def test_a_block_holds_everybody_until_it_ends(clock: Clock) -> None:
    clock(NOON)
    assert block("vendor", seconds(90), "HTTP 429")
    refused = reserve("vendor", Budget())
    assert refused is not None
    assert (refused.at, refused.reason) == (NOON + seconds(90), "vendor: HTTP 429")
    assert not block("vendor", seconds(30), "a shorter one changes nothing")
    assert block("vendor", seconds(120), "a longer one counts")
    clock(NOON + seconds(119))
    assert reserve("vendor", Budget()) is not None
    assert usage()[0].day_used == 0
    clock(NOON + seconds(120))
    assert reserve("vendor", Budget()) is None


def test_an_exhausted_day_ends_with_the_providers_midnight(clock: Clock) -> None:
    budget = Budget(zone="Asia/Kolkata")
    clock(NOON)
    block_for_the_day("vendor", budget, "quota")
    refused = reserve("vendor", budget)
    assert refused is not None
    assert refused.at == datetime(2024, 11, 23, tzinfo=ZoneInfo("Asia/Kolkata"))
    assert unblock("vendor")
    assert reserve("vendor", budget) is None


def test_a_crash_after_a_reservation_refunds_nothing(clock: Clock) -> None:
    clock(NOON)
    budget = Budget(per_day=1)
    assert reserve("vendor", budget) is None
    reconnect()  # the process is gone before it has called
    assert reserve("vendor", budget) is not None


def test_a_reservation_is_no_part_of_a_transaction_that_may_roll_back(clock: Clock) -> None:
    clock(NOON)
    with transaction(), pytest.raises(RuntimeError, match="outside a transaction"):
        reserve("vendor", Budget(per_day=1))
    assert fetch("SELECT 1 FROM provider_budget") == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"per_day": 0}, "per_day"),
        ({"per_second": -1}, "per_second"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": "../etc/passwd"}, "zone"),
    ],
)
def test_a_bad_budget_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        Budget(**fields)  # type: ignore[arg-type] # what a person may write
